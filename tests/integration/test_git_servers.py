"""What a clone of a real git server has, and what is said where it cannot be cloned."""

import shutil
import socket
import subprocess
import time

import pytest

from lando_worker.clone import Patience, fetch
from lando_worker.result import WorkflowFailure
from lando_worker.source import Source
from tests.support.fake_openstack.certificate import self_signed
from tests.support.git_server import GitServer, commit, git, repository

SHORT = Patience(longest=0.0, fewest=2, first_wait=0.001)
TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def own_settings_only(tmp_path, monkeypatch):
    """Neither git's settings nor the known hosts of the person who runs the tests."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for variable in ("GIT_SSH", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def served(tmp_path):
    (tmp_path / "served").mkdir()
    return tmp_path / "served"


@pytest.fixture
def start(served):
    servers = []

    def start(login=None, tls=None):
        servers.append(GitServer(served, login, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def clone(tmp_path):
    """Clones, and returns the clone."""
    (tmp_path / "clone").mkdir()

    def clone(address, ref=None, **changes):
        folder, _ = fetch(Source(str(address), ref, **changes), tmp_path / "clone", patience=SHORT)
        return folder

    return clone


def failure(clone, *arguments, **changes):
    with pytest.raises(WorkflowFailure) as caught:
        clone(*arguments, **changes)
    return str(caught.value)


def with_submodules(served):
    """main.git, which has lib.git as a submodule, which has inner.git; main has a newer commit without it."""
    for name, submodule in (("inner", None), ("lib", "inner"), ("main", "lib")):
        repository(served / name, {name: name})
        if submodule:
            git("clone", "--quiet", "--bare", str(served / name), str(served / f"{name}.git"), at=served)
            git("remote", "add", "origin", str(served / f"{name}.git"), at=served / name)
            git("submodule", "--quiet", "add", f"../{submodule}.git", submodule, at=served / name)
            first = commit(served / name, {})
        if name == "main":
            git("rm", "--quiet", "lib", at=served / name)
            commit(served / name, {})
        shutil.rmtree(served / f"{name}.git", ignore_errors=True)
        git("clone", "--quiet", "--bare", str(served / name), str(served / f"{name}.git"), at=served)
    return first


@pytest.mark.parametrize("version", ["2", "0"])
@pytest.mark.parametrize("kind", ["http", "file", "path"])
def test_relative_submodules_at_a_commit(served, start, clone, monkeypatch, kind, version):
    """Protocol version 0 gives no single commit."""
    first = with_submodules(served)
    (served.parent / "home" / ".gitconfig").write_text(
        f"[protocol]\n version = {version}\n[submodule]\n recurse = true\n[clone]\n defaultRemoteName = up\n"
    )
    base = {"http": start().address if kind == "http" else "", "file": f"file://{served}", "path": served}
    folder = clone(f"{base[kind]}/main.git", first)
    assert (folder / "lib" / "inner" / "inner").read_text() == "inner"


def test_a_local_clone_has_its_submodules_though_they_are_not_beside_it(served, tmp_path, clone):
    """Their commits need not be where they were cloned from, either."""
    first = with_submodules(served)
    local = tmp_path / "elsewhere" / "main"
    local.mkdir(parents=True)
    git("clone", "--quiet", str(served / "main.git"), ".", at=local)
    git("checkout", "--quiet", first, at=local)
    git("submodule", "--quiet", "update", "--init", "--recursive", at=local)
    commit(local / "lib", {"lib": "not pushed"})
    commit(local, {})
    shutil.rmtree(served)
    folder = clone(local)
    assert (folder / "lib" / "lib").read_text() == "not pushed"
    assert (folder / "lib" / "inner" / "inner").read_text() == "inner"


def test_the_credentials_reach_submodules_of_the_same_host_and_no_other(served, start, clone):
    ours, elsewhere = start(("alice", r"s\nhunter22")), start()
    repository(served / "near.git", {"near": "x"})
    repository(served / "far.git", {"far": "x"})
    repository(served / "main.git", {"main": "x"})
    for name, url in (("near", "../near.git"), ("far", f"{elsewhere.address}/far.git")):
        git("submodule", "--quiet", "add", str(served / f"{name}.git"), name, at=served / "main.git")
        git("config", "--file=.gitmodules", f"submodule.{name}.url", url, at=served / "main.git")
    commit(served / "main.git", {})
    folder = clone(f"{ours.address}/main.git", user="alice", password=r"s\nhunter22")
    assert (folder / "near" / "near").exists()
    assert (folder / "far" / "far").exists()
    assert any(ours.logins)
    assert elsewhere.requests
    assert not any(elsewhere.logins)


def test_a_redirection_gets_no_credentials(served, start, clone):
    ours, elsewhere = start(), start(("bob", "another"))
    repository(served / "x.git", {"x": "x"})
    ours.redirects_to = elsewhere.address
    said = failure(clone, f"{ours.address}/x.git", user="alice", password="hunter22")
    assert "could not read Username" in said
    assert elsewhere.requests
    assert not any(elsewhere.logins)


@pytest.mark.parametrize("kind", ["http", "path"])
def test_every_spelling_of_a_commit_and_every_name_of_a_ref(served, start, clone, kind):
    path = served / "x.git"
    first = repository(path, {"version": "1"})
    git("tag", "--annotate", "--message=x", "v1", at=path)
    git("update-ref", "refs/pull/1/head", first, at=path)
    git("branch", "both", at=path)
    commit(path, {"version": "2"})
    git("tag", "both", at=path)
    git("branch", "facade", at=path)
    address = f"{start().address}/x.git" if kind == "http" else path
    for ref, version in (
        *((ref, "1") for ref in (first, first.upper(), first[:8], first[:9].upper())),
        *((ref, "1") for ref in ("v1", "refs/tags/v1", "tags/v1", "refs/pull/1/head", "pull/1/head")),
        *(("both", "1"), ("refs/heads/both", "1"), ("refs/tags/both", "2")),
        *((ref, "2") for ref in ("facade", "main", "heads/main", "HEAD", None)),
    ):
        folder = clone(address, ref)
        assert (ref, (folder / "version").read_text()) == (ref, version)


def test_a_name_of_a_branch_and_a_tag_is_pointed_out(served, clone, capfd):
    repository(served / "x.git", {"x": "x"})
    git("tag", "both", at=served / "x.git")
    git("branch", "both", at=served / "x.git")
    clone(served / "x.git", "both")
    assert "refs/tags/both" in capfd.readouterr().err


def test_a_ref_that_is_not_there_is_said_with_those_that_are_the_nearest_first(served, start, clone):
    path = served / "x.git"
    repository(path, {"x": "x"})
    for number in range(30):
        git("branch", f"feature-{number}", at=path)
    git("branch", "develop", at=path)
    git("tag", "v1.0", at=path)
    address = f"{start().address}/x.git"
    said = failure(clone, address, "developp")
    assert said.startswith(f"git_ref: {address} has no branch or tag developp; its branches: develop, ")
    assert "and 22 more; its tags: v1.0" in said
    assert "its branches: main, " in failure(clone, address, "origin/main")
    assert "has no branch, tag or commit bad0bad" in failure(clone, address, "bad0bad")
    assert f"has no branch, tag or commit {'0' * 40}" in failure(clone, address, "0" * 40)


def test_an_ambiguous_commit_is_said_with_the_candidates(served, clone):
    path = served / "x.git"
    repository(path, {"x": "x"})
    ids = {}
    for _ in range(3000):
        # A commit whose name depends on its message alone.
        number = len(ids)
        tree = git("commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", str(number), at=path)
        if tree[:4] in ids:
            break
        ids[tree[:4]] = tree
    git("branch", "one", ids[tree[:4]], at=path)
    git("branch", "two", tree, at=path)
    said = failure(clone, path, tree[:4].upper())
    assert f"{tree[:4]} is ambiguous" in said
    assert ids[tree[:4]][:7] in said
    assert tree[:7] in said


def test_a_repository_of_sha256(served, start, clone):
    path = served / "x.git"
    path.mkdir()
    git("init", "--quiet", "--initial-branch=main", "--object-format=sha256", at=path)
    first = commit(path, {"version": "1"})
    commit(path, {"version": "2"})
    address = f"{start().address}/x.git"
    for ref, version in ((first, "1"), (first[:40], "1"), (first[:7], "1"), (None, "2")):
        assert (clone(address, ref) / "version").read_text() == version


def test_a_repository_without_a_commit_and_one_without_its_default_branch(served, clone):
    git("init", "--quiet", "--bare", "empty.git", at=served)
    assert "the repository is empty" in failure(clone, f"file://{served}/empty.git")
    assert "the repository is empty" in failure(clone, served / "empty.git", "main")
    repository(served / "x", {"x": "x"})
    git("clone", "--quiet", "--bare", "x", "x.git", at=served)
    git("symbolic-ref", "HEAD", "refs/heads/master", at=served / "x.git")
    said = failure(clone, f"file://{served}/x.git")
    assert "its default branch is not there; name one with git_ref; its branches: main" in said


def test_shallow_sources_links_and_names_that_differ_by_case_only(served, clone):
    repository(served / "x", {"a.cwl": "small", "A.cwl": "large"})
    (served / "x" / "link").symlink_to("A.cwl")
    commit(served / "x", {})
    git("clone", "--quiet", "--depth=1", f"file://{served}/x", "shallow", at=served)
    for address in (served / "shallow", f"file://{served}/shallow"):
        folder = clone(address)
        assert [(folder / name).read_text() for name in ("a.cwl", "A.cwl", "link")] == [
            "small",
            *["large"] * 2,
        ]


def test_a_partial_source_is_named(served, clone):
    repository(served / "x", {"x": "x"})
    git("config", "uploadpack.allowFilter", "true", at=served / "x")
    partial = ("--filter=blob:none", "--no-checkout", f"file://{served}/x", "partial")
    git("clone", "--quiet", *partial, at=served)
    assert "a partial clone that lacks some of its objects" in failure(clone, served / "partial")


def test_a_repository_of_another_account_is_said_with_gits_way_out(served, clone, monkeypatch):
    repository(served / "x", {"x": "x"})
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    said = failure(clone, served / "x")
    assert "detected dubious ownership" in said
    assert f"git config --global --add safe.directory {served}/x" in said
    assert "Please make sure you have the correct access rights and the repository exists." in said


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "write https://USER:TOKEN@HOST/"),
        (403, "the server denies access"),
        (404, "whether it is private"),
        (410, "check the address"),
    ],
)
def test_each_refusal_is_said_with_what_to_do_and_not_tried_again(served, start, clone, status, words):
    server = start()
    server.failures, server.failure = 1000, status
    said = failure(clone, f"{server.address}/x.git")
    assert words in said
    assert "after" not in said
    assert len(server.requests) == 1


def test_no_program_is_run_to_ask_for_a_password(tmp_path, start, clone, monkeypatch):
    program = tmp_path / "ask"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    program.chmod(0o755)
    for variable in ("GIT_ASKPASS", "SSH_ASKPASS"):
        monkeypatch.setenv(variable, str(program))
    (tmp_path / "home" / ".gitconfig").write_text(f"[core]\n askPass = {program}\n")
    assert "terminal prompts disabled" in failure(clone, f"{start(('a', 'b')).address}/x.git")
    assert not (tmp_path / "asked").exists()


def test_a_certificate_that_is_not_trusted_is_not_waited_for(served, tmp_path, start, clone):
    repository(served / "x.git", {"x": "x"})
    certificate, key = self_signed(tmp_path, 1)
    address = f"{start(tls=(certificate, key)).address}/x.git"
    said = failure(clone, address)
    assert "certificate" in said
    assert "http.sslCAInfo" in said
    assert "tries" not in said
    (tmp_path / "home" / ".gitconfig").write_text("[http]\n sslVerify = false\n")
    assert (clone(address) / "x").exists()


def test_a_redirection_to_a_page_is_said_with_where_it_leads(served, start, clone):
    repository(served / "x.git", {"x": "x"})
    server, elsewhere = start(), start()
    server.redirects_to, server.drops_path = f"{elsewhere.address}/x.git/.git/HEAD", True
    said = failure(clone, f"{server.address}/x.git")
    assert f"{elsewhere.address}/x.git/.git/HEAD" in said
    assert "write the address that it names" in said


def test_an_unknown_host_key_is_named(tmp_path, clone, monkeypatch):
    """A client in place of ssh: what is tested is that nothing is asked, and what is said."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        "#!/bin/sh\necho 'No ED25519 host key is known for h and you have requested strict checking.' >&2\n"
        'case "$*" in *BatchMode=yes*) echo "Host key verification failed." >&2;; esac\nexit 255\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = failure(clone, "git@h:x/y.git")
    assert "No ED25519 host key is known for h" in said
    assert "ssh-keyscan HOST" in said


