"""The directory of one local VM: its files, its lock, and the status that both show.

    user_data     the start-up script
    server.json   the create request, without the start-up script
    record.json   which process the launcher is, written by the launcher itself
    console.log   the output of the start-up script
    lock          locked (flock(2)) by whoever starts the VM, and then by its launcher

The lock is taken before the directory becomes a VM. The launcher inherits it, holds it until it dies, and
writes its record before it runs anything. So the two decide the VM's status:

    lock   record   status
    held   none     BUILD: the launcher is starting
    held   written  ACTIVE
    free   written  SHUTOFF: the launcher died
    free   none     ERROR: nothing ever ran in this VM, and nothing will

The VM's processes run as the account that reads all this, and can replace any of it: by a named pipe, a link
to a file elsewhere, a directory. So files are opened by ``lando.beneath``, beneath the directory, and what is
no file counts as one that cannot be understood.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lando import removal, state_dir
from lando.beneath import OPEN_DIRECTORY, open_file, read_file
from lando.cloud.interface import CONSOLE_BYTES, Server, ServerRequest, ServerStatus
from lando.cloud.local import launcher, processes

SERVER = "server.json"
LOCK = "lock"
_REQUEST_BYTES = 64 * 1024
_RECORD_BYTES = 1024
_REPLACED = frozenset((errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO))
"""Errors of a file or directory that somebody has replaced by something else."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LauncherRecord:
    """What a launcher wrote about itself."""

    pid: int
    started: int
    """Clock ticks since boot."""
    boot_id: str

    def process(self) -> processes.Process | None:
        """The launcher, if it is alive; never another process that has been given its pid."""
        found = processes.look_up(self.pid) if self.boot_id == launcher.boot_id() else None
        return found if found is not None and found.started == self.started else None


NO_PROCESS = LauncherRecord(pid=0, started=0, boot_id="")
"""In place of a record that cannot be understood."""


class Replaced(Exception):
    """The lock or the directory is something else by now: somebody in the VM has replaced it. It cannot be
    started any more. The text says what it is."""


def is_valid_mark(text: str) -> bool:
    """Whether it can be the name of a directory, and the value of an environment variable."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", text) is not None


def describe(directory: Path, is_deleted: Callable[[], bool]) -> Server | None:
    """The VM as the cloud lists it; None when there is no such directory.

    What the workflow made unreadable is made readable again: one VM must not hide all others.

    Args:
        directory: named by the VM's mark.
        is_deleted: whether the VM's deletion has begun; called after the lock and the record are read.

    Raises:
        OSError: the directory cannot be read.
    """
    if not directory.is_dir():
        return None
    try:
        return _describe(directory, is_deleted)
    except PermissionError:
        let_owner_use(directory)
        return _describe(directory, is_deleted)


def _describe(directory: Path, is_deleted: Callable[[], bool]) -> Server | None:
    # The lock is read before the record: once the lock is free, no record will be written.
    held = is_locked(directory)
    record = read_record(directory)
    # Without a record, the lock may be held by the deletion: then nothing will run any more.
    held = held and (record is not None or not is_deleted())
    status, fault = _status(held, record)
    request = _read_request(directory)
    if request is None and not directory.exists():
        return None
    mark = directory.name
    request = request or {"name": mark}
    return Server(
        id=mark,
        name=request["name"],
        status=status,
        mark=mark,
        deployment=request.get("deployment"),
        job_id=request.get("job_id"),
        attempt=request.get("attempt"),
        address="127.0.0.1" if status == "ACTIVE" else None,
        fault=fault,
    )


def _status(held: bool, record: LauncherRecord | None) -> tuple[ServerStatus, str | None]:
    if record is None:
        return ("BUILD", None) if held else ("ERROR", "it was never started")
    if held:
        if record.process() is not None:
            return "ACTIVE", None
        return "UNKNOWN", f"its launcher (process {record.pid}) is not visible here"
    if record.boot_id != launcher.boot_id():
        return "SHUTOFF", "the machine was restarted"
    return "SHUTOFF", f"its launcher (process {record.pid}) died"


def read_record(directory: Path) -> LauncherRecord | None:
    """The launcher's record; None when there is none yet. One that cannot be parsed matches no process."""
    try:
        with _opened(directory) as here:
            record = json.loads(read_file(launcher.RECORD, _RECORD_BYTES, here).decode("ascii"))
        pid, started, boot_id = record["pid"], record["started"], record["boot_id"]
    except FileNotFoundError:
        return None
    except (Replaced, ValueError, TypeError, KeyError, RecursionError):
        return NO_PROCESS
    # A text in place of a number would be part of a path.
    are_valid = isinstance(pid, int) and isinstance(started, int) and isinstance(boot_id, str)
    return LauncherRecord(pid, started, boot_id) if are_valid else NO_PROCESS


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    """The open directory of a VM.

    Raises:
        Replaced: it, or what is opened in it meanwhile, is no directory, or no file.
        OSError: it cannot be opened for another reason.
    """
    try:
        here = os.open(directory, OPEN_DIRECTORY)
        try:
            yield here
        finally:
            os.close(here)
    except OSError as error:
        if error.errno not in _REPLACED:
            raise
        raise Replaced(error.strerror or str(error)) from error


