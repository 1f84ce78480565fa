"""The embedded queue: two tables in the SQLite file of the state directory, and a named pipe beside it.

A publisher commits a row and then writes to the named pipe, which wakes the reader at once. The reader also
polls the table, for file systems that have no named pipes.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lando.messages import Origin
from lando.sqlite.opening import BUSY_TIMEOUT, make_durable
from lando.sqlite.same_file import SameFile
from lando.workqueue.embedded_errors import as_queue_errors
from lando.workqueue.embedded_figures import counted
from lando.workqueue.embedded_schema import LATER_COLUMNS, LATER_SCHEMA, SCHEMA
from lando.workqueue.interface import (
    CLOSE_TIMEOUT,
    MAX_BATCH,
    RESERVED,
    Delivery,
    QueueFigures,
    QueueFull,
    kept_bytes,
)
from lando.workqueue.wakeup import Wakeup, wake_process

REPORTS_WAITING = 4_000
REPORT_BYTES_WAITING = 64 * 1024 * 1024
"""Limits of the reports that wait: beyond them workers cannot publish, and keep their reports."""
LETTERS_KEPT = {"worker": 2_000, "client": 10_000}
LETTER_BYTES_KEPT = {"worker": 64 * 1024 * 1024, "client": 512 * 1024 * 1024}
"""Limits of the dead letters of each origin; beyond them the oldest of the same origin are dropped."""
NO_FENCE = 2**63 - 1
"""The largest row id."""
SAFETY_POLL = 5.0
"""Seconds between two polls of the table while nothing wakes the reader."""


def connect(database: Path, create: bool = True, patience: float = BUSY_TIMEOUT) -> sqlite3.Connection:
    """Open the queue's tables in ``database``, durable and safe for several processes.

    Args:
        database: the state directory's SQLite file.
        create: create the file (0600) and the tables if they are missing.
        patience: seconds that SQLite waits for a lock of another process.

    Raises:
        QueueUnavailable: the file cannot be opened or written.
    """
    with as_queue_errors(database), contextlib.ExitStack() as undo:
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
        make_durable(connection, patience)
        if create and not _has_tables(connection):
            connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
        if create:
            _add_later_columns(connection)
            if not _is_counted(connection):
                connection.executescript(f"BEGIN IMMEDIATE; {LATER_SCHEMA} COMMIT;")
        undo.pop_all()
        return connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_master WHERE name IN ('queue_messages', 'queue_dead_letters')"
    return bool(connection.execute(query).fetchone()[0] == 2)


def _is_counted(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE name = 'queue_report_removed'"
    return connection.execute(query).fetchone() is not None


def _add_later_columns(connection: sqlite3.Connection) -> None:
    if not missing_columns(connection):
        return
    with transaction(connection):
        for column in missing_columns(connection):  # another process may have been faster
            connection.execute(f"ALTER TABLE queue_dead_letters ADD COLUMN {column} {LATER_COLUMNS[column]}")


def missing_columns(connection: sqlite3.Connection) -> list[str]:
    """The columns of dead letters that the daemon's release did not have."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(queue_dead_letters)")}
    return [column for column in LATER_COLUMNS if column not in there]


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that writes: committed at the end, rolled back by any exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise


def _reports_waiting(connection: sqlite3.Connection) -> tuple[int, int]:
    """How many, and their bytes."""
    messages, size = connection.execute("SELECT * FROM queue_reports_waiting").fetchone()
    return messages, size


