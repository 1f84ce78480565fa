"""Removes the directories that a workflow left: read-only ones, names of any bytes, trees of any depth.

``shutil.rmtree`` fails on directories that their owner may not write, and on trees deeper than Python's
recursion limit or PATH_MAX. This walks with one open directory, and names relative to it. It follows no
symbolic link and enters no mount point: what is mounted belongs to whoever mounted it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import stat
from dataclasses import dataclass, field
from pathlib import Path

TRIES = 3
"""How often a directory is read in which entries appear meanwhile."""
SHOWN = 3
"""How many of the entries that could not be removed an error names."""
LONGEST = 240
"""Characters of the end of a path that an error shows."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_GET_FLAGS = 0x80086601
"""FS_IOC_GETFLAGS of linux/fs.h, as x86 and ARM number it: ioctl_iflags(2)."""
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20


class NotRemoved(Exception):
    """Something is left. The text names it and says why."""


def remove(path: Path) -> None:
    """Remove a directory with all that is in it, as much as possible. One that is absent is removed already.

    Args:
        path: the directory; not a symbolic link.

    Raises:
        NotRemoved: something is left.
    """
    removal = _Removal(str(path.parent))
    try:
        parent = os.open(path.parent, _OPEN)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotRemoved(f"{_shown(str(path.parent))}: {error.strerror}") from error
    try:
        removal.run(parent, [path.name])
    finally:
        os.close(parent)
    removal.conclude()


def empty(path: Path) -> None:
    """Remove all that is in a directory, as much as possible. The directory stays as it is: it may be a mount
    point, or a symbolic link to a directory.

    Args:
        path: the directory.

    Raises:
        NotRemoved: something is left.
        OSError: the directory cannot be opened.
    """
    removal = _Removal(str(path))
    directory = _open_though_unreadable(str(path), None)
    try:
        _let_owner_write(directory)
        removal.run(directory, None)
    finally:
        os.close(directory)
    removal.conclude()


@dataclass
class _Level:
    """A directory on the way from the root to the one that is open."""

    name: str
    identity: tuple[int, int]
    """Device and inode."""
    subdirectories: list[str] = field(default_factory=list)
    tries: int = 1
    has_failed: bool = False
    """Something in it could not be removed, and this was noted."""


