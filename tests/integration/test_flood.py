"""A flood of reports stops nothing: other jobs' commands and deadlines are in time, and it leaves no trace.

Three workers, or three that have the workers' account and no token, publish 4,000 reports a second together.
LANDO_TEST_FLOOD_SECONDS makes the flood longer than FLOOD_SECONDS.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lando.messages import Message
from lando.store.logs import MAX_LOG, MAX_ROWS
from tests.support.flood import Flood, as_json
from tests.support.local_site import wait_for, workflow
from tests.support.rabbitmq_server import Foreign, VirtualHost
from tests.support.rabbitmq_site import BrokerSite, cpu_seconds

FLOOD_SECONDS = float(os.environ.get("LANDO_TEST_FLOOD_SECONDS", "15"))
RATE = 4000.0
"""Messages a second, of all floods together."""
FLOODS = 3
IN_TIME = 2.0
"""Seconds: submit to booting, cancel to terminating, a deadline to its effect."""
RUN_TIMEOUT = FLOOD_SECONDS / 2
"""Seconds: within the flood."""
AFTERWARDS = 30.0
"""Seconds after the end of the flood until the queues are empty."""
IDLE = 0.03
"""Processor time a second of a daemon that has nothing to do."""
GROWTH = 100_000
"""Bytes of the daemon's log."""

CONFIG = """
max_workers: {max_workers}
timeouts:
  boot: 600
  silence: 600
  heartbeat: 30
  observe: 5
  grace: 10
worker:
  command: SCRIPT
"""


@pytest.fixture
def site(tmp_path: Path, least_privilege: VirtualHost) -> Iterator[BrokerSite]:
    """VMs do nothing; what their workers say is said by the test."""
    script = tmp_path / "worker.sh"
    script.write_text("#!/bin/bash\nexec sleep 100000\n")
    script.chmod(0o755)
    here = BrokerSite(tmp_path / "site", least_privilege, 20, CONFIG.replace("SCRIPT", str(script)))
    yield here
    here.close()


@pytest.mark.alone
@pytest.mark.timeout(120 + 2 * FLOOD_SECONDS + AFTERWARDS)
@pytest.mark.parametrize("tokens", ["right", "wrong"])
def test_a_flood_of_reports_stops_nothing(site: BrokerSite, tokens: str) -> None:
    daemon = site.start_daemon()
    job_file = workflow(site.root, "true")
    flooding = [site.queue_job(job_file) for _ in range(FLOODS)]
    canceled = [site.queue_job(job_file) for _ in range(3)]
    for job in (*flooding, *canceled):
        start_running(site, job)
    limited = site.queue_job(with_run_timeout(site.root, RUN_TIMEOUT))
    log_before = len(site.daemon_log())

    started = start_running(site, limited)
    with floods(site, flooding, tokens) as processes:
        time.sleep(1.0)
        took = []
        for job in canceled:
            took.append(seconds_until(site, site.queue_job, (job_file,), "booting"))
            took.append(seconds_until(site, cancel, (site, job), "terminating"))
            time.sleep(FLOOD_SECONDS / 10)
        site.wait(limited, "terminating", "failed")
        late = time.time() - started - RUN_TIMEOUT
        sent = sum(int(process.communicate(timeout=2 * FLOOD_SECONDS)[0]) for process in processes)
    ended = time.monotonic()
    print(f"{tokens} tokens: {sent} reports in {FLOOD_SECONDS:g} s; took {took}; run_timeout {late:+.1f} s")
    assert sent > RATE * FLOOD_SECONDS / 2, "the flood was none"
    assert max(took) < IN_TIME, took
    assert -0.5 < late < IN_TIME

    wait_for(lambda: waiting(site) == 0, "the queues to be empty", AFTERWARDS)
    print(f"empty after {time.monotonic() - ended:.1f} s")
    for job in flooding:
        rows, characters = log_of(site, job)
        assert rows <= MAX_ROWS
        assert characters <= MAX_LOG
        assert (characters > 0) == (tokens == "right")
    assert {site.job(job)["state"] for job in flooding} == {"running"}
    assert len(site.daemon_log()) - log_before < GROWTH
    assert site.letters() == []
    used = cpu_seconds(daemon.pid)
    time.sleep(5.0)
    assert (cpu_seconds(daemon.pid) - used) / 5.0 < IDLE
    assert "accepts no messages" not in site.daemon_log()
    assert daemon.poll() is None


def start_running(site: BrokerSite, job: str) -> float:
    """Report that the job's worker has started; when it was sent."""
    proof = wait_for(lambda: proof_of(site, job), f"the VM of job {job}")
    started = Message("worker_started", {"phase": "running"}, seq=1, **proof)
    at = time.time()
    site.publish(started, account=site.here.worker, exchange=site.here.names.reports)
    site.wait(job, "running")
    return at


def proof_of(site: BrokerSite, job: str) -> dict[str, Any] | None:
    with contextlib.suppress(AssertionError, FileNotFoundError, ValueError):
        return site.proof(job)
    return None


def with_run_timeout(root: Path, seconds: float) -> Path:
    job_file = workflow(root, "true", "limited")
    job_file.write_text(f"{job_file.read_text()}run_timeout: {seconds:g}\n")
    return job_file


@contextlib.contextmanager
def floods(site: BrokerSite, jobs: list[str], tokens: str) -> Iterator[list[subprocess.Popen[str]]]:
    """A process for each job that publishes its worker's reports."""
    broker, here = site.here.broker, site.here
    assert not isinstance(broker, Foreign)
    processes = []
    for job in jobs:
        proof = site.proof(job) if tokens == "right" else {**site.proof(job), "token": "0" * 32}
        flood = Flood(
            broker.host,
            broker.port,
            here.name,
            here.worker.username,
            here.worker.password,
            here.names.reports,
            here.queue_name,
            proof,
            RATE / FLOODS,
            FLOOD_SECONDS,
        )
        command = [sys.executable, "-m", "tests.support.flood"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        process.stdin.write(as_json(flood))
        process.stdin.close()
        process.stdin = None
        processes.append(process)
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def cancel(site: BrokerSite, job: str) -> str:
    site.publish(Message("cancel_job", job=job))
    return job


def seconds_until(site: BrokerSite, send: Any, arguments: tuple[Any, ...], state: str) -> float:
    """Send a command; how long it took until the job that it is about had been in this state."""
    begun = time.monotonic()
    job = send(*arguments)
    wait_for(lambda: state in site.path(job), f"job {job} to be {state}", 60)
    return round(time.monotonic() - begun, 2)


def waiting(site: BrokerSite) -> int:
    """Messages in the queues."""
    assert not isinstance(site.here.broker, Foreign)
    listed = site.here.broker.ctl("list_queues", "-q", "--no-table-headers", "-p", site.here.name, "messages")
    return sum(map(int, listed.split()))


def log_of(site: BrokerSite, job: str) -> tuple[int, int]:
    """Rows and characters."""
    with contextlib.closing(sqlite3.connect(site.state / "lando.db")) as connection:
        query = "SELECT count(*), coalesce(sum(length(text)), 0) FROM logs WHERE job_id = ?"
        rows, characters = connection.execute(query, (job,)).fetchone()
        return rows, characters
