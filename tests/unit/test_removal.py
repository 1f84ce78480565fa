"""Directories that a workflow left are removed, whatever it did to them; what cannot be is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lando.removal import NotRemoved, empty, remove
from lando_worker.directories import Directories
from lando_worker.result import SystemFailure
from tests.support.another_account import IS_ROOT, OTHER, as_another_account, place_of_another_account


@pytest.fixture
def place() -> Iterator[Path]:
    with place_of_another_account() as here:
        yield here


@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o400, 0o500, 0o555])
@pytest.mark.parametrize("how", [remove, empty])
def test_directories_that_their_owner_may_not_write(
    place: Path, mode: int, how: Callable[[Path], None]
) -> None:
    def leave_and_remove() -> None:
        below = place / "outputs" / "a" / "b"
        below.mkdir(parents=True)
        (below / "file").write_text("x")
        (below / "file").chmod(0)
        for directory in (below, below.parent, place / "outputs"):
            directory.chmod(mode)
        how(place / "outputs")

    assert as_another_account(leave_and_remove) == ""
    left = list(place.rglob("*"))
    assert left == ([] if how is remove else [place / "outputs"])


def test_another_run_begins_with_empty_directories(place: Path) -> None:
    def run_twice() -> None:
        directories = Directories(place / "vm", place / "outputs")
        directories.make(None)
        for directory in (directories.clone, directories.tmp, directories.outputs):
            (directory / "read-only").mkdir()
            (directory / "read-only" / "file").touch()
            (directory / "read-only").chmod(0o555)
        directories.make(None)
        assert not list(place.rglob("read-only"))

    assert as_another_account(run_twice) == ""


def test_what_keeps_another_run_from_starting_is_named(place: Path) -> None:
    directories = Directories(place / "vm", place / "outputs")
    directories.make(None)
    (directories.outputs / "kept").touch()
    immutable(directories.outputs / "kept")
    with pytest.raises(SystemFailure, match=r"an earlier run left .*/outputs/kept: it is immutable"):
        directories.make(None)


def test_names_of_any_bytes(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path) + b"/vm"
    for name in (b"\xff\xfe", b"a\nb", b"-rf", b"*", b"\x1b[2J", b"\\", "é".encode(), b"x" * 255):
        os.makedirs(root + b"/" + name)
        with open(root + b"/" + name + b"/" + name, "wb"):
            pass
    remove(tmp_path / "vm")
    assert os.listdir(tmp_path) == []


def test_a_tree_deeper_than_any_path_may_be_long(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for depth in range(3 * sys.getrecursionlimit()):
        os.mkdir("directory", dir_fd=here)
        below = os.open("directory", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        if depth % 100 == 0:
            os.close(os.open("file", os.O_CREAT, dir_fd=here))
    os.close(here)
    empty(tmp_path)
    assert os.listdir(tmp_path) == []


def test_symbolic_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("x")
    vm = tmp_path / "vm"
    (vm / "sub").mkdir(parents=True)
    (vm / "link").symlink_to(other)
    (vm / "sub" / "link").symlink_to(other / "kept")
    (vm / "sub" / "nowhere").symlink_to("nowhere")
    remove(vm)
    assert sorted(os.listdir(tmp_path)) == ["other"]
    assert os.listdir(other) == ["kept"]


def test_a_directory_that_is_a_link_is_emptied_where_it_is(tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "sub").mkdir(parents=True)
    (tmp_path / "outputs").symlink_to(there)
    empty(tmp_path / "outputs")
    assert (tmp_path / "outputs").is_symlink()
    assert os.listdir(there) == []


def test_what_is_absent_is_removed(tmp_path: Path) -> None:
    remove(tmp_path / "absent")
    remove(tmp_path / "absent" / "too")


def immutable(path: Path, attribute: str = "+i") -> None:
    done = subprocess.run(["chattr", attribute, str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this file system or account cannot make a file immutable")


def test_an_immutable_file_is_named_and_the_rest_is_removed(place: Path) -> None:
    (place / "vm" / "sub").mkdir(parents=True)
    for name in ("a", "immu\ntable", "z"):
        (place / "vm" / "sub" / name).write_text("x")
    immutable(place / "vm" / "sub" / "immu\ntable")
    with pytest.raises(NotRemoved) as told:
        remove(place / "vm")
    assert str(told.value) == (rf"{place}/vm/sub/immu\ntable: it is immutable (chattr -i makes it removable)")
    assert os.listdir(place / "vm" / "sub") == ["immu\ntable"]


def test_of_many_that_are_left_some_are_named_and_all_counted(place: Path) -> None:
    (place / "vm" / "log").mkdir(parents=True)
    for number in range(1000):
        (place / "vm" / "log" / f"{number}").touch()
    immutable(place / "vm" / "log", "+a")
    with pytest.raises(NotRemoved, match=r"; and 997 more$") as told:
        empty(place / "vm")
    assert str(told.value).count("its directory is append-only (chattr -a makes it removable)") == 3


@pytest.mark.skipif(not IS_ROOT, reason="only root can leave files of another account")
def test_what_belongs_to_another_account_is_said(place: Path) -> None:
    (place / "outputs" / "of-root").mkdir(parents=True)
    (place / "outputs" / "of-root" / "file").touch()
    os.chown(place / "outputs", OTHER, OTHER)
    said = as_another_account(lambda: empty(place / "outputs"))
    assert said == f"NotRemoved: {place}/outputs/of-root/file: Permission denied: it belongs to root (uid 0)"


@pytest.mark.skipif(not IS_ROOT or shutil.which("unshare") is None, reason="needs root and unshare")
@pytest.mark.parametrize("mount", ["-t tmpfs tmpfs", '--bind "$0/elsewhere"'])
def test_mount_points_are_left_alone(tmp_path: Path, mount: str) -> None:
    for directory in ("vm/mounted", "vm/sub", "elsewhere"):
        (tmp_path / directory).mkdir(parents=True)
    script = (
        f'mount {mount} "$0/vm/mounted" && touch "$0/vm/mounted/kept" && '
        f'{sys.executable} -c "import sys, pathlib; from lando.removal import remove; '
        'remove(pathlib.Path(sys.argv[1]))" "$0/vm"; ls "$0/vm" "$0/vm/mounted"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    if "permission denied" in done.stderr.lower() and "NotRemoved" not in done.stderr:
        pytest.skip("this account may not mount")
    assert f"NotRemoved: {tmp_path}/vm/mounted: it is a mount point: unmount it first" in done.stderr
    assert done.stdout.split() == [f"{tmp_path}/vm:", "mounted", f"{tmp_path}/vm/mounted:", "kept"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "vm" / "a" / "b").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    empty(tmp_path / "vm")
    remove(tmp_path / "vm")
    assert len(os.listdir("/proc/self/fd")) == before
