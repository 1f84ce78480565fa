"""The one session in which a daemon writes to PostgreSQL, and which holds the lock of the database's daemon.

The lock is taken at the begin of the session, and ends with it, however it ends: so nothing is ever written
without it. A session that is lost is replaced by the next one, which takes the lock again; if the server has
not noticed yet that the old one is dead, it is ended. If another daemon has the lock by then, this one ends.

The session belongs to one thread. Threads that call the cloud do not use the database.

Source: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lando.errors import DatabaseUnusable, UsageError
from lando.postgres.address import address_of
from lando.state_dir import DaemonRunning
from lando.store.answer_watch import ANSWER_LIMIT, AnswerWatch
from lando.store.database import StoreOutage, StoreUnavailable, errors, make_engine
from lando.store.seen_server import Identity, SeenServer, file_in
from lando.store.server_check import ServerCheck
from lando.times import rfc3339

if TYPE_CHECKING:
    import psycopg

SETTINGS = {
    # The server notices as soon that this machine is gone, and the lock ends.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "30s",
    # A daemon that is stopped keeps no row locked, and no other daemon away.
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "120s",
    "lock_timeout": "2s",
}
SINCE_VERSION = {"idle_session_timeout": 140000}
"""Settings that older servers do not have."""
PATIENCE, OWN_PATIENCE = 1.0, 5.0
"""Seconds to wait for the lock: a session that has just ended, and one of this daemon that is being ended."""

_CLASS = 0x6C616E64
_OBJECT = "hashtext(coalesce(current_schema(), ''))"
"""Of a database, each schema may be a deployment's."""
TRY_LOCK = f"SELECT pg_try_advisory_lock({_CLASS}, {_OBJECT})"
HOLDERS = f"""
    SELECT held.pid, found.application_name, host(found.client_addr),
           extract(epoch FROM found.backend_start)::float8, found.usename,
           found.client_addr IS NOT DISTINCT FROM inet_client_addr()
    FROM pg_locks held LEFT JOIN pg_stat_activity found ON found.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2 AND held.classid = {_CLASS}
      AND held.objid = {_OBJECT}::oid
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""  # noqa: S608 - constants
_NAME = re.compile(r"lando-fsm (\d+)@(\S+) ([0-9a-f]{16})")


class PlaceTaken(StoreUnavailable, DatabaseUnusable):
    """Another daemon has taken this one's place while it was disconnected (exit code 2)."""


@dataclass(frozen=True)
class Holder:
    """The session that holds the lock, as far as this account may see it."""

    backend: int
    name: str
    address: str | None
    since: float | None
    role: str | None
    is_from_here: bool = False
    """Whether it comes from the address that this daemon has."""

    @property
    def session(self) -> str | None:
        """The random name of a daemon's session."""
        found = _NAME.fullmatch(self.name)
        return found[3] if found else None

    @property
    def described(self) -> str:
        """For people: the daemon, and where its session is."""
        found = _NAME.fullmatch(self.name)
        who = (
            f"pid {found[1]} on {found[2]}" if found else f"{self.name or 'a session'} of {self.role or '?'}"
        )
        address = f" from {self.address}" if self.address else ""
        since = f" since {rfc3339(self.since)}" if self.since is not None else ""
        return f"{who}, connected{address}{since}, backend {self.backend}"


