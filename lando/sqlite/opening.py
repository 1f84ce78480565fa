"""What each connection to an SQLite file sets: durable, and safe for several processes."""

from __future__ import annotations

import sqlite3
import time

from lando.sqlite.failures import is_locked

BUSY_TIMEOUT = 60.0
"""Seconds that SQLite waits for a lock of another process."""
DAEMON_BUSY_TIMEOUT = 2.0
"""The same in the daemon, which tries again by itself: meanwhile it could not do anything else, nor end."""
LOG_SIZE = 16 * 1024 * 1024
"""Bytes to which SQLite shortens a write-ahead log that grew larger, by a reader that lasted, say."""


def make_durable(connection: sqlite3.Connection, patience: float = BUSY_TIMEOUT) -> None:
    """Set what every connection to the file needs, and wait while another process does so to a new file.

    SQLite's own busy timeout does not apply here: it would have to wait for a lock while it holds one.

    Args:
        connection: to the file.
        patience: seconds to wait.

    Raises:
        sqlite3.Error: the file cannot be written, is no database, or stays locked for ``patience``.

    Source: https://www.sqlite.org/pragma.html (journal_mode, synchronous, journal_size_limit,
    secure_delete).
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA journal_size_limit={LOG_SIZE}")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten: secrets, and logs
