"""The system while the broker is stopped, killed, hanging or unreachable, and the daemon killed or hung."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pika import frame, spec

from lando.redaction import Secret
from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker as Address
from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher
from tests.support.local_site import BIN, QUICK, Gate, wait_for, workflow
from tests.support.rabbitmq_server import HOST, Broker, VirtualHost
from tests.support.rabbitmq_site import BrokerSite

JOBS = min(200, int(os.environ.get("LANDO_TEST_CRASH_JOBS", "80")))
"""``make crash`` has 200."""
SUBMITTERS = 8
BROKER_FAILURES, DAEMON_KILLS = 5, 5
LONGEST = 400.0
"""Seconds that the whole test may take; on an idle machine it takes less than half."""

SILENCE = 5
NERVOUS = QUICK.replace("silence: 60", f"silence: {SILENCE}")
"""A site that declares a silent worker lost soon."""

HANGS = 20.0
"""Seconds; longer than two heartbeats of the connection, and than ``silence``."""

CONNECTION_FORCED = 320
"""The reply code of a broker that stops: https://www.rabbitmq.com/amqp-0-9-1-reference#constants"""


def counted(root: Path, name: str, script: str = "") -> tuple[Path, Path]:
    """A job with one attempt, and the file into which each of its runs writes a line."""
    tally = root / f"{name}.tally"
    job = workflow(root, f'{script}\necho "$PWD" >> {tally}\n', name)
    job.write_text(job.read_text() + "attempts: 1\n")  # so that no retry hides a failure of the system
    return job, tally


def runs(tally: Path) -> int:
    return len(tally.read_text().splitlines()) if tally.exists() else 0


# many failures


@pytest.mark.timeout(LONGEST + 60)
def test_jobs_through_broker_failures_and_daemon_kills(
    tmp_path: Path, private_broker: Broker, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)
    begun = time.monotonic()
    site = BrokerSite(tmp_path / "site", private_broker.virtual_host(), max_workers=8)
    try:
        site.start_daemon()
        job, tally = counted(site.root, "wf")
        with ThreadPoolExecutor(SUBMITTERS + 2) as threads:
            submitted = [threads.submit(submit_share, site, job, f"{seed}-{n}") for n in range(SUBMITTERS)]
            failures = threads.submit(fail_broker, private_broker, random.Random(f"{seed}-broker"))
            kills = threads.submit(kill_daemons, site, random.Random(f"{seed}-daemon"))
            assert kills.result() == DAEMON_KILLS, f"seed {seed}"
            how = failures.result()
            shares = [share.result() for share in submitted]
        jobs = [job_id for share in shares for job_id in share]
        tries = sum(tries for share in shares for tries in share.values())
        remaining = begun + LONGEST - time.monotonic()
        wait_for(lambda: ended(site) == JOBS, f"{JOBS} jobs to end (seed {seed})", remaining)

        found = site.look()
        assert {job["id"] for job in found} == set(jobs), f"seed {seed}"
        assert {(job["state"], job["attempt"]) for job in found} == {("done", 1)}, f"seed {seed}: {found}"
        lines = tally.read_text().splitlines()
        assert len(lines) == len(set(lines)) == JOBS, f"seed {seed}"
        site.nothing_is_left()
        assert "bug" not in site.logs_of_all_daemons(), f"seed {seed}"
        record_property(
            "seen",
            f"{JOBS} jobs done once each, by {SUBMITTERS} submitters in {tries} tries; broker: "
            f"{', '.join(how)}; daemon killed {DAEMON_KILLS} times; "
            f"{time.monotonic() - begun:.0f} s; seed {seed}",
        )
    finally:
        site.close()


def ended(site: BrokerSite) -> int:
    return sum(job["state"] in ("done", "failed") for job in site.look())


