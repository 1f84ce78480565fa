"""The state directory: its lock, how it is made, and which are refused: others', and network file systems."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.errors import LandoError, UsageError
from lando.state_dir import (
    SQLITE_PATH_BYTES,
    DaemonLock,
    daemon_lock,
    prepare,
    refuse_foreign,
    refuse_network_filesystem,
    running,
)
from lando.store.store import Store
from tests.support.another_account import IS_ROOT, OTHER, as_another_account, place_of_another_account


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


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_no_umask")
def test_whatever_is_made_is_private_whatever_the_umask(tmp_path: Path) -> None:
    prepare(tmp_path / "a" / "b" / "c", None)
    for path in ("a", "a/b", "a/b/c"):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("writes", [True, False])
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o720, 0o702, 0o1777])
def test_a_directory_that_others_may_write_is_refused(tmp_path: Path, mode: int, writes: bool) -> None:
    state = tmp_path / "the state"
    state.mkdir()
    state.chmod(mode)
    words = (
        rf"others may write into it \(mode {mode:04o}\); run: chmod go-w '{state}', or name another one by"
    )
    with pytest.raises(UsageError, match=words):
        refuse_foreign(state, writes)
    state.chmod(0o755)
    refuse_foreign(state, writes)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("name", ["open", "link"])
def test_a_directory_that_others_may_replace_is_refused(tmp_path: Path, made: bool, name: str) -> None:
    parent = tmp_path / "open" / "below"
    parent.mkdir(parents=True)
    (tmp_path / "link").symlink_to("open")
    state = tmp_path / name / "below" / "state"
    if made:
        state.mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(UsageError, match=f"they may write into {tmp_path}/.*; name another one.* chmod go-w"):
        refuse_foreign(state, writes=False)
    with pytest.raises(UsageError):
        prepare(state, None)
    assert state.exists() == made, "nothing was made"
    (tmp_path / "open").chmod(0o1777)
    refuse_foreign(state, writes=True)


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away")
def test_whose_group_may_write_into_a_parent(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    parent.chmod(0o775)
    for uid, gid, is_refused in ((0, 0, False), (OTHER, OTHER, False), (OTHER, 0, False), (OTHER, 1, True)):
        os.chown(parent, uid, gid)
        try:
            refuse_foreign(parent / "state", writes=False)
            assert not is_refused
        except UsageError:
            assert is_refused


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away")
def test_a_directory_of_another_account_is_refused_but_root_may_read_it(tmp_path: Path) -> None:
    with place_of_another_account() as theirs:
        refuse_foreign(theirs, writes=False)
        for write in (lambda: refuse_foreign(theirs, writes=True), lambda: prepare(theirs, None)):
            with pytest.raises(
                UsageError, match=rf"another account \(uid {OTHER}\), and root may only read it"
            ):
                write()
        assert as_another_account(lambda: refuse_foreign(theirs, writes=True)) == ""
        os.chown(theirs, 1, 1)
        theirs.chmod(0o755)
        said = as_another_account(lambda: refuse_foreign(theirs, writes=False))
        assert said.startswith(f"UsageError: {theirs}: belongs to another account (")
        assert "LANDO_STATE_DIR" in said
        assert f"chown -R uid {OTHER}" not in said


@pytest.mark.skipif(not IS_ROOT, reason="only root can give a directory away")
@pytest.mark.parametrize("name", ["lando.db", "lando.db-wal", "commands.db"])
def test_root_opens_no_database_that_the_owner_has_replaced(tmp_path: Path, name: str) -> None:
    target = tmp_path / "root.db"
    with place_of_another_account() as theirs:
        database = theirs / name
        for replace in (lambda: database.symlink_to(target), lambda: database.touch(0o600)):
            replace()
            with pytest.raises(UsageError, match=rf"{name}: is not a file of uid {OTHER}, .*; run this as"):
                refuse_foreign(theirs, writes=False)
            database.unlink()
        database.touch()
        os.chown(database, OTHER, OTHER)
        refuse_foreign(theirs, writes=False)


def test_a_lock_that_was_replaced_by_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "daemon.lock"
    os.mkfifo(path)
    assert running(path) is None
    lock = DaemonLock(path)
    assert running(path) == 0
    lock.release()


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
