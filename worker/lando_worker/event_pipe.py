"""Events from the child to the parent: JSON lines over a pipe that nothing else is written to."""

from __future__ import annotations

import json
import os
from typing import Any

from lando.message_limits import shorten
from lando_worker.result import Result

LONGEST = 64 * 1024
"""Characters of a text that are sent to the parent, which masks secrets before it shortens further: no secret
is as long, so none is cut in two here and missed there."""


class EventSender:
    """The child's end. Programs that the child starts do not inherit the file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def state(self, **changes: str | int | None) -> None:
        """Send what has changed: phase, step, steps, step_name or git_commit."""
        self._send({"state": {key: _cut(value) for key, value in changes.items()}})

    def result(self, result: Result) -> None:
        """Send how the work ended."""
        self._send({"result": {**vars(result), "reason": _cut(result.reason)}})

    def _send(self, event: dict[str, Any]) -> None:
        data = memoryview(json.dumps(event).encode() + b"\n")
        while data:
            data = data[os.write(self._descriptor, data) :]


def _cut(value: Any) -> Any:
    return shorten(value, LONGEST) if isinstance(value, str) else value


class EventReceiver:
    """The parent's end: makes events of chunks of bytes."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The events that ``chunk`` completes."""
        *complete, rest = chunk.split(b"\n")
        if complete:
            complete[0] = b"".join(self._pieces) + complete[0]
            self._pieces.clear()
        self._pieces.append(rest)
        return [json.loads(line) for line in complete]