def test_a_persons_own_ssh_command_is_used(tmp_path, clone):
    (tmp_path / "home" / ".gitconfig").write_text("[core]\n sshCommand = echo mine >&2; false\n")
    assert "mine" in failure(clone, "git@h:x/y.git")


def test_nothing_is_known_of_a_submodule_that_is_not_there(served, clone):
    repository(served / "lib", {"x": "x"})
    repository(served / "main", {"x": "x"})
    git("submodule", "--quiet", "add", "../lib", "lib", at=served / "main")
    commit(served / "main", {})
    shutil.rmtree(served / "lib")
    shutil.rmtree(served / "main" / ".git" / "modules")
    said = failure(clone, f"file://{served}/main")
    assert f"{served}/lib" in said
    assert said.count("into submodule path") == 1


# Waiting


def test_a_server_that_is_down_is_waited_for_and_that_is_told(served, start, tmp_path):
    repository(served / "x.git", {"x": "x"})
    server, told = start(), []
    server.failures = 6
    (tmp_path / "clone").mkdir()
    patience = Patience(longest=TIMEOUT, first_wait=0.001)
    folder, _ = fetch(Source(f"{server.address}/x.git"), tmp_path / "clone", told.append, patience)
    assert (folder / "x").exists()
    assert "waiting for git server: The requested URL returned error: 503" in told
    assert told[-1] == "cloning again after: The requested URL returned error: 503"
    assert all(len(phase) <= 100 for phase in told)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://nonexistent.invalid/x.git", "Could not resolve host: nonexistent.invalid"),
        ("git://nonexistent.invalid/x.git", "unable to look up nonexistent.invalid"),
        ("git@nonexistent.invalid:x.git", "Could not resolve hostname nonexistent.invalid"),
        ("http://127.0.0.1:{port}/x.git", "Failed to connect to 127.0.0.1"),
        ("git://127.0.0.1:{port}/x.git", "Connection refused"),
        ("ssh://127.0.0.1:{port}/x.git", "Connection refused"),
    ],
)
def test_what_is_waited_for(tmp_path, address, words):
    (tmp_path / "clone").mkdir()
    told, began = [], time.monotonic()
    with pytest.raises(WorkflowFailure, match=words) as caught:
        fetch(Source(address.format(port=free_port())), tmp_path / "clone", told.append, SHORT)
    assert " failed after 2 tries: " in str(caught.value)
    assert told
    assert time.monotonic() - began < TIMEOUT


def test_git_daemon(served, clone):
    repository(served / "x.git", {"x": "x"})
    (served / "x.git" / ".git" / "git-daemon-export-ok").touch()
    repository(served / "hidden.git", {"x": "x"})
    port = free_port()
    daemon = subprocess.Popen(
        [
            "git",
            "daemon",
            "--listen=127.0.0.1",
            f"--port={port}",
            f"--base-path={served}",
            "--informative-errors",
        ],
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        assert (clone(f"git://127.0.0.1:{port}/x.git") / "x").exists()
        said = failure(clone, f"git://127.0.0.1:{port}/hidden.git")
        assert "check the address" in said
        assert "tries" not in said
    finally:
        daemon.terminate()
        daemon.wait()
