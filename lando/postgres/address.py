"""The address of a database: what is wrong with one that is configured, and how people are told of it.

Source: https://www.postgresql.org/docs/current/libpq-connect.html (parameters, several hosts), and
https://docs.sqlalchemy.org/en/20/dialects/postgresql.html (their form in a URL).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlalchemy as sa

DRIVER = "postgresql+psycopg"
FORM = f"{DRIVER}://USER:PASSWORD@HOST/DATABASE"
OTHER_DRIVERS = ("postgres", "postgresql")
"""Schemes of libpq, and the beginnings of those of other drivers."""
PORT = 5432
ENCODED = "write @ / : ? # % in the user or the password as %40 %2F %3A %3F %23 %25"
SEVERAL = f"name several servers so: {DRIVER}://USER:PASSWORD@/DATABASE?host=HOST:5432&host=OTHER:5432"
_SECRET = re.compile(r"://[^/?@]*:[^@]+@|[?&](?:ssl)?password=")


@dataclass(frozen=True)
class Address:
    """Where a database is, for people: without the password."""

    hosts: tuple[str, ...]
    """``HOST:PORT`` each; empty where the URL names none."""
    database: str
    account: str | None
    """None: the name of the account that runs this process."""

    @property
    def at(self) -> str:
        """The servers."""
        return " or ".join(self.hosts) or "the default server (PGHOST, else the socket on this machine)"

    def __str__(self) -> str:
        return f"database {self.database!r} at {self.at}"


def address_of(url: sa.URL) -> Address:
    """What is told of a URL."""
    return Address(tuple(_hosts(url)), url.database or "", url.username or _first(url, "user"))


def shown(url: str) -> str:
    """A URL without account and options, but with all its hosts."""
    import sqlalchemy as sa  # noqa: PLC0415 - only where there is PostgreSQL

    here = address_of(sa.make_url(url))
    return f"{DRIVER}://{','.join(here.hosts)}/{here.database}"


def masked(url: str) -> str:
    """A URL with ``***`` for its password, and without other secrets: as it may be shown to be copied."""
    import sqlalchemy as sa  # noqa: PLC0415

    parsed = sa.make_url(url)
    query = {name: value for name, value in parsed.query.items() if name not in ("password", "sslpassword")}
    return parsed.set(query=query).render_as_string(hide_password=True)


def holds_secret(url: str) -> bool:
    """Whether it has a password; it may be wrong in any way."""
    return _SECRET.search(url) is not None


def mistake(url: str) -> str | None:
    """What is wrong with a configured URL, and what to write instead; never a part of it that may be secret.

    Args:
        url: of one of the schemes of PostgreSQL.
    """
    import sqlalchemy as sa  # noqa: PLC0415
    from psycopg import pq  # noqa: PLC0415

    scheme, slashes, _ = url.partition("://")
    if not slashes:
        return f"expected {FORM}"
    if scheme != DRIVER:
        return f"lando-fsm uses the driver psycopg: write {FORM} instead of {scheme}://…"
    unreadable = f"cannot be read; expected {FORM}; {ENCODED}"
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # a port that is no number, say, which may be a password's end
        return f"{unreadable}; {SEVERAL}" if "," in url else unreadable
    if any(character in (parsed.host or "") for character in "@ ") or "/" in (parsed.database or ""):
        return unreadable
    if not parsed.database:
        return f"names no database; expected {FORM}"
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    unknown = sorted(set(parsed.query) - known)
    if unknown:
        return f"unknown option {unknown[0]!r}; it takes those of libpq, such as sslmode or connect_timeout"
    timeout = _first(parsed, "connect_timeout")
    if timeout is not None and not timeout.isdecimal():
        return "connect_timeout: expected a whole number of seconds"
    return _mistake_in_ports(parsed)


def _mistake_in_ports(url: sa.URL) -> str | None:
    for host in _hosts(url):
        port = host.rpartition(":")[2]
        if not host.startswith("/") and not (port.isdecimal() and 0 < int(port) < 2**16):
            return f"{host}: expected HOST:PORT"
    return None


def _hosts(url: sa.URL) -> list[str]:
    """All hosts, with ports; SQLAlchemy takes them in the URL, or as options: ``host=A:1&host=B:2``."""
    if url.host and "host" not in url.query:
        given = [f"[{host}]" if ":" in host else host for host in url.host.split(",")]
        return [f"{host}:{url.port or PORT}" for host in given]
    hosts, ports = _listed(url, "host"), _listed(url, "port")
    if len(ports) < len(hosts):
        ports = [ports[0] if ports else str(url.port or PORT)] * len(hosts)
    pairs = zip(hosts, ports, strict=False)
    return [host if host.startswith("/") or ":" in host else f"{host}:{port}" for host, port in pairs]


def _listed(url: sa.URL, name: str) -> list[str]:
    value = url.query.get(name, ())
    values = [value] if isinstance(value, str) else value
    return [part for each in values for part in each.split(",")]


def _first(url: sa.URL, name: str) -> str | None:
    value = url.query.get(name)
    return value if value is None or isinstance(value, str) else value[0]
