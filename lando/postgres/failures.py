"""What PostgreSQL's errors mean, and what to do.

Source: https://www.postgresql.org/docs/current/errcodes-appendix.html. An error of a connection that was not
made has no code, only words: libpq's own, which are English, or the server's, in the language of its
``lc_messages``. Words that are not known count as a server that cannot be reached.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lando.postgres.address import Address

Kind = Literal["outage", "conflict", "forbidden", "unusable"]
"""Waiting helps; trying again helps at once; somebody has to change something; the data is not whole."""

DOCS = "docs/postgresql.md"

_BUSY = "more connections must be allowed: max_connections of the server, or the limit of the account"
_ACCOUNT = "correct the account or the password in database.url"
_MISSING = "write the password in database.url, or set PGPASSWORD, or use ~/.pgpass"
_HBA = f"pg_hba.conf of the server must allow it: {DOCS}"
_CREATE = f"create it: {DOCS}"
_TLS = f"correct sslmode and sslrootcert in database.url, or the server's certificate: {DOCS}"
_READ_ONLY = (
    "it is a replica, or set to read only; name the primary in database.url, or all servers with "
    f"target_session_attrs=read-write: {DOCS}"
)
_STANDBY = "target_session_attrs in database.url asks for a replica; lando-fsm needs read-write"
_RIGHTS = f"the account needs more rights: {DOCS}"
_REACH = "is it running, is its address right, and may this machine reach it?"

# The first that is found counts: with several hosts, each says why it cannot be used.
_OF_CONNECTING: tuple[tuple[Kind, str, tuple[str, ...]], ...] = (
    ("forbidden", _ACCOUNT, ("password authentication failed",)),
    ("forbidden", _MISSING, ("no password supplied",)),
    ("forbidden", _ACCOUNT, ("authentication failed for user", "is not permitted to log in")),
    ("forbidden", _HBA, ("pg_hba.conf",)),
    ("forbidden", _ACCOUNT, ("FATAL:  role",)),
    ("forbidden", _CREATE, ("FATAL:  database",)),
    ("forbidden", _RIGHTS, ("permission denied for database",)),
    ("forbidden", _TLS, ("SSL was required", "certificate", "sslmode", "sslrootcert")),
    ("outage", _BUSY, ("too many clients", "too many connections", "connection slots are reserved")),
    ("outage", "it is starting or stopping", ("the database system is",)),
    ("outage", _REACH, ("refused", "timeout", "resolve host", "translate host", "route to host")),
    ("outage", _REACH, ("unreachable", "No such file", "closed the connection", "Connection reset")),
    ("forbidden", _STANDBY, ("not in hot standby", "session is not read-only")),
    ("forbidden", _READ_ONLY, ("session is read-only", "hot standby", "in recovery")),
)

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
"""Names, which may have any words in them."""

_BY_CODE: dict[str, tuple[Kind, str]] = {
    "08": ("outage", ""),
    "25006": ("forbidden", _READ_ONLY),
    "25P03": ("outage", "idle_in_transaction_session_timeout of the server is short"),
    "25P04": ("outage", "transaction_timeout of the server is short"),
    "28": ("forbidden", _ACCOUNT),
    "3D000": ("forbidden", _CREATE),
    "3F000": (
        "forbidden",
        f"the schema of search_path does not exist, or the account may not use it: {DOCS}",
    ),
    "40001": ("conflict", "another transaction changed the same rows"),
    "40P01": ("conflict", "another transaction waited for the same rows"),
    "42501": ("forbidden", _RIGHTS),
    "42P01": (
        "unusable",
        f"a table of lando-fsm is missing: it was removed, or search_path names another schema: {DOCS}",
    ),
    "42P07": (
        "forbidden",
        f"its schema has tables that lando-fsm did not make; give it a database of its own: {DOCS}",
    ),
    "53100": ("outage", "the server's disk is full: make room"),
    "53200": ("outage", "the server has no memory left"),
    "53300": ("outage", _BUSY),
    "53": ("outage", ""),
    "55P03": ("outage", "another session holds a lock"),
    "57014": ("outage", "statement_timeout of the server is short, or somebody has canceled it"),
    "57": ("outage", "it is stopping or starting, or somebody has ended the session"),
    "58": ("outage", "the server's disk fails"),
    "XX001": ("unusable", f"the server found damage: restore a backup: {DOCS}"),
    "XX002": ("unusable", f"the server found a damaged index: REINDEX, or restore a backup: {DOCS}"),
}
"""By code, or by its class."""


@dataclass(frozen=True)
class Failure:
    """What happened to a database."""

    kind: Kind
    sentence: str
    """With the database's address and PostgreSQL's words."""


def failure(error: BaseException | None, where: Address) -> Failure | None:
    """What an error of psycopg says of the database.

    Args:
        error: psycopg's.
        where: the database.

    Returns:
        None: a statement or a value is wrong, not the database.
    """
    import psycopg  # noqa: PLC0415 - only where there is PostgreSQL

    if not isinstance(error, psycopg.Error):
        return None
    code = error.sqlstate
    if code is not None:
        found = _BY_CODE.get(code) or _BY_CODE.get(code[:2])
        return None if found is None else Failure(found[0], _sentence(where, [str(error)], found[1]))
    if isinstance(error, psycopg.OperationalError):
        return _of_connecting(str(error), where)
    if isinstance(error, psycopg.InterfaceError):  # the connection was closed meanwhile
        return Failure("outage", _sentence(where, [str(error)], ""))
    return None


def _of_connecting(words: str, where: Address) -> Failure:
    each = _each_host(words)
    unnamed = _QUOTED.sub("", words)
    for kind, advice, texts in _OF_CONNECTING:
        if any(text in unnamed for text in texts):
            # Of several hosts one may be promoted.
            is_waiting = advice is _READ_ONLY and len(where.hosts) > 1
            return Failure("outage" if is_waiting else kind, _sentence(where, each, advice))
    return Failure("outage", _sentence(where, each, ""))


def _each_host(words: str) -> list[str]:
    """What was said of each host; psycopg's words repeat the last one's."""
    _, several, listed = words.partition("All failures were:")
    return [line.partition("hostaddr: ")[2] for line in listed.splitlines() if line] if several else [words]


def _sentence(where: Address, words: Iterable[str], advice: str) -> str:
    said = "; ".join(dict.fromkeys(_first_line(each) for each in words if each))
    account = f", account {where.account}" if where.account else ""
    return f"{where}{account}: {said}" + (f" ({advice})" if advice else "")


def _first_line(words: str) -> str:
    """The server's first line, without what psycopg and libpq say before it."""
    line = words.strip().splitlines()[0] if words.strip() else "no words"
    for known in ("FATAL:  ", "connection failed: ", "connection is bad: "):
        line = line.rpartition(known)[2] if known in line else line
    return line
