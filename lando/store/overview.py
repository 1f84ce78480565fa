"""What a database holds: counted without migrating it, through indexes where there are some."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.engine.retention import Retention
from lando.sqlite.checkpoint import log_size
from lando.store.copying.mark import CopyMark, to_mark
from lando.store.database import READING, errors, make_engine, parsed, sqlite_path
from lando.store.facts import COPY_FACT
from lando.store.retention import HAS_ENDED, DueCounts, due_counts
from lando.store.schema import VERSION_TABLES, Schema, read_schema
from lando.store.tables import FACTS, JOBS, METADATA

DAY = 86400.0
AGES = {"day": 1, "week": 7, "month": 30, "quarter": 90}
"""How long ago jobs have ended, at most; in days."""
OLDER = "older"


@dataclass(frozen=True)
class Overview:
    """What a database holds. Empty where it has no schema, or one that this program may not use."""

    schema: Schema
    size: int
    """Bytes, with SQLite's write-ahead log; of PostgreSQL, of all that is in the database."""
    rows: dict[str, int]
    """By table."""
    states: dict[str, int]
    """Jobs by state."""
    ended: dict[str, int]
    """Jobs that have ended, by how long ago: see ``AGES``; and those that did so before."""
    oldest_end: float | None
    """Epoch seconds: when the first of them did."""
    due: DueCounts | None
    """What retention would remove now; None before the schema is up to date."""
    copy_mark: CopyMark | None
    seconds: float
    """What looking took."""


def overview(url: str, retention: Retention) -> Overview:
    """Look at a database; nothing is made or migrated.

    Args:
        url: of a database that exists.
        retention: as configured.

    Raises:
        StoreUnavailable: it cannot be read.
    """
    begun = time.monotonic()
    address = parsed(url)
    engine = make_engine(address)
    try:
        with errors(address), engine.connect().execution_options(**READING) as connection:
            schema = read_schema(connection)
            size = _size(connection)
            there = set(sa.inspect(connection).get_table_names())
            is_known = schema.version is not None and not schema.is_too_new
            rows = _rows(connection, there) if is_known else {}
            has_jobs = JOBS.name in rows
            states = _states(connection) if has_jobs else {}
            ended, oldest = _ended(connection) if has_jobs else ({}, None)
            is_current = has_jobs and not schema.is_pending
            due = due_counts(connection, retention, time.time()) if is_current else None
            mark = _mark(connection) if FACTS.name in rows else None
    finally:
        engine.dispose()
    return Overview(schema, size, rows, states, ended, oldest, due, mark, time.monotonic() - begun)


def _size(connection: Connection) -> int:
    path = sqlite_path(connection.engine.url)
    if path is not None:
        return path.stat().st_size + log_size(path)
    return int(connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())


def _rows(connection: Connection, there: set[str]) -> dict[str, int]:
    known = [table for table in METADATA.sorted_tables if table.name not in VERSION_TABLES]
    return {table.name: _count(connection, sa.table(table.name)) for table in known if table.name in there}


def _count(connection: Connection, table: sa.TableClause) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _states(connection: Connection) -> dict[str, int]:
    query = sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def _ended(connection: Connection) -> tuple[dict[str, int], float | None]:
    now, at = time.time(), JOBS.c.entered_at
    since = {name: now - days * DAY for name, days in AGES.items()}
    counts = [sa.func.count().filter(at >= moment) for moment in since.values()]
    query = sa.select(sa.func.count(), sa.func.min(at), *counts).where(HAS_ENDED)
    total, oldest, *within = connection.execute(query).one()
    before, ended = 0, {}
    for name, number in zip(since, within, strict=True):
        ended[name] = number - before
        before = number
    return {**ended, OLDER: total - before}, oldest


def _mark(connection: Connection) -> CopyMark | None:
    import json  # noqa: PLC0415

    text: Any = connection.execute(sa.select(FACTS.c.value).where(FACTS.c.name == COPY_FACT)).scalar()
    return to_mark(None if text is None else json.loads(text))
