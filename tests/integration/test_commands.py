"""The commands as a person uses them, with a daemon at work."""

from __future__ import annotations

import getpass
import json
import re
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.messages import Message
from lando.workqueue.embedded import EmbeddedPublisher
from tests.support.local_site import QUICK, Gate, LocalSite, wait_for, workflow

CLEAN = ["queued", "booting", "running", "terminating", "done"]
ESCAPE = "\x1b"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSite]:
    """A site with a daemon, shared by tests that look at their own jobs only."""
    here = LocalSite(tmp_path_factory.mktemp("served"), config=QUICK, max_workers=8)
    here.start_daemon()
    yield here
    here.close()


def test_a_job_from_submit_to_outputs(site: LocalSite) -> None:
    site.fresh = True
    site.start_daemon(make_state=False)
    job_file = workflow(site.root, "echo a line of log >&2; echo result")
    submitted = site.command("submit", job_file, "--wait")
    assert submitted.returncode == 0
    job = submitted.stdout.strip()
    assert str(uuid.UUID(job)) == job, "the id alone is on stdout"
    assert "done" in submitted.stderr.splitlines()[-1]
    assert ESCAPE not in submitted.stderr

    history = json.loads(site.command("history", job, "--json").stdout)
    assert [change["to"] for change in history] == CLEAN
    assert [change["from"] for change in history] == [None, *CLEAN[:-1]]
    assert [change["event"] for change in history] == [
        "start_worker",
        "admitted",
        "worker_started",
        "workflow_finished",
        "server_gone",
    ]
    assert [change["at"] for change in history] == sorted(change["at"] for change in history)
    assert [change["attempt"] for change in history] == [0, 1, 1, 1, 1]
    text = site.command("history", job).stdout.splitlines()
    assert [re.split(r"\s+", line)[1:4] for line in text] == [
        [source, "→", target] for source, target in zip(["-", *CLEAN], CLEAN, strict=False)
    ]

    (shown,) = site.status(job)
    assert (shown["outcome"], shown["exit_code"], shown["step"], shown["steps"]) == ("succeeded", 0, 1, 1)
    assert (shown["attempt"], shown["attempts"], shown["submitted_by"]) == (1, 3, getpass.getuser())
    assert "a line of log" in site.command("logs", job).stdout

    site.nothing_is_left()
    outputs = json.loads(site.command("outputs", job, "--json").stdout)
    there = Path(outputs["out"]["path"])
    assert there.read_text() == "result\n"
    assert there.is_relative_to(site.state / "jobs" / job / "outputs")
    plain = site.command("outputs", job)
    assert (plain.stdout, plain.stderr) == (f"out: {there}\n", "")
    there.unlink()
    assert str(there) in site.command("outputs", job).stderr, "what is missing is told"


def test_a_failing_workflow(served: LocalSite) -> None:
    job_file = workflow(served.root, "seq 1 30; echo this is why; exit 7", "fails")
    submitted = served.command("submit", job_file, "--wait", check=False)
    assert submitted.returncode == 1
    job = submitted.stdout.strip()
    assert f"job {job} failed (workflow_failed, exit code 7)" in submitted.stderr
    shown = served.job(job)
    assert (shown["state"], shown["outcome"], shown["exit_code"]) == ("failed", "workflow_failed", 7)
    assert shown["attempt"] == 1, "its own failure is final"
    detail = served.command("status", job).stdout
    assert "workflow_failed" in detail
    assert re.search(r"^exit code: +7$", detail, re.MULTILINE)
    assert re.search(r"^why: .*: this is why$", detail, re.MULTILINE)
    assert [line.strip() for line in detail.splitlines()][-3:] == ["28", "29", "30"], "a failure is told once"
    assert served.command("outputs", job, check=False).returncode == 1


def test_a_repository_that_is_not_there(served: LocalSite) -> None:
    job_file = workflow(served.root, "true", "nowhere")
    job_file.write_text(job_file.read_text().replace("nowhere", f"file://{served.root}/no-such-repository"))
    job = served.submit(job_file)
    shown = served.wait(job, "failed")
    assert shown["outcome"] == "workflow_failed"
    assert "does not appear to be a git repository" in shown["reason"], "git's own words"
    assert "no-such-repository" in served.command("status", job).stdout


