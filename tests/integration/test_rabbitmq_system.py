"""The system on a real RabbitMQ: a walkthrough, repeated and shuffled messages, rubbish, hostile workers."""

from __future__ import annotations

import json
import pickle
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from lando.daemon.ignored_reports import EVERY
from lando.messages import Message
from lando.redaction import Secret
from lando.workqueue.rabbitmq.broker import Broker as Address
from lando.workqueue.rabbitmq.classify import ACCESS_REFUSED, PRECONDITION_FAILED
from lando.workqueue.rabbitmq.publisher import OutgoingMessage, RabbitMQPublisher
from lando.workqueue.rabbitmq.queue_reader import FENCE
from tests.support.local_site import CONFIG, Gate, wait_for, workflow
from tests.support.rabbitmq_server import HOST, Account, Broker, VirtualHost
from tests.support.rabbitmq_site import BrokerSite, cpu_seconds, within

EXAMPLES = Path(__file__).parents[2] / "examples"
AT_ONCE = 4.0
"""Seconds within which rubbish must be dead-lettered, on a machine where other tests run: at its first
delivery, which no back-off delays."""


@pytest.fixture
def site(tmp_path: Path, least_privilege: VirtualHost) -> Iterator[BrokerSite]:
    here = BrokerSite(tmp_path / "site", least_privilege)
    yield here
    here.close()


# the walkthrough


def test_walkthrough(tmp_path: Path, least_privilege: VirtualHost) -> None:
    site = BrokerSite(tmp_path / "site", least_privilege, config=CONFIG)
    try:
        daemon = site.start_daemon()
        job = site.client.command("start_worker", EXAMPLES / "toyworkflow.yml")
        assert str(uuid.UUID(job)) == job
        assert site.wait(job, "done", "failed")["state"] == "done", site.daemon_log()
        assert site.job(job)["submitted_by"] == least_privilege.client.username
        assert json.loads(site.command("outputs", "--json", job).stdout)
        assert site.client.command("shutdown_server") == ""
        assert daemon.wait(20) == 0
        site.nothing_is_left()
    finally:
        site.close()


def test_terminate_worker(site: BrokerSite, gate: Gate) -> None:
    site.start_daemon()
    job = site.queue_job(workflow(site.root, gate.script))
    gate.wait_for_arrivals()
    vm = site.job(job)["vm"]["name"]
    site.client.command("terminate_worker", "no-such-vm")
    site.client.command("terminate_worker", vm)
    assert site.wait(job, "failed", "done")["outcome"] == "canceled"
    assert "no job has a server named 'no-such-vm'" in site.daemon_log()
    site.nothing_is_left()


# every message twice, and in any order


