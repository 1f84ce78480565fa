"""Names beneath a directory: what resolves below it is found, all else is refused, and nothing waits."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lando import removal
from lando.beneath import LONGEST, Beneath, open_file, read_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with links of every kind, beside a secret."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "beside").mkdir()
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a").write_text("a")
    (root / "sub" / "b").write_text("b")
    links = {
        "to-a": "a",
        "to-sub": "sub/./deep/..",
        "sub/up": "../a",
        "absolute": str(root / "sub" / "b"),
        "out": "../secret",
        "out-absolute": str(tmp_path / "secret"),
        "out-and-in": "../root/a",
        "sub/far": "../../secret",
        "etc": "/etc",
        "self": "self",
        "dangling": "nothing",
        "parent": "..",
        "root": "/",
        "proc": f"/proc/{os.getpid()}/root",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


@pytest.fixture
def beneath(root: Path) -> Iterator[Beneath]:
    with closing(Beneath(root)) as here:
        yield here


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("a", "a"),
        ("./sub//b", "sub/b"),
        ("sub/../a", "a"),
        ("sub/deep/../../a", "a"),
        ("to-a", "a"),
        ("to-sub/b", "sub/b"),
        ("to-sub/../a", "a"),
        ("sub/up", "a"),
        ("absolute", "sub/b"),
        ("", ""),
        ("sub", "sub"),
        ("to-sub", "sub"),
    ],
)
def test_what_is_below_is_found(beneath: Beneath, path: str, place: str) -> None:
    with beneath.find(path.split("/")) as found:
        assert "/".join(found.parts) == place
        assert os.path.samestat(os.stat(found.name, dir_fd=found.directory), os.stat(beneath.path / place))
        assert os.path.samestat(found.status, os.stat(beneath.path / place))


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../secret",
        "sub/../../secret",
        "out",
        "out-absolute",
        "out-and-in",
        "sub/far",
        "etc/passwd",
        "self",
        "dangling",
        "parent/secret",
        "parent/root/a",
        "root/etc/passwd",
        "proc/etc/passwd",
        "nothing",
        "a/b",
        "a/..",
        "sub/nothing/../b",
        "x" * 300,
    ],
)
def test_all_else_is_refused(beneath: Beneath, path: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError), beneath.find(path.split("/")):
        pass
    assert len(os.listdir("/proc/self/fd")) == before, "nothing is left open"


def test_absolute_paths_are_below_by_either_name_of_the_directory(root: Path) -> None:
    other = root.parent / "other"
    other.symlink_to(root)
    with closing(Beneath(other)) as beneath:
        assert beneath.parts(f"{other}/sub/b") == beneath.parts(f"{root}//sub/./b") == ("sub", "b")
        assert beneath.parts(str(root)) == ()
        assert beneath.parts(f"{root}/../secret") == ("..", "secret"), "refused when it is looked up"
        for path in (f"{root}x", str(root.parent), "/", "a", f"{root}/\0", f"{root}/\ud800"):
            with pytest.raises(OSError):
                beneath.parts(path)
        with pytest.raises(OSError):
            beneath.parts(f"{root}/{'a/' * LONGEST}")


def test_the_inner_directories_are_no_links(root: Path) -> None:
    with closing(Beneath(root, "sub", "deep")) as beneath:
        assert beneath.path == root / "sub" / "deep"
    for inner in (("to-sub", "deep"), ("parent",), ("a",), ("nothing",)):
        with pytest.raises(OSError):
            Beneath(root, *inner)


def test_directories_are_made_below_only(beneath: Beneath, root: Path) -> None:
    with beneath.find(("sub", "new", "newer"), make=True) as found:
        assert stat.S_ISDIR(found.status.st_mode)
    assert (root / "sub" / "new" / "newer").is_dir()
    for parts in (
        ("parent", "beside", "new"),
        ("a", "new"),
        ("..", "beside", "new"),
        ("dangling", "..", "..", "x"),
    ):
        with pytest.raises(OSError), beneath.find(parts, make=True):
            pass
    assert list((root.parent / "beside").iterdir()) == []


def test_a_path_of_links_ends(root: Path) -> None:
    for number in range(60):
        (root / f"l{number}").symlink_to(f"l{number + 1}")
    (root / "l60").symlink_to("a")
    with closing(Beneath(root)) as beneath:
        with beneath.find(("l30",)) as found:
            assert found.parts == ("a",)
        with pytest.raises(OSError, match="Too many levels of symbolic links"), beneath.find(("l0",)):
            pass


def test_only_regular_files_are_opened(root: Path) -> None:
    os.mkfifo(root / "pipe")
    with closing(socket.socket(socket.AF_UNIX)) as server:
        here = os.open(root, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    expected = {
        "pipe": "it is a named pipe, not a file",
        "socket": "it is a socket, not a file",
        "to-a": "it is a symbolic link, not a file",
        "sub": "it is a directory, not a file",
        "/dev/null": "it is a device, not a file",
    }
    for name, words in expected.items():
        with pytest.raises(OSError, match=words):
            open_file(root / name)
    assert read_file(root / "a", 10) == b"a"
    assert read_file(root.parent / "secret", 3) == b"sec"


def test_a_path_that_walks_back_and_forth_ends(root: Path) -> None:
    down = ["d"] * 900
    with closing(Beneath(root)) as beneath:
        with beneath.find(down, make=True):
            pass
        with pytest.raises(OSError, match="its path is too long"), beneath.find([*down, *[".."] * 400]):
            pass
        with beneath.find([*down, "..", ".."]) as found:
            assert len(found.parts) == 898
    removal.remove(root / "d")  # pytest could not