def test_submit_wait_interrupted_leaves_the_job(served: LocalSite, gate: Gate) -> None:
    waiting = served.start("submit", workflow(served.root, gate.script, "waits"), "--wait")
    gate.wait_for_arrivals()
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=60)
    job = out.strip()
    assert waiting.returncode == 130
    assert f"the job continues: `lando-fsm status {job[:8]}`" in err
    gate.let_through()
    assert served.wait(job, "done", "failed")["state"] == "done"


# logs


def test_logs_and_status_separate_attempts(served: LocalSite, gate: Gate) -> None:
    again = served.root / "is the second"
    script = f"[ -e '{again}' ] || {{ printf first; exit 3; }}; echo second; {gate.script}"
    job = served.submit(workflow(served.root, script, "twice"))
    served.wait(job, "failed")
    assert "attempt" not in served.command("logs", job).stdout, "there is one"
    again.touch()
    served.command("retry", job)
    wait_for(lambda: "second" in served.command("logs", job).stdout, "the second attempt's log")
    shown = served.command("status", job).stdout.partition("last lines of attempt 2:")
    assert "second" in shown[2]
    assert "first" not in shown[2]
    gate.let_through()
    served.wait(job, "done")
    history = json.loads(served.command("history", job, "--json").stdout)
    began, ended = (
        [change["at"] for change in history if change["event"] == event]
        for event in ("admitted", "server_gone")
    )
    log = served.command("logs", job).stdout.splitlines()
    headings = [line for line in log if line.startswith("---")]
    assert headings == [
        f"--- attempt 1, {began[0]} to {ended[0]}: failed: bash exited with status 3: first ---",
        f"--- attempt 2, {began[1]} to {ended[1]}: done: the workflow succeeded ---",
    ]
    assert log.index("first") < log.index(headings[1]) < log.index("second") == len(log) - 1
    shown = served.command("status", job).stdout
    assert f"    attempt 1, {began[0]} to {ended[0]}: failed: bash exited with status 3: first\n" in shown
    assert shown.endswith("    second\n")
    assert "last lines of attempt 2:" in shown


def test_logs_follow(served: LocalSite, gate: Gate) -> None:
    job = served.submit(workflow(served.root, f"echo first\n{gate.script}echo second\n", "talks"))
    gate.wait_for_arrivals()
    following = served.start("logs", "-f", job[:13])
    assert following.stdout is not None
    while following.stdout.readline() != "first\n":
        pass
    assert following.poll() is None
    gate.let_through()
    rest, _ = following.communicate(timeout=60)
    assert (following.returncode, "second\n" in rest) == (0, True)
    assert served.command("logs", job).stdout.splitlines()[-2:] == ["first", "second"]


# cancel


def test_cancel_of_a_job_that_waits_for_a_place(tmp_path: Path, gate: Gate) -> None:
    site = LocalSite(tmp_path, config=QUICK, max_workers=1)
    try:
        site.start_daemon()
        job_file = workflow(tmp_path, gate.script)
        first, second = site.submit(job_file), site.submit(job_file)
        gate.wait_for_arrivals()
        wait_for(lambda: "1 of 1 in use" in site.job(second)["reason"], "the reason")
        assert "position 1" in site.job(second)["reason"]
        said = site.command("cancel", second)
        assert f"{second} will be canceled" in said.stderr
        shown = site.wait(second, "failed")
        assert (shown["outcome"], shown["attempt"]) == ("canceled", 0)
        assert site.path(second) == ["queued", "failed"]
        gate.let_through()
        assert site.wait(first, "done", "failed")["state"] == "done"
        assert gate.arrivals == 1
    finally:
        site.close()


def test_cancel_of_a_job_that_no_daemon_has_taken(quick: LocalSite, gate: Gate) -> None:
    job = quick.submit(workflow(quick.root, gate.script))
    quick.command("cancel", job)
    assert quick.job(job)["state"] == "queued"
    quick.start_daemon()
    assert quick.wait(job, "failed")["outcome"] == "canceled"
    assert gate.arrivals == 0
    assert "failed (canceled)" in quick.command("status").stdout


def test_cancel_of_a_booting_job(tmp_path: Path) -> None:
    never = tmp_path / "never"
    never.write_text("#!/bin/sh\nsleep 1000\n")
    never.chmod(0o755)
    site = LocalSite(tmp_path, config=QUICK + f"  command: {never}\n")
    try:
        site.start_daemon()
        job = site.submit(workflow(tmp_path, "true"))
        wait_for(lambda: site.job(job)["vm"]["ip"], "the VM to be up")
        assert site.job(job)["state"] == "booting"
        site.command("cancel", job)
        assert site.wait(job, "failed")["outcome"] == "canceled"
        assert site.path(job) == ["queued", "booting", "terminating", "failed"]
        site.nothing_is_left()
    finally:
        site.close()