def submit_share(site: BrokerSite, job: Path, seed: str) -> dict[str, int]:
    """Submit a part of the jobs, each until its command succeeds. Returns the number of tries."""
    chance = random.Random(seed)
    return {job_id: submit(site, job, job_id, chance) for job_id in random_ids(chance, JOBS // SUBMITTERS)}


def random_ids(chance: random.Random, count: int) -> list[str]:
    return [str(uuid.UUID(int=chance.getrandbits(128), version=4)) for _ in range(count)]


def submit(site: BrokerSite, job: Path, job_id: str, chance: random.Random) -> int:
    """Kill some commands before or after the confirm."""
    tries = 1
    while chance.random() < 0.1:
        tries += 1
        dying = site.client.start("start_worker", job, "--id", job_id)
        with contextlib.suppress(subprocess.TimeoutExpired):
            dying.wait(chance.uniform(0.2, 2.0))
        dying.kill()
        dying.communicate()
    while True:
        process = site.client.start("start_worker", job, "--id", job_id)
        out, err = process.communicate(timeout=120)
        if process.returncode == 0:
            assert out.strip() == job_id
            return tries
        assert process.returncode == 1, err
        assert f"submit it again with --id {job_id}" in err
        tries += 1


def fail_broker(broker: Broker, chance: random.Random) -> list[str]:
    """Stop and start the broker again and again. Returns how it was stopped."""
    how = []
    for _ in range(BROKER_FAILURES):
        time.sleep(chance.uniform(2, 6))  # a random moment is what is tested
        way = chance.choice(("stopped", "killed"))
        (broker.stop if way == "stopped" else broker.kill)()
        time.sleep(chance.uniform(0, 3))
        broker.start()
        how.append(way)
    return how


def kill_daemons(site: BrokerSite, chance: random.Random) -> int:
    """Kill the daemon again and again; the next one starts at once, also if the broker is down."""
    for _ in range(DAEMON_KILLS):
        time.sleep(chance.uniform(3, 15))  # a random moment is what is tested
        dying = site.daemons[-1]
        assert dying.poll() is None, site.daemon_log()
        dying.kill()
        dying.wait()
        site.start_daemon(ready=False)
    return DAEMON_KILLS


# the broker is down


def test_jobs_continue_after_the_broker_was_down(tmp_path: Path, private_broker: Broker, gate: Gate) -> None:
    """Meanwhile one job's worker starts, and another's ends; a third job is queued, and a fourth ends."""
    site = BrokerSite(tmp_path / "site", private_broker.virtual_host(), 3, NERVOUS + held_back(tmp_path))
    try:
        site.start_daemon()
        (tmp_path / "go").touch()
        running, ran = counted(site.root, "running", gate.script)
        ends_meanwhile = site.queue_job(running)
        stubborn = workflow(site.root, f"trap '' TERM\n{gate.script}", "stubborn")
        canceled = site.queue_job(stubborn)
        gate.wait_for_arrivals(2)
        (tmp_path / "go").unlink()
        starting, started = counted(site.root, "starting")
        starts_meanwhile = site.queue_job(starting)
        wait_for((tmp_path / "held").exists, "the third VM to start")
        waits = site.queue_job(starting)
        site.wait(waits, "queued")
        site.command("cancel", canceled)
        site.wait(canceled, "terminating")

        private_broker.kill()
        tells_of_disconnection(site, ends_meanwhile)
        assert site.job(canceled)["state"] == "terminating"
        assert len(site.vms()) == 3
        # Deletions are completed; no job is given up.
        assert site.wait(canceled, "failed")["outcome"] == "canceled"
        wait_for(lambda: len(site.vms()) == 2, "the VM of the canceled job to be gone")
        (tmp_path / "go").touch()
        wait_for(lambda: runs(started) == 1, "the workflow of the second job to run")
        time.sleep(SILENCE + 1)  # no worker may be declared lost
        gate.let_through()
        wait_for(lambda: runs(ran) == 1, "the workflow of the first job to end")
        wait_for(lambda: results_on_disk(site) == 2, "both results to wait on disk", 20)
        assert site.job(ends_meanwhile)["state"] == "running"
        assert site.job(starts_meanwhile)["state"] == "booting"
        assert site.job(waits)["state"] == "queued"

        private_broker.start()
        for job in (ends_meanwhile, starts_meanwhile, waits):
            found = site.wait(job, "done", "failed")
            assert (found["state"], found["attempt"]) == ("done", 1), (found, site.daemon_log())
        assert (runs(ran), runs(started)) == (1, 2)
        assert "disconnected" not in site.command("status").stderr
        assert re.search(r"connected to the work queue after \d", site.daemon_log())
        causes = re.findall(r"disconnected from the work queue since \S+: (.*)", site.daemon_log())
        assert causes and len(causes) == len(set(causes)), causes
        site.nothing_is_left()
    finally:
        site.close()


def held_back(root: Path) -> str:
    """A worker that writes the file ``held``, and starts once the file ``go`` exists."""
    command = root / "worker.sh"
    held, go = root / "held", root / "go"
    command.write_text(
        f"#!/bin/bash\nuntil [ -e {go} ]; do touch {held}; sleep 0.1; done\n"
        f'exec {BIN.parents[1] / "lando_worker.sh"} "$@"\n'
    )
    command.chmod(0o755)
    return f"  command: {command}\n"


def results_on_disk(site: BrokerSite) -> int:
    """Number of VMs on which a final report is in the spool."""
    reports = (json.loads(file.read_text()) for file in (site.state / "vms").rglob("spool/*/0*.json"))
    return sum(report["type"] == "workflow_finished" for report in reports)


def tells_of_disconnection(site: BrokerSite, job: str) -> None:
    """Assert that status shows it, for all jobs and for one."""
    wait_for(lambda: "disconnected from the work queue since" in site.daemon_log(), "the log to say so", 20)
    words = "the daemon has been disconnected from the work queue since 20"
    wait_for(lambda: words in site.job(job)["reason"], "status to say so", 5)
    assert words in site.status()[0]["reason"]
    table = site.command("status")
    assert words in table.stderr and job[:8] in table.stdout
    detail = site.command("status", job)
    assert words in detail.stderr and job in detail.stdout
    assert f"broker at {HOST}:{site.here.broker.port}" in detail.stderr


@pytest.mark.parametrize("said", [None, CONNECTION_FORCED])
def test_a_login_that_the_broker_interrupts_is_not_reported_as_a_wrong_password(said: int | None) -> None:
    """As when the broker stops during a login: it is an error that is retried."""
    with socket.create_server((HOST, 0)) as listener, ThreadPoolExecutor(1) as threads:
        threads.submit(cut_login_short, listener, said)
        address = Address(HOST, listener.getsockname()[1], "/", "somebody", Secret("a password"))
        publisher = RabbitMQPublisher(address, "exchange", "key", patience=10)
        with pytest.raises(QueueUnavailable):
            publisher.publish(b"")


def cut_login_short(listener: socket.socket, said: int | None) -> None:
    """Answer as a broker does, up to the login."""
    properties = {"product": "RabbitMQ", "version": "3.10.8"}
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(10)
        connection.recv(8)
        connection.sendall(
            frame.Method(0, spec.Connection.Start(0, 9, properties, "PLAIN", "en_US")).marshal()
        )
        connection.recv(65536)
        if said is not None:
            connection.sendall(frame.Method(0, spec.Connection.Close(said, "going down", 0, 0)).marshal())
            connection.recv(65536)


def test_no_worker_is_lost_during_an_alarm_of_the_broker(
    tmp_path: Path, private_broker: Broker, gate: Gate
) -> None:
    """A broker that accepts no messages shows an empty queue to a connection that only reads."""
    site = BrokerSite(tmp_path / "site", private_broker.virtual_host(), config=NERVOUS)
    try:
        site.start_daemon()
        job, tally = counted(site.root, "wf", gate.script)
        running = site.queue_job(job)
        gate.wait_for_arrivals()
        site.wait(running, "running")
        private_broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 1})")
        wait_for(
            lambda: (
                "accepts no messages at present" in site.job(running)["reason"]
                or "disconnected" in site.job(running)["reason"]
            ),
            "status to say so",
            15,
        )
        time.sleep(8)  # longer than ``silence``
        assert site.job(running)["state"] == "running", site.daemon_log()
        private_broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.6)")
        gate.let_through()
        found = site.wait(running, "done", "failed")
        assert (found["state"], found["attempt"]) == ("done", 1), (found, site.daemon_log())
        assert runs(tally) == 1
        assert site.daemon_log().count("accepts no messages at present") <= 2  # the second with the reason
        site.nothing_is_left()
    finally:
        site.close()


