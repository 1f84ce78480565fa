"""Checkpoints of an SQLite database: its file is whole now and then, and after an orderly end."""

from __future__ import annotations

import time

from lando.daemon.abandon import abandon
from lando.daemon.log import log
from lando.errors import DatabaseUnusable, LandoError
from lando.sqlite.checkpoint import LARGE_LOG, log_path, log_size, readers
from lando.store.sqlite_guard import SqliteGuard
from lando.store.store import Store

EVERY = 60.0
"""Seconds."""
WARN_AGAIN = 3600.0
"""Seconds."""


class Checkpoints:
    """Those of a daemon while it runs.

    SQLite makes one by itself whenever the log has a few MB. None gets further than the oldest transaction in
    which another process reads.

    Args:
        store: the database; nothing is done where it has no file.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = time.monotonic() + EVERY
        self._next_warning = 0.0
        self._seen: tuple[int, int] | None = None

    def make(self) -> None:
        """Make one if it is time, and something was written since the last one.

        Raises:
            StoreUnavailable: the file cannot be written.
        """
        guard = self._store.guard
        if guard is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        if self._seen is not None and self._seen == _look(guard):
            return
        is_whole = guard.checkpoint()
        self._seen = _look(guard) if is_whole else None
        size = log_size(guard.path)
        if not is_whole and size > LARGE_LOG and time.monotonic() >= self._next_warning:
            self._next_warning = time.monotonic() + WARN_AGAIN
            log.warning(
                "%s has %.0f MiB and grows until %s stops reading from the database: end it (fuser -v %s)",
                log_path(guard.path),
                size / 2**20,
                _readers(guard),
                guard.path,
            )


def make_last_checkpoint(store: Store) -> None:
    """Make the file whole before it is closed; an outage that keeps it from that does not keep the daemon.

    Args:
        store: the database of a daemon that has ended.

    Raises:
        DatabaseUnusable: it is damaged, or was removed or replaced, and was not written.
    """
    guard = store.guard
    if guard is None or store.is_left:
        return
    try:
        if guard.last_checkpoint():
            return
        reason = f"{_readers(guard)} still reads from the database"
    except DatabaseUnusable as error:
        raise abandon(store, error) from error
    except LandoError as error:
        reason = str(error)
    log.warning("%s is not whole without %s: %s", guard.path, log_path(guard.path).name, reason)


def _look(guard: SqliteGuard) -> tuple[int, int] | None:
    """What changes with each commit."""
    try:
        found = log_path(guard.path).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _readers(guard: SqliteGuard) -> str:
    pids = readers(guard.path)
    return f"process {', '.join(map(str, pids))}" if pids else "another process"
