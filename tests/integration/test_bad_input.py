"""Bad input, bad disks, bad messages: a clear error, and nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import select
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.app.app import App
from lando.cli.submit import publish
from lando.config.site_config import load
from lando.errors import LandoError
from lando.messages import Message
from lando.workqueue.embedded import EmbeddedPublisher
from lando.workqueue.interface import QueueUnavailable
from tests.support.local_site import QUICK, Gate, LocalSite, wait_for, workflow

# values


VALUES = [
    'it\'s "quoted" `touch pwned` \\ $HOME',
    "two\nlines\r\n\n\ttabbed ",
    "$(touch pwned)",
    "${PATH} $((1+1)) !! %s %n",
    "EOF\nEOT\ntouch pwned",
    "'; touch pwned; '",
    "-rf",
    "🧬 µ \u202e \ufeff é",
    "",
]


def test_values_reach_the_workflow_unchanged_and_run_nothing(site: LocalSite) -> None:
    folder = site.root / 'it\'s $(touch pwned) "wf" 🧬'
    folder.mkdir()
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": ["printf", "%s\\0"],
        "inputs": {"values": {"type": "string[]", "inputBinding": {"position": 1}}},
        "outputs": {"out": {"type": "stdout"}},
        "stdout": "out",
    }
    (folder / "a tool;touch pwned.cwl").write_text(json.dumps(tool))
    job = {
        "git_clone": str(folder),
        "cd": folder.name,
        "input": {"values": VALUES},
        "run_cwl": "a tool;touch pwned.cwl",
        "name": "$(touch pwned) '🧬'",
        "labels": {"$(touch pwned)": "'; touch pwned #"},
    }
    (site.root / "job.yml").write_text(json.dumps(job))
    ran = site.command("run", "job.yml")
    printed = Path(json.loads(ran.stdout)["out"]["path"]).read_bytes()
    assert printed.decode().split("\0") == [*VALUES, ""]
    assert list(site.root.rglob("pwned")) == []


def test_a_nul_in_a_message_is_refused(quick: LocalSite) -> None:
    body = {"git_clone": "/x", "cd": ".", "input": {"a": "\0"}, "run_cwl": "x.cwl"}
    send_raw(quick, Message("start_worker", body, job=str(uuid.uuid4())).encode())
    quick.start_daemon()
    wait_for(lambda: quick.command("dead-letters").stdout, "the dead letter")
    assert "NUL" in quick.command("dead-letters").stdout
    assert quick.look() == []


def send_raw(site: LocalSite, *messages: bytes, origin: str = "client") -> None:
    """Put bytes on the queue, as whoever has an account there can."""
    site.state.mkdir(mode=0o700, exist_ok=True)
    publisher = EmbeddedPublisher(site.state / "lando.db", "worker" if origin == "worker" else "client", "me")
    for raw in messages:
        publisher.publish(raw)
    publisher.close()


# workflows


def test_a_workflow_that_floods_its_log(quick: LocalSite) -> None:
    quick.start_daemon()
    flood = "yes 'a line of no use' | head -c 200000000 >&2; echo last words >&2"
    job = quick.submit(workflow(quick.root, flood))
    shown = quick.wait(job, "done", "failed")
    assert (shown["state"], shown["attempt"]) == ("done", 1)
    log = quick.command("logs", job).stdout
    assert len(log) < 1_200_000
    assert "bytes of log left out here" in log
    assert "last words" in quick.command("status", job).stdout
    quick.nothing_is_left()
    kept = sum(path.stat().st_size for path in quick.state.rglob("*") if path.is_file())
    assert kept < 10_000_000


def test_a_workflow_that_leaves_daemons_behind(quick: LocalSite) -> None:
    script = """