class Shuffler:
    """Between the exchanges and the queues: forwards messages in another order, and each a second time.

    The daemon's own fences are forwarded as they come.

    Args:
        here: where a daemon has declared everything.
        chance: decides the order.
    """

    WINDOW = 12
    PATIENCE = 0.2
    """Seconds during which messages are collected."""
    DUE = 0.2
    """Probability that a copy is forwarded with a window."""
    KEY = "shuffled"

    def __init__(self, here: VirtualHost, chance: random.Random) -> None:
        self.passed_on = 0
        self.out_of_order = 0
        self._latest = 0
        self._has_window = True
        self._copies: list[tuple[Any, Any, bytes]] = []
        self._here = here
        self._chance = chance
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        names = here.names
        self._staging = f"{names.queue}.staging"
        with here.connect(here.admin) as connection:
            channel = connection.channel()
            channel.queue_declare(self._staging, durable=True)
            for queue, exchange in ((names.queue, names.commands), (names.reports, names.reports)):
                channel.queue_bind(queue, exchange, self.KEY)
                channel.queue_bind(self._staging, exchange, names.queue)
                channel.queue_unbind(queue, exchange, names.queue)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def is_done(self) -> bool:
        """Whether everything was forwarded twice."""
        return not self._has_window and not self._copies

    def _run(self) -> None:
        with self._here.connect(self._here.admin) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            while not self._end.is_set():
                self._pass_on(channel, self._window(channel))

    def _window(self, channel: BlockingChannel) -> list[tuple[Any, Any, bytes]]:
        window: list[tuple[Any, Any, bytes]] = []
        deadline = time.monotonic() + self.PATIENCE
        while len(window) < self.WINDOW and time.monotonic() < deadline:
            method, properties, raw = channel.basic_get(self._staging)
            if method is None:
                time.sleep(0.02)
            elif FENCE in (properties.headers or {}):
                channel.basic_publish(method.exchange, self.KEY, raw, properties, mandatory=True)
                channel.basic_ack(method.delivery_tag)
            else:
                self._has_window = True
                window.append((method, properties, raw))
        self._has_window = bool(window)
        return window

    def _pass_on(self, channel: BlockingChannel, window: list[tuple[Any, Any, bytes]]) -> None:
        late = [copy for copy in self._copies if self._chance.random() < self.DUE]
        mixed = self._chance.sample([*window, *late], len(window) + len(late))
        for method, properties, raw in mixed:
            self.out_of_order += method.delivery_tag < self._latest
            self._latest = max(self._latest, method.delivery_tag)
            channel.basic_publish(method.exchange, self.KEY, raw, properties, mandatory=True)
            self.passed_on += 1
        self._copies = [copy for copy in self._copies if copy not in late] + window
        for method, _, _ in window:
            channel.basic_ack(method.delivery_tag)


def test_every_message_twice_and_shuffled(site: BrokerSite, gate: Gate) -> None:
    seed = random.randrange(2**32)
    site.start_daemon()
    shuffler = Shuffler(site.here, random.Random(seed))
    try:
        tally = site.root / "tally"
        overtaken = [str(uuid.uuid4()) for _ in range(3)]
        site.publish(*[Message("cancel_job", job=job) for job in overtaken])
        wait_for(lambda: shuffler.passed_on >= len(overtaken), "the cancels to go before their jobs")
        for job in overtaken:
            site.queue_job(job_that_tells(site.root, tally, "overtaken"), job)
        plain = [site.queue_job(job_that_tells(site.root, tally, f"plain{n}")) for n in range(12)]
        again = [site.queue_job(failing_once(site.root, tally, f"again{n}")) for n in range(2)]
        vain = [site.queue_job(job_that_tells(site.root, tally, f"vain{n}", "exit 1\n")) for n in range(3)]
        site.wait_all_ended([*plain, *overtaken, *again, *vain])
        site.command("retry", *again, *vain)
        running = [
            site.queue_job(job_that_tells(site.root, tally, f"running{n}", gate.script)) for n in range(3)
        ]
        gate.wait_for_arrivals(3)
        site.command("cancel", *running)
        site.wait_all_ended([*running, *again])
        wait_for(lambda: {site.job(job)["attempt"] for job in vain} == {2}, "the vain retries")
        site.wait_all_ended(vain)
        wait_for(shuffler.is_done, "everything to be passed on twice")
        site.nothing_is_left()
        # The results must be those without the shuffler.
        results = {job["id"]: (job["state"], job["outcome"], job["attempt"]) for job in site.look()}
        expected = {
            **dict.fromkeys(plain, ("done", "succeeded", 1)),
            **dict.fromkeys(overtaken, ("failed", "canceled", 0)),
            **dict.fromkeys(again, ("done", "succeeded", 2)),
            **dict.fromkeys(vain, ("failed", "workflow_failed", 2)),
            **dict.fromkeys(running, ("failed", "canceled", 1)),
        }
        assert results == expected, f"seed {seed}: {site.daemon_log()}"
        once = [f"plain{n}" for n in range(12)] + [f"running{n}" for n in range(3)]
        twice = ["again0", "again1", "vain0", "vain1", "vain2"] * 2
        assert sorted(tally.read_text().split()) == sorted(once + twice), f"seed {seed}"
        assert shuffler.passed_on > 4 * len(expected) and shuffler.out_of_order > 10, f"seed {seed}"
    finally:
        shuffler.close()


