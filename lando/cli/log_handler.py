"""Writes the log to stderr, and never waits long for who reads it.

The log of a daemon is read by journald, a container's runtime or ``tee``. When one of them stops reading, the
pipe or socket is full after some kilobytes, and a plain write would then stop the daemon without a word.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select

WAIT = 1.0
"""Seconds to wait for a reader that is slow. After the first line that was lost, none."""


class LogHandler(logging.Handler):
    """A handler that loses lines rather than wait, and says how many once it is read again.

    Args:
        descriptor: of the file, pipe, socket or terminal to write to.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``. Writes that fail are ignored: there is nowhere to tell it."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._lost:
            line = f"{self._lost} lines of the log before this one are lost: it was not read\n{line}"
        with contextlib.suppress(OSError):
            self._lost = 0 if self._write(f"{line}\n".encode(errors="backslashreplace")) else self._lost + 1

    def _write(self, line: bytes) -> bool:
        """Write it in parts for which there is room; False if there was none for some part."""
        wait = 0.0 if self._lost else WAIT
        for begin in range(0, len(line), select.PIPE_BUF):
            # Linux: a pipe or socket that is ready takes PIPE_BUF bytes without waiting.
            if not self._poll.poll(wait * 1000):
                return False
            os.write(self._descriptor, line[begin : begin + select.PIPE_BUF])
        return True
