"""Ends the process of a daemon within seconds, whatever is stuck.

All state is in the database, and a daemon may be killed anywhere: so its end need not wait for anything. A
thread of its own reads the signals, since Python runs signal handlers in the main thread only, which may be
inside a C call (SQLite that waits for a lock) or an import.

Source: https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from lando.cli.start import SIGNALS, unblock

log = logging.getLogger("lando")

LIMIT = 4.5
"""Seconds from the request to end to the end of the process."""
LAST_LINE = 0.3
"""Seconds for the last line of the log: what is at the other end of stderr may be stuck, too."""

_REQUEST, _CLOSE = b"\x00", b"\xff"
"""What is written to the pipe beside the numbers of signals."""

_PARTS = (
    ("lando.workqueue.embedded", "the database"),
    ("lando.store", "the database"),
    ("lando.workqueue", "the work queue"),
    ("lando.cloud", "the cloud"),
    ("lando.daemon.daemon", "operations in the cloud"),
    ("lando.app.service", "the database"),  # it tries again while another process has it, or the disk is full
    ("lando.app", "its parts to be loaded"),
)
"""What the main thread waits for, by the module that it is in."""


class Ending:
    """Handles SIGINT and SIGTERM from construction to ``close``; made and closed by the main thread.

    The first one calls what ``stop_with`` was given, and starts the LIMIT; before that it ends the process at
    once, as the second one does.
    """

    def __init__(self) -> None:
        self._stop: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, _nothing)  # a Python handler: without one nothing is written to the pipe
        unblock()
        self._thread = threading.Thread(target=self._watch, name="ending", daemon=True)
        self._thread.start()

    def stop_with(self, stop: Callable[[], None]) -> None:
        """From now on a signal asks for an orderly end.

        Args:
            stop: called by another thread.
        """
        with self._lock:
            self._stop = stop

    def begin(self) -> None:
        """The daemon ends for another reason than a signal: start the LIMIT. Safe in any thread."""
        self._write(_REQUEST)

    def close(self) -> None:
        """The daemon has ended. A signal now ends the process at once, whatever it still does."""
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        self._write(_CLOSE)
        self._thread.join()
        os.close(self._read_end)
        os.close(self._write_end)

    def _write(self, what: bytes) -> None:
        with contextlib.suppress(OSError):  # the pipe is full of signals, or closed
            os.write(self._write_end, what)

    def _watch(self) -> None:
        deadline, signals = float("inf"), 0
        while (remaining := deadline - time.monotonic()) > 0:
            if not select.select([self._read_end], [], [], min(remaining, threading.TIMEOUT_MAX))[0]:
                continue
            what = os.read(self._read_end, 1)
            if what == _CLOSE:
                return
            signals += what != _REQUEST
            with self._lock:
                stop = self._stop
            if stop is None or signals > 1:
                break
            if deadline == float("inf"):
                deadline = time.monotonic() + LIMIT
                stop()
        self._end_now(has_started=stop is not None)

    def _end_now(self, has_started: bool) -> None:
        """End the process; the last line is written by a thread, since the log may be stuck as well."""
        text = "ended while it waited for %s; nothing is lost, the next daemon continues"
        level = logging.WARNING if has_started else logging.INFO
        last = threading.Thread(target=log.log, args=(level, text, main_thread_waits_for()), daemon=True)
        last.start()
        last.join(LAST_LINE)
        os._exit(0)


def main_thread_waits_for() -> str:
    """What the main thread waits for, or works on, for people to read."""
    frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        module = f"{frame.f_globals.get('__name__', '')}."
        if module.startswith("lando.") and frame.f_code.co_name == "<module>":
            break
        for part, what in _PARTS:
            if module.startswith(f"{part}."):
                return what
        frame = frame.f_back
    return "its parts to be loaded"


def _nothing(number: int, frame: FrameType | None) -> None:
    """The thread reads the number from the pipe."""
