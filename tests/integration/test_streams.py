"""Every command with every kind of stdout and stderr: no traceback, and no job without its daemon."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import sqlite3
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lando.engine.operations import Gone
from lando.store.store import Store
from lando.workqueue.embedded import EmbeddedPublisher
from tests.support.engine_rules import Rules
from tests.support.forked_commands import CLOSED, Started, Target
from tests.support.local_site import BIN, PATIENCE, QUICK, Gate, LocalSite, wait_for, workflow

JOB = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"
QUEUED = "1c9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"
NAME = "tee-☕-Ω.txt"
COMMANDS: dict[str, list[str]] = {
    "help": ["--help"],
    "version": ["--version"],
    "help of a command": ["run", "--help"],
    "no command": ["statsu"],
    "wrong option": ["status", "--nothing"],
    "no job": ["history", "ffff"],
    "status": ["status"],
    "status json": ["status", "--json"],
    "status of a job": ["status", JOB],
    "history": ["history", JOB],
    "history json": ["history", JOB, "--json"],
    "logs": ["logs", JOB],
    "logs console": ["logs", "--console", JOB],
    "outputs": ["outputs", JOB],
    "outputs json": ["outputs", JOB, "--json"],
    "cancel": ["cancel", JOB],
    "retry": ["retry", JOB],
    "dead-letters": ["dead-letters"],
    "servers": ["servers"],
    "servers json": ["servers", "--json"],
    "diagram": ["diagram"],
    "check": ["check"],
    "completion": ["completion", "bash"],
    "rabbitmq-setup": ["rabbitmq-setup"],
    "submit": ["submit", "wf.yml", "--id", QUEUED],
    "submit json": ["submit", "wf.yml", "--id", QUEUED, "--json"],
    "submit nothing": ["submit", "nothing.yml"],
    "run nothing": ["run", "nothing.yml"],
}


@dataclass(frozen=True)
class Ended:
    code: int
    out: bytes
    err: bytes


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSite]:
    """A site with a job that is done, and one in the queue; no daemon."""
    here = LocalSite(tmp_path_factory.mktemp("streams"), config=QUICK)
    here.make_state()
    here.environment.pop("COLUMNS", None)
    workflow(here.root, "true")
    output = here.state / "jobs" / JOB / "outputs" / NAME
    output.parent.mkdir(parents=True)
    output.touch()
    rules = Rules(Store(f"sqlite:///{here.state / 'lando.db'}").transaction)
    rules.now = time.time()
    rules.run(JOB, name="Ω ☕ é")
    result = {"outcome": "succeeded", "exit_code": 0, "log": "☕ é\n", "log_tail": "☕"}
    outputs = {"out": {"class": "File", "location": output.as_uri()}, "Ω": "é"}
    rules.report("workflow_finished", JOB, 2, outputs=outputs, **result)
    rules.conclude(Gone())
    here.submit(here.root / "wf.yml", QUEUED)
    publisher = EmbeddedPublisher(here.state / "lando.db", "client", "me")
    publisher.publish(b"no message \xe2\x98\x95")
    publisher.close()
    yield here
    here.close()


Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def run(site: LocalSite) -> Run:
    """Runs a command; streams that are not given are files."""

    def run(name: str, stdout: Target = None, stderr: Target = None, **environment: str) -> Ended:
        with (site.root / "out").open("w+b") as out, (site.root / "err").open("w+b") as err:
            onto = out if stdout is None else stdout, err if stderr is None else stderr
            process = site.start_onto(*onto, *COMMANDS[name], **environment)
            code = process.wait(PATIENCE)
            return Ended(code, Path(out.name).read_bytes(), Path(err.name).read_bytes())

    return run


@pytest.fixture(scope="module")
def usual(run: Run) -> Callable[[str], Ended]:
    """What a command says where all is well."""
    said: dict[str, Ended] = {}

    def usual(name: str) -> Ended:
        if name not in said:
            said[name] = run(name)
            assert b"Traceback" not in said[name].err
            said[name].out.decode(), said[name].err.decode()
        return said[name]

    return usual


@pytest.fixture
def nobody() -> Iterator[int]:
    """A pipe whose reader has ended."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    yield write_end
    os.close(write_end)


every_command = pytest.mark.parametrize("name", COMMANDS)


