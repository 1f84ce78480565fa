"""The daemon's log as JSON, one object a line (``log_format: json``), for journald and what collects logs."""

from __future__ import annotations

import io
import json
import logging
import time
from typing import Any

from lando.cli.log_stream import LogStream
from lando.credentials import scrub
from lando.times import rfc3339


class JsonLines(logging.Formatter):
    """One object for each event: ``time``, ``level``, ``message``; ``traceback`` of a bug; and, of a job's
    change of state, what ``history --json`` has of it, with ``job``. Credentials are masked.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        more: dict[str, Any] = {
            key: scrub(value) if isinstance(value, str) else value
            for key, value in getattr(record, "fields", {}).items()
        }
        if record.exc_info:
            more["traceback"] = scrub(self.formatException(record.exc_info))
        return json_line(record.created, record.levelname.lower(), scrub(record.getMessage()), more)


class JsonStream(io.TextIOBase):
    """What is printed to stderr beside the log, such as the message that ends the daemon: an event a line.

    Args:
        stream: where the log goes.
    """

    def __init__(self, stream: LogStream) -> None:
        super().__init__()
        self._stream = stream
        self._begun = ""
        stream.as_line = error_line

    def fileno(self) -> int:
        """The descriptor of the log."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """See ``io.TextIOBase``: a line is written once its end is."""
        *whole, self._begun = (self._begun + text).split("\n")
        for line in filter(None, whole):
            self._stream.write(f"{error_line(line)}\n")
        return len(text)


def error_line(message: str) -> str:
    """The line of an event that is no record of ``logging``.

    Args:
        message: what happened.
    """
    return json_line(time.time(), "error", scrub(message), {})


def json_line(at: float, level: str, message: str, more: dict[str, Any]) -> str:
    """One line, in ASCII, whatever it says.

    Args:
        at: epoch seconds.
        level: of ``logging``, in small letters.
        message: for people, as in the log as text.
        more: what else the object has.
    """
    return json.dumps({"time": rfc3339(at), "level": level, "message": message, **more})