def test_cancel_of_a_running_job_leaves_no_process(served: LocalSite, gate: Gate) -> None:
    script = f"setsid nohup sleep 1001 & (trap '' TERM; sleep 1002) & {gate.script}"
    job = served.submit(workflow(served.root, script, "runs"))
    gate.wait_for_arrivals()
    vm = served.state / "vms" / served.job(job)["vm"]["id"]
    assert vm.exists()
    served.command("cancel", job[:8])
    served.wait(job, "terminating")
    again = served.command("cancel", job)
    assert again.returncode == 0, "a second cancel changes nothing"
    assert served.wait(job, "failed")["outcome"] == "canceled"
    assert served.path(job) == ["queued", "booting", "running", "terminating", "failed"]
    assert not vm.exists()
    assert [pid for pid in served.vm_processes() if vm.name in command_line(pid)] == []
    ended = served.command("cancel", job)
    assert f"{job} has already finished (failed (canceled)); nothing changes" in ended.stderr


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return ""


def test_cancel_comes_too_late_for_a_finished_workflow(served: LocalSite) -> None:
    # What ignores SIGTERM keeps the VM terminating for a while.
    script = "setsid bash -c \"trap '' TERM; sleep 1003\" > /dev/null 2>&1 &\n"
    job = served.submit(workflow(served.root, script, "lingers"))
    served.wait(job, "terminating")
    served.command("cancel", job)
    assert served.wait(job, "done", "failed")["state"] == "done", "its workflow has ended already"
    said = served.command("cancel", job)
    assert said.returncode == 0
    assert f"{job} has already finished (done); nothing changes" in said.stderr


def test_a_cancel_that_overtakes_its_start(served: LocalSite, gate: Gate) -> None:
    job = str(uuid.uuid4())
    publisher = EmbeddedPublisher(served.state / "lando.db", "client", "me")
    publisher.publish(Message("cancel_job", job=job).encode())
    publisher.close()
    served.submit(workflow(served.root, gate.script, "overtaken"), job)
    assert served.wait(job, "failed", "done")["outcome"] == "canceled"
    assert gate.arrivals == 0


# retry


def test_retry_of_a_failed_job(served: LocalSite) -> None:
    cured = served.root / "cured"
    job = served.submit(workflow(served.root, f"[ -e {cured} ] || exit 3", "ill"))
    assert served.wait(job, "failed")["exit_code"] == 3
    cured.touch()
    said = served.command("retry", job)
    assert f"{job} will be run again" in said.stderr
    assert served.wait(job, "done")["attempt"] == 2
    assert served.path(job) == [*CLEAN[:-1], "failed", *CLEAN]
    again = served.command("retry", job, check=False)
    assert again.returncode == 1
    assert f"{job} is done: only a failed job can be retried" in again.stderr


def test_a_job_that_cannot_run_is_not_retried(served: LocalSite) -> None:
    job = str(uuid.uuid4())
    publisher = EmbeddedPublisher(served.state / "lando.db", "client", "me")
    publisher.publish(Message("start_worker", {"git_clone": "ext::sh -c id"}, job=job).encode())
    publisher.close()
    shown = served.wait(job, "failed")
    assert "git_clone" in shown["reason"]
    said = served.command("retry", job, check=False)
    assert said.returncode == 1
    assert "correct the job file and submit it again" in said.stderr


# the original's client


def test_the_client_starts_and_terminates_by_vm_name(served: LocalSite, gate: Gate) -> None:
    job_file = workflow(served.root, gate.script, "client")
    started = served.command(served.config, "start_worker", job_file, program="lando-client")
    job = started.stdout.strip()
    gate.wait_for_arrivals()
    name = served.job(job)["vm"]["name"]
    said = served.command(served.config, "terminate_worker", name, program="lando-client")
    assert name in said.stderr
    assert served.wait(job, "failed")["outcome"] == "canceled"


def test_the_client_refuses_a_configuration_that_is_not_there(quick: LocalSite) -> None:
    said = quick.command("nowhere.yml", "shutdown_server", program="lando-client", check=False)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == "lando-client: nowhere.yml: no such file\n"