@every_command
def test_closed(run: Run, usual: Callable[[str], Ended], name: str) -> None:
    code = usual(name).code
    said = run(name, stdout=CLOSED)
    assert (said.code, b"Traceback" in said.err) == (code, False), said.err
    assert run(name, stderr=CLOSED).code == code
    assert run(name, stdout=CLOSED, stderr=CLOSED).code == code


@every_command
def test_full(run: Run, usual: Callable[[str], Ended], name: str) -> None:
    expected = usual(name)
    with open("/dev/full", "w") as full:
        said = run(name, stdout=full)
        assert b"Traceback" not in said.err
        assert said.code == (1 if expected.out else expected.code), said.err
        if expected.out:
            assert said.err.endswith(b"lando-fsm: stdout cannot be written: No space left on device\n")
        assert run(name, stderr=full).code == expected.code
        assert run(name, stdout=full, stderr=full).code == said.code


@every_command
def test_nobody_reads(run: Run, usual: Callable[[str], Ended], name: str, nobody: int) -> None:
    expected = usual(name)
    said = run(name, stdout=nobody)
    assert said.code == (141 if expected.out else expected.code), said.err
    assert b"Traceback" not in said.err and b"roken pipe" not in said.err
    assert run(name, stderr=nobody).code == expected.code
    assert run(name, stdout=nobody, stderr=nobody).code == said.code


@every_command
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_most_characters(
    run: Run, usual: Callable[[str], Ended], name: str, encoding: str
) -> None:
    expected = usual(name)
    said = run(name, PYTHONIOENCODING=encoding)
    assert (said.code, b"Traceback" in said.err) == (expected.code, False), said.err
    if name != "diagram":  # which is a file, in UTF-8
        assert said.out.decode(encoding).count("\n") == expected.out.decode().count("\n")
    if "json" in name:
        assert said.out.isascii()
        json.loads(said.out)
    if name == "history":
        assert b" -> " in said.out
    if name == "outputs":
        assert b"tee-\\u2615-\\u03a9.txt" in said.out
        assert not said.err, "the file is there"


@every_command
def test_a_terminal_of_40_columns(site: LocalSite, usual: Callable[[str], Ended], name: str) -> None:
    expected = usual(name)
    with _terminal(40) as (ours, theirs):
        process = site.start_onto(theirs, theirs, *COMMANDS[name], TERM="xterm", PAGER="cat", LANG="C.UTF-8")
        shown = _read(process, ours)
    assert process.wait(PATIENCE) == expected.code
    assert "Traceback" not in shown
    if name == "status":
        lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
        of_job = lines[next(at for at, line in enumerate(lines) if JOB[:8] in line) :][:3]
        assert max(map(len, of_job)) <= 40
        assert "Ω ☕ é" in of_job[1] and "succeeded" in of_job[2]
        assert "(no daemon is running)" in " ".join(" ".join(lines).split()), "reasons are not cut"
    for line in expected.out.decode().splitlines():
        for job in (JOB[:8], QUEUED[:8]):
            assert job not in line or job in shown, "ids are never cut"


@contextlib.contextmanager
def _terminal(columns: int) -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 100, columns, 0, 0))
    yield ours, theirs
    os.close(theirs)
    os.close(ours)


def _read(process: Started, terminal: int) -> str:
    """All that is shown until the process has ended."""
    os.set_blocking(terminal, False)
    said = b""

    def has_ended() -> bool:
        nonlocal said
        ended = process.poll() is not None
        with contextlib.suppress(BlockingIOError):
            while True:
                said += os.read(terminal, 65536)
        return ended

    wait_for(has_ended, "the command to end")
    return said.decode()


def test_what_could_not_be_printed_is_said_how_to_get(run: Run) -> None:
    with open("/dev/full", "w") as full:
        said = run("submit", stdout=full)
    assert (
        f"the job is queued; if you submit it again with --id {QUEUED}, it cannot run twice"
        in said.err.decode()
    )


def test_a_locale_of_latin_1(site: LocalSite) -> None:
    """Names of files are in UTF-8 all the same; only what is printed is in Latin-1."""
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", site.root / "en_US.ISO-8859-1"], check=False
    )
    if made.returncode:
        pytest.skip("this machine has no sources of locales")
    environment = site.environment | {"LOCPATH": str(site.root), "LC_ALL": "en_US.ISO-8859-1"}

    def said(*arguments: str) -> tuple[str, bytes]:
        command = [str(BIN / "lando-fsm"), *arguments]
        ended = subprocess.run(command, env=environment, capture_output=True, check=True)
        return ended.stdout.decode("latin-1"), ended.stderr

    assert "name:          \\u03a9 \\u2615 é\n" in said("status", JOB)[0]
    out, err = said("outputs", JOB)
    assert out == f"out: {site.state}/jobs/{JOB}/outputs/tee-\\u2615-\\u03a9.txt\n\\u03a9: é\n"
    assert err == b"", "the file was found"


