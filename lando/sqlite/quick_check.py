"""Whether a database is damaged, as far as SQLite finds out in a limited time.

Source: https://www.sqlite.org/pragma.html#pragma_quick_check
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path

from lando.sqlite.failures import is_damage

LIMIT = 10.0
"""Seconds: about a GB."""
_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock: milliseconds."""


def quick_check(database: Path, limit: float = LIMIT) -> tuple[str | None, bool]:
    """Look for damage.

    Args:
        database: its file, which exists.
        limit: seconds after which the rest is left out.

    Returns:
        What is damaged, in SQLite's words, or None; and whether all was looked at.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    deadline = time.monotonic() + limit
    uri = f"{database.absolute().as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=limit)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        try:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return str(error), True
            if time.monotonic() > deadline and "interrupted" in str(error):
                return None, False
            raise
    return (None if found == "ok" else " ".join(str(found).split())), True