# the broker or the daemon hangs


def test_jobs_continue_after_the_broker_hung(tmp_path: Path, private_broker: Broker, gate: Gate) -> None:
    site = BrokerSite(tmp_path / "site", private_broker.virtual_host(), config=NERVOUS, heartbeat=5)
    try:
        site.start_daemon()
        job, tally = counted(site.root, "wf", gate.script)
        running = site.queue_job(job)
        gate.wait_for_arrivals()
        site.wait(running, "running")
        private_broker.pause()
        begun = time.monotonic()
        submitting = site.client.start("start_worker", job)
        wait_for(lambda: "disconnected" in site.daemon_log(), "the daemon to notice", 18)
        gate.let_through(2)
        time.sleep(max(0.0, begun + HANGS - time.monotonic()))
        assert site.job(running)["state"] == "running"
        private_broker.resume()
        out, err = submitting.communicate(timeout=90)
        assert submitting.returncode == 0, err
        for job_id in (running, out.strip()):
            found = site.wait(job_id, "done", "failed")
            assert (found["state"], found["attempt"]) == ("done", 1), (found, site.daemon_log())
        assert runs(tally) == 2
        site.nothing_is_left()
    finally:
        private_broker.resume()
        site.close()


def test_jobs_continue_after_the_daemon_hung(
    tmp_path: Path, least_privilege: VirtualHost, gate: Gate
) -> None:
    site = BrokerSite(tmp_path / "site", least_privilege, config=NERVOUS, heartbeat=5)
    try:
        daemon = site.start_daemon()
        job, tally = counted(site.root, "wf", gate.script)
        jobs = [site.queue_job(job) for _ in range(2)]
        gate.wait_for_arrivals(2)
        for job_id in jobs:
            site.wait(job_id, "running")
        daemon.send_signal(signal.SIGSTOP)
        gate.let_through()  # one workflow ends while the broker hangs, the other later
        queued = site.queue_job(job)
        time.sleep(HANGS)
        daemon.send_signal(signal.SIGCONT)
        gate.wait_for_arrivals(3)
        gate.let_through(2)
        for job_id in (*jobs, queued):
            found = site.wait(job_id, "done", "failed")
            assert (found["state"], found["attempt"]) == ("done", 1), (found, site.daemon_log())
        assert runs(tally) == 3
        site.nothing_is_left()
    finally:
        site.close()


