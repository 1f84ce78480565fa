"""A few threads that call the cloud, and return the results to the one thread that owns all state.

The standard library's executor would keep the process from ending while a call hangs; these threads do not.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

R = TypeVar("R")


class Pool(Generic[R]):
    """Carries out calls. All methods are called by one thread.

    Args:
        size: threads, all started at once: later there may be none to be had (``TasksMax`` of systemd).
        wake: called by a thread when there is a result to collect.
    """

    def __init__(self, size: int, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._calls: queue.SimpleQueue[Callable[[], R]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[R] = queue.SimpleQueue()
        self._is_stopped = False
        self._threads = [
            threading.Thread(target=self._run, name=f"cloud-{number}", daemon=True) for number in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], R]) -> None:
        """Carry it out soon. It touches no state of others and does not raise: an error is a result, too."""
        self._calls.put(call)

    def collect(self) -> list[R]:
        """The results since the last time."""
        results = []
        while not self._results.empty():
            results.append(self._results.get())
        return results

    def stop(self) -> None:
        """Begin no more calls; those in progress are not waited for."""
        self._is_stopped = True

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            if self._is_stopped:
                return
            self._results.put(call())
            self._wake()