def job_of(directory: Path) -> str | None:
    """The id of the job whose VM this is; None if it cannot be read."""
    with suppress(OSError):
        job_id = (_read_request(directory) or {}).get("job_id")
        return job_id if isinstance(job_id, str) else None
    return None


def let_owner_use(directory: Path) -> None:
    """Undo what a workflow did to the permissions of its VM's directory, and of the files that matter."""
    with suppress(OSError, Replaced):
        _change_mode(directory, None, 0o700)
        with _opened(directory) as here:
            for name in (LOCK, launcher.RECORD, SERVER, launcher.CONSOLE):
                with suppress(OSError):
                    _change_mode(name, here, 0o600)


def _change_mode(path: str | Path, directory: int | None, mode: int) -> None:
    """Not by name, which may be a link to somebody else's file. O_PATH needs no permission for the file."""
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not stat.S_ISLNK(os.fstat(handle).st_mode):
            os.chmod(f"/proc/self/fd/{handle}", mode)
    finally:
        os.close(handle)


def _read_request(directory: Path) -> dict[str, Any] | None:
    """The create request, without the start-up script; None when it cannot be read (any more)."""
    try:
        with _opened(directory) as here:
            request = json.loads(read_file(SERVER, _REQUEST_BYTES, here).decode())
    except (FileNotFoundError, Replaced, ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or not isinstance(request.get("name"), str):
        return None
    texts, attempt = (request.get("deployment"), request.get("job_id")), request.get("attempt")
    are_valid = all(isinstance(text, (str, type(None))) for text in texts)
    return request if are_valid and isinstance(attempt, (int, type(None))) else None


def read_console(directory: Path) -> str:
    """The end of the console log, at most CONSOLE_BYTES.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with _opened(directory) as here, open(open_file(launcher.CONSOLE, here), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - CONSOLE_BYTES))
            return file.read(CONSOLE_BYTES).decode("utf-8", errors="replace")
    except Replaced as error:
        return f"[the workflow has replaced this VM's console log: {error}]\n"


def make_locked(parent: Path) -> tuple[Path, int]:
    """A new directory ``new-*`` in ``parent`` whose lock is held, and the lock's descriptor."""
    while True:
        path = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
        with suppress(FileNotFoundError, FileExistsError):
            _write(path / LOCK, b"")
            lock = try_lock(path)
            if lock is not None:
                return path, lock
        # A sweep found it unlocked and removes it, or has already.


def write_files(directory: Path, request: ServerRequest) -> None:
    """Write what the launcher needs, and what ``describe`` reads, into a new directory.

    Raises:
        OSError: the files cannot be written.
    """
    fields = asdict(request)
    _write(directory / launcher.USER_DATA, fields.pop("user_data"))
    _write(directory / SERVER, json.dumps(fields).encode())
    _write(directory / launcher.CONSOLE, b"")


def _write(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read. No fsync: after a power failure no VM runs."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def try_lock(directory: Path, flags: int = 0) -> int | None:
    """Lock the directory exclusively: a descriptor that unlocks when closed; None when it is locked already.

    Args:
        directory: the VM's.
        flags: of open(2), as ``os.O_CREAT``.

    Raises:
        FileNotFoundError: it has no lock file, and ``flags`` do not create one.
        Replaced: the lock is no file.
    """
    try:
        file = _open_lock(directory, flags)
    except PermissionError:
        let_owner_use(directory)
        file = _open_lock(directory, flags)
    if state_dir.try_lock(file):
        return file
    os.close(file)
    return None


def _open_lock(directory: Path, flags: int) -> int:
    with _opened(directory) as here:
        # A named pipe, too, can be opened for both, and locked: that is as good.
        return os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600, dir_fd=here)


def is_locked(directory: Path) -> bool:
    """Whether somebody holds the lock."""
    try:
        with _opened(directory) as here:
            file = open_file(LOCK, here)
    except (FileNotFoundError, Replaced):
        return False
    try:
        return not state_dir.try_lock(file, fcntl.LOCK_SH)
    finally:
        os.close(file)


def remove(path: Path) -> None:
    """Remove as much as possible, and log what is left."""
    try:
        if path.is_dir() and not path.is_symlink():
            removal.remove(path)
        else:
            path.unlink(missing_ok=True)
    except (removal.NotRemoved, OSError) as error:
        _log.warning(
            "%s is no longer needed, but could not be removed completely; remove it by hand, or the next"
            " daemon tries again: %s",
            path,
            error,
        )


def remove_unlocked(path: Path) -> None:
    """Remove a directory of ``make_locked`` whose maker died; one without a lock only if it is empty."""
    try:
        lock = try_lock(path)
    except FileNotFoundError:
        with suppress(OSError):
            path.rmdir()
        return
    if lock is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)
