"""The embedded queue: two tables in the SQLite file of the state directory, and a doorbell beside it.

Publishers commit a row and ring the doorbell (a named pipe), which wakes the reader at once; the reader
polls the table only as a safety net, for file systems that have no pipes.
"""

from __future__ import annotations

import contextlib
import os
import select
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lando.messages import Origin
from lando.queue import DeadLetter, Delivery, QueueUnavailable

SCHEMA = """
CREATE TABLE IF NOT EXISTS queue_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, sender TEXT,
    raw BLOB NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS queue_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, raw BLOB NOT NULL, at REAL NOT NULL
);
"""
BUSY_TIMEOUT = 60.0
SAFETY_POLL = 5.0
"""Seconds between looks at the table when nobody rings."""


def connect(database: Path, create: bool = True) -> sqlite3.Connection:
    """Open the queue's tables in ``database``, durable and safe for several processes.

    Args:
        database: the state directory's SQLite file.
        create: make the file (0600) and the tables where they are missing.

    Raises:
        QueueUnavailable: the file cannot be opened or written.
    """
    try:
        if create and not database.exists():
            os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))
        mode = "rwc" if create else "rw"
        connection = sqlite3.connect(
            f"{database.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        if create and not _has_tables(connection):
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
    except (sqlite3.Error, OSError) as error:
        raise QueueUnavailable(f"{database}: {error}") from error
    return connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_master WHERE name IN ('queue_messages', 'queue_dead_letters')"
    return bool(connection.execute(query).fetchone()[0] == 2)


def doorbell_path(database: Path) -> Path:
    """The named pipe that wakes the reader of ``database``."""
    return database.with_name("doorbell")


def ring(database: Path) -> None:
    """Wake the reader, if there is one. Never fails: the message is in the table, ringing only saves time."""
    with contextlib.suppress(OSError):
        bell = os.open(doorbell_path(database), os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(bell, b"!")
        finally:
            os.close(bell)


class EmbeddedPublisher:
    """Puts messages into the table; several processes may.

    Args:
        database: the state directory's SQLite file.
        origin: whose messages these are.
        sender: the account they are sent from.
    """

    def __init__(
        self, database: Path, origin: Origin, sender: str | None = None, create: bool = True
    ) -> None:
        self._database = database
        self._origin = origin
        self._sender = sender
        self._connection = connect(database, create)

    def publish(self, raw: bytes) -> None:
        """Return once the message is committed with fsync; see ``Publisher.publish``."""
        try:
            self._connection.execute(
                "INSERT INTO queue_messages (origin, sender, raw, at) VALUES (?, ?, ?, ?)",
                (self._origin, self._sender, raw, time.time()),
            )
        except sqlite3.Error as error:
            raise QueueUnavailable(f"{self._database}: {error}") from error
        ring(self._database)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class EmbeddedQueue:
    """The reader's side; see ``WorkQueue``.

    Args:
        database: the state directory's SQLite file.
    """

    def __init__(self, database: Path) -> None:
        self._database = database
        self._connection = connect(database)
        self._received = 0
        path = doorbell_path(database)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Read-write, so that the pipe never reports end-of-file between two publishers.
        self._bell = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """See ``WorkQueue.receive``."""
        deadline = time.monotonic() + timeout
        while True:
            self._silence_bell()
            deliveries = self._unreceived(limit)
            remaining = deadline - time.monotonic()
            if deliveries or remaining <= 0:
                return deliveries
            rung, _, _ = select.select([self._bell], [], [], min(remaining, SAFETY_POLL))
            if rung:
                deadline = time.monotonic()

    def _silence_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._bell, 65536):
                pass

    def _unreceived(self, limit: int) -> list[Delivery]:
        with self._errors():
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
            with self._errors(), self._transaction():
                self._connection.executemany(
                    "DELETE FROM queue_messages WHERE id = ?", [(delivery.tag,) for delivery in deliveries]
                )

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """See ``WorkQueue.dead_letter``."""
        with self._errors(), self._transaction():
            self._connection.execute(
                "INSERT INTO queue_dead_letters (reason, raw, at) VALUES (?, ?, ?)",
                (reason, delivery.raw, time.time()),
            )
            self._connection.execute("DELETE FROM queue_messages WHERE id = ?", (delivery.tag,))

    def rewind(self) -> None:
        """See ``WorkQueue.rewind``."""
        self._received = 0

    def wake(self) -> None:
        """See ``WorkQueue.wake``."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._bell, b"!")

    def close(self) -> None:
        """See ``WorkQueue.close``."""
        self._connection.close()
        os.close(self._bell)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise QueueUnavailable(f"{self._database}: {error}") from error


def waiting(database: Path) -> list[Delivery]:
    """The messages no daemon has taken yet, oldest first; [] where there is no queue."""
    return [
        Delivery(tag=row[0], raw=bytes(row[1]), origin=row[2], sender=row[3])
        for row in _select(database, "SELECT id, raw, origin, sender FROM queue_messages ORDER BY id")
    ]


def dead_letters(database: Path) -> list[DeadLetter]:
    """The messages that could not be understood, oldest first; [] where there is no queue."""
    return [
        DeadLetter(id=row[0], reason=row[1], raw=bytes(row[2]), at=row[3])
        for row in _select(database, "SELECT id, reason, raw, at FROM queue_dead_letters ORDER BY id")
    ]


def _select(database: Path, query: str) -> list[Any]:
    if not database.exists():
        return []
    connection = connect(database, create=False)
    try:
        return connection.execute(query).fetchall() if _has_tables(connection) else []
    finally:
        connection.close()
