"""From the child to the parent: JSON lines over a pipe, apart from everything that programs print."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from lando_worker.result import Result


class Sender:
    """The child's end. The file descriptor is closed in every program that the child starts."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def state(self, **changes: str | int | None) -> None:
        """Tell where the work is: phase, step, steps, step_name, git_commit."""
        self._send({"state": changes})

    def result(self, result: Result) -> None:
        """Tell how it ended."""
        self._send({"result": asdict(result)})

    def _send(self, event: dict[str, Any]) -> None:
        data = memoryview(json.dumps(event).encode() + b"\n")
        while data:
            data = data[os.write(self._descriptor, data) :]


class Receiver:
    """The parent's end: turns chunks of bytes into events."""

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