def _is_full(messages: int, size: int) -> bool:
    return messages >= REPORTS_WAITING or size >= REPORT_BYTES_WAITING


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
        self._create = create
        self._same_file: SameFile | None = None
        self._open()

    def _open(self) -> None:
        self._connection = connect(self._database, self._create)
        self._same_file = SameFile(self._database)

    def publish(self, raw: bytes) -> None:
        """See ``Publisher.publish``: the row is committed with fsync."""
        with as_queue_errors(self._database):
            if self._same_file is None or self._same_file.difference() is not None:
                # Nobody would read it there. Closed first: the connections of a process share the -shm file.
                self._same_file = None
                self._connection.close()
                self._open()
        with as_queue_errors(self._database), transaction(self._connection):
            if self._origin == "worker":
                self._refuse_if_full()
            self._connection.execute(
                "INSERT INTO queue_messages (origin, sender, raw, at) VALUES (?, ?, ?, ?)",
                (self._origin, self._sender, raw, time.time()),
            )
        wake_process(wakeup_fifo(self._database))

    def _refuse_if_full(self) -> None:
        if not _is_counted(self._connection):
            return  # the daemon's release is older
        messages, size = _reports_waiting(self._connection)
        if _is_full(messages, size):
            raise QueueFull(
                f"{self._database}: {messages:,} reports ({size / 2**20:.0f} MiB) wait for the daemon already"
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class EmbeddedQueue:
    """The reader's side; see ``WorkQueue``.

    Args:
        database: the state directory's SQLite file.
        patience: seconds that SQLite waits for a lock of another process.
        wakeup: ends the wait; None: the one that publishers wake.
    """

    def __init__(self, database: Path, patience: float = BUSY_TIMEOUT, wakeup: Wakeup | None = None) -> None:
        self._database = database
        self._connection = connect(database, patience=patience)
        self._received: dict[Origin, int] = {"client": 0, "worker": 0}
        self._fence: tuple[int, float] | None = None
        self._passed_fence: float | None = None
        self._refused_at: float | None = None
        self._dead_lettered: Counter[Origin] = Counter({"client": 0, "worker": 0})
        self._wakeup = wakeup or Wakeup(wakeup_fifo(database))

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """See ``WorkQueue.receive``."""
        deadline = time.monotonic() + timeout
        # Cleared before the table is read: what is published after the reading wakes the next wait.
        woken = self._wakeup.clear()
        while True:
            had_fence = self._fence is not None
            deliveries = self._unreceived(limit)
            has_met_fence = had_fence and self._fence is None
            remaining = deadline - time.monotonic()
            if deliveries or has_met_fence or woken or remaining <= 0:
                return deliveries
            woken = self._wakeup.wait(min(remaining, SAFETY_POLL))

    def _unreceived(self, limit: int) -> list[Delivery]:
        """Commands before reports, of a limited size; up to the fence, where one was asked for."""
        last = NO_FENCE if self._fence is None else self._fence[0]
        with as_queue_errors(self._database):
            self._note_refusals()
            share = limit // RESERVED, MAX_BATCH // RESERVED
            of_reports = share if any(self._rows("worker", last, 1)) else (0, 0)
            found, is_all = self._next("client", last, limit - of_reports[0], MAX_BATCH - of_reports[1])
            left = MAX_BATCH - sum(len(command.raw) for command in found)
            reports, are_all_reports = self._next("worker", last, limit - len(found), left)
        if self._fence is not None and is_all and are_all_reports:
            self._passed_fence, self._fence = self._fence[1], None
        return found + reports

    def _next(self, origin: Origin, last: int, limit: int, size: int) -> tuple[list[Delivery], bool]:
        """Messages of an origin, of so many bytes, and whether these are all up to row ``last``."""
        found: list[Delivery] = []
        for row in self._rows(origin, last, limit + 1):
            if len(found) == limit or size <= 0:
                return found, False
            found.append(Delivery(tag=row[0], raw=bytes(row[1]), origin=row[2], sender=row[3]))
            self._received[origin] = row[0]
            size -= len(row[1])
        return found, True

    def _rows(self, origin: Origin, last: int, limit: int) -> Iterator[tuple[int, bytes, Origin, str | None]]:
        return self._connection.execute(
            "SELECT id, raw, origin, sender FROM queue_messages "
            "WHERE origin = ? AND id > ? AND id <= ? ORDER BY id LIMIT ?",
            (origin, self._received[origin], last, limit),
        )

    @contextlib.contextmanager
    def _removing(self) -> Iterator[None]:
        """What could not be removed is received again."""
        try:
            with as_queue_errors(self._database), transaction(self._connection):
                self._note_refusals()
                yield
        except BaseException:
            self.rewind()
            raise

    def _note_refusals(self) -> None:
        """Only this reader removes reports: no refusal is missed, if this is called before each removal."""
        if _is_full(*_reports_waiting(self._connection)):
            self._refused_at = time.monotonic()

    def refused_at(self) -> float | None:
        """See ``WorkQueue.refused_at``."""
        return self._refused_at

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See ``WorkQueue.ack``."""
        if deliveries:
            with self._removing():
                self._connection.executemany(
                    "DELETE FROM queue_messages WHERE id = ?", [(delivery.tag,) for delivery in deliveries]
                )

    def obstacle(self) -> str | None:
        """See ``WorkQueue.obstacle``: always None, since publishers get the error themselves."""
        return None

    def request_fence(self) -> None:
        """See ``WorkQueue.request_fence``: the highest row at this time."""
        if self._fence is None:
            asked_at = time.monotonic()
            with as_queue_errors(self._database):
                (last,) = self._connection.execute("SELECT max(id) FROM queue_messages").fetchone()
            self._fence = last or 0, asked_at

    def passed_fence(self) -> float | None:
        """See ``WorkQueue.passed_fence``."""
        return self._passed_fence

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """See ``WorkQueue.dead_letter``."""
        with self._removing():
            for delivery, reason in rejected:
                origin, sender = delivery.origin, delivery.sender
                self._connection.execute(
                    "INSERT INTO queue_dead_letters (reason, raw, at, origin, sender, size) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (reason, kept_bytes(delivery), time.time(), origin, sender, len(delivery.raw)),
                )
                self._connection.execute("DELETE FROM queue_messages WHERE id = ?", (delivery.tag,))
            for origin in {delivery.origin for delivery, _ in rejected}:
                self._drop_oldest_letters(origin or "client")
        self._dead_lettered.update(delivery.origin or "client" for delivery, _ in rejected)

    def _drop_oldest_letters(self, origin: Origin) -> None:
        """Keep the newest dead letters of an origin that are within its limits."""
        self._connection.execute(
            "DELETE FROM queue_dead_letters WHERE id IN ("
            "SELECT id FROM (SELECT id, row_number() OVER newest AS messages, "
            "sum(length(raw)) OVER newest AS bytes FROM queue_dead_letters "
            "WHERE coalesce(origin, 'client') = ? WINDOW newest AS (ORDER BY id DESC)) "
            "WHERE messages > ? OR bytes > ?)",
            (origin, LETTERS_KEPT[origin], LETTER_BYTES_KEPT[origin]),
        )

    def rewind(self) -> None:
        """See ``WorkQueue.rewind``."""
        self._received = dict.fromkeys(self._received, 0)
        self._fence = self._passed_fence = None

    def figures(self) -> QueueFigures:
        """See ``WorkQueue.figures``; on a connection of its own."""
        with as_queue_errors(self._database), reading(self._database) as connection:
            found = QueueFigures() if connection is None else counted(connection)
        return replace(found, dead_lettered=dict(self._dead_lettered))

    def wake(self) -> None:
        """See ``WorkQueue.wake``."""
        self._wakeup.wake()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """See ``WorkQueue.close``."""
        self._connection.close()
        self._wakeup.close()


def waiting(database: Path) -> list[Delivery]:
    """The messages that no daemon has acked yet, oldest first; [] if there is no queue."""
    query = "SELECT id, raw, origin, sender FROM queue_messages ORDER BY id"
    with as_queue_errors(database), reading(database) as connection:
        rows = [] if connection is None else connection.execute(query).fetchall()
    return [Delivery(tag=row[0], raw=bytes(row[1]), origin=row[2], sender=row[3]) for row in rows]


@contextlib.contextmanager
def reading(database: Path) -> Iterator[sqlite3.Connection | None]:
    """Opened for reading; None if there is no queue."""
    if not database.exists():
        yield None
        return
    with contextlib.closing(connect(database, create=False)) as connection:
        yield connection if _has_tables(connection) else None
