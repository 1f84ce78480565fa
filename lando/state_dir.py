"""One daemon per state directory and database: locks that live exactly as long as who holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

from lando.errors import LandoError, UsageError

PATIENCE = 0.5
"""Seconds: somebody who only asks whether there is a daemon holds the lock for a moment, too."""


class DaemonRunning(UsageError):
    """Another daemon serves this state directory."""


class DaemonLock:
    """Held from construction to ``release`` or the end of the process.

    Raises:
        DaemonRunning: another process holds it; the text names its pid.
        LandoError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LandoError(f"{path}: {error.strerror} (is the state directory writable?)") from error
        deadline = time.monotonic() + PATIENCE
        while not try_lock(self._file):
            if time.monotonic() > deadline:
                os.close(self._file)
                raise DaemonRunning(f"{path.parent}: a daemon runs here already (pid {_pid(path)})")
            time.sleep(0.02)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next daemon begin."""
        os.close(self._file)


def running(path: Path) -> int | None:
    """The pid of the daemon that holds this lock, or None."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if try_lock(file, fcntl.LOCK_SH) else _pid(path)
    finally:
        os.close(file)


def try_lock(file: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file (flock(2)) without waiting; whether it is locked now. Closing the file unlocks it.

    Args:
        file: its descriptor.
        kind: ``fcntl.LOCK_EX``, or ``fcntl.LOCK_SH``.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(path.read_text())
    return 0
