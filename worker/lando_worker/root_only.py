"""Only root may read what tells the VM's user data or the worker's settings: files, and the config drive.

The config drive is a disk, and so is the root file system that holds the worker's files. Block devices belong
to a group such as ``disk`` or ``cdrom``, which the workflow's account may be in; here they become root's.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from lando_worker.result import SystemFailure

CLOUD_INIT = ("var/lib/cloud", "run/cloud-init", "var/log/cloud-init*")
"""Its copies of user data and metadata, and its logs; it has no other reader than root."""
CONFIG_DRIVE = ("openstack", "ec2")
"""The directories of a config drive: https://docs.openstack.org/nova/latest/user/config-drive.html"""
CONFIG_DRIVE_TYPES = (b"iso9660", b"vfat", b"udf")
SCSI_GENERIC = 21
"""The major number of the devices /dev/sg*, which read the same disks as block devices."""
UDEV_RULES = "run/udev/rules.d/99-lando.rules"
# udev gives a device to its group again whenever it changes.
UDEV_RULE = 'SUBSYSTEM=="block|scsi_generic", OWNER:="root", GROUP:="root", MODE:="0600"\n'
COMMAND_TIMEOUT = 30.0
"""Seconds."""


def close(own_files: Iterable[Path], root: Path = Path("/")) -> list[Path]:
    """Close everything to all but root. Needs root; may be repeated.

    Args:
        own_files: the worker's.
        root: holds the system's files; another directory for tests.

    Returns:
        What was closed.

    Raises:
        SystemFailure: the config drive is mounted, and cannot be unmounted.
        OSError: a mode cannot be changed.
    """
    _unmount_config_drives(root)
    _set_udev_rule(root / UDEV_RULES)
    closed = [*own_files, *_of_cloud_init(root), *_disks(root / "dev")]
    for path in closed:
        _close(path)
    return closed


def readable(paths: Iterable[Path]) -> list[str]:
    """Those of ``paths`` that this process can open."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            found.append(str(path))
    return found


def _of_cloud_init(root: Path) -> Iterator[Path]:
    for pattern in CLOUD_INIT:
        yield from root.glob(pattern)


def _disks(devices: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(devices):
        for name in names:
            path = Path(directory, name)
            with contextlib.suppress(FileNotFoundError):
                found = path.lstat()
                is_generic = stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == SCSI_GENERIC
                if stat.S_ISBLK(found.st_mode) or is_generic:
                    yield path


def _close(path: Path) -> None:
    """Files keep their owner, which may be the system's logger; its group and others lose their rights."""
    with contextlib.suppress(FileNotFoundError):
        found = path.stat()
        is_device = stat.S_ISBLK(found.st_mode) or stat.S_ISCHR(found.st_mode)
        if is_device:
            os.chown(path, 0, 0)
        path.chmod(stat.S_IMODE(found.st_mode) & stat.S_IRWXU)


def _unmount_config_drives(root: Path) -> None:
    for mount in _mounts(root / "proc/self/mountinfo"):
        if not any((mount / name / "latest").is_dir() for name in CONFIG_DRIVE):
            continue
        # Lazily: whatever has a file of it open goes on.
        problem = _run("umount", "--lazy", str(mount))
        if problem:
            raise SystemFailure(f"the config drive is mounted on {mount}, and cannot be unmounted: {problem}")


def _mounts(mountinfo: Path) -> Iterator[Path]:
    """Where file systems of a config drive's types are mounted; the last one first."""
    for line in reversed(mountinfo.read_bytes().splitlines()):
        before, _, after = line.partition(b" - ")
        if after.split(b" ", 1)[0] in CONFIG_DRIVE_TYPES:
            where = re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), before.split(b" ")[4])
            yield Path(os.fsdecode(where))


def _set_udev_rule(rules: Path) -> None:
    if not rules.parents[1].is_dir() or shutil.which("udevadm") is None:
        return  # no udev, which could change what follows
    rules.parent.mkdir(exist_ok=True)
    rules.write_text(UDEV_RULE)
    rules.chmod(0o644)
    _run("udevadm", "control", "--reload")


def _run(*command: str) -> str:
    """Run a command; what is wrong, or nothing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=COMMAND_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"exit status {done.returncode}" if done.returncode else ""
