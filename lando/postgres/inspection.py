"""What ``lando-fsm check`` tells of a server and a database."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

_SERVER = """
SELECT split_part(current_setting('server_version'), ' ', 1),
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean,
       (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()),
       inet_server_addr() IS NULL OR host(inet_server_addr()) IN ('127.0.0.1', '::1'),
       current_schema(),
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)
"""
_NOT_OURS = """
SELECT relname FROM pg_class
WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relkind IN ('r', 'p')
  AND relname = ANY (%(tables)s) AND NOT {condition}
ORDER BY relname
"""
_MAY_WRITE = " AND ".join(
    f"has_table_privilege(oid, '{right}')" for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
)
_OWNS = "pg_has_role(relowner, 'USAGE')"


@dataclass(frozen=True)
class Inspection:
    """What was found."""

    version: str
    """Of the server."""
    is_read_only: bool
    """It is a replica, or the account's sessions are read-only."""
    tls: str | None
    """The version of TLS; None: the connection is not encrypted."""
    is_local: bool
    """The server is on this machine."""
    clock: float
    """Seconds that the server's clock is ahead of this machine's, as far as it can be known."""
    schema: str | None
    """Where tables are made; None: in no schema of ``search_path``."""
    may_create: bool
    """The account may make tables there."""
    not_writable: tuple[str, ...]
    """Tables that the account may not read or write."""
    not_owned: tuple[str, ...]
    """Tables that the account cannot change in a migration."""


def inspect(connection: sa.Connection, tables: Sequence[str]) -> Inspection:
    """Ask a server. Nothing is changed.

    Args:
        connection: to the database.
        tables: of lando-fsm.
    """
    version, is_read_only, tls, is_local, schema, may_create = connection.exec_driver_sql(_SERVER).one()
    before = time.time()
    there = float(
        connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar_one()  # its own
    )
    after = time.time()
    # What the way to the server takes may be either way's.
    clock = there - after if there > after else min(0.0, there - before)
    not_writable, not_owned = (
        tuple(
            connection.exec_driver_sql(
                _NOT_OURS.format(condition=f"({condition})"), {"tables": [*tables]}
            ).scalars()
        )
        for condition in (_MAY_WRITE, _OWNS)
    )
    return Inspection(
        version, is_read_only, tls, is_local, clock, schema, may_create, not_writable, not_owned
    )
