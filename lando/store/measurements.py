"""What metrics read of the database: counts, each through an index or of rows of live jobs only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from lando.store.queries import Queries
from lando.store.tables import EFFECTS, JOBS

# From the index jobs_by_state alone: the table itself is not read.
_JOBS = sa.select(JOBS.c.state, sa.func.count().label("jobs")).group_by(JOBS.c.state)
_IS_DUE = EFFECTS.c.due_at <= sa.bindparam("now", type_=sa.Float)
_EFFECTS = sa.select(
    EFFECTS.c.kind,
    sa.func.count().label("waiting"),
    sa.func.sum(sa.case((_IS_DUE, 1), else_=0)).label("due"),
    sa.func.min(EFFECTS.c.due_at).label("first_due_at"),
    sa.func.sum(sa.case((EFFECTS.c.tries > 0, 1), else_=0)).label("failing"),
    sa.func.max(EFFECTS.c.tries).label("most_tries"),
).group_by(EFFECTS.c.kind)


@dataclass(frozen=True)
class EffectCounts:
    """The effects of one kind."""

    waiting: int
    """Not carried out yet, due or not."""
    due: int
    first_due_at: float
    """Epoch seconds."""
    failing: int
    """Those that failed at least once."""
    most_tries: int
    """How often one has failed, at most."""


def jobs_by_state(queries: Queries) -> Mapping[str, int]:
    """How many jobs are stored in each state that any is in."""
    return {row.state: row.jobs for row in queries.connection.execute(_JOBS)}


def effects_by_kind(queries: Queries, now: float) -> Mapping[str, EffectCounts]:
    """What the outbox has, by kind.

    Args:
        queries: a snapshot.
        now: epoch seconds.
    """
    return {
        row.kind: EffectCounts(row.waiting, row.due, row.first_due_at, row.failing, row.most_tries)
        for row in queries.connection.execute(_EFFECTS, {"now": now})
    }


def postgresql_size(queries: Queries) -> int:
    """Bytes of the database's files on the server."""
    size = sa.text("SELECT pg_database_size(current_database())")
    return int(queries.connection.execute(size).scalar_one())
