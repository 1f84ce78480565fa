"""Writes what a daemon says to stderr or stdout: a line for an event, without a long wait for who reads it.

The log of a daemon is read by journald, a container's runtime or ``tee``. When one of them stops reading, the
pipe or socket is full after some kilobytes, and a plain write would then stop the daemon without a word.
"""

from __future__ import annotations

import io
import logging
import os
import select
import threading
from collections.abc import Callable

from lando import plain_text
from lando.cli.output import REPLACE
from lando.cli.text import count
from lando.credentials import scrub
from lando.times import rfc3339

WAIT = 1.0
"""Seconds to wait for a reader that is slow. After the first line that was lost, none."""
CONTINUED = "    | "
"""Begins the lines of a traceback, so that none of them can be taken for an event."""


class LogLines(logging.Formatter):
    """One line for each event; the lines of a traceback follow it, and are marked. Credentials are masked.

    Times are RFC 3339 in UTC, as in ``status`` and ``history``.
    """

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """See ``logging.Formatter``."""
        return rfc3339(record.created)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``: the line without the traceback."""
        return plain_text.one_line(scrub(super().formatMessage(record)))

    def formatException(self, ei: logging._SysExcInfoType) -> str:
        """See ``logging.Formatter``."""
        return self._marked(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:
        """See ``logging.Formatter``."""
        return self._marked(stack_info)

    @staticmethod
    def _marked(text: str) -> str:
        return "\n".join(CONTINUED + plain_text.one_line(line) for line in scrub(text).split("\n"))


class LogStream(io.TextIOBase):
    """A text stream that loses lines rather than wait, and says how many once they can be written again.

    Each ``write`` that ends with a newline counts as one line; another is kept until the end is written.

    Args:
        descriptor: of the file, pipe, socket or terminal to write to.
        encoding: of its text.
    """

    def __init__(self, descriptor: int, encoding: str | None = None) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding or "utf-8"
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._lock = threading.RLock()
        self._begun = ""
        self._lost = 0
        self._why = ""
        self._is_torn = False
        self.as_line: Callable[[str], str] = str
        """How a note about lost lines is written."""

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
            note = self.as_line(f"{count(self._lost, 'line')} of the log {were} lost here: {self._why}")
            line = f"\n{note}\n{line}" if self._is_torn else f"{note}\n{line}"
        try:
            is_written = self._write_parts(plain_text.lines(line).encode(self._encoding, REPLACE))
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
