"""An embedded queue that is closed: its file was left for another database, and nobody takes its messages.

A trigger refuses them, so that publishers of every release get an error instead of losing a message.
"""

from __future__ import annotations

import sqlite3

_TRIGGER = "queue_closed"


def close_queue(connection: sqlite3.Connection, words: str) -> int:
    """Take no more messages; in the transaction of the connection.

    Args:
        connection: to a file that has the queue's tables.
        words: what publishers are told.

    Returns:
        How many messages wait. The caller rolls back if some do.
    """
    quoted = words.replace("'", "''")
    connection.execute(f"DROP TRIGGER IF EXISTS {_TRIGGER}")
    connection.execute(
        f"CREATE TRIGGER {_TRIGGER} BEFORE INSERT ON queue_messages "
        f"BEGIN SELECT RAISE(ABORT, '{quoted}'); END"
    )
    return int(connection.execute("SELECT count(*) FROM queue_messages").fetchone()[0])


def open_queue(connection: sqlite3.Connection) -> None:
    """Take messages again; in the transaction of the connection."""
    connection.execute(f"DROP TRIGGER IF EXISTS {_TRIGGER}")