def job_that_tells(root: Path, tally: Path, name: str, after: str = "") -> Path:
    """A job whose workflow writes its name into a file each time that it runs."""
    return workflow(root, f"echo {name} >> {tally}\n{after}", name)


def failing_once(root: Path, tally: Path, name: str) -> Path:
    """A job whose workflow fails the first time."""
    return job_that_tells(root, tally, name, f"mkdir {root}/{name}.once 2>/dev/null && exit 1\nexit 0\n")


# rubbish


def envelope(**more: Any) -> bytes:
    valid = json.loads(Message("cancel_job", job=str(uuid.uuid4())).encode())
    return json.dumps({**valid, **more}).encode()


RUBBISH: dict[str, tuple[bytes, str]] = {
    "random bytes": (random.Random(1).randbytes(1000), "not JSON"),
    "a pickle": (pickle.dumps({"worker_name": "x", "job": 3}), "not JSON"),
    "10 MB of zeros": (bytes(10 * 1024 * 1024), "10485760 bytes; a message has at most"),
    "wrong version": (envelope(version=2), "version 2; this daemon understands version 1"),
    "unknown type": (envelope(type="make_coffee"), "unknown type 'make_coffee'"),
    "wrong shape": (b'{"jobs": [1, 2, {"a": null}]}', "version None"),
    "not an object": (b"[1, 2, 3]", "expected a JSON object, found list"),
    "body of another shape": (envelope(body=[1]), "body: expected an object"),
    "empty": (b"", "not JSON"),
    "deeply nested": (b"[" * 200_000 + b"]" * 200_000, "a message has at most 50,000 values"),
    "no text": (b"\xff\xfe{}", "not JSON"),
    "a worker's type": (
        Message("worker_started", job=str(uuid.uuid4()), attempt=1, token="x", seq=1).encode(),
        "a client may not send worker_started",
    ),
}


@pytest.mark.parametrize("through", ["commands", "default exchange"])
def test_rubbish_is_dead_lettered_at_once(site: BrokerSite, through: str) -> None:
    site.start_daemon()
    account, exchange = (
        (site.here.client, site.here.names.commands) if through == "commands" else (site.here.admin, "")
    )
    rubbish = {
        name: found
        for name, found in RUBBISH.items()
        if through == "commands" or name in ("random bytes", "10 MB of zeros", "wrong shape")
    }
    rubbish_sent = []
    for count, (name, (raw, reason)) in enumerate(rubbish.items(), start=1):
        site.publish_raw([raw], account, exchange)
        # The time that the broker takes to confirm 10 MB does not count.
        with within(AT_ONCE, name):
            letters = site.wait_for_letters(count, AT_ONCE)
        assert [found for found in letters if found[1] == raw and reason in found[0]], (name, letters[-1][0])
        rubbish_sent.append(raw)
    job = site.queue_job(workflow(site.root, "true"))
    assert site.wait(job, "done", "failed")["state"] == "done"
    assert sorted(raw for _, raw in site.letters()) == sorted(rubbish_sent)
    told = f"{account.username} was dead-lettered"
    assert site.daemon_log().count(told) == len(rubbish)
    assert is_idle(site)


def is_idle(site: BrokerSite, seconds: float = 3.0) -> bool:
    """Whether the daemon uses less than a tenth of a CPU."""
    pid = site.daemons[-1].pid
    before = cpu_seconds(pid)
    time.sleep(seconds)  # the time itself is what is measured
    return cpu_seconds(pid) - before < seconds / 10


