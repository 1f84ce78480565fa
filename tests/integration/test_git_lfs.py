"""Files in Git LFS: fetched where git-lfs is installed, named where they are missing.

A stand-in for git-lfs fetches from a directory; with the real one the last test clones, too.
"""

import hashlib
import os
import shutil

import pytest

from lando_worker.clone import fetch
from lando_worker.result import WorkflowFailure
from lando_worker.source import Source
from tests.support.git_server import commit, git, repository

CONTENT = "ACGT" * 1000
POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    f"oid sha256:{hashlib.sha256(CONTENT.encode()).hexdigest()}\nsize {len(CONTENT)}\n"
)
TRACKED = {".gitattributes": "*.fa filter=lfs diff=lfs merge=lfs -text\n"}
STAND_IN = """#!/bin/sh
[ "$1" = pull ] || exit 2
[ -z "$FAILS" ] || { echo "batch response: Repository or object not found: http://h/info/lfs" >&2; exit 2; }
for file in *.fa; do [ -n "$LEAVES" ] || cp "$CONTENT" "$file"; done
"""


@pytest.fixture
def source(tmp_path):
    """With a submodule; each has a file in Git LFS, and one that only looks like a pointer."""
    lib, path = tmp_path / "lib", tmp_path / "x"
    repository(lib, {**TRACKED, "lib.fa": POINTER})
    repository(path, {**TRACKED, "a b.fa": POINTER, "about.txt": POINTER, "tiny.fa": "AC\n"})
    git("submodule", "--quiet", "add", str(lib), "lib", at=path)
    commit(path, {})
    return Source(f"file://{path}")


@pytest.fixture
def parent(tmp_path):
    (tmp_path / "clone").mkdir()
    return tmp_path / "clone"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A PATH with git, and without git-lfs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("git", "sh", "cp", *("basename", "sed", "uname", "tr", "cat", "grep")):
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(programs))
    return programs


@pytest.fixture
def installed(programs, tmp_path, monkeypatch):
    (programs / "git-lfs").write_text(STAND_IN)
    (programs / "git-lfs").chmod(0o755)
    (tmp_path / "content").write_text(CONTENT)
    monkeypatch.setenv("CONTENT", str(tmp_path / "content"))


@pytest.mark.usefixtures("programs")
def test_without_git_lfs_the_clone_fails_and_names_the_files(source, parent):
    with pytest.raises(WorkflowFailure, match=r"1 file is stored with Git LFS: a b\.fa, and git-lfs is not"):
        fetch(source, parent)


@pytest.mark.usefixtures("programs")
def test_pointers_are_left_where_a_person_wants_them(source, parent, monkeypatch, capfd):
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
    folder, _ = fetch(source, parent)
    assert (folder / "a b.fa").read_text() == POINTER
    assert "warning: a b.fa: pointers" in capfd.readouterr().err


@pytest.mark.usefixtures("installed")
def test_with_git_lfs_the_files_are_fetched_in_submodules_too(source, parent):
    folder, _ = fetch(source, parent)
    assert (folder / "a b.fa").read_text() == CONTENT
    assert (folder / "lib" / "lib.fa").read_text() == CONTENT
    assert (folder / "about.txt").read_text() == POINTER


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("variable", "words"),
    [("FAILS", "Repository or object not found: http://h/info/lfs"), ("LEAVES", "did not fetch")],
)
def test_what_git_lfs_does_not_fetch_is_said(source, parent, monkeypatch, variable, words):
    monkeypatch.setenv(variable, "1")
    with pytest.raises(WorkflowFailure, match=words):
        fetch(source, parent)


@pytest.mark.usefixtures("installed")
def test_what_the_repository_excludes_is_no_mistake(tmp_path, source, parent, monkeypatch):
    monkeypatch.setenv("LEAVES", "1")
    for name in ("lib", "x"):
        commit(tmp_path / name, {".lfsconfig": "[lfs]\n\tfetchexclude = *\n"})
    git("pull", "--quiet", at=tmp_path / "x" / "lib")
    commit(tmp_path / "x", {})
    fetch(source, parent)


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs is not installed")
def test_the_real_git_lfs(tmp_path, source, parent):
    path = tmp_path / "x"
    oid = hashlib.sha256(CONTENT.encode()).hexdigest()
    for stored in (path, path / "lib", tmp_path / "lib"):
        objects = git("rev-parse", "--absolute-git-dir", at=stored) + f"/lfs/objects/{oid[:2]}/{oid[2:4]}"
        os.makedirs(objects)
        with open(f"{objects}/{oid}", "w") as file:
            file.write(CONTENT)
    folder, _ = fetch(source, parent)
    assert (folder / "a b.fa").read_text() == (folder / "lib" / "lib.fa").read_text() == CONTENT
