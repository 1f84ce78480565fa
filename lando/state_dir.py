"""The state directory: its paths, the lock of its one daemon, and what SQLite needs of its file system.

The daemon lock is a flock(2): the kernel releases it when the daemon ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import re
import shlex
import stat
import time
from pathlib import Path

from lando.beneath import read_file
from lando.errors import LandoError, UsageError
from lando.sqlite.failures import is_outage

PATIENCE = 0.5
"""Seconds to wait for a lock: ``running`` also takes it briefly."""
_PID_BYTES = 20
NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "ceph", "ceph-fuse", "glusterfs", "sshfs")
)


SQLITE_PATH_BYTES = 504
"""Bytes of the longest path of a database that SQLite opens: MAX_PATHNAME in os_unix.c, less ``-journal``."""


def prepare(state_dir: Path, database: Path | None) -> None:
    """Make the state directory (0700) where it is missing.

    Args:
        state_dir: the directory.
        database: the file of an SQLite database, which may be elsewhere.

    Raises:
        UsageError: the directory cannot be made or written, its name cannot be used, others may
            write into it, or the database is on a network file system.
        LandoError: its disk is full, or fails.
    """
    _refuse_name(state_dir, database)
    refuse_foreign(state_dir, writes=True)
    try:
        # One by one: mkdir's ``mode`` is not that of the parents that it makes.
        for path in (*reversed([path for path in state_dir.parents if not path.exists()]), state_dir):
            path.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        if is_outage(error):
            raise LandoError(f"{state_dir}: {error.strerror}") from error
        raise UsageError(f"{state_dir}: {error.strerror}; name another one by LANDO_STATE_DIR") from error
    refuse_foreign(state_dir, writes=True)  # again: somebody may have made it meanwhile
    if not os.access(state_dir, os.W_OK):
        raise UsageError(
            f"{state_dir}: is not writable; name another one by LANDO_STATE_DIR{read_only_note(state_dir)}"
        )
    if database is not None:
        refuse_network_filesystem(database.parent)


def _refuse_name(state_dir: Path, database: Path | None) -> None:
    """Every name can be used but those that SQLite or CWL runners cannot open."""
    advice = "name another one by LANDO_STATE_DIR, or by state_dir in landoconfig.yml"
    try:
        str(state_dir).encode()
    except UnicodeEncodeError:
        shown = str(state_dir).encode(errors="backslashreplace").decode()
        raise UsageError(
            f"{shown}: is not UTF-8, in which CWL runners name the files of workflows; {advice}"
        ) from None
    if database is not None:
        size = max(len(os.fsencode(path)) for path in (database, os.path.realpath(database)))
        if size > SQLITE_PATH_BYTES:
            raise UsageError(
                f"{database}: this path of the database is {size} bytes long, of which SQLite takes "
                f"{SQLITE_PATH_BYTES}; {advice}"
            )


def refuse_foreign(state_dir: Path, writes: bool) -> None:
    """Refuse a state directory in which others could put what they want to be read, run or overwritten.

    Args:
        state_dir: the directory, absolute; may not exist yet.
        writes: whether something is written into it. Root may read anybody's, and write into root's only: the
            owner could have put links to any file there.

    Raises:
        UsageError: it belongs to another account, or others may write into it, or may replace it.
    """
    try:
        found = os.stat(state_dir)
    except OSError:
        found = None  # told by whoever needs it
    other = "name another one by LANDO_STATE_DIR"
    if found is not None and stat.S_ISDIR(found.st_mode):
        me, owner = os.geteuid(), _account(found.st_uid)
        if me not in (found.st_uid, 0):
            raise UsageError(
                f"{state_dir}: belongs to another account ({owner}); {other}, run this as {owner}, or as"
                f" root: chown -R {me} {shlex.quote(str(state_dir))}"
            )
        if found.st_uid != me and writes:
            raise UsageError(
                f"{state_dir}: belongs to another account ({owner}), and root may only read it; run this as"
                f" {owner}, {other}, or: chown -R root {shlex.quote(str(state_dir))}"
            )
        if found.st_uid != me:
            _refuse_links(state_dir, found.st_uid)
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UsageError(
                f"{state_dir}: others may write into it (mode {stat.S_IMODE(found.st_mode):04o}); run:"
                f" chmod go-w {shlex.quote(str(state_dir))}, or {other}"
            )
    for parent in dict.fromkeys((*state_dir.parents, *Path(os.path.realpath(state_dir)).parents)):
        if _others_may_rename_in(parent):
            raise UsageError(
                f"{state_dir}: others may replace it, since they may write into {parent}; {other}, or run:"
                f" chmod go-w {shlex.quote(str(parent))}"
            )


def _refuse_links(state_dir: Path, owner: int) -> None:
    """For root, who reads another account's directory: who reads an SQLite file writes into it, too, to empty
    its log and to update its schema. The owner could have put a link to any file there.

    Raises:
        UsageError: a database in there is not a file of the owner.
    """
    for path in state_dir.glob("*.db*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
                raise UsageError(
                    f"{path}: is not a file of {_account(owner)}, whose directory this is, and root does not"
                    f" open it; run this as {_account(owner)}"
                )


def _others_may_rename_in(directory: Path) -> bool:
    """Whether others may write into a directory, and no sticky bit keeps them from what is not theirs.

    An account's own group, which many systems make for each account, is nobody else.
    """
    try:
        found = os.stat(directory)
    except OSError:
        return False
    if found.st_mode & stat.S_ISVTX:
        return False
    is_own_group = found.st_gid in (0, found.st_uid) or _group(found.st_gid) == _account(found.st_uid)
    return bool(found.st_mode & (stat.S_IWOTH if is_own_group else stat.S_IWOTH | stat.S_IWGRP))


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"gid {gid}"


def read_only_note(path: Path) -> str:
    """In brackets: the disk is mounted read-only, as the kernel does to one that fails; else empty."""
    is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    return " (its disk is mounted read-only; the kernel's log may say why: dmesg)" if is_read_only else ""


def jobs(state_dir: Path) -> Path:
    """The directory that has one for each job whose VM is, or was, on this machine."""
    return state_dir / "jobs"


def outputs(state_dir: Path, job_id: str) -> Path:
    """The directory of a job's outputs, where its VM is on this machine."""
    return jobs(state_dir) / job_id / "outputs"


