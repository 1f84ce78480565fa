"""What ends a wait, from another thread or a signal handler."""

from __future__ import annotations

import contextlib
import os
import select


class Wakeup:
    """Rung once or often, it is silenced once; ringing is safe in a signal handler (no lock is taken)."""

    def __init__(self) -> None:
        self._hear, self._ring = os.pipe()
        os.set_blocking(self._hear, False)
        os.set_blocking(self._ring, False)

    def fileno(self) -> int:
        """What becomes readable when the bell is rung."""
        return self._hear

    def ring(self) -> None:
        """End a wait, now or to come."""
        with contextlib.suppress(OSError):  # rung often enough already, or closed
            os.write(self._ring, b"!")

    def silence(self) -> bool:
        """Whether it was rung since the last time."""
        rung = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._hear, 4096):
                rung = True
        return rung

    def wait(self, seconds: float) -> bool:
        """Wait at most so long; whether it was rung."""
        select.select([self._hear], [], [], max(0.0, seconds))
        return self.silence()

    def close(self) -> None:
        """Let go of the pipe."""
        ends = {self._hear, self._ring} - {-1}
        self._hear = self._ring = -1
        for end in ends:
            os.close(end)