def test_a_flood_of_rubbish_delays_no_job(site: BrokerSite) -> None:
    site.start_daemon()
    flood = [RUBBISH["random bytes"][0] + str(n).encode() for n in range(2000)]
    job = site.queue_job(workflow(site.root, "true", "before"))
    publish_at_once(site.here, flood)
    with within(10, "2,000 pieces of rubbish and a job behind them"):
        behind = site.queue_job(workflow(site.root, "true", "behind"))
        site.wait(behind, "done")
        site.wait_for_letters(len(flood), 10)
    assert site.job(job)["state"] == "done"
    assert sorted(raw for _, raw in site.letters()) == sorted(flood)
    assert is_idle(site)


def publish_at_once(here: VirtualHost, bodies: list[bytes]) -> None:
    """Publish them without waiting for each confirm."""
    assert isinstance(here.broker, Broker)
    address = Address(HOST, here.broker.port, here.name, here.client.username, Secret(here.client.password))
    publisher = RabbitMQPublisher(address, here.names.commands, here.queue_name)
    try:
        publisher.publish_all([OutgoingMessage(raw, here.names.commands) for raw in bodies])
    finally:
        publisher.close()


# a hostile worker


def report(proof: dict[str, Any], seq: int = 900, **more: Any) -> Message:
    return Message(
        "workflow_finished", {"outcome": "succeeded", "exit_code": 0}, seq=seq, **{**proof, **more}
    )


def test_a_hostile_worker_changes_nothing(site: BrokerSite, gate: Gate) -> None:
    daemon = site.start_daemon()
    mine, old = a_job_at_its_second_attempt(site, gate)
    new = site.proof(mine)
    victim = site.queue_job(workflow(site.root, gate.script, "victim"))
    gate.wait_for_arrivals(3)
    unknown = str(uuid.uuid4())
    before = [as_seen(site, job) for job in (mine, victim)]

    commands = [
        Message("start_worker", {"git_clone": "/", "cd": ".", "input": {}, "run_cwl": "x"}, job=unknown),
        Message("shutdown_server"),
        Message("cancel_job", job=victim),
        Message("retry_job", job=victim),
        Message("terminate_worker", {"vm_name": site.job(victim)["vm"]["name"]}),
        Message("cancel_job", job=victim, attempt=1, token=new["token"], seq=901),
    ]
    reports = [
        report({"job": victim, "attempt": 1, "token": "0" * 32}),
        report({"job": victim, "attempt": 1, "token": new["token"]}),
        report({**new, "job": victim}),
        report(old),
        report(old, attempt=2),
        report(new, attempt=1),
        report(new, attempt=3),
        report({"job": unknown, "attempt": 1, "token": new["token"]}),
    ]
    names = site.here.names
    site.publish(*commands, *reports, account=site.here.worker, exchange=names.reports)

    # Of what the database does not know: it may be a restored one, and another one need them.
    beyond = {unknown: 0, victim: 1, mine: 2}
    strays = [report for report in reports if report.attempt > beyond[report.job]]
    letters = site.wait_for_letters(len(commands) + len(strays), 5)
    assert sorted(raw for _, raw in letters) == sorted(message.encode() for message in (*commands, *strays))
    assert sum(reason.startswith("a worker may not send ") for reason, _ in letters) == len(commands)
    # One line a job; what comes in a later batch is told within EVERY.
    wait_for(lambda: ignored_reports(site) == {victim: 2, mine: 3}, "5 reports in the log", 2 * EVERY)
    refused = [line for line in site.daemon_log().splitlines() if " ignored, from " in line]
    told = f"{site.here.worker.username} was dead-lettered: a worker may not send"
    assert site.daemon_log().count(told) == len(commands)
    assert all(site.here.worker.username in line for line in refused), refused

    assert [as_seen(site, job) for job in (mine, victim)] == before
    assert len(site.look()) == 2
    assert daemon.poll() is None
    gate.let_through(2)
    for job in (mine, victim):
        assert site.wait(job, "done", "failed")["state"] == "done"


