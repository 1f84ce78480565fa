"""All that is persisted: jobs, their history, the outbox of effects, processed messages, logs."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from lando.sqlite.opening import BUSY_TIMEOUT
from lando.store.database import READING, OldServer, connect, errors, parsed, refuse_difference, sqlite_path
from lando.store.facts import DEPLOYMENT_FACT
from lando.store.live_jobs import LiveJobs
from lando.store.queries import Queries

if TYPE_CHECKING:
    from pathlib import Path

    from lando.store.daemon_session import DaemonSession
    from lando.store.seen_server import Identity
    from lando.store.sqlite_guard import SqliteGuard
    from lando.store.transaction import Transaction

_left: list[sa.Engine] = []
"""Kept until the process ends: to forget an engine closes its connections."""


class Store:
    """The database, opened and up to date.

    Args:
        url: SQLAlchemy's form, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        patience: seconds that SQLite waits for a lock of another process.
        session: in which a daemon writes to PostgreSQL; begun before anything is read or migrated, and not
            closed here.
        state_dir: of the daemon, for a command: it refuses a server of PostgreSQL that a daemon would refuse.

    Raises:
        UsageError: the schema is newer than this program, or another daemon uses the database.
        StoreUnavailable: the database cannot be opened.
    """

    def __init__(
        self,
        url: str,
        patience: float = BUSY_TIMEOUT,
        session: DaemonSession | None = None,
        state_dir: Path | None = None,
    ) -> None:
        self._session = session
        if session is not None:
            session.open()
        with errors():
            self._url = parsed(url)
        self._path = sqlite_path(self._url)
        self._engine, self._same_file = connect(url, patience, state_dir)
        self._live_jobs = LiveJobs()
        self.is_left = False
        """Whether its file is touched no more; see ``leave``."""
        self.guard: SqliteGuard | None = None
        """Where this is a daemon's, and SQLite's; see ``start_guard``."""

    def start_guard(self) -> None:
        """For the one daemon of the database: notice also that the file is overwritten, and keep it whole.

        Raises:
            StoreUnavailable: the file cannot be written.
        """
        from lando.store.sqlite_guard import SqliteGuard  # noqa: PLC0415 - for a daemon only

        if self._path is not None and self._same_file is not None:
            with errors(self._url):
                self.guard = SqliteGuard(self._path, self._engine, self._same_file)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that writes: committed at the end, rolled back by any exception.

        Raises:
            StoreConflict: nothing was written, and the same can be tried again at once.
            StoreUnavailable: nothing was written; on PostgreSQL it may have been, if the commit failed: what
                was read or made in the transaction must be forgotten.
            StoreReplaced: what was written is not where others read.
        """
        from lando.store.transaction import Transaction  # noqa: PLC0415 - not for a command that reads

        with errors(self._url), self._live_jobs.in_transaction():
            with self._writing() as connection:
                self._refuse_difference(connection)
                transaction = Transaction(connection, self._live_jobs)
                yield transaction
                transaction.flush()
            self._refuse_difference()

    def _connect(self) -> sa.Connection:
        try:
            return self._engine.connect()
        except OldServer:
            return self._engine.connect()

    def _writing(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """The one place where what is written begins."""
        return self._engine.begin() if self._session is None else self._session.transaction()

    def reach(self) -> None:
        """Begin a transaction and end it, after one has failed: whether the database can be used again.

        Raises:
            StoreUnavailable: it cannot.
        """
        with errors(self._url), self._writing() as connection:
            connection.exec_driver_sql("SELECT 1")

    @property
    def history(self) -> Identity | None:
        """Which history of a PostgreSQL server is used, for a daemon; None where there is one only."""
        return None if self._session is None else self._session.history

    @contextlib.contextmanager
    def reading(self) -> Iterator[Queries]:
        """A consistent snapshot to read from; writers are not blocked."""
        with errors(self._url), self._connect().execution_options(**READING) as connection:
            refuse_difference(self._same_file)
            yield Queries(connection)

    def _refuse_difference(self, connection: sa.Connection | None = None) -> None:
        refuse_difference(self._same_file)
        if self.guard is not None:
            self.guard.refuse_difference(connection)

    def deployment(self, configured: str | None) -> str:
        """The deployment's name: the configured one, else a random one, generated with the database."""
        if configured is not None:
            return configured
        with self.transaction() as transaction:
            generated = transaction.fact(DEPLOYMENT_FACT)
            if generated is None:
                generated = uuid.uuid4().hex[:12]
                transaction.set_fact(DEPLOYMENT_FACT, generated)
        return str(generated)

    def leave(self) -> None:
        """Touch the file no more, not even by closing it, at which SQLite writes its log into it.

        It is damaged, or not the one that was opened. The process has to end without cleaning up, as
        ``lando.cli.main`` does: the interpreter closes what is open at its end.
        """
        self.is_left = True
        _left.append(self._engine)

    def close(self) -> None:
        """Close all connections; the last one of all processes makes the file whole."""
        if not self.is_left:
            self._engine.dispose()
