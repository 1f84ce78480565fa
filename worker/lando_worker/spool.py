"""Reports that are not delivered yet, kept on disk, so that none is lost when the worker is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from lando.beneath import read_file
from lando.message_limits import REPORT_BYTES
from lando.messages import Message

_REPORT = re.compile("[0-9]{8}\\.json")


class Spool:
    """The undelivered reports of one attempt, in order.

    They are kept in memory, too, so that reports work on a full disk.

    Args:
        directory: this attempt's own; made if missing, and read if an earlier process left reports.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._waiting: dict[int, bytes] = {}
        self._last = 0
        self.closed = False
        """Whether the final report was added: no other may follow it."""
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._read()

    def _read(self) -> None:
        """The workflow can write here, on the local cloud: what this class cannot have written is ignored."""
        for name in sorted(filter(_REPORT.fullmatch, os.listdir(self._directory))):
            with contextlib.suppress(OSError):
                self._waiting[int(name[:8])] = read_file(self._directory / name, REPORT_BYTES)
        self._last = max(self._waiting, default=0)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            last = json.loads(read_file(self._directory / "last", 1000))
            self._last = max(self._last, int(last["seq"]))
            self.closed = bool(last["closed"])

    def add(self, make: Callable[[int], Message]) -> None:
        """Append a report.

        Args:
            make: makes it; called with its sequence number.
        """
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
        new.unlink(missing_ok=True)
        with new.open("xb") as file:
            file.write(content)
        os.replace(new, path)

    def first(self) -> tuple[int, bytes] | None:
        """Sequence number and bytes of the oldest report; None if there is none."""
        return next(iter(self._waiting.items()), None)

    def remove(self, seq: int) -> None:
        """Remove a report: it is delivered."""
        del self._waiting[seq]
        with contextlib.suppress(OSError):
            self._path(seq).unlink(missing_ok=True)
