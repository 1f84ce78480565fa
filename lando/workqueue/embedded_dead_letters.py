"""The dead letters of the embedded queue."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from lando.errors import UsageError
from lando.workqueue.embedded import connect, missing_columns, reading, transaction, wakeup_fifo
from lando.workqueue.embedded_errors import as_queue_errors
from lando.workqueue.interface import SCRUBBED_BYTES, DeadLetter, first_bytes, is_incomplete
from lando.workqueue.wakeup import wake_process

LOOKED_AT = 50
"""Dead letters that are looked at, and deleted, together."""
_NEXT = "SELECT id, at FROM queue_dead_letters WHERE id > ? ORDER BY id LIMIT ?"


class EmbeddedDeadLetters:
    """See ``DeadLetters``.

    Args:
        database: the state directory's SQLite file; it need not exist.
    """

    def __init__(self, database: Path) -> None:
        self._database = database

    def all(self) -> list[DeadLetter]:
        """See ``DeadLetters.all``."""
        return [letter for letter, _ in self._all()]

    def _all(self) -> list[tuple[DeadLetter, int]]:
        """Each with the bytes that it keeps."""
        with as_queue_errors(self._database), reading(self._database) as connection:
            if connection is None:
                return []
            size = "length(raw)" if "size" in missing_columns(connection) else "coalesce(size, length(raw))"
            query = (
                f"SELECT id, reason, substr(raw, 1, ?), {size}, at, origin, sender, length(raw) "  # noqa: S608
                "FROM queue_dead_letters ORDER BY id"
            )
            rows = connection.execute(query, (SCRUBBED_BYTES,)).fetchall()
        return [
            (DeadLetter(str(row[0]), row[1], first_bytes(bytes(row[2])), *row[3:7]), row[7]) for row in rows
        ]

    def requeue(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.requeue``."""
        for letter, kept in self._all():
            if letter.id in ids and kept < letter.size:
                raise is_incomplete(letter.id, kept)
        self._remove(
            ids,
            "INSERT INTO queue_messages (origin, sender, raw, at) "
            "SELECT coalesce(origin, 'client'), sender, raw, at FROM queue_dead_letters WHERE id = ?",
        )
        wake_process(wakeup_fifo(self._database))

    def drop(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.drop``."""
        self._remove(ids)

    def drop_before(self, at: float) -> int:
        """See ``DeadLetters.drop_before``: some at a time, so that nobody else has to wait."""
        dropped, last = 0, 0
        with as_queue_errors(self._database), reading(self._database) as connection:
            while connection is not None:
                found = connection.execute(_NEXT, (last, LOOKED_AT)).fetchall()
                if not found:
                    break
                last = found[-1][0]
                old = [(letter_id,) for letter_id, since in found if since < at]
                if old:
                    with transaction(connection):
                        connection.executemany("DELETE FROM queue_dead_letters WHERE id = ?", old)
                dropped += len(old)
        return dropped

    def _remove(self, ids: Sequence[str], first: str | None = None) -> None:
        known = {letter.id for letter in self.all()}
        for letter_id in ids:
            if letter_id not in known:
                raise UsageError(f"no dead letter {letter_id}; `lando-fsm dead-letters` lists them")
        with (
            as_queue_errors(self._database),
            contextlib.closing(connect(self._database)) as connection,
            transaction(connection),
        ):
            for letter_id in dict.fromkeys(ids):
                if first is not None:
                    connection.execute(first, (letter_id,))
                connection.execute("DELETE FROM queue_dead_letters WHERE id = ?", (letter_id,))
