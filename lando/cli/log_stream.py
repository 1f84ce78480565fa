"""Writes what a daemon says to stderr or stdout, and never waits long for who reads it.

The log of a daemon is read by journald, a container's runtime or ``tee``. When one of them stops reading, the
pipe or socket is full after some kilobytes, and a plain write would then stop the daemon without a word.
"""

from __future__ import annotations

import io
import os
import select
import threading

from lando.cli.text import count

WAIT = 1.0
"""Seconds to wait for a reader that is slow. After the first line that was lost, none."""


class LogStream(io.TextIOBase):
    """A text stream that loses lines rather than wait, and says how many once they can be written again.

    Each ``write`` that ends with a newline counts as one line; another is kept until the end is written.

    Args:
        descriptor: of the file, pipe, socket or terminal to write to.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lock = threading.RLock()
        self._begun = ""
        self._lost = 0
        self._why = ""
        self._is_torn = False

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """See ``io.TextIOBase``. Nothing is raised when the line is lost: there is nowhere to tell it."""
        with self._lock:
            self._begun += text
            if self._begun.endswith("\n"):
                line, self._begun = self._begun, ""
                self._write_line(line)
        return len(text)

    def _write_line(self, line: str) -> None:
        if self._lost:
            were = "was" if self._lost == 1 else "were"
            note = f"{count(self._lost, 'line')} of the log {were} lost here: {self._why}\n"
            line = f"\n{note}{line}" if self._is_torn else f"{note}{line}"
        try:
            is_written = self._write_parts(line.encode(errors="backslashreplace"))
            why = "nobody read it"
        except OSError as error:
            is_written, why = False, error.strerror or str(error)
        if is_written:
            self._lost = 0
        else:
            self._lost, self._why = self._lost + 1, why

    def _write_parts(self, line: bytes) -> bool:
        """Write it in parts for which there is room; False if there was none for some part."""
        wait = 0.0 if self._lost else WAIT
        begin = 0
        while begin < len(line):
            # Linux: a pipe or socket that is ready takes PIPE_BUF bytes without waiting.
            if not self._poll.poll(wait * 1000):
                return False
            written = os.write(self._descriptor, line[begin : begin + select.PIPE_BUF])
            if written == 0:
                return False
            begin += written
            self._is_torn = line[begin - 1 : begin] != b"\n"
        return True
