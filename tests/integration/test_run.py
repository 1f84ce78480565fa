"""``lando-fsm run``: one command from job file to output object, and what Ctrl-C leaves: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.forked_commands import Started
from tests.support.local_site import Gate, LocalSite, wait_for, workflow


def test_the_output_object_alone_is_on_stdout(site: LocalSite) -> None:
    job = workflow(site.root, "echo to the log >&2; echo result")
    ran = site.command("run", job)
    output = json.loads(ran.stdout)["out"]
    assert output["class"] == "File"
    assert Path(output["path"]).read_text() == "result\n", "it outlives its VM"
    assert "running" in ran.stderr
    assert "\x1b" not in ran.stderr
    (shown,) = site.look()
    assert (shown["state"], shown["steps"]) == ("done", 1)
    site.nothing_is_left()


def test_a_state_directory_of_any_name(site: LocalSite) -> None:
    name = '-it\'s "all" 100%25 ?#a;b:c\n$HOME\t*{}[a]\\é😀'
    site.state = site.root / name / "state"
    site.environment["LANDO_STATE_DIR"] = str(site.state)
    job = workflow(site.root, "echo result")
    ran = json.loads(site.command("run", job).stdout)["out"]
    (shown,) = site.status()
    assert shown["state"] == "done"
    (kept,) = site.state.glob("jobs/*/outputs/out.txt")
    assert (ran["path"], ran["location"]) == (str(kept), kept.as_uri())
    assert json.loads(site.command("outputs", "--json", shown["id"]).stdout)["out"] == ran
    assert "running" in site.command("logs", shown["id"]).stdout
    assert os.listdir(site.root / name) == ["state"]
    assert not any(path.name.startswith("-it") for path in site.root.iterdir() if path.name != name)
    site.nothing_is_left()


def test_outdir_gets_the_files(site: LocalSite) -> None:
    job = workflow(site.root, "echo result")
    ran = site.command("run", job, "--outdir", "here/it/is")
    there = site.root / "here" / "it" / "is" / "out.txt"
    assert json.loads(ran.stdout)["out"]["location"] == there.as_uri()
    assert there.read_text() == "result\n"


HOSTILE = """
max_workers: 4
worker:
  cwl_base_command: [bash, script.sh]
"""


def test_a_hostile_job_gets_nothing_else_copied_or_written(tmp_path: Path) -> None:
    """Its runner reports what it wants: a file of the operator, and a place outside of the directory."""
    site = LocalSite(tmp_path, config=HOSTILE)
    secret = site.root / "secret"
    secret.write_text("secret")
    wanted = (secret.as_uri(), "file://OUTDIR/../victim", "file://OUTDIR/link", "file:///etc/passwd")
    job = workflow(
        site.root,
        f"""echo result > "$2/out.txt"; ln -s {secret} "$2/link"; echo victim > "$2/../victim"
        sed "s#OUTDIR#$2#" report.json""",
    )
    bad = [{"class": "File", "location": location} for location in wanted]
    report = {"out": {"class": "File", "location": "file://OUTDIR/out.txt"}, "bad": bad}
    (job.with_suffix("") / "report.json").write_text(json.dumps(report, indent=0))
    try:
        ran = site.command("run", job, "--outdir", "there/inner", check=False)
        shown = json.loads(ran.stdout)
        there = site.root / "there" / "inner"
        assert (ran.returncode, shown["out"]["path"]) == (1, str(there / "out.txt"))
        assert [file["location"] for file in shown["bad"]] == [None] * 4
        assert sorted(path.name for path in (site.root / "there").rglob("*")) == ["inner", "out.txt"]
        assert (
            f"4 output files not copied to there/inner:\n    {secret.as_uri()}: it is not below" in ran.stderr
        )
        assert "file:///etc/passwd: it is not below" in ran.stderr
        (job_id,) = (each["id"] for each in site.look())
        told = site.command("outputs", job_id, "--json")
        assert Path(json.loads(told.stdout)["out"]["path"]).read_text() == "result\n"
        assert [file["location"] for file in json.loads(told.stdout)["bad"]] == [None] * 4
        assert "4 output files not on this machine" in told.stderr
        assert "passwd" not in site.command("outputs", job_id).stdout
    finally:
        site.close()


def test_an_outdir_that_cannot_be_made(quick: LocalSite) -> None:
    job = workflow(quick.root, "true")
    ran = quick.command("run", job, "--outdir", job / "below", check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"--outdir {job / 'below'}: Not a directory" in ran.stderr
    assert quick.look() == [], "nothing was queued"


def test_a_failed_workflow_exits_1_and_says_why(quick: LocalSite) -> None:
    job = workflow(quick.root, "echo this is why; exit 7")
    ran = quick.command("run", job, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "failed (workflow_failed, exit code 7)" in ran.stderr
    assert "this is why" in ran.stderr.splitlines()[-1]
    quick.nothing_is_left()


PARTIAL = """
worker:
  cwl_base_command: [bash, -c, 'bash script.sh "$1"']
"""
"""A site's own CWL runner that calls ``script.sh`` with the directory of the outputs."""


