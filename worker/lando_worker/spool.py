"""Reports on their way: kept on disk until delivered, so that a worker that dies loses none of them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from lando.messages import Message


class Spool:
    """The undelivered reports of one attempt, in order.

    Everything is in memory, too: on a full disk, reports about just that must still get through.

    Args:
        directory: this attempt's own; made where missing, and read if an earlier process left reports.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: dict[int, bytes] = {}
        self._last = 0
        self.closed = False
        """Whether the final report is in: nothing may follow it."""
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._read()

    def _read(self) -> None:
        for path in sorted(self._directory.glob("*.json")):
            self._waiting[int(path.stem)] = path.read_bytes()
        note = self._directory / "last"
        if note.exists():
            last = json.loads(note.read_text())
            self._last, self.closed = last["seq"], last["closed"]

    def add(self, make: Callable[[int], Message]) -> None:
        """Append the report that ``make`` makes of its sequence number."""
        message = make(self._last + 1)
        self._last += 1
        self.closed = message.type == "workflow_finished"
        self._waiting[self._last] = message.encode()
        with contextlib.suppress(OSError):
            self._write(self._path(self._last), self._waiting[self._last])
            note = json.dumps({"seq": self._last, "closed": self.closed})
            self._write(self._directory / "last", note.encode())

    def _path(self, seq: int) -> Path:
        return self._directory / f"{seq:08}.json"

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        new = path.with_suffix(".new")
        new.write_bytes(content)
        os.replace(new, path)

    def first(self) -> tuple[int, bytes] | None:
        """The oldest report and its sequence number; None when all is delivered."""
        return next(iter(self._waiting.items()), None)

    def delivered(self, seq: int) -> None:
        """Forget a report."""
        del self._waiting[seq]
        with contextlib.suppress(OSError):
            self._path(seq).unlink(missing_ok=True)
