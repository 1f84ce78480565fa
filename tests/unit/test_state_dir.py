"""The state directory: its lock, how it is made, and that a network file system is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lando.errors import LandoError, UsageError
from lando.state_dir import SQLITE_PATH_BYTES, daemon_lock, prepare, refuse_network_filesystem
from lando.store.store import Store


@pytest.mark.parametrize(
    "database, lock",
    [
        (None, "/state/daemon.lock"),
        (Path("/state/lando.db"), "/state/daemon.lock"),
        (Path("/elsewhere/x.db"), "/elsewhere/x.db.daemon.lock"),
    ],
)
def test_the_lock_is_beside_the_database(database: Path | None, lock: str) -> None:
    assert daemon_lock(Path("/state"), database) == Path(lock)


def test_a_state_directory_is_private(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b", None)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: File exists; name another one by LANDO_STATE_DIR"):
        prepare(tmp_path / "file", None)


def test_a_path_that_sqlite_takes_is_taken_and_a_longer_one_is_refused(tmp_path: Path) -> None:
    base = tmp_path
    while len(str(base)) < SQLITE_PATH_BYTES - 260:
        base /= "x" * 200
    room = SQLITE_PATH_BYTES - len(str(base)) - len("//lando.db")
    longest, longer = base / ("y" * room), base / ("y" * (room + 1))
    for state_dir in (longest, longer):
        state_dir.mkdir(parents=True)
    prepare(longest, longest / "lando.db")
    Store(f"sqlite:///{longest}/lando.db").close()
    (tmp_path / "short").symlink_to(longer)
    for state_dir in (longer, tmp_path / "short"):
        with pytest.raises(UsageError, match="is 505 bytes long, of which SQLite takes 504; name"):
            prepare(state_dir, state_dir / "lando.db")
        with pytest.raises(LandoError, match="unable to open database file"):
            Store(f"sqlite:///{state_dir}/lando.db")


def test_a_name_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"/a\\udcff: is not UTF-8, .* by LANDO_STATE_DIR"):
        prepare(tmp_path / os.fsdecode(b"a\xff"), None)
    assert os.listdir(tmp_path) == []


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw,addr=10.0.0.1
31 30 0:41 / /home/local rw shared:2 master:1 - xfs /dev/sdb1 rw
32 22 0:42 / /mnt/my\\040disk rw - cifs //server/share rw
33 22 0:43 / /over rw - nfs server:/x rw
34 22 0:44 / /over rw - tmpfs tmpfs rw
35 22 0:45 / /gluster rw - fuse.glusterfs server:/x rw
36 22 0:46 / /vm rw - 9p share rw
37 22 0:47 / /fuse rw - fuse.bindfs /x rw
"""


@pytest.mark.parametrize(
    "path, refused_as",
    [
        ("/var/lib/lando", None),
        ("/home/me/state", "nfs4"),
        ("/home", "nfs4"),
        ("/homes", None),
        ("/home/local/state", None),
        ("/mnt/my disk/state", "cifs"),
        ("/over/state", None),
        ("/gluster/x", "fuse.glusterfs"),
        ("/vm/x", None),
        ("/fuse/x", None),
    ],
)
def test_network_file_systems_are_refused_by_name(path: str, refused_as: str | None, tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    if refused_as is None:
        refuse_network_filesystem(Path(path), mountinfo)
        return
    with pytest.raises(UsageError, match=rf"network file system \({refused_as}\).* set state_dir"):
        refuse_network_filesystem(Path(path), mountinfo)


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    refuse_network_filesystem(tmp_path / "not" / "there")
    refuse_network_filesystem(tmp_path, tmp_path / "no-mountinfo")
