"""Servers that all processes of a test session share: started by whoever needs one first."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

SESSION = "LANDO_TEST_SESSION"
"""Environment variable by which the processes of a session know the directory that they share."""


def session_directory() -> Path:
    """What the processes of this session share."""
    return Path(os.environ[SESSION])


@contextlib.contextmanager
def locked(directory: Path, name: str) -> Iterator[None]:
    """One process of the session at a time; ``directory`` is the session's, ``name`` the server's."""
    with (directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def session_process() -> int:
    """The process that runs the session: with pytest-xdist, our parent."""
    return os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
