"""Ends a thread's wait from another thread, from a signal handler, or from another process.

This is the self-pipe trick (https://cr.yp.to/docs/selfpipe.html): the waiting thread selects on a pipe, and
a byte written to the pipe makes it readable.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from pathlib import Path


class Wakeup:
    """Wakes one waiting thread. Wakes before ``clear`` count once; ``wake`` is safe in a signal handler.

    Args:
        fifo: a named pipe through which other processes wake this one (see ``wake_process``); made (0600) if
            missing. Where it cannot be made, only this process can end the wait.
    """

    def __init__(self, fifo: Path | None = None) -> None:
        shared = None if fifo is None else _open_fifo(fifo)
        self._read_end, self._write_end = shared or _open_pipe()

    def fileno(self) -> int:
        """The file descriptor that is readable after ``wake``; -1 once closed."""
        return self._read_end

    def wake(self) -> None:
        """End the wait that is going on, or else the next one."""
        with contextlib.suppress(OSError):  # the pipe is full, which wakes as well, or it is closed
            os.write(self._write_end, b"!")

    def clear(self) -> bool:
        """Empty the pipe. Returns whether ``wake`` was called since the last time."""
        woken = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read_end, 65536):
                woken = True
        return woken

    def wait(self, seconds: float) -> bool:
        """Wait for ``wake``, at most ``seconds``, and clear it. Returns whether it was called."""
        select.select([self._read_end], [], [], max(0.0, seconds))
        return self.clear()

    def close(self) -> None:
        """Close the pipe. A later ``wake`` does nothing."""
        ends = {self._read_end, self._write_end} - {-1}
        self._read_end = self._write_end = -1
        for end in ends:
            os.close(end)


def wake_process(fifo: Path) -> None:
    """Wake the process that waits with ``Wakeup(fifo)``, if there is one. Never fails."""
    with contextlib.suppress(OSError):
        write_end = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(write_end, b"!")
        finally:
            os.close(write_end)


def _open_fifo(path: Path) -> tuple[int, int] | None:
    """One descriptor for both ends; None where ``path`` cannot be a named pipe."""
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Open for writing, too: otherwise reads return end-of-file whenever no other process has it open.
        both_ends = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        if stat.S_ISFIFO(os.fstat(both_ends).st_mode):
            return both_ends, both_ends
        os.close(both_ends)
    return None


def _open_pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end
