"""Whether a database's files are still those that were opened, or were removed or replaced since.

SQLite goes on to read and write a file that was removed, and others do not see it any more
(https://www.sqlite.org/howtocorrupt.html, "Unlinking or renaming a database file while in use").
"""

from __future__ import annotations

import os
from pathlib import Path


class SameFile:
    """A database and the files beside it, which exist for as long as it is open.

    Made before it is opened, and asked while it is open.

    Args:
        path: of the database; it exists.

    Raises:
        OSError: it cannot be examined.
    """

    def __init__(self, path: Path) -> None:
        self._files = [f"{path}{suffix}" for suffix in ("", "-wal", "-shm")]
        self._opened = {str(path): _identity(str(path))}

    def is_gone(self) -> bool:
        """Whether the database is not there any more, or another one is.

        Raises:
            OSError: it cannot be examined.
        """
        database = self._files[0]
        return _identity(database) != self._opened[database]

    def remove_orphans(self) -> None:
        """Remove what is left beside a database that is gone: its log would be taken for that of the next
        file of this name."""
        if not self.is_gone():
            return
        for file in self._files[1:]:
            if _identity(file) == self._opened.get(file):
                Path(file).unlink(missing_ok=True)

    def set_aside(self, ending: str) -> list[Path]:
        """Rename what belongs to contents that are gone: its log would be applied to what is there now.

        Another process may have the log open, and would write it into the file when it closes it: that log
        is emptied, at which SQLite's checkpoint fails, and a copy is kept.

        Args:
            ending: is added to each name.

        Returns:
            The new files.

        Raises:
            OSError: a file cannot be renamed or copied; it was emptied nevertheless.
        """
        database, *beside = self._files
        made = []
        for file in beside:
            if _identity(file) is None or _identity(file) != self._opened.get(file):
                continue
            old, target = Path(file), Path(f"{file}{ending}")
            if file != f"{database}-wal":
                made.append(old.rename(target))
                continue
            try:
                with os.fdopen(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as copy:
                    copy.write(old.read_bytes())
                made.append(target)
            finally:
                os.truncate(old, 0)
                old.unlink()
        return made

    def difference(self) -> str | None:
        """What happened to the files; None if they are the same. Costs three calls of stat(2).

        Raises:
            OSError: they cannot be examined at present.
        """
        for file in self._files:
            found = _identity(file)
            expected = self._opened.get(file)
            if expected is None:
                if found is not None:
                    self._opened[file] = found
            elif found is None:
                return f"{file} was removed or renamed while it was in use"
            elif found != expected:
                return f"{file} was replaced by another file while it was in use"
        return None


def _identity(file: str) -> tuple[int, int] | None:
    """Device and inode; None if there is no such file."""
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino
