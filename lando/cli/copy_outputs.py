"""Copies a job's outputs to a directory of the person who runs it.

Both sides are walked from an open directory (``lando.beneath``): nothing is read that is not below the job's
outputs, and nothing is written that is not below the target. Permissions go along, but for set-user-id and
the like.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lando.beneath import OPEN_DIRECTORY, Beneath, Parts, open_file, refusal
from lando.errors import LandoError
from lando.views.job_outputs import NOT_HERE, Refused, checked_path, files, refuse, require_class, set_place

MOST_ENTRIES = 1_000_000
"""Files and directories that are copied: links let a few directories contain each other without end."""
MOST_LEVELS = 100
"""Levels of directories that are copied: three open files each."""
TOO_DEEP = f"it is more than {MOST_LEVELS} levels deep"
IN_THE_WAY = frozenset(
    (errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENOTEMPTY, errno.ENAMETOOLONG)
)
"""Errors of one name in the target."""
_CHUNK = 1 << 30
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copied(
    reported: Mapping[str, Any], base: Beneath | None, outdir: Path
) -> tuple[dict[str, Any], list[Refused]]:
    """Copy the output files into a directory. They keep their places, below the job's outputs.

    Args:
        reported: a CWL output object, as the worker sent it.
        base: the job's outputs; None if they are not on this machine.
        outdir: the directory, which exists.

    Returns:
        The output object with the new locations; and what was not copied, whose locations are None.

    Raises:
        LandoError: ``outdir`` cannot be written.
    """
    outputs: dict[str, Any] = json.loads(json.dumps(reported))
    try:
        target = Beneath(outdir)
    except OSError as error:
        raise LandoError(f"--outdir {outdir}: {error.strerror}") from error
    try:
        copy = _Copy(base, target)
        for file in files(outputs):
            copy.add(file)
    finally:
        target.close()
    return outputs, copy.refused


class _Copy:
    """One copy, with what was copied and refused so far."""

    def __init__(self, base: Beneath | None, target: Beneath) -> None:
        self._base = base
        self._target = target
        self._entries = 0
        self._copied: set[Parts] = set()
        """Places that were copied, with all that is in them."""
        self.refused: list[Refused] = []

    def add(self, file: dict[str, Any]) -> None:
        """Copy a File or Directory, unless that of which it is a part has been."""
        try:
            path = checked_path(file)
            if path is not None:
                set_place(file, self._target.path.joinpath(*self._copy_reported(file, path)))
        except OSError as error:
            self.refused.append(refuse(file, error))

    def _copy_reported(self, file: Mapping[str, Any], path: str) -> Parts:
        if self._base is None:
            raise refusal(NOT_HERE)
        wanted = self._base.parts(os.path.join(self._base.path, path))
        with self._base.find(wanted) as found:
            require_class(file, found.status)
            place = found.parts if ".." in wanted else wanted
            if len(place) > MOST_LEVELS:
                raise refusal(TOO_DEEP)
            if any(place[:length] in self._copied for length in range(len(place) + 1)):
                with self._target.find(place):  # not there if it was refused
                    return place
            self._count()
            if file["class"] == "Directory":
                self._copy_directory(found.directory, place, ())
            else:
                there = self._open_there(place[:-1])
                try:
                    self._copy_file(found.directory, found.name, there, place)
                finally:
                    os.close(there)
            self._copied.add(place)
        return place

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise _TooMany(errno.EMLINK, f"these are more than {MOST_ENTRIES:,} files and directories")

    def _copy_directory(self, source: int, place: Parts, above: tuple[tuple[int, int], ...]) -> None:
        """Copy what is in an open directory, and go on where something of it cannot be copied.

        Args:
            source: the directory.
            place: where it is below the outputs, and goes.
            above: device and inode of those that contain it and are being copied.
        """
        status = os.fstat(source)
        identity = status.st_dev, status.st_ino
        if identity in above:
            raise refusal("it is a link to a directory that contains it")
        if len(above) == MOST_LEVELS:
            raise refusal(TOO_DEEP)
        there = self._open_there(place)
        try:
            with os.scandir(source) as entries:
                for entry in entries:
                    self._count()
                    inner = (*place, entry.name)
                    try:
                        self._copy_entry(source, there, inner, (*above, identity))
                    except _TooMany:
                        raise
                    except OSError as error:
                        self._refuse(inner, error)
        finally:
            os.close(there)

    def _copy_entry(self, source: int, there: int, place: Parts, above: tuple[tuple[int, int], ...]) -> None:
        assert self._base is not None
        name = place[-1]
        mode = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            with self._base.find(place) as found:
                if stat.S_ISDIR(found.status.st_mode):
                    self._copy_directory(found.directory, place, above)
                else:
                    self._copy_file(found.directory, found.name, there, place)
        elif stat.S_ISDIR(mode):
            inner = os.open(name, OPEN_DIRECTORY, dir_fd=source)
            try:
                self._copy_directory(inner, place, above)
            finally:
                os.close(inner)
        else:
            self._copy_file(source, name, there, place)

    def _open_there(self, parts: Parts) -> int:
        """Open a directory of the target, made where it is missing. Returns its descriptor."""
        with self._writing(parts), self._target.find(parts, make=True) as there:
            if not stat.S_ISDIR(there.status.st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return os.dup(there.directory)

    def _copy_file(self, directory: int, name: str, there: int, place: Parts) -> None:
        """Copy a file to an open directory. What has its name there is replaced, never written through."""
        source = open_file(name, directory)
        try:
            with self._writing(place):
                part = f".{secrets.token_hex(8)}.part"
                new = os.open(part, _NEW, 0o600, dir_fd=there)
                try:
                    _copy_content(source, new)
                    os.rename(part, place[-1], src_dir_fd=there, dst_dir_fd=there)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(part, dir_fd=there)
                    raise
                finally:
                    os.close(new)
        finally:
            os.close(source)

    @contextmanager
    def _writing(self, place: Parts) -> Iterator[None]:
        """Tell an error of the target: what is in the way concerns one name, all else concerns the disk."""
        target = self._target.path.joinpath(*place)
        try:
            yield
        except OSError as error:
            if error.errno in IN_THE_WAY:
                raise refusal(f"{target}: {error.strerror}") from error
            raise LandoError(
                f"{'/'.join(place)} could not be copied to {target}: {error.strerror}"
            ) from error

    def _refuse(self, place: Parts, error: OSError) -> None:
        assert self._base is not None
        name = str(self._base.path.joinpath(*place))
        self.refused.append(Refused(name, error.strerror or str(error)))


def _copy_content(source: int, new: int) -> None:
    """Content, times, and permissions without the bits that give the rights of the file's owner to others."""
    try:
        for start, end in _data(source):
            at = os.lseek(new, start, os.SEEK_SET)
            while at < end and (sent := os.sendfile(new, source, at, min(_CHUNK, end - at))):
                at += sent
        os.ftruncate(new, os.fstat(source).st_size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise
        os.lseek(new, 0, os.SEEK_SET)
        os.lseek(source, 0, os.SEEK_SET)
        with open(source, "rb", closefd=False) as reader, open(new, "wb", closefd=False) as writer:
            shutil.copyfileobj(reader, writer)
    status = os.fstat(source)
    os.fchmod(new, stat.S_IMODE(status.st_mode) & 0o777)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))


def _data(source: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: its holes take no room in the copy, either."""
    end = 0
    while True:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole until the end
                return
            raise
        end = os.lseek(source, start, os.SEEK_HOLE)
        yield start, end


class _TooMany(OSError):
    """No more is copied."""
