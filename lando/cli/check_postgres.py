"""The line of ``lando-fsm check`` about a database on PostgreSQL."""

from __future__ import annotations

from typing import Literal

from lando.errors import LandoError
from lando.postgres.address import Address, address_of
from lando.postgres.failures import DOCS
from lando.postgres.inspection import Inspection, inspect
from lando.store.database import READING, errors, make_engine, parsed
from lando.store.queries import Queries
from lando.store.schema import HEAD, Schema, described, read_schema
from lando.store.tables import METADATA

MOST_CLOCK = 5.0
"""Seconds by which the clocks may differ: what is stored has this machine's, and people compare."""


def answer(url: str) -> tuple[Literal["ok", "warning"], str]:
    """The verdict and the message.

    Args:
        url: as configured.

    Raises:
        LandoError: the database cannot be used; the text says what to do.
    """
    address = parsed(url)
    engine = make_engine(address)
    try:
        with errors(address), engine.connect().execution_options(**READING) as connection:
            found = inspect(connection, [*METADATA.tables, "alembic_version"])
            is_readable = found.schema is not None and not found.not_writable
            schema = read_schema(connection) if is_readable else Schema(None)
            is_used = schema.version is not None and not schema.is_pending and not schema.is_too_new
            mark = Queries(connection).copy_mark() if is_used else None
    finally:
        engine.dispose()
    where = address_of(address)
    wrong = _wrong(found, schema)
    if wrong is not None:
        raise LandoError(f"{where}: {wrong}")
    schema.refuse_unusable(str(where))
    left = None if mark is None else mark.refusal(str(where))
    if left is not None:
        raise LandoError(left)
    return _described(found, where, schema)


def _wrong(found: Inspection, schema: Schema) -> str | None:
    if found.is_read_only:
        return f"is read-only, a replica perhaps; name the primary in database.url: {DOCS}"
    if found.schema is None:
        return f"no schema of search_path exists for this account: {DOCS}"
    if found.not_writable:
        return f"this account may not read and write {', '.join(found.not_writable)}: {DOCS}"
    if schema.is_pending and not found.may_create:
        return f"this account may not make tables in the schema {found.schema!r}: {DOCS}"
    if schema.is_pending and schema.version is not None and found.not_owned:
        return (
            f"its schema ({schema.version}) is to be migrated to {HEAD}, but this account does not own "
            f"{', '.join(found.not_owned)}: {DOCS}"
        )
    return None


def _described(found: Inspection, where: Address, schema: Schema) -> tuple[Literal["ok", "warning"], str]:
    encrypted = found.tls or "not encrypted"
    account = f", account {where.account}" if where.account else ""
    detail = f"{where} (PostgreSQL {found.version}, {encrypted}{account}), {described(schema)}"
    warnings = []
    if not found.tls and not found.is_local:
        warnings.append(f"others on the network can read along: set sslmode=verify-full: {DOCS}")
    if abs(found.clock) > MOST_CLOCK:
        side = "ahead of" if found.clock > 0 else "behind"
        warnings.append(
            f"the server's clock is {abs(found.clock):.0f} s {side} this machine's: let both follow NTP"
        )
    return ("warning" if warnings else "ok"), "; ".join([detail, *warnings])
