"""What only root may read, below a directory that stands for a VM's root directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lando_worker import root_only
from lando_worker.root_only import UDEV_RULE, UDEV_RULES, close


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for directory in ("proc/self", "dev/disk", "var/lib/cloud/instance", "var/log", "run/cloud-init"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mountinfo").write_text("")
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_copies_of_cloud_init_and_the_worker_s_own_files(root: Path) -> None:
    own, log, rotated = (
        root / "worker.json",
        root / "var/log/cloud-init.log",
        root / "var/log/cloud-init.log.1",
    )
    for file in (own, log, rotated):
        file.touch(0o644)
    closed = close([own, root / "gone"], root)
    assert {mode(path) for path in (own, log, rotated)} == {0o600}
    assert mode(root / "var/lib/cloud") == mode(root / "run/cloud-init") == 0o700
    assert {own, log, rotated, root / "var/lib/cloud", root / "run/cloud-init"} <= set(closed)


@pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes")
def test_disks_and_what_reads_them_raw_are_roots(root: Path) -> None:
    nodes = {"sr0": (stat.S_IFBLK, 11), "sg0": (stat.S_IFCHR, 21), "tty": (stat.S_IFCHR, 5)}
    for name, (kind, major) in nodes.items():
        os.mknod(root / "dev" / name, kind | 0o660, os.makedev(major, 0))
        os.chmod(root / "dev" / name, 0o660)
        os.chown(root / "dev" / name, 0, 24)
    (root / "dev" / "disk" / "config-2").symlink_to("../sr0")
    close([], root)
    assert {name: (mode(root / "dev" / name), (root / "dev" / name).stat().st_gid) for name in nodes} == {
        "sr0": (0o600, 0),
        "sg0": (0o600, 0),
        "tty": (0o660, 24),
    }


def test_udev_keeps_disks_so(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    udevadm = root / "bin" / "udevadm"
    udevadm.parent.mkdir()
    udevadm.write_text(f'#!/bin/sh\necho "$*" >{root}/called\n')
    udevadm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{udevadm.parent}:{os.environ['PATH']}")
    close([], root)
    assert not (root / UDEV_RULES).exists(), "where udev does not run"
    (root / "run" / "udev").mkdir()
    close([], root)
    assert (root / UDEV_RULES).read_text() == UDEV_RULE
    assert (root / "called").read_text() == "control --reload\n"


def test_mounts_are_found_by_their_type_and_contents(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive, other, disk = root / "config drïve", root / "cd", root / "disk"
    (drive / "openstack" / "latest").mkdir(parents=True)
    (other / "openstack").mkdir(parents=True)
    (disk / "openstack" / "latest").mkdir(parents=True)
    lines = [
        f"30 1 253:1 / {disk} rw,relatime shared:1 - ext4 /dev/vda1 rw",
        f"31 1 11:0 / {other} ro,relatime shared:2 - iso9660 /dev/sr1 ro",
        f"32 1 11:0 / {str(drive).replace(' ', chr(92) + '040')} ro,relatime shared:3 - iso9660 /dev/sr0 ro",
    ]
    (root / "proc" / "self" / "mountinfo").write_text("\n".join(lines) + "\n", encoding="utf-8")
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(root_only, "_run", lambda *command: ran.append(command) or "")
    close([], root)
    assert ran == [("umount", "--lazy", str(drive))]