setsid nohup bash -c "trap '' TERM HUP; sleep 1005" > /dev/null 2>&1 < /dev/null &
(setsid sleep 1006 &)
nohup bash -c 'sleep 1007 & disown; sleep 1008' > kept-open.txt &
"""
    quick.start_daemon()
    job = quick.submit(workflow(quick.root, script))
    assert quick.wait(job, "done", "failed")["state"] == "done"
    assert quick.vm_processes() == [], "done means that nothing is left"
    assert quick.vms() == []


def test_cwl_documents_that_are_not_there_or_not_cwl(site: LocalSite) -> None:
    missing, broken = workflow(site.root, "true", "missing"), workflow(site.root, "true", "broken")
    missing.write_text(missing.read_text().replace("tool.cwl", "tol.cwl"))
    (site.root / "broken" / "tool.cwl").write_text("class: Nonsense\n")
    site.start_daemon()
    jobs = [site.submit(missing), site.submit(broken)]
    first, second = (site.wait(job, "failed") for job in jobs)
    assert first["outcome"] == second["outcome"] == "workflow_failed"
    assert "there is no file tol.cwl" in first["reason"]
    assert "tool.cwl" in first["reason"], "what there is instead"
    assert second["exit_code"] == 1
    assert "cwlVersion" in site.command("status", jobs[1]).stdout


def test_a_link_out_of_the_clone_is_not_followed(quick: LocalSite) -> None:
    job_file = workflow(quick.root, "true")
    (quick.root / "wf" / "etc").symlink_to("/etc")
    job_file.write_text(job_file.read_text().replace("cd: .", "cd: etc").replace("tool.cwl", "passwd"))
    quick.start_daemon()
    shown = quick.wait(quick.submit(job_file), "failed")
    assert (shown["outcome"], shown["reason"]) == ("workflow_failed", "cd: etc is outside the clone")


# messages


def test_messages_that_cannot_be_understood(quick: LocalSite) -> None:
    job = str(uuid.uuid4())
    good = json.loads(Message("cancel_job", job=job).encode())
    report = Message("worker_started", {"phase": "cloning"}, job=job, attempt=1, token="x", seq=1)
    bad = {
        b"\xff\xfe no text": "not JSON",
        b"{'type': 'shutdown_server'}": "not JSON",
        b"[1, 2]": "expected a JSON object, found list",
        pickle.dumps(good): "not JSON",
        json.dumps({**good, "version": 2}).encode(): "version 2; this daemon understands version 1",
        json.dumps({**good, "type": "format_disk"}).encode(): "unknown type 'format_disk'",
        json.dumps({**good, "job": "../../etc"}).encode(): "job: expected a UUID",
        json.dumps({**good, "token": "mine"}).encode(): "token: only messages of workers have it",
        json.dumps({**good, "more": 1}).encode(): "unknown key 'more'",
        report.encode(): "a client may not send worker_started",
        b'{"body": "' + b"x" * 10_000_000 + b'"}': "10000012 bytes; a message has at most",
    }
    quick.start_daemon()
    send_raw(quick, *bad)
    send_raw(quick, Message("shutdown_server").encode(), origin="worker")
    after = quick.submit(workflow(quick.root, "true"))
    assert quick.wait(after, "done", "failed")["state"] == "done", "it keeps serving"
    letters = json.loads(quick.command("dead-letters", "--json").stdout)
    expected = [*bad.values(), "a worker may not send shutdown_server"]
    assert [words in letter["reason"] for letter, words in zip(letters, expected, strict=True)] == [True] * 12
    assert [letter["bytes"] for letter in letters[:-1]] == list(map(len, bad))
    said = quick.command("dead-letters").stdout
    assert len(said.splitlines()) == 12
    assert len(said) < 5000, "not the whole of 10 MB"
    assert "12 dead letters" in quick.command("check", check=False).stdout


def test_a_start_that_cannot_be_run_is_a_failed_job_that_says_why(quick: LocalSite) -> None:
    jobs = {
        str(uuid.uuid4()): ({}, "git_clone: missing"),
        str(uuid.uuid4()): (
            {"git_clone": "ext::sh -c id", "cd": ".", "input": {}, "run_cwl": "x.cwl"},
            "git_clone: ",
        ),
        str(uuid.uuid4()): (
            {"git_clone": "/x", "cd": "../..", "input": {}, "run_cwl": "x.cwl"},
            "cd: leads out of the repository",
        ),
        str(uuid.uuid4()): (
            {"git_clone": "/x", "cd": ".", "input": {"a": "x" * 100_000}, "run_cwl": "x.cwl"},
            "input: ",
        ),
    }
    messages = [Message("start_worker", body, job=job).encode() for job, (body, _) in jobs.items()]
    quick.start_daemon()
    send_raw(quick, *messages)
    for shown in quick.wait_all_ended(jobs):
        assert (shown["state"], shown["outcome"], shown["attempt"]) == ("failed", "workflow_failed", 0)
        assert jobs[shown["id"]][1] in shown["reason"]
    assert quick.command("dead-letters").stdout == ""


# several at once


def test_submits_at_the_same_instant_make_one_state_directory(quick: LocalSite) -> None:
    job_file = workflow(quick.root, "true")
    at_once = [quick.start("submit", job_file) for _ in range(4)]
    daemon = quick.start("daemon")
    said = [process.communicate(timeout=90) for process in at_once]
    assert [process.returncode for process in at_once] == [0] * 4, said
    jobs = [out.strip() for out, _ in said]
    assert {shown["state"] for shown in quick.wait_all_ended(jobs)} == {"done"}
    daemon.terminate()
    assert daemon.wait(timeout=30) == 0


def test_the_same_job_submitted_twice_at_the_same_instant_runs_once(quick: LocalSite) -> None:
    tally = quick.root / "tally"
    job_file, job = workflow(quick.root, f"echo once >> {tally}"), str(uuid.uuid4())
    quick.start_daemon()
    at_once = [quick.start("submit", job_file, "--id", job) for _ in range(3)]
    said = [process.communicate(timeout=90)[0] for process in at_once]
    assert said == [f"{job}\n"] * 3
    assert quick.wait(job, "done", "failed")["state"] == "done"
    assert tally.read_text() == "once\n"
    assert quick.path(job).count("queued") == 1


# disks


class Mounted:
    """A site whose state directory is a small file system of its own, in a mount namespace of its own.

    Args:
        site: the site; its commands are run inside.
        megabytes: how much fits in.
    """

    def __init__(self, site: LocalSite, megabytes: int) -> None:
        site.state.mkdir(mode=0o700)
        mount = f'mount -t tmpfs -o mode=700,size={megabytes}m tmpfs "$0" && echo mounted && read -r end'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", mount, str(site.state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            self.close()
            pytest.skip("this account may not mount a file system in a namespace of its own")
        self._enter = ["nsenter", "--mount", "--target", str(self._holder.pid)]
        self._site = site
        site.inside = [*self._enter, f"--wdns={site.root}"]

    @property
    def state(self) -> Path:
        """The state directory, as seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root{self._site.state}")

    def fill(self) -> None:
        """Use up every byte."""
        with (self.state / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
            while True:
                filler.write(b"\0" * 4096)

    def make_room(self) -> None:
        """Undo ``fill``."""
        (self.state / "filler").unlink()

    def make_read_only(self) -> None:
        """Let nobody write."""
        remount = ["mount", "-o", "remount,ro", str(self._site.state)]
        subprocess.run([*self._enter, *remount], check=True)

    def close(self) -> None:
        """End the namespace."""
        self._holder.communicate()


@pytest.fixture
def mounted(quick: LocalSite) -> Iterator[Mounted]:
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    here = Mounted(quick, megabytes=8)
    yield here
    for daemon in quick.daemons:
        daemon.kill()
    here.close()


def wait_for_state(site: LocalSite, job: str, *states: str) -> None:
    wait_for(lambda: site.status(job)[0]["state"] in states, f"job {job} in {states}")


def test_a_full_disk_delays_a_submit_and_loses_nothing(quick: LocalSite, mounted: Mounted) -> None:
    before = quick.submit(workflow(quick.root, "true"))
    mounted.fill()
    submitting = quick.start("submit", workflow(quick.root, "true", "while-full"))
    assert submitting.stderr is not None
    first_words = submitting.stderr.readline()
    assert f"the queue has not confirmed the job yet: {quick.state / 'lando.db'}: " in first_words
    mounted.make_room()
    out, _ = submitting.communicate(timeout=60)
    assert submitting.returncode == 0
    quick.start_daemon()
    for job in (before, out.strip()):
        wait_for_state(quick, job, "done")


def test_a_disk_that_fills_up_while_a_workflow_runs(quick: LocalSite, mounted: Mounted, gate: Gate) -> None:
    quick.start_daemon()
    job = quick.submit(workflow(quick.root, f"{gate.script}exit 3"))
    gate.wait_for_arrivals()
    mounted.fill()
    gate.let_through()
    # Either the write-ahead log has room left, or this waits.
    submitting = quick.start("submit", workflow(quick.root, "true", "while-full"))
    heard = submitting.stderr
    assert heard is not None
    wait_for(lambda: select.select([heard], [], [], 0.2)[0], "it to speak, or to end")
    mounted.make_room()
    out, err = submitting.communicate(timeout=60)
    assert submitting.returncode == 0, err
    wait_for_state(quick, out.strip(), "done")
    wait_for_state(quick, job, "failed")
    assert quick.status(job)[0]["exit_code"] == 3, "the result got through"
    assert quick.daemons[0].poll() is None


def test_a_read_only_state_directory(quick: LocalSite, mounted: Mounted) -> None:
    job_file = workflow(quick.root, "true")
    quick.submit(job_file)
    mounted.make_read_only()
    for arguments in (["submit", job_file], ["run", job_file], ["daemon"]):
        began = time.monotonic()
        said = quick.command(*arguments, check=False)
        assert (said.returncode, said.stdout) == (2, "")
        assert f"{quick.state}: is not writable; name another one by LANDO_STATE_DIR" in said.stderr
        assert time.monotonic() - began < 30, "waiting would not help"
    status = quick.command("status", check=False)
    assert status.returncode in (0, 1)
    assert quick.command("check", check=False).returncode == 1


def test_a_state_directory_that_cannot_be_made(quick: LocalSite) -> None:
    (quick.root / "file").touch()
    job_file = workflow(quick.root, "true")
    said = quick.command("submit", job_file, check=False, LANDO_STATE_DIR=str(quick.root / "file" / "state"))
    assert (said.returncode, said.stdout) == (2, "")
    assert "Not a directory; name another one by LANDO_STATE_DIR" in said.stderr


def test_a_job_that_is_never_confirmed_can_be_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "landoconfig.yml"
    config.write_text(QUICK.format(max_workers=1))
    monkeypatch.setenv("LANDO_STATE_DIR", str(tmp_path / "state"))
    here, job = App(load(config)), str(uuid.uuid4())

    def full(patience: float) -> None:
        raise QueueUnavailable("the disk is full")

    monkeypatch.setattr(here, "publisher", full)
    with pytest.raises(LandoError, match=rf"the disk is full; submit it again with --id {job}") as error:
        publish(here, Message("start_worker", {}, job=job), timeout=0.3)
    assert error.value.exit_code == 1
    assert (
        capsys.readouterr().err.count("not confirmed the job yet: the disk is full; retrying for up to 0.3 s")
        == 1
    )