def test_what_a_failed_workflow_made_is_kept_and_shown(quick: LocalSite) -> None:
    quick.config.write_text(PARTIAL)
    made = r"{\"class\": \"File\", \"location\": \"file://$1/made.txt\"}"
    job = workflow(
        quick.root, f'echo made > "$1/made.txt"; echo "{{\\"one\\": {made}, \\"rest\\": null}}"; exit 7'
    )
    ran = quick.command("run", job, "--outdir", "there", check=False)
    copy = quick.root / "there" / "made.txt"
    printed = json.loads(ran.stdout)
    assert (ran.returncode, printed["one"]["location"], printed["rest"]) == (1, copy.as_uri(), None)
    assert copy.read_text() == "made\n"
    assert "failed (workflow_failed, exit code 7)" in ran.stderr
    (shown,) = quick.look()
    said = quick.command("outputs", shown["id"], check=False)
    kept = quick.state / "jobs" / shown["id"] / "outputs" / "made.txt"
    assert (said.returncode, said.stdout) == (1, f"one: {kept}\nrest: None\n")
    assert "has failed; this is what its workflow made before" in said.stderr
    assert f"lando-fsm outputs {shown['id'][:8]}" in quick.command("status", shown["id"]).stdout
    kept.unlink()
    said = quick.command("outputs", shown["id"], "--json", check=False)
    assert (said.returncode, json.loads(said.stdout)["rest"]) == (1, None)
    assert "1 output file not on this machine" in said.stderr


def test_a_failure_is_told_once(quick: LocalSite) -> None:
    ran = quick.command("run", workflow(quick.root, "echo before; echo this is why; exit 7"), check=False)
    assert ran.stderr.count("this is why") == 1
    job = quick.look()[0]["id"]
    why = "bash exited with status 7: this is why"
    assert ran.stderr.splitlines()[-2:] == [
        "    before",
        f"job {job} failed (workflow_failed, exit code 7): {why}",
    ]
    shown = quick.command("status", job).stdout
    assert shown.count("this is why") == 1
    assert shown.endswith("    before\n")


def test_a_failure_is_told_once_on_a_terminal(quick: LocalSite) -> None:
    terminal = quick.terminal("run", workflow(quick.root, "echo before; echo this is why; exit 7"))
    assert terminal.wait() == 1
    assert terminal.text.count("this is why") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(quick: LocalSite, gate: Gate, number: signal.Signals) -> None:
    running = quick.start("run", workflow(quick.root, f"nohup setsid sleep 1000 & {gate.script}"))
    gate.wait_for_arrivals()
    running.send_signal(number)
    canceled(quick, running)


def test_an_impatient_person(quick: LocalSite, gate: Gate) -> None:
    running = quick.start("run", workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    while quick.look()[0]["state"] != "failed":
        running.send_signal(signal.SIGINT)  # faster than keys repeat
    canceled(quick, running)


@pytest.mark.parametrize("what_is_there", ["lando.db", "vms"])
def test_interrupted_at_its_beginning(quick: LocalSite, gate: Gate, what_is_there: str) -> None:
    running = quick.start("run", workflow(quick.root, gate.script))
    wait_for((quick.state / what_is_there).exists, f"{what_is_there} to be there")
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode in (1, 130)
    nothing_remains(quick)


def canceled(site: LocalSite, running: Started) -> None:
    """The run said so, and waited until nothing was left."""
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert err.count("canceling; waiting until cleanup has finished") == 1
    nothing_remains(site)
    assert site.look()[0]["outcome"] == "canceled"


def nothing_remains(site: LocalSite) -> None:
    """No process, no directory, no job in progress: now, not soon."""
    assert site.vm_processes() == []
    assert site.vms() == []
    assert {shown["state"] for shown in site.look()} <= {"failed"}


def test_run_uses_the_daemon_that_is_there(quick: LocalSite) -> None:
    daemon = quick.start_daemon()
    ran = quick.command("run", workflow(quick.root, "true"))
    assert json.loads(ran.stdout) == {}
    assert daemon.poll() is None
    quick.nothing_is_left()


def test_ctrl_c_with_a_daemon_cancels_and_spares_the_daemon(quick: LocalSite, gate: Gate) -> None:
    daemon = quick.start_daemon()
    running = quick.start("run", workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=60)
    assert running.returncode == 130
    assert quick.vms() == []
    assert daemon.poll() is None


def test_run_goes_on_when_its_daemon_ends(quick: LocalSite, gate: Gate) -> None:
    daemon = quick.start_daemon()
    running = quick.start("run", workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    daemon.terminate()
    assert daemon.wait(timeout=30) == 0
    gate.let_through()  # the run is its own daemon from now on
    out, err = running.communicate(timeout=60)
    assert (running.returncode, json.loads(out)) == (0, {}), err


def test_run_mentions_what_else_is_in_progress(quick: LocalSite, gate: Gate) -> None:
    quick.submit(workflow(quick.root, gate.script, "waits"))
    ran = quick.command("run", workflow(quick.root, "true"))
    assert "1 other job in progress; start `lando-fsm daemon` to continue" in ran.stderr


def test_a_live_view_on_a_terminal(quick: LocalSite, gate: Gate) -> None:
    terminal = quick.terminal("run", workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    terminal.wait_for("running")
    gate.let_through()
    assert terminal.wait() == 0
    assert "\x1b[" in terminal.shown
    assert "done" in terminal.text
    assert "{}" in terminal.text, "the output object"


def test_ctrl_c_on_a_terminal(quick: LocalSite, gate: Gate) -> None:
    terminal = quick.terminal("run", workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.text
    nothing_remains(quick)


def test_run_reads_nothing_of_a_pipe_and_fills_none(quick: LocalSite) -> None:
    job = workflow(quick.root, "head -c 3000000 /dev/zero | tr '\\0' 'x'; cat")
    ran = subprocess.run(
        ["sh", "-c", 'lando-fsm run "$0" 2>/dev/null | head -c 1', str(job)],
        env=quick.environment,
        cwd=quick.root,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        timeout=90,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, b"{")
