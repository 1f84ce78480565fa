"""Opens what others name, beneath a directory: never outside of it, and never waiting for what is no file.

The names come from a VM, or were written by a workflow. A path is walked component by component, each opened
relative to the one before, so that no link that appears meanwhile is followed. The meaning of ``..`` and of
symbolic links is that of RESOLVE_BENEATH (openat2(2)), which Python does not offer, but for one thing: a link
to an absolute path is followed if it leads below the directory.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOST_LINKS = 40
"""Symbolic links that one path may lead through: as many as the kernel allows (path_resolution(7))."""
MOST_STEPS = 10_000
"""Directories that are opened for one path, at most: each ``..`` walks again from the top."""
LONGEST = 4096
"""Bytes of a path: as many as the kernel takes (PATH_MAX)."""

Parts = tuple[str, ...]
"""The components of a path below a directory; none for the directory itself."""

OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags with which a directory is opened, and a symbolic link is not."""
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Found:
    """What a path leads to: a file, or whatever else is not a symbolic link."""

    directory: int
    """The open directory that holds it; or the directory itself, if it is one. Closed by ``find``."""
    name: str
    """Its name there; "." if it is a directory."""
    parts: Parts
    """Where it is, without symbolic links."""
    status: os.stat_result


class Beneath:
    """An open directory, beneath which names are looked up.

    Args:
        path: the directory; symbolic links on the way to it are followed.
        inner: components below it that must be directories, not symbolic links; the lookups begin there.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *inner: str) -> None:
        here = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in inner:
                here = _replaced(here, os.open(name, OPEN_DIRECTORY, dir_fd=here))
        except OSError:
            os.close(here)
            raise
        self.descriptor = here
        self.path = path.absolute().joinpath(*inner)
        real = PurePosixPath(os.path.realpath(path), *inner)
        self._names = {PurePosixPath(self.path).parts, real.parts}

    def close(self) -> None:
        """Close the directory."""
        os.close(self.descriptor)

    def parts(self, path: str) -> Parts:
        """The components of an absolute path, below the directory. ``..`` is left for ``find``.

        Raises:
            OSError: the path is not below the directory, or cannot be that of a file.
        """
        if "\0" in path or len(path) > LONGEST or not _is_name(path):
            raise refusal("it cannot be the path of a file")
        parts = PurePosixPath(path).parts
        for name in self._names:
            if parts[: len(name)] == name:
                return parts[len(name) :]
        raise self.outside()

    def outside(self) -> OSError:
        """The error for what is not below the directory."""
        return refusal(f"it is not below {self.path}")

    @contextmanager
    def find(self, parts: Sequence[str], make: bool = False) -> Iterator[Found]:
        """Look up what a path leads to.

        Args:
            parts: its components below the directory.
            make: make the directories that are missing; the path is then that of a directory.

        Raises:
            OSError: it leads out of the directory, or to nothing, or cannot be looked up.
        """
        walk = _Walk(self, parts, make)
        try:
            walk.run()
            status = walk.status or os.fstat(walk.here)
            yield Found(walk.here, walk.name, tuple(walk.parts), status)
        finally:
            os.close(walk.here)


class _Walk:
    """One lookup."""

    def __init__(self, beneath: Beneath, parts: Sequence[str], make: bool) -> None:
        self._top = beneath
        self._pending = list(reversed(parts))
        self._make = make
        self._links = 0
        self._steps = 0
        self.here = os.dup(beneath.descriptor)
        self.name = "."
        self.parts: list[str] = []
        self.status: os.stat_result | None = None
        """None as long as all that was met are directories."""

    def run(self) -> None:
        while self._pending:
            name = self._pending.pop()
            if name in ("", "."):
                continue
            if self.status is not None:
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if name == "..":
                self._ascend()
            else:
                self._enter(name)

    def _ascend(self) -> None:
        """Walk again from the top: the parent of a directory may be another one by now."""
        if not self.parts:
            raise self._top.outside()
        self._go_to(self.parts[:-1])

    def _go_to(self, parts: Sequence[str]) -> None:
        self.here = _replaced(self.here, os.dup(self._top.descriptor))
        for name in parts:
            self._open(name)
        self.parts = list(parts)

    def _open(self, name: str) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise refusal("its path is too long")
        self.here = _replaced(self.here, os.open(name, OPEN_DIRECTORY, dir_fd=self.here))

    def _enter(self, name: str) -> None:
        status = self._look(name)
        if stat.S_ISLNK(status.st_mode):
            self._follow(os.readlink(name, dir_fd=self.here))
            return
        if stat.S_ISDIR(status.st_mode):
            self._open(name)
        else:
            self.name, self.status = name, status
        self.parts.append(name)

    def _look(self, name: str) -> os.stat_result:
        try:
            return os.stat(name, dir_fd=self.here, follow_symlinks=False)
        except FileNotFoundError:
            if not self._make:
                raise
            os.mkdir(name, dir_fd=self.here)
            return os.stat(name, dir_fd=self.here, follow_symlinks=False)

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if target.startswith("/"):
            below = self._top.parts(target)
            self._go_to(())
        else:
            below = PurePosixPath(target).parts
        self._pending.extend(reversed(below))


def open_file(name: str | Path, directory: int | None = None) -> int:
    """Open a regular file for reading. Returns its descriptor.

    Args:
        name: the file.
        directory: the open directory that ``name`` is relative to.

    Raises:
        OSError: it is something else, a symbolic link too; it is missing, or may not be read.
    """
    # Looked at before it is opened, since opening a device can have effects; then again: it may be another.
    require_file(os.stat(name, dir_fd=directory, follow_symlinks=False))
    file = os.open(name, _FILE, dir_fd=directory)
    try:
        require_file(os.fstat(file))
    except OSError:
        os.close(file)
        raise
    return file


def read_file(name: str | Path, most: int, directory: int | None = None) -> bytes:
    """The first bytes of a regular file.

    Args:
        name: the file.
        most: bytes that are read at most.
        directory: the open directory that ``name`` is relative to.

    Raises:
        OSError: as of ``open_file``, or it cannot be read.
    """
    with open(open_file(name, directory), "rb") as file:
        return file.read(most)


def require_file(status: os.stat_result) -> None:
    """Refuse what is no regular file.

    Raises:
        OSError: with what it is.
    """
    if not stat.S_ISREG(status.st_mode):
        raise refusal(f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not a file")


def refusal(why: str) -> OSError:
    """The error that says why something is not opened, as its ``strerror``."""
    return OSError(errno.EINVAL, why)


def _is_name(path: str) -> bool:
    """Whether the text can be given to the kernel: JSON has texts that cannot."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new
