"""A checkpoint: what the write-ahead log holds is written into the database's file.

Source: https://www.sqlite.org/wal.html#ckpt and https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Literal

LARGE_LOG = 64 * 1024 * 1024
"""Bytes of the write-ahead log beyond which it is said why no checkpoint shortens it."""

_READ_LOCKS = range(123, 128)
"""The bytes of the ``-shm`` file that readers lock: https://www.sqlite.org/walformat.html#locks."""


def checkpoint(connection: sqlite3.Connection, how: Literal["PASSIVE", "TRUNCATE"]) -> bool:
    """Write what the log holds into the file, as far as no reader needs what was there before.

    Args:
        connection: outside of a transaction.
        how: ``PASSIVE`` waits for nobody; ``TRUNCATE`` also empties the log, and waits for other processes as
            long as the connection's busy timeout.

    Returns:
        Whether the file now holds everything.

    Raises:
        sqlite3.Error: the file cannot be written.
    """
    _, in_log, written = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
    return bool(in_log == written >= 0)  # -1: another process makes one


def log_path(database: Path) -> Path:
    """The write-ahead log of a database."""
    return database.with_name(f"{database.name}-wal")


def log_size(database: Path) -> int:
    """Bytes of the write-ahead log; 0 if there is none."""
    with contextlib.suppress(OSError):
        return log_path(database).stat().st_size
    return 0


def readers(database: Path, locks: Path = Path("/proc/locks")) -> list[int]:
    """The pids of other processes that read from the database: they keep the log from being emptied.

    Args:
        database: its file.
        locks: the locks of this machine, as in proc_locks(5).

    Returns:
        The pids that can be seen from here, in order.
    """
    with contextlib.suppress(OSError, ValueError):
        shared = database.with_name(f"{database.name}-shm").stat()
        inode = f"{os.major(shared.st_dev):02x}:{os.minor(shared.st_dev):02x}:{shared.st_ino}"
        found = set()
        for line in locks.read_text().splitlines():
            words = line.replace("-> ", "").split()
            pid, file, first, last = int(words[4]), words[5], words[6], words[7]
            if file == inode and pid > 0 and int(first) in _READ_LOCKS and last != "EOF":
                found.add(pid)
        return sorted(found - {os.getpid()})
    return []