# a network that loses packets


class Proxy:
    """Forwards connections to a broker, and can leave them half open."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._swallow = threading.Event()
        self._end = threading.Event()
        self.accepted = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def swallow(self) -> None:
        """Existing connections stay open, but nothing is forwarded any more."""
        self._swallow.set()
        wait_for(lambda: not self._swallow.is_set(), "the proxy", 5)

    def close(self) -> None:
        self._end.set()
        self._thread.join(10)
        for end in (self._listener, *self._pairs):
            end.close()

    def _run(self) -> None:
        while not self._end.is_set():
            if self._swallow.is_set():
                for end in self._pairs:
                    with contextlib.suppress(KeyError):
                        self._selector.unregister(end)
                self._swallow.clear()
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, socket.socket):
                    self._pass_on(key.fileobj)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        self.accepted += 1
        far = socket.create_connection((HOST, self._to))
        self._pairs[near], self._pairs[far] = far, near
        for end in (near, far):
            self._selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, end: socket.socket) -> None:
        other = self._pairs[end]
        try:
            read = end.recv(65536)
            if read:
                other.sendall(read)
                return
        except OSError:
            pass
        for each in (end, other):
            self._selector.unregister(each)
            self._pairs.pop(each)
            each.close()


@pytest.fixture
def proxy(least_privilege: VirtualHost) -> Iterator[Proxy]:
    here = Proxy(least_privilege.broker.port)
    yield here
    here.close()


def test_daemon_and_workers_recover_from_half_open_connections(
    tmp_path: Path, least_privilege: VirtualHost, proxy: Proxy, gate: Gate
) -> None:
    site = BrokerSite(tmp_path / "site", least_privilege, heartbeat=5, port=proxy.port)
    try:
        site.start_daemon()
        job, tally = counted(site.root, "wf", gate.script)
        running = site.queue_job(job)
        gate.wait_for_arrivals()
        site.wait(running, "running")
        proxy.swallow()
        before = proxy.accepted
        queued = site.queue_job(job)  # not through the proxy
        wait_for(lambda: "disconnected from the work queue" in site.daemon_log(), "the daemon to notice", 20)
        wait_for(lambda: "connected to the work queue after" in site.daemon_log(), "it to connect", 40)
        gate.let_through(2)
        for job_id in (running, queued):
            found = site.wait(job_id, "done", "failed")
            assert (found["state"], found["attempt"]) == ("done", 1), (found, site.daemon_log())
        assert runs(tally) == 2
        assert proxy.accepted > before
        site.nothing_is_left()
    finally:
        site.close()