# how it looks


def test_the_diagram_in_every_format(served: LocalSite) -> None:
    job = served.submit(workflow(served.root, "true", "drawn"))
    served.wait(job, "done")
    begins = {"mermaid": b"stateDiagram", "dot": b"digraph", "svg": b"<svg", "png": b"\x89PNG"}
    for form, expected in begins.items():
        file = served.root / f"machine.{form}"
        served.command("diagram", "--format", form, "-o", file)
        assert expected in file.read_bytes()
    plain = served.command("diagram").stdout
    with_path = served.command("diagram", "--job", job).stdout
    assert with_path != plain
    assert re.search(r"5\. \+[\d.]+ s server_gone", with_path), "with times"
    unwritable = served.command("diagram", "-o", served.root / "no" / "file", check=False)
    assert unwritable.returncode == 1
    assert "No such file or directory" in unwritable.stderr


def test_check_with_a_daemon(served: LocalSite) -> None:
    said = served.command("check", check=False)
    assert f"running, pid {served.daemons[0].pid}" in said.stdout
    assert ESCAPE not in said.stdout


def test_no_escape_codes_without_a_terminal_or_with_no_color(served: LocalSite) -> None:
    job = served.submit(workflow(served.root, "true", "plain"))
    served.wait(job, "done")
    for arguments in (["status"], ["status", job], ["history", job], ["logs", job], ["check"], ["--help"]):
        said = served.command(*arguments, NO_COLOR="", FORCE_COLOR="", check=False)
        assert ESCAPE not in said.stdout + said.stderr, arguments
    terminal = served.terminal("status", job, NO_COLOR="1")
    assert terminal.wait() == 0
    assert job in terminal.text
    assert ESCAPE not in terminal.shown


def test_the_table_on_a_terminal_is_coloured(served: LocalSite) -> None:
    job = served.submit(workflow(served.root, "true", "coloured"))
    served.wait(job, "done")
    terminal = served.terminal("status", "--state", "done")
    terminal.wait_for(job[:8])
    terminal.type("q")
    assert terminal.wait() == 0
    assert ESCAPE in terminal.shown


def test_watch_on_a_terminal_is_live(served: LocalSite, gate: Gate) -> None:
    job = served.submit(workflow(served.root, gate.script, "watched"))
    terminal = served.terminal("status", "--watch", job)
    terminal.wait_for(job[:8])
    terminal.wait_for("running")
    gate.let_through()
    terminal.wait_for("done")
    terminal.type("\x03")
    assert terminal.wait() in (0, 130)
    assert "Traceback" not in terminal.text


def test_watch_without_a_terminal_prints_changes(served: LocalSite, gate: Gate) -> None:
    job = served.submit(workflow(served.root, gate.script, "told"))
    gate.wait_for_arrivals()
    watching = served.start("status", "--watch", job)
    assert watching.stdout is not None
    assert watching.stdout.readline() == "1 running\n"
    gate.let_through()
    lines = iter(watching.stdout.readline, "")
    assert next(line for line in lines if "done" in line) == "1 done\n"
    watching.terminate()


def test_submit_wait_on_a_terminal_is_live(served: LocalSite, gate: Gate) -> None:
    terminal = served.terminal("submit", workflow(served.root, gate.script, "live"), "--wait")
    terminal.wait_for("running")
    gate.let_through()
    assert terminal.wait() == 0
    assert "done" in terminal.text


def test_a_local_cloud_beside_an_openstack_account_is_warned_of(quick: LocalSite) -> None:
    warning = "workflows run on this machine, as the daemon's account and not isolated from it"
    account = (
        "cloud_settings: {auth_url: 'https://cloud:5000/v3', username: u, password: p, project_name: p}\n"
    )
    before = quick.config.read_text()
    for cloud, is_warned in (("", False), (f"cloud: local\n{account}", True)):
        quick.config.write_text(before + cloud)
        quick.config.chmod(0o600)
        (line,) = [
            line for line in quick.command("check").stdout.splitlines() if line.split()[:1] == ["cloud"]
        ]
        assert (line.split()[1] == "warning" and warning in line) is is_warned
        daemon = quick.start_daemon()
        assert (warning in quick.daemon_log()) is is_warned
        daemon.terminate()
        assert daemon.wait(timeout=60) == 0
