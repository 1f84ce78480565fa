"""The daemon: its life, whom it admits, what it does when a VM dies or stalls, what it keeps secret."""

from __future__ import annotations

import base64
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.local_site import QUICK, Gate, LocalSite, wait_for, workflow


@contextmanager
def site_with(root: Path, config: str, max_workers: int = 4) -> Iterator[LocalSite]:
    here = LocalSite(root, config=config, max_workers=max_workers)
    try:
        yield here
    finally:
        here.close()


def with_times(**seconds: float) -> str:
    """The quick site's configuration with other timeouts."""
    config = QUICK
    for name, value in seconds.items():
        config, changed = re.subn(rf"(?m)^  {name}: .*$", f"  {name}: {value}", config)
        if not changed:
            config = config.replace("timeouts:\n", f"timeouts:\n  {name}: {value}\n")
    return config


# life


def test_it_says_what_it_serves_and_notifies_systemd(quick: LocalSite) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(quick.root / "notify"))
        systemd.settimeout(60)
        daemon = quick.start_daemon(NOTIFY_SOCKET=str(quick.root / "notify"))
        assert systemd.recv(100) == b"READY=1"
    assert f"configuration: {quick.config}; state: {quick.state}" in quick.daemon_log()
    assert f"daemon: pid {daemon.pid}" in quick.command("status").stderr


def test_a_second_daemon_says_so_and_exits_2(quick: LocalSite) -> None:
    first = quick.start_daemon()
    second = quick.command("daemon", check=False)
    assert (second.returncode, second.stdout) == (2, "")
    assert f"{quick.state}: a daemon runs here already (pid {first.pid})" in second.stderr
    assert first.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_soon_and_jobs_go_on(quick: LocalSite, gate: Gate, number: signal.Signals) -> None:
    tally = quick.root / "tally"
    job = quick.submit(workflow(quick.root, f"{gate.script}echo done >> {tally}\n"))
    first = quick.start_daemon()
    gate.wait_for_arrivals()
    began = time.monotonic()
    first.send_signal(number)
    assert first.wait(timeout=30) == 0
    assert time.monotonic() - began < 5
    assert quick.vm_processes() != []
    assert "no daemon is running" in quick.job(job)["reason"]
    gate.let_through()
    wait_for(tally.exists, "the workflow to end without a daemon")
    quick.start_daemon()
    assert quick.wait(job, "done", "failed")["attempt"] == 1
    assert quick.path(job) == ["queued", "booting", "running", "terminating", "done"]
    assert tally.read_text() == "done\n", "it ran once"
    quick.nothing_is_left()


def test_shutdown_server_ends_it(quick: LocalSite) -> None:
    daemon = quick.start_daemon()
    quick.command(quick.config, "shutdown_server", program="lando-client")
    assert daemon.wait(timeout=30) == 0


def test_a_shutdown_server_of_before_its_start_is_ignored(quick: LocalSite) -> None:
    quick.command(quick.config, "shutdown_server", program="lando-client")
    job = quick.submit(workflow(quick.root, "true"))
    daemon = quick.start_daemon()
    assert quick.wait(job, "done", "failed")["state"] == "done"
    assert daemon.poll() is None
    assert "shutdown_server ignored: it was sent before this daemon started" in quick.daemon_log()


def test_a_command_while_another_process_holds_the_database(quick: LocalSite) -> None:
    quick.start_daemon()
    holder = hold(quick, seconds=1.0)
    began = time.monotonic()
    job = quick.submit(workflow(quick.root, "true"))
    holder.wait(timeout=60)
    assert time.monotonic() - began > 0.5, "it waited"
    assert quick.wait(job, "done", "failed")["state"] == "done"


def test_status_while_another_process_migrates(quick: LocalSite) -> None:
    job = quick.submit(workflow(quick.root, "true"))  # makes the queue's tables only
    holder = hold(quick, seconds=1.0)
    assert [shown["id"] for shown in quick.status()] == [job]
    holder.wait(timeout=60)


