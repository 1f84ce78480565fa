"""Whether a database was overwritten in place, as by ``cp backup.db lando.db``.

The daemon keeps a random number in the header of the file, as SQLite's ``user_version``, which nothing else
here uses. It is read from the file itself: SQLite would answer from its cache or from the write-ahead log.
Beside it is the number of the schema, in which a backup that was made since differs from its original.

Source: https://www.sqlite.org/fileformat2.html#the_database_header
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_FIRST, _SCHEMA, _USER = 40, slice(0, 4), slice(20, 24)
_open_files: dict[tuple[int, int], int] = {}

Numbers = tuple[int, int]
"""``schema_version`` and ``user_version``."""


class Stamp:
    """The numbers in the header of a file that is open.

    Args:
        path: of the database.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = _descriptor(path)
        self._possible: frozenset[Numbers] | None = None

    def next(self, current: Numbers) -> int:
        """A new number, to be written as ``user_version``.

        Until ``written`` is called, the file may have the new numbers or those that were possible before.

        Args:
            current: the numbers that SQLite reads now.
        """
        number = secrets.randbelow(2**31 - 1) + 1
        before = self._possible or frozenset((self._in_file(),))
        self._possible = before | {current, (current[0], number)}
        return number

    def written(self, numbers: Numbers) -> None:
        """A checkpoint has written them into the file."""
        self._possible = frozenset((numbers,))

    def is_known(self, numbers: Numbers) -> bool:
        """Whether SQLite may read these numbers. The schema's may change: another process may ``VACUUM``."""
        if self._possible is None or numbers in self._possible:
            return True
        if numbers[1] not in {user for _, user in self._possible}:
            return False
        self._possible |= {numbers}
        return True

    def is_in_file(self) -> bool:
        """Whether the file has numbers that it may have.

        Raises:
            OSError: it cannot be read.
        """
        return self._possible is None or self._in_file() in self._possible

    def is_written_by(self, log: Path) -> bool:
        """Whether the write-ahead log has first pages with numbers that are not known: it belongs to what
        somebody restored through SQLite. Not so if it was left by contents that were copied over.

        Raises:
            OSError: it cannot be read.
        """
        return self._possible is not None and not all(map(self.is_known, _in_log(log)))

    def _in_file(self) -> Numbers:
        """The numbers in the file; less than 0 if it ends before."""
        return _numbers(os.pread(self._file, _USER.stop, _FIRST))


def _numbers(found: bytes) -> Numbers:
    if len(found) < _USER.stop:
        return -1, -1
    return int.from_bytes(found[_SCHEMA], "big"), int.from_bytes(found[_USER], "big")


def _in_log(log: Path) -> set[Numbers]:
    """The numbers of each first page in a log since it was begun anew.

    Source: https://www.sqlite.org/fileformat2.html#the_write_ahead_log
    """
    if not log.exists():
        return set()
    found = set()
    with log.open("rb") as file:
        header = file.read(32)
        page_size, salts = int.from_bytes(header[8:12], "big"), header[16:24]
        while len(frame := file.read(24)) == 24 and frame[8:16] == salts:
            page = file.read(page_size)
            if int.from_bytes(frame[:4], "big") == 1:
                found.add(_numbers(page[_FIRST : _FIRST + _USER.stop]))
    return found


def _descriptor(path: Path) -> int:
    """The file, opened once in the life of this process.

    It is never closed: POSIX drops all locks that a process has on a file when it closes any descriptor of
    it, those of SQLite included (https://www.sqlite.org/howtocorrupt.html).
    """
    file = path.stat()
    key = file.st_dev, file.st_ino
    if key not in _open_files:
        _open_files[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return _open_files[key]
