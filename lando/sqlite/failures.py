"""What SQLite's errors mean, and what to do.

Source: https://www.sqlite.org/rescode.html; which Python class each is raised as: Modules/_sqlite/util.c.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

_REFUSALS = ("readonly", "unable to open")
_ADVICE = (
    *((words, "is its directory writable, and its disk not mounted read-only?") for words in _REFUSALS),
    ("full", "make room on the disk"),
    ("disk I/O error", "the disk is full, or fails: df, dmesg"),
)
_OUTAGES = ("full", "disk I/O error")
_OUTAGE_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
_DAMAGE = ("malformed", "not a database")


def is_locked(error: BaseException | None) -> bool:
    """Whether SQLite's error means that another process holds a lock."""
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def is_outage(error: BaseException | None) -> bool:
    """Whether waiting can help: another process holds a lock, or the disk is full, fails or is read-only."""
    if isinstance(error, sqlite3.OperationalError):
        return is_locked(error) or any(words in str(error) for words in _OUTAGES)
    return isinstance(error, OSError) and error.errno in _OUTAGE_NUMBERS


def is_damage(error: BaseException | None) -> bool:
    """Whether it means that the file is damaged, or no database: SQLITE_CORRUPT, SQLITE_NOTADB."""
    return type(error) is sqlite3.DatabaseError and any(words in str(error) for words in _DAMAGE)


def refusal(error: BaseException | None, path: Path) -> str | None:
    """What this account may not do with a database's files, if SQLite cannot open or write it for that.

    Args:
        error: SQLite's.
        path: of the database.
    """
    if not isinstance(error, sqlite3.OperationalError) or not any(word in str(error) for word in _REFUSALS):
        return None
    try:
        if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
            return None
    except OSError:
        return None  # it is not there, or cannot be looked at
    if not os.access(path.parent, os.R_OK | os.W_OK | os.X_OK):
        return f"this account may not read and write its directory: ls -ld {path.parent}"
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            return f"this account may not read and write the file: ls -l {file}"
    return None


def sentence(error: BaseException | None, path: Path | None = None) -> str:
    """SQLite's words, and what to do.

    Args:
        error: SQLite's.
        path: of the database; None where it is not known.
    """
    text = str(error)
    if is_damage(error):
        return damage(text)
    if path is not None and (refused := refusal(error, path)) is not None:
        return f"{text} ({refused})"
    advice = next((advice for words, advice in _ADVICE if words in text), None)
    return text if advice is None else f"{text} ({advice})"


def damage(words: str) -> str:
    """What to do about a damaged file.

    Args:
        words: what SQLite says of it.
    """
    return (
        f"{words}: the file is damaged, and was left as it is. Stop what uses it, and restore a backup, or "
        'recover what can be read: docs/operations.md, "A damaged database"'
    )
