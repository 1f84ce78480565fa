"""The embedded queue: two tables in the SQLite file of the state directory, and a named pipe beside it.

A publisher commits a row and then writes to the named pipe, which wakes the reader at once. The reader also
polls the table, for file systems that have no named pipes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lando.errors import DatabaseLocked, UsageError
from lando.messages import Origin
from lando.state_dir import BUSY_TIMEOUT, is_locked, use_write_ahead_log
from lando.workqueue.interface import CLOSE_TIMEOUT, FIRST_BYTES, DeadLetter, Delivery, QueueUnavailable
from lando.workqueue.wakeup import Wakeup, wake_process

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, sender TEXT,
    raw BLOB NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS queue_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, raw BLOB NOT NULL, at REAL NOT NULL,
    origin TEXT, sender TEXT
);
"""
LATER_COLUMNS = ("origin", "sender")
"""Columns of queue_dead_letters that the first release did not have."""
SAFETY_POLL = 5.0
"""Seconds between two polls of the table while nothing wakes the reader."""


class QueueLocked(QueueUnavailable, DatabaseLocked):
    """Another process holds the lock of the queue's file."""


def connect(database: Path, create: bool = True, patience: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open the queue's tables in ``database``, durable and safe for several processes.

    Args:
        database: the state directory's SQLite file.
        create: create the file (0600) and the tables if they are missing.
        patience: seconds that SQLite waits for a lock of another process.

    Raises:
        QueueUnavailable: the file cannot be opened or written.
    """
    with _as_queue_errors(database), contextlib.ExitStack() as undo:
        if create and not database.exists():
            os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))
        mode = "rwc" if create else "rw"
        connection = sqlite3.connect(
            f"{database.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=patience,
            isolation_level=None,
            check_same_thread=False,
        )
        undo.callback(connection.close)
        use_write_ahead_log(connection, patience)
        connection.execute("PRAGMA synchronous=FULL")
        if create and not _has_tables(connection):
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        if create:
            _add_later_columns(connection)
        undo.pop_all()
        return connection


@contextlib.contextmanager
def _as_queue_errors(database: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        kind = QueueLocked if is_locked(error) else QueueUnavailable
        raise kind(f"{database}: {error}") from error


def _has_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_master WHERE name IN ('queue_messages', 'queue_dead_letters')"
    return bool(connection.execute(query).fetchone()[0] == 2)


def _add_later_columns(connection: sqlite3.Connection) -> None:
    if not _missing_columns(connection):
        return
    with _transaction(connection):
        for column in _missing_columns(connection):  # another process may have been faster
            connection.execute(f"ALTER TABLE queue_dead_letters ADD COLUMN {column} TEXT")


def _missing_columns(connection: sqlite3.Connection) -> list[str]:
    there = {row[1] for row in connection.execute("PRAGMA table_info(queue_dead_letters)")}
    return [column for column in LATER_COLUMNS if column not in there]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise


def wakeup_fifo(database: Path) -> Path:
    """The named pipe that wakes the reader of ``database``."""
    # Publishers of every release open this file, so its name must stay.
    return database.with_name("doorbell")


class EmbeddedPublisher:
    """Puts messages into the table. Several processes may publish.

    Args:
        database: the state directory's SQLite file.
        origin: who publishes.
        sender: the account of who publishes.
        create: create the file and the tables if they are missing.

    Raises:
        QueueUnavailable: the file cannot be opened or written.
    """

    def __init__(
        self, database: Path, origin: Origin, sender: str | None = None, create: bool = True
    ) -> None:
        self._database = database
        self._origin = origin
        self._sender = sender
        self._connection = connect(database, create)

    def publish(self, raw: bytes) -> None:
        """See ``Publisher.publish``: the row is committed with fsync."""
        with _as_queue_errors(self._database):
            self._connection.execute(
                "INSERT INTO queue_messages (origin, sender, raw, at) VALUES (?, ?, ?, ?)",
                (self._origin, self._sender, raw, time.time()),
            )
        wake_process(wakeup_fifo(self._database))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class EmbeddedQueue:
    """The reader's side; see ``WorkQueue``.

    Args:
        database: the state directory's SQLite file.
        patience: seconds that SQLite waits for a lock of another process.
    """

    def __init__(self, database: Path, patience: float = BUSY_TIMEOUT) -> None:
        self._database = database
        self._connection = connect(database, patience=patience)
        self._received = 0
        self._wakeup = Wakeup(wakeup_fifo(database))

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """See ``WorkQueue.receive``."""
        deadline = time.monotonic() + timeout
        # Cleared before the table is read: what is published after the reading wakes the next wait.
        woken = self._wakeup.clear()
        while True:
            deliveries = self._unreceived(limit)
            remaining = deadline - time.monotonic()
            if deliveries or woken or remaining <= 0:
                return deliveries
            woken = self._wakeup.wait(min(remaining, SAFETY_POLL))

    def _unreceived(self, limit: int) -> list[Delivery]:
        with _as_queue_errors(self._database):
            rows = self._connection.execute(
                "SELECT id, raw, origin, sender FROM queue_messages WHERE id > ? ORDER BY id LIMIT ?",
                (self._received, limit),
            ).fetchall()
        if rows:
            self._received = rows[-1][0]
        return [Delivery(tag=row[0], raw=bytes(row[1]), origin=row[2], sender=row[3]) for row in rows]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See ``WorkQueue.ack``."""
        if deliveries:
            with _as_queue_errors(self._database), _transaction(self._connection):
                self._connection.executemany(
                    "DELETE FROM queue_messages WHERE id = ?", [(delivery.tag,) for delivery in deliveries]
                )

    def obstacle(self) -> str | None:
        """See ``WorkQueue.obstacle``: always None, since publishers get the error themselves."""
        return None

    def is_read_up_to_date(self) -> bool:
        """See ``WorkQueue.is_read_up_to_date``."""
        query = "SELECT NOT EXISTS (SELECT 1 FROM queue_messages WHERE id > ?)"
        with _as_queue_errors(self._database):
            return bool(self._connection.execute(query, (self._received,)).fetchone()[0])

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """See ``WorkQueue.dead_letter``."""
        with _as_queue_errors(self._database), _transaction(self._connection):
            for delivery, reason in rejected:
                self._connection.execute(
                    "INSERT INTO queue_dead_letters (reason, raw, at, origin, sender) VALUES (?, ?, ?, ?, ?)",
                    (reason, delivery.raw, time.time(), delivery.origin, delivery.sender),
                )
                self._connection.execute("DELETE FROM queue_messages WHERE id = ?", (delivery.tag,))

    def rewind(self) -> None:
        """See ``WorkQueue.rewind``."""
        self._received = 0

    def wake(self) -> None:
        """See ``WorkQueue.wake``."""
        self._wakeup.wake()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """See ``WorkQueue.close``."""
        self._connection.close()
        self._wakeup.close()


def waiting(database: Path) -> list[Delivery]:
    """The messages that no daemon has acked yet, oldest first; [] if there is no queue."""
    return [
        Delivery(tag=row[0], raw=bytes(row[1]), origin=row[2], sender=row[3])
        for row in _select(database, "SELECT id, raw, origin, sender FROM queue_messages ORDER BY id")
    ]


class EmbeddedDeadLetters:
    """See ``DeadLetters``.

    Args:
        database: the state directory's SQLite file; it need not exist.
    """

    def __init__(self, database: Path) -> None:
        self._database = database

    def all(self) -> list[DeadLetter]:
        """See ``DeadLetters.all``."""
        query = (
            "SELECT id, reason, substr(raw, 1, ?), length(raw), at, origin, sender "
            "FROM queue_dead_letters ORDER BY id"
        )
        rows = _select(self._database, query, (FIRST_BYTES,))
        return [DeadLetter(str(row[0]), row[1], bytes(row[2]), *row[3:]) for row in rows]

    def requeue(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.requeue``."""
        self._remove(
            ids,
            "INSERT INTO queue_messages (origin, sender, raw, at) "
            "SELECT coalesce(origin, 'client'), sender, raw, at FROM queue_dead_letters WHERE id = ?",
        )
        wake_process(wakeup_fifo(self._database))

    def drop(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.drop``."""
        self._remove(ids)

    def _remove(self, ids: Sequence[str], first: str | None = None) -> None:
        known = {letter.id for letter in self.all()}
        for letter_id in ids:
            if letter_id not in known:
                raise UsageError(f"no dead letter {letter_id}; `lando-fsm dead-letters` lists them")
        with (
            _as_queue_errors(self._database),
            contextlib.closing(connect(self._database)) as connection,
            _transaction(connection),
        ):
            for letter_id in dict.fromkeys(ids):
                if first is not None:
                    connection.execute(first, (letter_id,))
                connection.execute("DELETE FROM queue_dead_letters WHERE id = ?", (letter_id,))


def _select(database: Path, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
    with _as_queue_errors(database):
        if not database.exists():
            return []
        with contextlib.closing(connect(database, create=False)) as connection:
            return connection.execute(query, parameters).fetchall() if _has_tables(connection) else []
