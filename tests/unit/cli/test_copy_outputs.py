"""``lando-fsm run --outdir``: what is copied, where it goes, and what a hostile job cannot get copied."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from lando import removal
from lando.beneath import Beneath
from lando.cli import copy_outputs
from lando.errors import LandoError
from lando.views.job_outputs import Refused


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The outputs of a job: two files of one name, a directory, and a file beside a file."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_text("secret")
    base = tmp_path / "state" / "outputs"
    for path in ("a.txt", "a.txt.idx", "outputs/a.txt", "tree/deep/b.txt"):
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(path)
    return base


@pytest.fixture
def there(tmp_path: Path) -> Path:
    there = tmp_path / "there"
    there.mkdir()
    return there


def file(path: Path, **more: Any) -> dict[str, Any]:
    return {"class": "File", "location": path.as_uri(), "basename": path.name, **more}


def folder(path: Path, **more: Any) -> dict[str, Any]:
    return {**file(path, **more), "class": "Directory"}


def copied(outputs: dict[str, Any], base: Path, there: Path) -> tuple[dict[str, Any], list[Refused]]:
    before = len(os.listdir("/proc/self/fd"))
    with closing(Beneath(base)) as opened:
        result = copy_outputs.copied(outputs, opened, there)
    assert len(os.listdir("/proc/self/fd")) == before, "nothing is left open"
    return result


def content(there: Path) -> dict[str, str]:
    """What is below a directory, by place; no links, and nothing but files."""
    found = [path for path in there.rglob("*") if not path.is_dir() or path.is_symlink()]
    assert all(path.is_file() and not path.is_symlink() for path in found)
    return {path.relative_to(there).as_posix(): path.read_text() for path in found}


def test_files_keep_their_places(base: Path, there: Path) -> None:
    outputs = {
        "one": file(base / "a.txt", secondaryFiles=[file(base / "a.txt.idx")]),
        "several": [file(base / "outputs" / "a.txt"), None],
        "tree": folder(base / "tree", listing=[file(base / "tree" / "deep" / "b.txt")]),
        "number": 5,
        "again": file(base / "a.txt"),
    }
    result, refused = copied(outputs, base, there)
    assert refused == []
    assert content(there) == {
        path: path for path in ("a.txt", "a.txt.idx", "outputs/a.txt", "tree/deep/b.txt")
    }
    assert result["one"]["path"] == str(there / "a.txt")
    assert result["one"]["secondaryFiles"][0]["location"] == (there / "a.txt.idx").as_uri()
    assert result["tree"]["listing"][0]["path"] == str(there / "tree" / "deep" / "b.txt")
    assert result["number"] == 5
    assert outputs["one"] == file(base / "a.txt", secondaryFiles=[file(base / "a.txt.idx")]), "unchanged"


def test_what_is_not_there_is_told(base: Path, there: Path) -> None:
    (base / "a.txt").unlink()
    location = (base / "a.txt").as_uri()
    result, refused = copied({"out": file(base / "a.txt"), "b": file(base / "a.txt.idx")}, base, there)
    assert refused == [Refused(location, "No such file or directory")]
    assert result["out"]["location"] is None
    assert content(there) == {"a.txt.idx": "a.txt.idx"}, "all else is copied"


@pytest.mark.parametrize(
    "named",
    [
        {"location": "file:///etc/passwd"},
        {"location": "{tmp}/secret"},
        {"location": "file://{base}/../secret"},
        {"location": "file://{base}/../../secret"},
        {"location": "file://{base}/link"},
        {"location": "file://{base}/to-secrets/key"},
        {"location": "file://{base}/pipe"},
        {"location": "file://{base}/a.txt", "basename": "../victim"},
        {"location": "file://{base}/a.txt", "class": "Directory"},
        {"location": "file://{base}/..", "class": "Directory"},
        {"location": "file://{base}/to-secrets", "class": "Directory"},
    ],
    ids=repr,
)
def test_what_is_not_the_jobs_is_neither_read_nor_written(
    base: Path, there: Path, tmp_path: Path, named: dict[str, str]
) -> None:
    (base / "link").symlink_to(tmp_path / "secret")
    (base / "to-secrets").symlink_to("../../secrets")
    os.mkfifo(base / "pipe")
    before = sorted(tmp_path.rglob("*"))
    values = {key: value.format(tmp=tmp_path, base=base) for key, value in named.items()}
    result, refused = copied({"out": {"class": "File", **values}}, base, there)
    assert [each.name for each in refused] == [values["location"]]
    assert result["out"]["location"] is None
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written, there or elsewhere"


def test_links_within_the_outputs_are_copied_as_what_they_lead_to(base: Path, there: Path) -> None:
    (base / "tree" / "relative").symlink_to("../a.txt")
    (base / "tree" / "absolute").symlink_to(base / "a.txt.idx")
    (base / "tree" / "folder").symlink_to("../outputs")
    (base / "link").symlink_to("a.txt")
    outputs = {
        "tree": folder(base / "tree"),
        "link": file(base / "link"),
        "inner": file(base / "tree/folder/a.txt"),
    }
    result, refused = copied(outputs, base, there)
    assert refused == []
    assert content(there) == {
        "tree/deep/b.txt": "tree/deep/b.txt",
        "tree/relative": "a.txt",
        "tree/absolute": "a.txt.idx",
        "tree/folder/a.txt": "outputs/a.txt",
        "link": "a.txt",
    }
    assert result["link"]["path"] == str(there / "link")


def test_what_leads_out_of_a_directory_is_named_and_the_rest_copied(
    base: Path, there: Path, tmp_path: Path
) -> None:
    tree = base / "tree"
    (tree / "secret").symlink_to(tmp_path / "secret")
    (tree / "secrets").symlink_to("../../../secrets")
    (tree / "dangling").symlink_to("nothing")
    os.mkfifo(tree / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as server:
        here = os.open(tree, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    listed = [file(tree / "secret"), folder(tree / "secrets", listing=[file(tree / "secrets" / "key")])]
    result, refused = copied({"tree": folder(tree, listing=listed)}, base, there)
    assert content(there) == {"tree/deep/b.txt": "tree/deep/b.txt"}
    told = {each.name.removeprefix("file://") for each in refused}
    names = ("secret", "secrets", "dangling", "pipe", "socket", "secrets/key")
    assert told == {str(tree / name) for name in names}
    assert [inner["location"] for inner in result["tree"]["listing"]] == [None, None]
    assert result["tree"]["path"] == str(there / "tree")


def test_directories_that_contain_each_other_end(
    base: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "tree" / "itself").symlink_to(".")
    (base / "tree" / "deep" / "all").symlink_to("../..")
    _, refused = copied({"tree": folder(base / "tree")}, base, there)
    assert {each.why for each in refused} == {"it is a link to a directory that contains it"}
    # Each level of links doubles what is to be copied.
    for level in range(30):
        (base / f"d{level}").mkdir()
        for name in "ab":
            (base / f"d{level}" / name).symlink_to(f"../d{level + 1}")
    (base / "d30").mkdir()
    monkeypatch.setattr(copy_outputs, "MOST_ENTRIES", 500)
    result, refused = copied({"tree": folder(base / "d0"), "a": file(base / "a.txt")}, base, there)
    assert [each.why for each in refused] == ["these are more than 500 files and directories"] * 2
    assert result["tree"]["location"] is result["a"]["location"] is None


def test_a_tree_of_many_levels_is_copied_as_far_as_open_files_allow(base: Path, there: Path) -> None:
    here = os.open(base / "tree", os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        _, refused = copied({"tree": folder(base / "tree")}, base, there)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        removal.remove(base / "tree" / "d")  # pytest could not
    assert [each.why for each in refused] == ["it is more than 100 levels deep"]
    assert content(there) == {"tree/deep/b.txt": "tree/deep/b.txt"}


def test_a_wide_listing(base: Path, there: Path) -> None:
    for number in range(2000):
        (base / "tree" / str(number)).touch()
    outputs = {"tree": folder(base / "tree", listing=[file(base / "tree" / str(n)) for n in range(2000)])}
    result, refused = copied(outputs, base, there)
    assert (len(content(there)), refused) == (2001, [])
    assert result["tree"]["listing"][1999]["path"] == str(there / "tree" / "1999")


def test_links_in_the_target_are_not_followed_out(base: Path, there: Path, tmp_path: Path) -> None:
    (there / "tree").symlink_to(tmp_path / "secrets")
    (there / "a.txt").symlink_to(tmp_path / "secret")
    (there / "inner").mkdir()
    (there / "outputs").symlink_to("inner")
    os.link(tmp_path / "secret", there / "a.txt.idx")
    outputs = {
        "tree": folder(base / "tree"),
        "a": file(base / "a.txt", secondaryFiles=[file(base / "a.txt.idx")]),
        "inner": file(base / "outputs" / "a.txt"),
    }
    result, refused = copied(outputs, base, there)
    assert [each.why for each in refused] == [f"{there / 'tree'}: it is not below {there}"]
    assert sorted(path.name for path in (tmp_path / "secrets").iterdir()) == ["key"]
    assert (tmp_path / "secret").read_text() == "secret", "neither a link nor a hard link is written through"
    assert (there / "a.txt").read_text() == "a.txt"
    assert not (there / "a.txt").is_symlink()
    assert (there / "a.txt.idx").read_text() == "a.txt.idx"
    assert (there / "inner" / "a.txt").read_text() == "outputs/a.txt", "a link within is"
    assert result["tree"]["location"] is None


def test_what_is_in_the_way_is_told_and_the_rest_copied(base: Path, there: Path) -> None:
    (there / "a.txt").mkdir()
    (there / "tree").touch()
    os.mkfifo(there / "a.txt.idx")
    outputs = {name: file(base / name) for name in ("a.txt", "a.txt.idx")}
    _, refused = copied({**outputs, "tree": folder(base / "tree")}, base, there)
    assert [each.why for each in refused] == [
        f"{there / 'a.txt'}: Is a directory",
        f"{there / 'tree'}: Not a directory",
    ]
    assert (there / "a.txt.idx").read_text() == "a.txt.idx", "a named pipe is replaced"
    assert sorted(path.name for path in there.iterdir()) == ["a.txt", "a.txt.idx", "tree"]


def test_permissions_go_along_but_for_those_of_the_owner(base: Path, there: Path) -> None:
    (base / "a.txt").chmod(0o6755)
    (base / "a.txt.idx").chmod(0o440)
    os.utime(base / "a.txt", (1, 2))
    copied({name: file(base / name) for name in ("a.txt", "a.txt.idx")}, base, there)
    assert ((there / "a.txt").stat().st_mode & 0o7777, (there / "a.txt").stat().st_mtime) == (0o755, 2)
    assert (there / "a.txt.idx").stat().st_mode & 0o7777 == 0o440


@pytest.fixture
def _full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "sendfile", fail)
    yield


@pytest.mark.usefixtures("_full_disk")
def test_a_full_disk_ends_the_copy_and_leaves_no_part(base: Path, there: Path) -> None:
    with pytest.raises(LandoError, match=r"a\.txt could not be copied to .*: No space left on device"):
        copied({"out": file(base / "a.txt")}, base, there)
    assert list(there.iterdir()) == []


def test_where_the_kernel_cannot_copy(base: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", fail)
    copied({"out": file(base / "a.txt")}, base, there)
    assert content(there) == {"a.txt": "a.txt"}


def test_holes_take_no_room(base: Path, there: Path) -> None:
    """At the beginning, between, and at the end; and a file that is one hole."""
    with (base / "a.txt").open("wb") as sparse:
        for at in (64 << 20, 128 << 20):
            sparse.seek(at)
            sparse.write(b"data")
        sparse.truncate(256 << 20)
    (base / "a.txt.idx").write_bytes(b"")
    os.truncate(base / "a.txt.idx", 1 << 30)
    copied({name: file(base / name) for name in ("a.txt", "a.txt.idx")}, base, there)
    for name in ("a.txt", "a.txt.idx"):
        status = (there / name).stat()
        assert status.st_size == (base / name).stat().st_size
        assert status.st_blocks * 512 < 1 << 20
    with (there / "a.txt").open("rb") as sparse:
        for at in (64 << 20, 128 << 20):
            sparse.seek(at - 1)
            assert sparse.read(6) == b"\0data\0"


def test_outputs_that_are_not_on_this_machine(there: Path) -> None:
    outputs = {"out": {"class": "File", "location": "file:///etc/passwd"}, "number": 1}
    result, refused = copy_outputs.copied(outputs, None, there)
    assert [each.why for each in refused] == ["the outputs of this job are not on this machine"]
    assert (result["number"], result["out"]["location"]) == (1, None)
    assert list(there.iterdir()) == []
