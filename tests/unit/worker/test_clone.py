import subprocess

import pytest

from lando_worker.clone import fetch
from lando_worker.git_command import GitFailed
from lando_worker.source import Source


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://h/g/toy.git", "toy"),
        ("https://h/g/toy/", "toy"),
        ("git@h:toy.git", "toy"),
        ("/a/toy", "toy"),
        ("/a/toy/.git", "toy"),
        ("https://h/..", "clone"),
        ("/", "clone"),
    ],
)
def test_the_clones_own_name(address, name):
    assert Source(address).name == name


@pytest.mark.parametrize(
    ("message", "is_transient"),
    [
        ("fatal: unable to access 'https://h/': Could not resolve host: h", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 503", True),
        ("fatal: the remote end hung up unexpectedly", True),
        ("fatal: unable to access 'https://h/': The requested URL returned error: 403", False),
        ("fatal: repository 'https://h/x/' not found", False),
        ("fatal: could not read Username for 'https://h': terminal prompts disabled", False),
    ],
)
def test_which_failures_are_transient(message, is_transient):
    assert GitFailed(message).is_transient is is_transient


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://h/o/r/tree/main/wf/qc", "write https://h/o/r, with git_ref: main and cd: wf/qc"),
        ("https://h/g/o/r/-/tree/v1", "write https://h/g/o/r, with git_ref: v1 and cd: ."),
        ("https://h/o/r/src/branch/dev/wf?x", "write https://h/o/r, with git_ref: dev and cd: wf"),
        ("https://h/o/tree.git", ""),
        ("/srv/tree/main/x", ""),
    ],
)
def test_the_address_of_a_page_is_said_with_what_to_write(address, words):
    advice = Source(address).advice
    assert words in advice
    assert bool(words) is bool(advice)


@pytest.mark.parametrize("path", ["/" + "n" * 300, "/d" * 3000])
def test_a_path_that_is_too_long_is_no_folder(path):
    assert not Source(path).is_plain_folder


def test_a_plain_folder_may_be_a_file_address(tmp_path):
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "x").touch()
    assert Source(folder.as_uri()).is_plain_folder
    (tmp_path / "there").mkdir()
    path, commit = fetch(Source(folder.as_uri()), tmp_path / "there")
    assert (sorted(each.name for each in path.iterdir()), commit) == (["x"], None)


def test_hooks_of_the_account_are_not_run(tmp_path, monkeypatch):
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks" / "post-checkout").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "hooks" / "post-checkout").chmod(0o755)
    (tmp_path / "gitconfig").write_text(f"[core]\n hooksPath = {tmp_path / 'hooks'}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    repo, there = tmp_path / "repo", tmp_path / "there"
    there.mkdir()
    person = ("-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null")
    subprocess.run(["git", "init", "--quiet", repo], check=True)
    subprocess.run(["git", "-C", repo, *person, "commit", "-qm", "x", "--allow-empty"], check=True)
    _, commit = fetch(Source(str(repo)), there)
    assert commit is not None
