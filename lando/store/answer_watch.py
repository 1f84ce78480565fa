"""Notices that a database server does not answer, and ends the connection to it.

TCP notices a machine that is gone, not a server that is stopped, or whose disk hangs: its kernel goes on to
answer. A driver would wait for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from typing import Protocol

log = logging.getLogger("lando")

TOLD_AFTER = 10.0
"""Seconds after which the log tells of it."""
ANSWER_LIMIT = 60.0
"""Seconds for one statement or commit. Longer than the server waits for a lock; a server that answers later
than that is asked anew, in another session."""


class Connection(Protocol):
    """What is needed of a connection."""

    def fileno(self) -> int:
        """Its socket; raises an exception if it is closed."""
        ...


class AnswerWatch:
    """Watches one connection, from a thread of its own.

    Args:
        where: names the server, for the log.
        limit: seconds for an answer.
    """

    def __init__(self, where: str, limit: float = ANSWER_LIMIT) -> None:
        self._where = where
        self._limit = limit
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._asked_at: float | None = None
        self._is_told = False
        self._closed = threading.Event()
        self._has_cut = False
        threading.Thread(target=self._run, name="database answers", daemon=True).start()

    def connected(self, connection: Connection) -> None:
        """Watch this connection from now on."""
        with self._lock:
            self._connection, self._has_cut = connection, False

    def asks(self) -> None:
        """Something is sent, and an answer waited for."""
        with self._lock:
            self._asked_at = time.monotonic()

    def answered(self) -> None:
        """Nothing is waited for."""
        with self._lock:
            self._asked_at, was_told, self._is_told = None, self._is_told, False
        if was_told:
            log.info("%s: the database server answers again", self._where)

    def has_cut(self) -> bool:
        """Whether the connection was ended since the last ``connected``."""
        with self._lock:
            return self._has_cut

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(min(1.0, self._limit / 4)):
            self._look()

    def _look(self) -> None:
        with self._lock:
            if self._asked_at is None:
                return
            waited = time.monotonic() - self._asked_at
            is_new = waited > min(TOLD_AFTER, self._limit / 2) and not self._is_told
            self._is_told |= is_new
            if waited > self._limit and not self._has_cut:
                self._has_cut = self._cut()
        if is_new:
            log.error("%s: the database server has not answered for %.0f s", self._where, waited)

    def _cut(self) -> bool:
        """Whoever waits for the socket finds it at its end."""
        with contextlib.suppress(Exception):  # it is closed already
            assert self._connection is not None
            with socket.socket(fileno=os.dup(self._connection.fileno())) as copy:
                copy.shutdown(socket.SHUT_RDWR)
            return True
        return False
