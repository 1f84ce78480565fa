"""Looks at the commands that wait in the embedded queue: thousands, when no daemon is running."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from lando.workqueue.embedded import reading
from lando.workqueue.embedded_errors import as_queue_errors
from lando.workqueue.interface import Delivery


def commands_waiting(database: Path, naming: Sequence[str] = ()) -> Generator[Delivery]:
    """The messages of clients that no daemon has acked yet, oldest first; none if there is no queue. They are
    read one by one, from one snapshot.

    Args:
        database: the queue's SQLite file.
        naming: only those that contain all of these texts.
    """
    condition, values = _condition(naming)
    query = f"SELECT id, raw, origin, sender FROM queue_messages WHERE {condition} ORDER BY id"  # noqa: S608
    with as_queue_errors(database), reading(database) as connection:
        if connection is not None:
            for tag, raw, origin, sender in connection.execute(query, values):
                yield Delivery(tag=tag, raw=bytes(raw), origin=origin, sender=sender)


def count_waiting(database: Path) -> int:
    """How many messages of anybody no daemon has acked yet."""
    with as_queue_errors(database), reading(database) as connection:
        if connection is None:
            return 0
        return int(connection.execute("SELECT count(*) FROM queue_messages").fetchone()[0])


def count_commands_waiting(database: Path, naming: Sequence[str] = ()) -> int:
    """How many those are."""
    condition, values = _condition(naming)
    query = f"SELECT count(*) FROM queue_messages WHERE {condition}"  # noqa: S608
    with as_queue_errors(database), reading(database) as connection:
        return 0 if connection is None else int(connection.execute(query, values).fetchone()[0])


def _condition(naming: Sequence[str]) -> tuple[str, list[bytes]]:
    """SQLite searches the messages: to decode each takes a hundred times as long."""
    values = [text.encode() for text in naming if text]
    return " AND ".join(["origin = 'client'", *["instr(raw, ?)"] * len(values)]), values
