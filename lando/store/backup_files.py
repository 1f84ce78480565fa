"""Files that hold backups: made beside their name, durable before they have it, and only so many are kept.

Whatever ends the process, a file with the name of a backup is a whole one. What a process that was killed has
begun is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from lando.errors import LandoError, UsageError
from lando.sqlite.failures import is_outage
from lando.state_dir import try_lock

PART = ".part"
"""The ending of what is not a backup yet."""
_AT = re.compile(r"\d{8}T\d{6}Z")


def new_name(directory: Path, stem: str, suffix: str) -> Path:
    """Where the next backup of a directory goes: its name has the time, to the second.

    Args:
        directory: of the backups.
        stem: how the names of these backups begin.
        suffix: how they end.
    """
    return directory / f"{stem}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}{suffix}"


def backups(directory: Path, stem: str, suffix: str) -> list[Path]:
    """The backups that ``new_name`` has named, the oldest first; other files are none.

    Raises:
        OSError: the directory cannot be read.
    """
    found = (
        path for path in directory.iterdir() if path.name.startswith(f"{stem}-") and path.suffix == suffix
    )
    return sorted(path for path in found if _AT.fullmatch(path.name[len(stem) + 1 : -len(suffix)]))


def remove_old(directory: Path, stem: str, suffix: str, keep: int) -> list[Path]:
    """Remove all but the newest backups of a directory.

    Args:
        directory: of the backups.
        stem: how the names of these backups begin.
        suffix: how they end.
        keep: how many stay.

    Returns:
        What was removed.

    Raises:
        OSError: one cannot be removed.
    """
    old = backups(directory, stem, suffix)[:-keep]
    for path in old:
        path.unlink()
    return old


@contextlib.contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """The path at which to make a file, which has the name ``target`` once it is whole and durable.

    The file is there, empty, and only this account may read it. After an exception nothing of it is left.

    Args:
        target: the name; no such file exists.

    Raises:
        UsageError: the file exists, or cannot be made there.
        LandoError: another process makes the same file at present.
        OSError: its disk is full, or fails.
    """
    part = target.with_name(f"{target.name}{PART}")
    lock = _begun(target, part)
    try:
        yield part
        _make_durable(part)
        part.rename(target)
        _make_durable(target.parent)
    except BaseException:
        _remove(part)
        raise
    finally:
        os.close(lock)


def _begun(target: Path, part: Path) -> int:
    """The descriptor of a new file, locked."""
    if os.path.lexists(target):
        raise UsageError(f"{target}: exists; name a file that does not, or a directory")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent}: there is no such directory; is its disk mounted?")
    _remove_abandoned(part)
    try:
        lock = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise LandoError(
            f"{part}: exists; another process makes this backup, or was killed meanwhile: then remove it"
        ) from None
    except OSError as error:
        if is_outage(error):
            raise
        raise UsageError(f"{target}: {error.strerror}") from error
    try_lock(lock)
    return lock


def _remove_abandoned(part: Path) -> None:
    """Remove what processes have begun that were killed, of the same series: their locks ended with them."""
    beginning, at, end = _divided(part.name)
    if not at:
        return
    for path in part.parent.iterdir():
        if _divided(path.name)[::2] != (beginning, end):
            continue
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if try_lock(file):
                    _remove(path)
            finally:
                os.close(file)


def _remove(part: Path) -> None:
    """With the journal that SQLite keeps beside a file that it makes."""
    part.with_name(f"{part.name}-journal").unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _divided(name: str) -> tuple[str, str, str]:
    """A name, before its time, the time, and after it; no time where it has none."""
    found = _AT.search(name)
    return (name, "", "") if found is None else (name[: found.start()], found[0], name[found.end() :])


def _make_durable(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
