"""How each connection to PostgreSQL is made, and which servers and databases are refused.

Isolation: every transaction is REPEATABLE READ. The rules were written for, and are explored with, a state
that does not change while they decide; with READ COMMITTED each statement would see another one. Whoever
writes a row that another transaction has changed meanwhile gets an error, has written nothing, and tries the
whole transaction again. SERIALIZABLE would add false conflicts for the sake of several writers, and there is
one: the daemon.

Prepared statements: only what writes a batch of rows, which is parsed once instead of for each row (half the
time). psycopg would also prepare queries that are executed five times, and PostgreSQL may then plan them for
values that it does not know, though nearly all jobs have ended and the few that live are asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lando.errors import UsageError

if TYPE_CHECKING:
    import psycopg
    import sqlalchemy as sa

    from lando.postgres.address import Address

ISOLATION = "REPEATABLE READ"
OLDEST = 13
"""The oldest major version of the server that is supported."""

_NEVER = 2**31
"""So often a query is executed before psycopg prepares it; with None it prepares no batch either."""
_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,  # seconds, for each host
    # A server that vanished without a word is noticed within half a minute, not two hours.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
    "application_name": "lando-fsm",
}


def connect_args(url: sa.URL) -> dict[str, Any]:
    """Arguments of psycopg, beside those of the URL, which take precedence."""
    return {
        **{name: value for name, value in _DEFAULTS.items() if name not in url.query},
        "client_encoding": "utf8",  # whatever PGCLIENTENCODING says
        "prepare_threshold": _NEVER,
    }


def refuse_unfit(connection: psycopg.Connection[Any], where: Address) -> None:
    """Refuse a server that is too old and a database that cannot store every text. Asks the server nothing.

    Raises:
        UsageError: it is one.
    """
    version = connection.info.server_version // 10_000
    if version < OLDEST:
        raise UsageError(
            f"{where}: the server is PostgreSQL {version}; lando-fsm needs {OLDEST} or newer: upgrade it, or "
            "name another one in database.url"
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise UsageError(
            f"{where}: its encoding is {encoding}, which cannot store every text; create it with "
            "ENCODING 'UTF8' TEMPLATE template0"
        )
