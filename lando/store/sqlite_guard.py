"""What the daemon does for its SQLite file: keeps it whole, and notices what others do to it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import sqlalchemy as sa

from lando.errors import LandoError
from lando.sqlite.checkpoint import checkpoint, log_path
from lando.sqlite.failures import damage
from lando.sqlite.quick_check import quick_check
from lando.sqlite.same_file import SameFile
from lando.sqlite.stamp import Numbers, Stamp
from lando.store.database import StoreReplaced, StoreUnusable, errors, refuse_difference

LAST_PATIENCE = 0.5
"""Seconds that the last checkpoint waits for another process: the daemon has five to end."""


class SqliteGuard:
    """Of one file, for the one daemon that uses it.

    Args:
        path: of the database.
        engine: its connections.
        same_file: tells whether the files are those that were opened.

    Raises:
        StoreUnavailable: the file cannot be written.
    """

    def __init__(self, path: Path, engine: sa.Engine, same_file: SameFile) -> None:
        self.path = path
        self._engine = engine
        self._same_file = same_file
        self._stamp = Stamp(path)
        self._is_overwritten = False
        self._damage: str | None = None
        self.checkpoint()

    def checkpoint(self) -> bool:
        """Write into the file what is in the write-ahead log, without waiting for anybody.

        Returns:
            Whether the file is whole now. If not, another process reads what was there before.

        Raises:
            StoreUnavailable: the file cannot be written.
        """
        with errors(self.path), self._connection() as connection:
            return self._checkpoint(connection)

    def _checkpoint(self, connection: sqlite3.Connection) -> bool:
        current = _numbers(connection)
        self._refuse_overwritten(current)
        number = self._stamp.next(current)
        connection.execute(f"PRAGMA user_version = {number}")
        is_whole = checkpoint(connection, "PASSIVE")
        if is_whole:
            self._stamp.written((current[0], number))
        return is_whole

    def last_checkpoint(self) -> bool:
        """The one at the end, which also empties the write-ahead log unless somebody uses it.

        Raises:
            StoreReplaced: the files were removed or replaced, or the file has other contents.
            StoreUnusable: it is damaged.
            StoreUnavailable: it cannot be written.
        """
        with errors(self.path), self._connection() as connection:
            refuse_difference(self._same_file)  # nobody may have looked since the last transaction
            self.refuse_difference(None)
            connection.execute(f"PRAGMA busy_timeout = {LAST_PATIENCE * 1000:.0f}")
            is_whole = self._checkpoint(connection)
            return checkpoint(connection, "TRUNCATE") or is_whole

    def difference(self) -> str | None:
        """What happened to the files; None if nothing, or if they cannot be examined. Safe in any thread."""
        with contextlib.suppress(OSError):
            if difference := self._same_file.difference():
                return difference
            if not self._stamp.is_in_file():
                return _overwritten(self.path)
        return None

    def look_for_damage(self, is_stopped: Callable[[], bool]) -> bool:
        """Look for ten seconds at most, in a thread of its own.

        Args:
            is_stopped: whether to stop.

        Returns:
            Whether there is some.
        """
        with contextlib.suppress(sqlite3.Error):
            self._damage, _ = quick_check(self.path, is_stopped=is_stopped)
        return self._damage is not None

    def refuse_difference(self, connection: sa.Connection | None) -> None:
        """Refuse a file that somebody has written over.

        Args:
            connection: in a transaction, if there is one.

        Raises:
            StoreReplaced: the file has other contents.
            StoreUnusable: ``look_for_damage`` has found some.
            OSError: it cannot be read at present.
        """
        if self._damage is not None:
            raise StoreUnusable(f"{self.path}: {damage(self._damage)}")
        driver = None if connection is None else connection.connection.driver_connection
        self._refuse_overwritten(_numbers(driver) if isinstance(driver, sqlite3.Connection) else None)

    def _refuse_overwritten(self, read: Numbers | None) -> None:
        if (read is not None and not self._stamp.is_known(read)) or not self._stamp.is_in_file():
            self._is_overwritten = True
            raise StoreReplaced(_overwritten(self.path))

    def save(self) -> str:
        """Copy what was opened to a new file, after it was removed or replaced; a sentence about that.

        Nothing of what was there before is left to be applied to what is there now.
        """
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        if self._is_overwritten or not self._stamp.is_in_file():
            return f"What it held is lost but for backups. {self._set_aside(at)}"
        target = self.path.with_name(f"{self.path.name}.saved-{at}")
        part = target.with_name(f"{target.name}.part")
        try:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with self._connection() as connection:
                connection.execute("VACUUM INTO ?", (str(part),))
            part.replace(target)
        except (OSError, sqlite3.Error, LandoError) as error:
            part.unlink(missing_ok=True)
            aside = self._set_aside(at) if self._same_file.is_gone() else ""
            return f"What it held could not be saved ({error}): restore a backup. {aside}".rstrip(". ")
        self._same_file.remove_orphans()
        return f"What it held was saved as {target}"

    def _set_aside(self, at: str) -> str:
        """A sentence about the log of what was there before."""
        log = log_path(self.path)
        try:
            if self._stamp.is_written_by(log):
                return f"{log.name} belongs to what is there now"
            aside = self._same_file.set_aside(f".replaced-{at}")
        except OSError as error:
            return (
                f"Remove {log.name} and -shm before anything opens the file: they belong to what was there "
                f"before ({error})"
            )
        names = " and ".join(path.name for path in aside)
        return f"What belonged to it was renamed: {names}" if aside else "Nothing of it is left"

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One of the driver's, outside of a transaction."""
        pooled = self._engine.raw_connection()
        try:
            connection = pooled.driver_connection
            assert isinstance(connection, sqlite3.Connection)
            yield connection
        finally:
            pooled.close()


def _numbers(connection: sqlite3.Connection) -> Numbers:
    """What SQLite reads, which may come from its cache or from the write-ahead log."""
    (schema,) = connection.execute("PRAGMA schema_version").fetchone()
    (user,) = connection.execute("PRAGMA user_version").fetchone()
    return schema, user


def _overwritten(path: Path) -> str:
    return f"{path} was overwritten while it was in use"
