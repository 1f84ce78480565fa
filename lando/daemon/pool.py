"""A few threads that carry out tasks; unlike the standard library's, they keep no process from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Pool:
    """``size`` daemon threads, started when first needed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, call: Callable[[], None]) -> None:
        """Carry it out soon. The call handles its own errors."""
        self._work.put(call)
        if len(self._threads) < self._size:
            thread = threading.Thread(target=self._run, name=f"effects-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        while True:
            self._work.get()()
