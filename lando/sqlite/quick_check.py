"""Whether a database is damaged, as far as SQLite finds out in a limited time.

Source: https://www.sqlite.org/pragma.html#pragma_quick_check
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from lando.sqlite.failures import is_damage

LIMIT = 10.0
"""Seconds: about a GB."""
_ROWS = 100
_CONTENTS = ("NULL value in", "CHECK constraint failed")
"""What is said of rows that break a rule of their table, in a file that is sound."""
_STEPS = 10_000
"""Instructions of SQLite's machine between two looks at the clock: milliseconds."""


def quick_check(
    database: Path, limit: float = LIMIT, is_stopped: Callable[[], bool] = lambda: False
) -> tuple[str | None, bool]:
    """Look for damage.

    Args:
        database: its file, which exists.
        limit: seconds after which the rest is left out.
        is_stopped: asked now and then whether to leave out the rest.

    Returns:
        What is damaged, in SQLite's words, or None; and whether all was looked at.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    deadline = time.monotonic() + limit
    uri = f"{database.absolute().as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=limit)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline or is_stopped(), _STEPS)
        try:
            rows = connection.execute("PRAGMA quick_check").fetchmany(_ROWS)
        except sqlite3.DatabaseError as error:
            if is_damage(error):
                return str(error), True
            if "interrupted" in str(error):
                return None, False
            raise
    found = [" ".join(str(row[0]).split()) for row in rows]
    return next((words for words in found if words != "ok" and not words.startswith(_CONTENTS)), None), True