class DaemonSession:
    """Opened when it is first used, and again after it was lost.

    Args:
        address: the database.
        state_dir: whose lock this process holds; what is remembered of the server is in there.
    """

    def __init__(self, address: sa.URL, state_dir: Path) -> None:
        self._address = address
        self.where = str(address_of(address))
        self._seen = SeenServer(file_in(state_dir), self.where)
        self._name = secrets.token_hex(8)
        self._seen.add_session(self._name)
        self._has_begun = False
        self._watch = AnswerWatch(self.where)
        self._engine = make_engine(address, connections=1)
        self._server = ServerCheck(self._engine, self._seen)
        sa.event.listen(self._engine, "do_connect", self._tell_name)
        sa.event.listen(self._engine, "connect", self._begin)
        sa.event.listen(self._engine, "before_cursor_execute", lambda *_: self._watch.asks())
        sa.event.listen(self._engine, "commit", lambda *_: self._watch.asks())

    @property
    def history(self) -> Identity:
        """Which history the server has that is used: it changes when a replica is promoted."""
        return self._seen.identity

    def open(self) -> None:
        """Begin the session, if there is none.

        Raises:
            DaemonRunning: another daemon has the lock.
            StoreUnavailable: the server cannot be used.
        """
        with self.transaction():
            pass

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """A transaction of the session: committed at the end, rolled back by any exception.

        Raises:
            PlaceTaken: another daemon has the lock.
            StoreUnavailable: the server cannot be used; after a commit, it is not known whether it was done.
        """
        try:
            with errors(self._address), self._engine.begin() as connection:
                yield connection
        except StoreUnavailable as error:
            if self._watch.has_cut():
                raise StoreOutage(
                    f"{self.where}: the server did not answer for {ANSWER_LIMIT:.0f} s"
                ) from error
            if self._has_begun and isinstance(error, UsageError):
                raise StoreOutage(str(error)) from error  # a password that is being replaced, say
            raise
        finally:
            self._watch.answered()

    def close(self) -> None:
        """End the session, and with it the lock."""
        self._watch.close()
        self._engine.dispose()

    # the begin of a session

    def _tell_name(self, dialect: Any, record: Any, positional: Any, named: dict[str, Any]) -> None:
        """Others see who holds the lock."""
        named["application_name"] = _application_name(self._name)

    def _begin(self, connection: psycopg.Connection[Any], record: Any) -> None:
        self._watch.connected(connection)
        self._watch.asks()
        try:
            connection.autocommit = True
            self._set(connection)
            self._server.note(connection, self._has_begun)
            self._take_lock(connection)
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        self._has_begun = True

    def _set(self, connection: psycopg.Connection[Any]) -> None:
        version = connection.info.server_version
        settings = {name: value for name, value in SETTINGS.items() if version >= SINCE_VERSION.get(name, 0)}
        calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
        connection.execute(f"SELECT {calls}", [each for pair in settings.items() for each in pair])

    def _take_lock(self, connection: psycopg.Connection[Any]) -> None:
        begun = time.monotonic()
        while not _value(connection, TRY_LOCK):
            holders = [Holder(*row) for row in connection.execute(HOLDERS).fetchall()]
            own = [holder for holder in holders if self._is_own(holder)]
            waited = time.monotonic() - begun
            if waited > (OWN_PATIENCE if own else PATIENCE):
                self._refuse_holders(holders, bool(own))
            for holder in own:
                _end_session(connection, holder.backend)
            time.sleep(0.05)

    def _is_own(self, holder: Holder) -> bool:
        """Whether it is of this daemon, or of an earlier one of this state directory, which has ended, since
        this one has the directory's lock."""
        return holder.session == self._name or (holder.is_from_here and holder.session in self._seen.sessions)

    def _refuse_holders(self, holders: Sequence[Holder], is_own: bool) -> None:
        named = "; ".join(holder.described for holder in holders) or "a session that has just ended"
        if is_own or not holders:
            raise StoreOutage(f"{self.where}: an earlier session of this daemon still has its lock: {named}")
        if self._has_begun:
            raise PlaceTaken(
                f"{self.where}: another daemon has taken over while this one was disconnected: {named}. This "
                "one does nothing more; VMs run on"
            )
        raise DaemonRunning(f"{self.where}: a daemon runs for this database already: {named}")


def _application_name(session: str) -> str:
    """PostgreSQL keeps 63 bytes of it."""
    host = re.sub(r"[^!-~]", "?", socket.gethostname())[:24] or "?"
    return f"lando-fsm {os.getpid()}@{host} {session}"


def _end_session(connection: psycopg.Connection[Any], backend: int) -> None:
    import psycopg  # noqa: PLC0415 - where there is one

    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT pg_terminate_backend(%s)", [backend])


def _value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return None if row is None else row[0]