class _Removal:
    """One walk through a tree.

    Args:
        root: the path of the directory whose entries are removed, for errors.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._levels: list[_Level] = []
        self._mount = b""
        self._failures: list[str] = []
        self._count = 0

    def run(self, root: int, names: list[str] | None) -> None:
        """Remove entries of an open directory: these names, or all if None."""
        self._mount = _mount_of(root)
        here = os.dup(root)
        try:
            self._levels = [_Level(self._root, _identity(here), names or [])]
            if names is None:
                self._remove_files(here)
            while True:
                here = self._descend(here)
                if len(self._levels) == 1:
                    return
                here = self._ascend(here)
        finally:
            os.close(here)

    def conclude(self) -> None:
        """Raise NotRemoved if something is left."""
        if self._failures:
            more = self._count - len(self._failures)
            raise NotRemoved("; ".join(self._failures) + (f"; and {more:,} more" if more else ""))

    def _descend(self, here: int) -> int:
        """Enter subdirectories, and remove the files of each, until one has none that can be entered."""
        while self._levels[-1].subdirectories:
            name = self._levels[-1].subdirectories.pop()
            try:
                child = _open_though_unreadable(name, here)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._failed(here, name, error)
                continue
            if _mount_of(child) != self._mount:
                os.close(child)
                self._note(name, "it is a mount point: unmount it first")
                continue
            os.close(here)
            here = child
            _let_owner_write(here)
            self._levels.append(_Level(name, _identity(here)))
            self._remove_files(here)
        return here

    def _ascend(self, here: int) -> int:
        """Remove the directory that is open, which is empty if nothing has failed. Returns its parent."""
        child = self._levels.pop()
        level = self._levels[-1]
        parent = os.open("..", _OPEN, dir_fd=here)
        if _identity(parent) != level.identity:
            os.close(parent)
            raise NotRemoved(f"{self._path(child.name)}: it was moved while it was removed")
        os.close(here)
        if child.has_failed:
            level.has_failed = True
            return parent
        try:
            os.rmdir(child.name, dir_fd=parent)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno == errno.ENOTEMPTY and child.tries < TRIES:
                return self._enter_again(parent, child)
            self._failed(parent, child.name, error)
        return parent

    def _enter_again(self, parent: int, child: _Level) -> int:
        """Entries appeared in the child while its own were removed."""
        try:
            here = os.open(child.name, _OPEN | os.O_NOFOLLOW, dir_fd=parent)
        except OSError as error:
            self._failed(parent, child.name, error)
            return parent
        os.close(parent)
        self._levels.append(_Level(child.name, _identity(here), tries=child.tries + 1))
        self._remove_files(here)
        return here

    def _remove_files(self, here: int) -> None:
        """Remove what is no directory; the directories are noted for later."""
        level = self._levels[-1]
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if _is_directory(entry):
                        level.subdirectories.append(entry.name)
                    else:
                        self._remove_file(here, entry.name)
        except OSError as error:
            self._note("", error.strerror or str(error))

    def _remove_file(self, here: int, name: str) -> None:
        try:
            os.unlink(name, dir_fd=here)
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            self._levels[-1].subdirectories.append(name)
        except OSError as error:
            self._failed(here, name, error)

    def _failed(self, here: int, name: str, error: OSError) -> None:
        if len(self._failures) < SHOWN:
            self._note(name, _why(here, name, error))
        else:
            self._note(name, "")

    def _note(self, name: str, why: str) -> None:
        self._levels[-1].has_failed = True
        self._count += 1
        if len(self._failures) < SHOWN:
            self._failures.append(f"{self._path(name)}: {why}")

    def _path(self, name: str) -> str:
        return _shown(os.path.join(*(level.name for level in self._levels), name).rstrip("/"))


def _open_though_unreadable(name: str, parent: int | None) -> int:
    """Open a directory; if its owner may not read it, first let them."""
    nofollow = 0 if parent is None else os.O_NOFOLLOW
    try:
        return os.open(name, _OPEN | nofollow, dir_fd=parent)
    except PermissionError:
        # Not by name, which could be a symbolic link by now. O_PATH needs no permission for the directory.
        handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | nofollow, dir_fd=parent)
    try:
        with contextlib.suppress(PermissionError):
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(".", _OPEN, dir_fd=handle)
    finally:
        os.close(handle)


def _let_owner_write(directory: int) -> None:
    """What fails for lack of it is told where an entry cannot be removed."""
    mode = os.fstat(directory).st_mode
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):
            os.fchmod(directory, stat.S_IMODE(mode) | stat.S_IRWXU)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _identity(directory: int) -> tuple[int, int]:
    found = os.fstat(directory)
    return found.st_dev, found.st_ino


def _mount_of(directory: int) -> bytes:
    """Which mount an open directory is on; a bind mount has the device of its source, but an id of its own.

    Source: proc_pid_fdinfo(5), mnt_id.
    """
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{directory}", "rb") as file:
        for line in file:
            if line.startswith(b"mnt_id:"):
                return line
    return b"%d" % os.fstat(directory).st_dev


def _why(here: int, name: str, error: OSError) -> str:
    """Why an entry of an open directory could not be removed."""
    words = error.strerror or str(error)
    if error.errno == errno.EBUSY:
        return f"{words} (is something mounted there?)"
    if error.errno not in (errno.EPERM, errno.EACCES):
        return words
    if (attribute := _attribute_of(here)) is not None:
        return f"its directory is {attribute}"
    with contextlib.suppress(OSError):
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            with contextlib.suppress(OSError):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
                try:
                    if (attribute := _attribute_of(file)) is not None:
                        return f"it is {attribute}"
                finally:
                    os.close(file)
        owners = {found.st_uid, os.fstat(here).st_uid} - {os.geteuid()}
        if owners:
            return f"{words}: it belongs to {' or '.join(_account(uid) for uid in sorted(owners))}"
    return words


def _attribute_of(file: int) -> str | None:
    """The attribute for which not even root may remove an open file, or an entry of an open directory."""
    try:
        flags = int.from_bytes(fcntl.ioctl(file, _GET_FLAGS, bytes(8))[:4], "little")
    except OSError:
        return None
    if flags & _IMMUTABLE:
        return "immutable (chattr -i makes it removable)"
    return "append-only (chattr -a makes it removable)" if flags & _APPEND_ONLY else None


def _account(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _shown(path: str) -> str:
    """A path as one line of text, whatever bytes its names have; of a long one the end."""
    text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in path)
    return text if len(text) <= LONGEST else "…" + text[-LONGEST:]