def daemon_lock(state_dir: Path, database: Path | None) -> Path:
    """The file that the daemon of this database locks: beside the database, which may be elsewhere."""
    if database is None or database.parent.absolute() == state_dir.absolute():
        return state_dir / "daemon.lock"
    return database.with_name(f"{database.name}.daemon.lock")


class DaemonRunning(UsageError):
    """Another daemon uses this state directory or database."""


class DaemonLock:
    """The lock of the daemon, held from construction to ``release`` or the end of the process.

    Args:
        path: the file to lock; made where missing.

    Raises:
        DaemonRunning: another process holds it; the text names its pid.
        LandoError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LandoError(f"{path}: {error.strerror} (is the state directory writable?)") from error
        deadline = time.monotonic() + PATIENCE
        while not try_lock(self._file):
            if time.monotonic() > deadline:
                os.close(self._file)
                raise DaemonRunning(f"{path.parent}: a daemon runs here already (pid {_pid(path)})")
            time.sleep(0.02)
        with contextlib.suppress(OSError):  # the disk is full: the pid is for people, the lock is what counts
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._file)


def running(path: Path) -> int | None:
    """The pid of the daemon that holds this lock; None if there is none, 0 if it is not known."""
    try:
        # Not waiting for the other end of what somebody made a named pipe.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return None if try_lock(file, fcntl.LOCK_SH) else _pid(path)
    finally:
        os.close(file)


def try_lock(file: int, kind: int = fcntl.LOCK_EX) -> bool:
    """Lock an open file (flock(2)) without waiting. Returns whether it is locked.

    Closing the file unlocks it.

    Args:
        file: its descriptor.
        kind: ``fcntl.LOCK_EX``, or ``fcntl.LOCK_SH``.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(read_file(path, _PID_BYTES))
    return 0


def refuse_network_filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse a directory where SQLite's write-ahead log is unsafe, since it needs shared memory.

    Args:
        path: the state directory; need not exist yet.
        mountinfo: the mounts of this process, as in proc_pid_mountinfo(5).

    Raises:
        UsageError: the directory is on a network file system.

    Source: https://sqlite.org/wal.html ("WAL does not work over a network filesystem").
    """
    file_system = _file_system_of(Path(os.path.realpath(path)), mountinfo)
    if file_system.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS:
        raise UsageError(
            f"{path}: is on a network file system ({file_system}), where SQLite may lose data; "
            "set state_dir to a local directory"
        )


def _file_system_of(path: Path, mountinfo: Path) -> str:
    """The type of the file system a path is on; "" if it is not known."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = Path(_unescape(mount.split(" ")[4]))
        # Of two mounts at one point, the later one hides the earlier one.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = source.split(" ")[0], len(point.parts)
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
