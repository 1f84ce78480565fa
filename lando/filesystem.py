"""Which file systems a state directory may be on."""

from __future__ import annotations

import os
import re
from pathlib import Path

from lando.errors import UsageError

NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "ceph", "ceph-fuse", "glusterfs", "sshfs")
)


def refuse_network_filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse a directory where SQLite's write-ahead log is unsafe: it needs memory shared by its processes.

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
            f"{path}: is on a network file system ({file_system}), where SQLite cannot keep its promises; "
            "set state_dir to a local directory, or database.url to a PostgreSQL server"
        )


def _file_system_of(path: Path, mountinfo: Path) -> str:
    """The type of the file system a path is on, or "" where there is no telling."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = Path(_unescape(mount.split(" ")[4]))
        # Of two mounts at one point the later hides the earlier.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = source.split(" ")[0], len(point.parts)
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
