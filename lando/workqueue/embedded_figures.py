"""How much waits in the embedded queue: counted in its tables, each through an index or of bounded length."""

from __future__ import annotations

import sqlite3

from lando.messages import Origin
from lando.workqueue.interface import QueueFigures

ORIGINS: tuple[Origin, ...] = ("client", "worker")
WAITING = "SELECT count(*) FROM queue_messages WHERE origin = ?"
OLDEST = "SELECT at FROM queue_messages WHERE origin = ? ORDER BY id LIMIT 1"
LETTERS = "SELECT count(*) FROM queue_dead_letters WHERE coalesce(origin, 'client') = ?"


def counted(connection: sqlite3.Connection) -> QueueFigures:
    """What there is, by origin.

    Args:
        connection: to a file that has the queue's tables.
    """

    def one(query: str, origin: Origin) -> float | None:
        row = connection.execute(query, (origin,)).fetchone()
        return None if row is None else row[0]

    oldest = {origin: one(OLDEST, origin) for origin in ORIGINS}
    return QueueFigures(
        waiting={origin: int(one(WAITING, origin) or 0) for origin in ORIGINS},
        oldest_at={origin: at for origin, at in oldest.items() if at is not None},
        letters={origin: int(one(LETTERS, origin) or 0) for origin in ORIGINS},
    )
