import os
from pathlib import Path

import pytest

from lando.cli.job_source import check, uncommitted
from lando.errors import UsageError
from lando.repository import local_path
from lando.states.job import JobSpec
from tests.conftest import Commands
from tests.support.git_server import commit, git, repository


@pytest.fixture
def repo(tmp_path):
    path = tmp_path / "r ü"
    repository(path, {"w.cwl": "1", ".gitignore": "ignored\n", "job.yml": "x"})
    return path


def spec(address, ref=None):
    return JobSpec(str(address), ".", {}, "w.cwl", git_ref=ref)


def said(repo, ref=None):
    return uncommitted(spec(repo, ref), repo / "job.yml")


def test_nothing_is_said_of_what_is_committed_or_ignored_or_of_the_job_file(repo):
    (repo / "ignored").touch()
    (repo / "job.yml").write_text("y")
    os.utime(repo / "w.cwl")
    index = (repo / ".git" / "index").read_bytes()
    assert said(repo) is None
    assert (repo / ".git" / "index").read_bytes() == index, "nothing is changed"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_changed_files_are_named_before_new_ones(repo, scheme):
    (repo / "w.cwl").write_text("2")
    for number in range(9):
        (repo / f"{number}.txt").touch()
    warning = uncommitted(spec(f"{scheme}{repo}"), repo / "job.yml")
    assert f"git_clone: {repo} runs as it is committed, without the changes in w.cwl, 0.txt, " in warning
    assert "3.txt and 5 more: commit them" in warning


def said_of(repo, ref):
    return said(repo, ref) is not None


def test_a_ref_that_is_not_what_is_checked_out_has_no_such_changes(repo):
    git("tag", "v1", at=repo)
    (repo / "w.cwl").write_text("2")
    assert said_of(repo, "main")
    assert said_of(repo, "v1")
    commit(repo, {})
    (repo / "w.cwl").write_text("3")
    assert said_of(repo, "main")
    assert not said_of(repo, "v1")
    assert not said_of(repo, "nope")


def test_an_own_repository_in_the_environment_does_not_count(repo, tmp_path, monkeypatch):
    (repo / "w.cwl").write_text("2")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    assert "w.cwl" in said(repo)


@pytest.mark.parametrize("address", ["/no/such/path", "https://h/x", "git@h:x", "{plain}", "{empty}"])
def test_nothing_is_said_of_what_is_no_repository_here(tmp_path, address):
    (tmp_path / "plain").mkdir()
    (tmp_path / "empty").mkdir()
    git("init", "--quiet", at=tmp_path / "empty")
    address = address.format(plain=tmp_path / "plain", empty=tmp_path / "empty")
    assert uncommitted(spec(address), tmp_path / "job.yml") is None


def test_paths_of_this_machine():
    assert local_path("file:///a%20b") == Path("/a b")
    assert local_path("FILE:///a") == local_path("/a") == Path("/a")
    assert local_path("https://h/a") is local_path("h:/a") is None


def test_a_path_of_this_machine_is_refused_for_vms_elsewhere(repo):
    git("remote", "add", "origin", "https://bob:s3cret@git.example.org/x.git", at=repo)
    with pytest.raises(UsageError, match="which cannot read it: push it") as caught:
        check(spec(str(repo)), "openstack")
    assert "such as that of its origin, https://git.example.org/x.git." in str(caught.value)
    assert str(caught.value).endswith(f"or of a shared file system), write {repo.as_uri()}")
    check(spec(str(repo)), "local")
    check(spec(f"{repo}/in-the-image"), "openstack")
    check(spec(repo.as_uri()), "openstack")
    check(spec("https://h/x"), "openstack")


def test_submit_warns_and_refuses(command: Commands, repo: Path) -> None:
    (repo / "w.cwl").write_text("2")
    (repo / "\x1b]0;x\n.cwl").touch()
    (repo / "job.yml").write_text("git_clone: .\ncd: .\ninput: {}\nrun_cwl: w.cwl\n")
    said = command("submit", repo / "job.yml")
    assert said.code == 0, said.err
    assert len(said.out.splitlines()) == 1
    assert "warning: git_clone: " in said.err
    assert "the changes in w.cwl, " in said.err
    assert "\x1b" not in said.err
    config = repo / "landoconfig.yml"
    config.write_text(
        "work_queue: {host: 127.0.0.1, port: 1, username: u, password: p, worker_username: w,"
        " worker_password: p, queue_name: q}\n"
        "vm_settings: {worker_image_name: i, network_name: n, default_flavor_name: f}\n"
        "cloud_settings: {auth_url: 'http://127.0.0.1:1/v3', username: u, password: p, project_name: n}\n"
    )
    for arguments in (["-c", config, "submit"], ["-c", config, "run"]):
        said = command(*arguments, repo / "job.yml")
        assert (said.code, said.out) == (2, ""), said.err
        assert f"job.yml: git_clone: {repo} is on this machine, and jobs run on VMs of OpenStack" in said.err


def test_a_path_that_cannot_be_looked_for_ends_in_no_traceback(command, tmp_path):
    for path in (f"/tmp/{'n' * 300}", "/tmp" + "/d" * 1900):
        assert uncommitted(spec(path), tmp_path / "job.yml") is None
        check(spec(path), "openstack")
        (tmp_path / "job.yml").write_text(f"git_clone: {path}\ncd: .\ninput: {{}}\nrun_cwl: w.cwl\n")
        assert command("submit", tmp_path / "job.yml").code == 0