# commands that take long


def test_run_goes_on_when_nobody_reads_its_progress(quick: LocalSite, gate: Gate, nobody: int) -> None:
    job_file = workflow(quick.root, gate.script)
    read_end, write_end = os.pipe()
    running = quick.start_onto(None, write_end, "run", job_file)
    os.close(write_end)
    assert os.read(read_end, 1)
    os.close(read_end)  # as head does
    gate.wait_for_arrivals()
    gate.let_through()
    out, _ = running.communicate(PATIENCE)
    assert (running.wait(), out) == (0, "{}\n")
    (job,) = quick.look()
    assert job["state"] == "done"
    quick.nothing_is_left()


@pytest.mark.parametrize("kind", ["closed", "full", "nobody"])
def test_run_whose_result_goes_nowhere(quick: LocalSite, nobody: int, kind: str) -> None:
    job_file = workflow(quick.root, "true")
    with open("/dev/full", "w") as full, (quick.root / "err").open("w") as err:
        stdout: Target = {"closed": CLOSED, "full": full, "nobody": nobody}[kind]
        running = quick.start_onto(stdout, CLOSED if kind == "closed" else err, "run", job_file)
        assert running.wait(PATIENCE) == {"closed": 0, "full": 1, "nobody": 141}[kind]
    (job,) = quick.look()
    assert job["state"] == "done"
    again = f"the workflow succeeded; `lando-fsm outputs {job['id']} --json` prints the output object again"
    assert (again in Path(err.name).read_text()) == (kind != "closed")
    quick.nothing_is_left()
    with contextlib.closing(sqlite3.connect(quick.state / "lando.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",), "nothing else is in it"


def test_what_follows_ends_when_nobody_reads(quick: LocalSite, gate: Gate) -> None:
    quick.start_daemon()
    job = quick.submit(workflow(quick.root, f"echo first\n{gate.script}"))
    gate.wait_for_arrivals()
    wait_for(lambda: quick.views().log(job), "the first line")
    for arguments in (["logs", "-f", job], ["status", "--watch"]):
        read_end, write_end = os.pipe()
        following = quick.start_onto(write_end, None, *arguments)
        os.close(write_end)
        assert os.read(read_end, 1)
        os.close(read_end)
        assert following.wait(PATIENCE) == 141
        assert following.communicate()[1] == ""
    gate.let_through()
    assert quick.wait(job, "done", "failed")["state"] == "done"


@pytest.mark.parametrize("kind", ["closed", "full", "nobody", "ascii"])
def test_a_daemon_with_poor_streams(quick: LocalSite, nobody: int, kind: str) -> None:
    quick.make_state()
    job_file = workflow(quick.root, "true")
    job_file.write_text(job_file.read_text() + "name: Ω ☕\n")
    environment = {"PYTHONIOENCODING": "ascii"} if kind == "ascii" else {}
    with open("/dev/full", "w") as full, (quick.root / "log").open("w") as log:
        onto: Target = {"closed": CLOSED, "full": full, "nobody": nobody, "ascii": log}[kind]
        daemon = quick.start_onto(onto, onto, "daemon", **environment)
    quick.daemons.append(daemon)
    job = quick.submit(job_file)
    assert quick.wait(job, "done", "failed")["state"] == "done"
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(PATIENCE) == 0
    said = (quick.root / "log").read_bytes().decode("ascii")
    assert ("running -> terminating" in said) == (kind == "ascii")
    assert "Traceback" not in said
    quick.nothing_is_left()


def test_a_terminal_that_is_gone(quick: LocalSite, gate: Gate) -> None:
    """The kernel hangs up, which cancels, and what is written to the terminal fails: run finishes that."""
    terminal = quick.terminal("run", workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    terminal.hang_up()
    assert terminal.process.wait(PATIENCE) == 130
    (job,) = quick.look()
    assert job["outcome"] == "canceled"
    quick.nothing_is_left()
