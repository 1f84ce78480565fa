"""Cloning over HTTP: credentials, retries, and servers that do not support shallow clones."""

import base64
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lando_worker.clone import Patience, fetch
from lando_worker.container_engine import ContainerEngine
from lando_worker.result import WorkflowFailure
from lando_worker.source import Source

PASSWORD = "hunter22 %/@"


class Handler(SimpleHTTPRequestHandler):
    """Serves a repository with a password; fails as often as ``server.failures`` says."""

    def do_GET(self):
        self.server.requests.append(self.path)
        expected = "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
        if self.server.failures:
            self.server.failures -= 1
            self.send_error(503)
        elif self.headers.get("Authorization") != expected:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "w.cwl").write_text("x")
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org"]
    served = tmp_path / "served"
    served.mkdir()
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["commit", "--quiet", "--message", "x"],
        ["clone", "--quiet", "--bare", str(work), str(served / "toy.git")],
        ["--git-dir", str(served / "toy.git"), "update-server-info"],
    ):
        subprocess.run([*git, *command], cwd=work, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(served)))
    server.failures = 0
    server.requests = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def source(server, **changes):
    address = f"http://127.0.0.1:{server.server_port}/toy.git"
    return Source(**{"address": address, "user": "alice", "password": PASSWORD, **changes})


@pytest.fixture
def parent(tmp_path):
    (tmp_path / "clone").mkdir()
    return tmp_path / "clone"


@pytest.fixture
def commands(monkeypatch):
    """The command lines that were run."""
    commands = []
    run = subprocess.run

    def spy(command, **options):
        commands.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", spy)
    return commands


def test_credentials_reach_git_but_no_command_line(server, parent, commands):
    folder, commit = fetch(source(server), parent)
    assert (folder / "w.cwl").read_text() == "x"
    assert len(commit) == 40
    assert commands
    assert "hunter22" not in str(commands)
    assert not any(b"hunter22" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_wrong_password_is_reported_with_gits_error_and_not_retried(server, parent, commands):
    with pytest.raises(WorkflowFailure, match=r"git clone http://127.* failed: fatal: Authentication failed"):
        fetch(source(server, password="wrong"), parent)
    assert sum("clone" in command for command in commands) == 1


def test_without_credentials_git_does_not_prompt(server, parent):
    with pytest.raises(WorkflowFailure, match="terminal prompts disabled"):
        fetch(source(server, user=None, password=None), parent)


def test_a_server_that_recovers_is_tried_again(server, parent):
    server.failures = 2
    folder, _ = fetch(source(server), parent, patience=Patience(first_wait=0.001))
    assert (folder / "w.cwl").exists()
    assert server.failures == 0


@pytest.mark.parametrize("ref", [None, "main", "a" * 40])
def test_a_server_that_does_not_recover_is_given_up(server, parent, ref):
    server.failures = 1000
    with pytest.raises(WorkflowFailure, match=r"failed after 4 tries: fatal: .* error: 503"):
        fetch(source(server, ref=ref), parent, patience=Patience(longest=0.0, first_wait=0.001))
    assert len(server.requests) == Patience.fewest


def test_a_missing_repository_is_not_tried_again(server, parent):
    with pytest.raises(WorkflowFailure, match=r"failed: fatal: repository '.*' not found"):
        fetch(source(server, address=f"http://127.0.0.1:{server.server_port}/no.git"), parent)


@pytest.mark.parametrize(
    ("docker", "podman", "available", "is_podman"),
    [(0, 0, True, False), (1, 0, True, True), (1, 1, False, False)],
)
def test_only_engines_that_answer_are_used(tmp_path, monkeypatch, docker, podman, available, is_podman):
    for name, status in (("docker", docker), ("podman", podman)):
        (tmp_path / name).write_text(f'#!/bin/sh\ntest "$1" = info && exit {status}\nexit 2\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    engine = ContainerEngine()
    assert (engine.available, engine.is_podman) == (available, is_podman)