def a_job_at_its_second_attempt(site: BrokerSite, gate: Gate) -> tuple[str, dict[str, Any]]:
    """A job that waits at the gate in its second attempt, and the token and attempt of its first worker."""
    script = f"{gate.script}mkdir {site.root}/once 2>/dev/null && exit 1\nexit 0\n"
    job = site.queue_job(workflow(site.root, script, "mine"))
    gate.wait_for_arrivals(1)
    old = site.proof(job)
    gate.let_through()
    site.wait(job, "failed")
    site.publish(Message("retry_job", job=job))
    gate.wait_for_arrivals(2)
    return job, old


def ignored_reports(site: BrokerSite) -> dict[str, int]:
    """How many ignored reports the log tells of, by job."""
    told: dict[str, int] = {}
    for job, number in re.findall(r"job (\S+): (\d+) reports? w\w+ ignored", site.daemon_log()):
        told[job] = told.get(job, 0) + int(number)
    return told


def as_seen(site: BrokerSite, job: str) -> dict[str, Any]:
    """What a report would change."""
    found = site.wait(job, "running")
    return {key: found[key] for key in ("state", "outcome", "attempt", "exit_code", "entered_at")}


Attempt = Callable[[BlockingChannel, VirtualHost], object]

FORBIDDEN: dict[str, Attempt] = {
    "publish to the queue": lambda channel, here: channel.basic_publish("", here.queue_name, b""),
    "read": lambda channel, here: channel.basic_get(here.queue_name),
    "consume": lambda channel, here: channel.basic_consume(here.queue_name, lambda *_: None),
    "read dead letters": lambda channel, here: channel.basic_get(here.names.dead_letters),
    "purge": lambda channel, here: channel.queue_purge(here.queue_name),
    "delete the queue": lambda channel, here: channel.queue_delete(here.queue_name),
    "delete the exchange": lambda channel, here: channel.exchange_delete(here.names.reports),
    "bind": lambda channel, here: channel.queue_bind(here.queue_name, here.names.reports, "more"),
    "unbind": lambda channel, here: channel.queue_unbind(
        here.queue_name, here.names.commands, here.queue_name
    ),
    "make a queue": lambda channel, here: channel.queue_declare("another"),
    "make an exchange": lambda channel, here: channel.exchange_declare("another"),
    "take the lock": lambda channel, here: channel.queue_declare(here.names.lock, exclusive=True),
}


@pytest.mark.parametrize("who", ["worker", "client"])
def test_workers_and_clients_are_refused_everything_but_their_own_exchange(
    site: BrokerSite, who: str
) -> None:
    site.start_daemon()
    here, names = site.here, site.here.names
    account, own, others = {
        "worker": (here.worker, names.reports, names.commands),
        "client": (here.client, names.commands, names.reports),
    }[who]
    for what, attempt in FORBIDDEN.items():
        assert refusal(here, account, attempt) == ACCESS_REFUSED, what
    for exchange in (others, names.dead_letters):
        assert refusal(here, account, publishing(exchange)) == ACCESS_REFUSED, exchange
    assert refusal(here, account, publishing(own, here.daemon)) == PRECONDITION_FAILED, "in another's name"
    assert refusal(here, account, publishing(own, account)) is None
    site.wait_for_letters(1, 5)
    job = site.queue_job(workflow(site.root, "true"))
    assert site.wait(job, "done", "failed")["state"] == "done"


def publishing(exchange: str, user: Account | None = None) -> Attempt:
    properties = pika.BasicProperties(user_id=user.username if user else None)
    return lambda channel, here: channel.basic_publish(exchange, here.queue_name, b"", properties)


def refusal(here: VirtualHost, account: Account, attempt: Attempt) -> int | None:
    """The reply code with which the broker closes the channel, if it does."""
    with here.connect(account) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        try:
            attempt(channel, here)
        except pika.exceptions.ChannelClosedByBroker as error:
            return int(error.reply_code)
    return None