def hold(site: LocalSite, seconds: float) -> subprocess.Popen[bytes]:
    """Another process that holds the database's write lock, as a migration does, for a while."""
    code = (
        "import sqlite3, sys, time\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('BEGIN IMMEDIATE')\n"
        "print('held', flush=True)\n"
        "time.sleep(float(sys.argv[2]))\n"  # how long a migration takes is what is tested
        "connection.execute('COMMIT')\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(site.state / "lando.db"), str(seconds)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"held\n"
    return holder


def test_a_newer_schema_is_refused_by_every_command(quick: LocalSite) -> None:
    quick.submit(workflow(quick.root, "true"))
    quick.status()
    with closing(sqlite3.connect(quick.state / "lando.db")) as connection, connection:
        for table in ("alembic_version", "oldest_version"):
            connection.execute(f"UPDATE {table} SET version_num = '9999'")
    for arguments in (["daemon"], ["status"]):
        said = quick.command(*arguments, check=False)
        assert (said.returncode, said.stdout) == (2, "")
        assert "its schema (9999) is newer than this lando-fsm knows" in said.stderr


# admission


def test_priority_first_then_first_come_first_served(tmp_path: Path) -> None:
    with site_with(tmp_path, QUICK, max_workers=1) as site:
        order = tmp_path / "order"
        names = {"first": 0, "second": 0, "low": -1, "high": 5}
        for name, priority in names.items():
            job_file = workflow(tmp_path, f"echo {name} >> {order}", name)
            job_file.write_text(f"{job_file.read_text()}priority: {priority}\n")
            site.submit(job_file)
        site.start_daemon()
        site.wait_all_ended([job["id"] for job in site.look()])
        assert order.read_text().split() == ["high", "first", "second", "low"]


# VMs that die or stall


def test_a_lost_server_is_replaced(quick: LocalSite, gate: Gate) -> None:
    quick.start_daemon()
    job = quick.submit(workflow(quick.root, gate.script))
    gate.wait_for_arrivals()
    os.kill(quick.launcher(), signal.SIGKILL)
    gate.wait_for_arrivals(2)
    gate.let_through(2)
    shown = quick.wait(job, "done", "failed")
    assert (shown["state"], shown["attempt"], shown["failures"]) == ("done", 2, 1)
    assert quick.path(job) == [
        *("queued", "booting", "running", "terminating"),
        *("queued", "booting", "running", "terminating", "done"),
    ]
    lost = quick.command("history", job).stdout
    assert "server_lost" in lost
    quick.nothing_is_left()


def test_attempts_are_exhausted(quick: LocalSite, gate: Gate) -> None:
    job_file = workflow(quick.root, gate.script)
    job_file.write_text(job_file.read_text() + "attempts: 2\n")
    quick.start_daemon()
    job = quick.submit(job_file)
    for attempt in (1, 2):
        gate.wait_for_arrivals(attempt)
        os.kill(quick.launcher(), signal.SIGKILL)
    shown = quick.wait(job, "failed")
    assert (shown["outcome"], shown["attempt"], shown["failures"]) == ("system_failed", 2, 2)
    assert "the VM was lost" in shown["reason"]
    assert "failure 2 of 2" in shown["reason"]
    quick.nothing_is_left()


def test_a_silent_worker_is_given_up(tmp_path: Path, gate: Gate) -> None:
    with site_with(tmp_path, with_times(heartbeat=0.5, silence=2)) as site:
        site.start_daemon()
        job = site.submit(workflow(tmp_path, gate.script))
        gate.wait_for_arrivals()
        site.wait(job, "running")  # its worker's first report was received
        stop_worker(site)
        gate.wait_for_arrivals(2)
        gate.let_through(2)
        shown = site.wait(job, "done", "failed")
        assert (shown["state"], shown["attempt"]) == ("done", 2)
        assert "worker_lost" in site.command("history", job).stdout
        site.nothing_is_left()


def stop_worker(site: LocalSite) -> None:
    """Stop everything but the VM's init, at a moment when nothing of it holds the database's lock."""
    processes = [pid for pid in site.vm_processes() if pid != site.launcher()]

    def stopped() -> bool:
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        with closing(sqlite3.connect(site.state / "lando.db", timeout=1, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return True
            except sqlite3.OperationalError:
                for pid in processes:
                    os.kill(pid, signal.SIGCONT)
                return False

    wait_for(stopped, "the worker to be stopped")


def test_a_workflow_that_runs_too_long(quick: LocalSite, gate: Gate) -> None:
    job_file = workflow(quick.root, f"echo slow; {gate.script}")
    job_file.write_text(job_file.read_text() + "run_timeout: 2\n")
    quick.start_daemon()
    job = quick.submit(job_file)
    shown = quick.wait(job, "failed")
    assert (shown["outcome"], shown["attempt"]) == ("workflow_failed", 1), "final"
    assert "the workflow ran longer than 2 s (run_timeout)" in shown["reason"]
    quick.nothing_is_left()


def test_a_vm_that_never_reports(tmp_path: Path) -> None:
    never = tmp_path / "never"
    never.write_text("#!/bin/sh\necho up and idle\nsleep 1000\n")
    never.chmod(0o755)
    with site_with(tmp_path, f"{with_times(boot=1)}  command: {never}\n") as site:
        job_file = workflow(tmp_path, "true")
        job_file.write_text(job_file.read_text() + "attempts: 2\n")
        site.start_daemon()
        job = site.submit(job_file)
        shown = site.wait(job, "failed")
        assert (shown["outcome"], shown["attempt"]) == ("system_failed", 2)
        assert "the worker did not report within 1 s (boot_timeout)" in shown["reason"]
        assert site.command("logs", "--console", job).stdout == "up and idle\n"
        assert site.path(job).count("booting") == 2
        site.nothing_is_left()


# secrets


class Repository(SimpleHTTPRequestHandler):
    """Files of a repository, for who knows the password."""

    password = "url-s3cret/@"

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(f"robot:{self.password}".encode()).decode()
        if self.headers.get("Authorization") == expected:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="x"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[int]:
    """The port of an HTTP server that has ``wf.git`` of ``tmp_path/wf``."""
    git = ["git", "-c", "user.name=T", "-c", "user.email=t@example.org"]
    work, bare = tmp_path / "wf", tmp_path / "served" / "wf.git"
    for command in (
        ["init", "--quiet"],
        ["add", "."],
        ["commit", "--quiet", "--message", "x"],
        ["clone", "--quiet", "--bare", str(work), str(bare)],
        ["--git-dir", str(bare), "update-server-info"],
    ):
        work.mkdir(exist_ok=True)
        (work / "tool.cwl").touch()
        (work / "script.sh").write_text(LEAKY)
        subprocess.run([*git, *command], cwd=work, check=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Repository, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


SECRETS = (
    *("input-s3cret", "deep-s3cret", "url-s3cret", "pair-s3cret", "hash#s3cret", "query-s3cret"),
    *("user-s3cret", "header-s3cret", "option-s3cret", "label-s3cret", "aW5wdXQtczNjcmV0"),
)
LEAKY = """
echo "a workflow prints input-s3cret and deep-s3cret and not-secret"
echo "arrived" > "$LANDO_VM_DIR/../../../arrived"
read -r line < "$LANDO_VM_DIR/../../../gate"
echo "again input-s3cret"
echo "pair-s3cret hash#s3cret query-s3cret user-s3cret header-s3cret option-s3cret" >&2
printf 'base64: '; printf input-s3cret | base64
printf 'in two '; printf 'pair-s3'; sleep 0.1; printf 'cret pieces\n'
exit 5
"""


def test_no_secret_is_shown_or_passed(quick: LocalSite, repository: int) -> None:
    os.mkfifo(quick.root / "gate")
    job_file = quick.root / "secret.yml"
    job_file.write_text(
        f"git_clone: 'http://robot:url-s3cret%2F%40@127.0.0.1:{repository}/wf.git'\n"
        "cd: wf\nrun_cwl: tool.cwl\n"
        "input:\n  password: input-s3cret\n  nested: {api_key: deep-s3cret}\n  word: not-secret\n"
        "  env: [{name: DB_PASSWORD, value: pair-s3cret}]\n"
        "  addresses: ['https://bob:hash#s3cret@host/x', 'https://host/x?private_token=query-s3cret',\n"
        "    'https://user-s3cret@host/x']\n"
        "  headers: ['Authorization: Bearer header-s3cret']\n"
        "cwl_args: [--token, option-s3cret]\n"
        "name: run with option-s3cret\nlabels: {token: label-s3cret, who: by label-s3cret}\n"
    )
    quick.fresh = True  # as a person starts them: processes show their arguments
    quick.start_daemon(make_state=False)  # the modes of its files are part of what is tested
    job = quick.submit(job_file)
    wait_for((quick.root / "arrived").exists, "the workflow to run")
    everyone = "".join(filter(None, map(argv, Path("/proc").iterdir())))
    # The site's own runner has no other way to get its options.
    everyone = everyone.replace("--token\0option-s3cret", "")
    assert "lando-fsm" in everyone, "the scan sees processes"
    console = next((quick.state / "vms").glob("*/console.log")).read_text()
    private(quick)
    (quick.root / "gate").write_text("go\n")
    shown = quick.wait(job, "failed")
    assert shown["exit_code"] == 5
    commands = (
        ["status", job],
        ["status", "--json"],
        ["history", job],
        ["history", "--json", job],
        ["logs", job],
    )
    said = [quick.command(*arguments) for arguments in commands]
    logs = said[-1].stdout
    assert "a workflow prints *** and *** and not-secret" in logs
    assert "base64: ***" in logs and "in two *** pieces" in logs
    assert shown["name"] == "run with ***" and shown["labels"] == {"token": "***", "who": "by ***"}
    everything = "\n".join(
        [everyone, console, quick.daemon_log(), *(each.stdout + each.stderr for each in said)]
    )
    assert [secret for secret in SECRETS if secret in everything] == []


def argv(process: Path) -> str:
    try:
        return (process / "cmdline").read_text(errors="replace") if process.name.isdigit() else ""
    except OSError:
        return ""


def private(site: LocalSite) -> None:
    """Nobody else may look into the state directory, nor into the files there that hold secrets."""
    assert stat.S_IMODE(site.state.stat().st_mode) == 0o700
    vm = next((site.state / "vms").iterdir())
    files = [path for path in (*site.state.iterdir(), *vm.iterdir()) if not path.is_dir()]
    names = {path.name for path in files}
    assert {"lando.db", "daemon.lock", "user_data", "worker.json", "parameters.yml"} <= names
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files}
    assert modes == dict.fromkeys(names, "0o600")


def test_a_password_in_an_address_that_does_not_answer(quick: LocalSite) -> None:
    job_file = quick.root / "job.yml"
    job_file.write_text(
        "git_clone: file://robot:url-s3cret@nowhere/wf.git\ncd: .\ninput: {}\nrun_cwl: tool.cwl\n"
    )
    said = quick.command("submit", job_file, check=False)
    assert said.returncode == 2
    assert "url-s3cret" not in said.stderr
