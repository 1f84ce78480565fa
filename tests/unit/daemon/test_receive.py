"""Batches of messages: commands and reports in one transaction, and what a flood of reports leaves."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from lando.daemon.clock import Clock
from lando.daemon.health import QueueHealth
from lando.daemon.log_rates import BURST
from lando.daemon.receive import Receiver
from lando.engine.operations import Created
from lando.messages import Message
from lando.store.logs import MAX_LOG
from lando.store.store import Store
from lando.workqueue.embedded_errors import QueueUnusable
from lando.workqueue.interface import Delivery
from tests.support.engine_rules import Rules

PIECE = 16 * 1024


class Queue:
    """A queue in memory."""

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []
        self.refused: float | None = None
        self.acked: list[int] = []
        self.letters: list[tuple[int, str]] = []
        self.decoded_as: list[str | None] = []

    def put(self, *messages: Message) -> None:
        self.waiting += [
            Delivery(len(self.waiting) + number, message.encode(), message.origin, "somebody")
            for number, message in enumerate(messages, 1)
        ]

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        received, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return received

    def obstacle(self) -> None:
        return None

    def passed_fence(self) -> None:
        return None

    def refused_at(self) -> float | None:
        return self.refused

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += [delivery.tag for delivery in deliveries]

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        self.letters += [(delivery.tag, reason) for delivery, reason in rejected]
        self.decoded_as += [delivery.decoded_as for delivery, _ in rejected]


class Daemon:
    """A receiver, and jobs that are running."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.queue = Queue()
        self.rules = Rules(store.transaction)
        queue: Any = self.queue
        engine = self.rules.engine
        self.receiver = Receiver(store, queue, engine, QueueHealth(), Clock(store, engine), stop=lambda: None)

    def booting_job(self) -> str:
        job = str(uuid.uuid4())
        self.rules.submit(job)
        self.rules.admit(places=100)
        self.rules.conclude(Created(f"server of {job}"))
        return job

    def report(
        self, job: str, seq: int, type: str = "worker_progress", token: str = "", **body: Any
    ) -> Message:
        record = self.rules.job(job)
        proof = {"attempt": record.attempt, "token": token or record.requests[-1].token}
        return Message(type, body, job, seq=seq, **proof)

    def receive(self, *messages: Message) -> None:
        self.queue.put(*messages)
        while self.queue.waiting:
            self.receiver.receive(0.0)

    def log(self, job: str) -> str:
        with self.store.reading() as queries:
            return "".join(text for _, _, text in queries.log(job))


@pytest.fixture
def daemon(store: Store, caplog: pytest.LogCaptureFixture) -> Daemon:
    caplog.set_level("INFO", "lando")
    return Daemon(store)


def test_commands_and_reports_of_one_batch(daemon: Daemon) -> None:
    running, canceled, new = daemon.booting_job(), daemon.booting_job(), str(uuid.uuid4())
    daemon.receive(
        daemon.report(running, 1, "worker_started", log="one\n"),
        Message("start_worker", {}, job=new),
        daemon.report(running, 2, log="two\n"),
        Message("cancel_job", job=canceled),
        daemon.report(running, 3, log="three\n"),
        Message("worker_started", {}, job=str(uuid.uuid4()), attempt=1, token="t", seq=1),
    )
    states = {job: daemon.rules.job(job).state for job in (running, canceled, new)}
    assert states == {running: "running", canceled: "terminating", new: "queued"}
    assert daemon.log(running) == "one\ntwo\nthree\n"
    assert sorted(daemon.queue.acked) == [1, 2, 3, 4, 5]
    ((tag, reason),) = daemon.queue.letters
    assert tag == 6
    assert "does another daemon serve the queue" in reason


def test_reports_are_not_remembered_as_processed_and_commands_are(daemon: Daemon) -> None:
    job = daemon.booting_job()
    started, cancel = daemon.report(job, 1, "worker_started"), Message("cancel_job", job=job)
    daemon.receive(started, cancel)
    with daemon.store.transaction() as transaction:
        assert not transaction.is_processed(f"worker:{started.id}")
        assert transaction.is_processed(f"client:{cancel.id}")


def test_a_flood_of_log_is_bounded_and_the_log_says_so(daemon: Daemon) -> None:
    noisy, quiet = daemon.booting_job(), daemon.booting_job()
    daemon.receive(*(daemon.report(noisy, seq, log="x" * PIECE) for seq in range(1, 2 * BURST // PIECE)))
    daemon.receive(daemon.report(quiet, 1, log="not a flood\n"))
    last = 2 * BURST // PIECE
    daemon.receive(daemon.report(noisy, last, "workflow_finished", outcome="succeeded", log="the end"))
    log = daemon.log(noisy)
    assert len(log) <= MAX_LOG
    assert "characters of log left out here" in log
    assert daemon.log(quiet) == "not a flood\n"
    assert daemon.rules.job(noisy).verdict == "succeeded"


def test_who_has_no_token_uses_up_nothing(daemon: Daemon) -> None:
    job = daemon.booting_job()
    forged = [daemon.report(job, seq, token="forged", log="y" * PIECE) for seq in range(1, 900)]
    rightful = [daemon.report(job, seq, log="x" * PIECE) for seq in range(1, BURST // PIECE + 1)]
    daemon.receive(*forged, *rightful)
    assert daemon.log(job) == "x" * MAX_LOG


def test_ignored_reports_are_a_line_a_job(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    job = daemon.booting_job()
    daemon.receive(*(daemon.report(job, seq, token="forged") for seq in range(1, 2000)))
    (line,) = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert line.startswith(f"job {job}: 500 reports were ignored, from worker somebody: ")


def test_silence_counts_from_the_last_refusal_and_the_log_says_so_once(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = daemon.receiver
    daemon.queue.refused = time.monotonic() - 100.0
    assert receiver.hearing_since is None, "it does not listen"
    listening = receiver.listening_since = time.time() - 500.0
    assert receiver.hearing_since == pytest.approx(listening + 400.0, abs=1.0)
    receiver.listening_since = time.time()
    assert receiver.hearing_since == receiver.listening_since
    for _ in range(3):
        receiver.receive(0.0)
        daemon.queue.refused = time.monotonic()
    assert [text for text in caplog.messages if "workers cannot report" in text] == [
        "more reports arrive than are taken, and workers cannot report; as long as that lasts, no worker is "
        "declared lost for missing reports, and no boot times out"
    ]


def test_what_was_decoded_is_dead_lettered_as_such(daemon: Daemon) -> None:
    unknown = Message("workflow_finished", {"outcome": "succeeded"}, str(uuid.uuid4()), 1, "0" * 32, 9)
    daemon.receive(unknown)
    daemon.queue.waiting.append(Delivery(7, b"rubbish", "worker"))
    daemon.receive()
    assert daemon.queue.decoded_as == ["workflow_finished", None]


def test_a_batch_that_fails_uses_up_nothing(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    job = daemon.booting_job()
    pieces = [daemon.report(job, seq, log="x" * PIECE) for seq in range(1, BURST // PIECE + 1)]
    prefetch = daemon.rules.engine.prefetch
    calls: list[int] = []

    def fails_at_first(ledger: Any, messages: Sequence[Message]) -> None:
        calls.append(len(messages))
        prefetch(ledger, messages)
        if len(calls) == 1:
            daemon.rules.engine.take_reports(ledger, pieces, 1.0, daemon.receiver._log_rates)
            raise RuntimeError("a bug")

    monkeypatch.setattr(daemon.rules.engine, "prefetch", fails_at_first)
    daemon.receive(*pieces)
    assert calls == [len(pieces)] + [1] * len(pieces)
    assert daemon.log(job) == "x" * MAX_LOG, "the burst was given back"


def test_a_queue_in_a_damaged_file_is_not_waited_for(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be one that is disconnected, and tried again without end."""

    def damaged(*_: object) -> None:
        raise QueueUnusable("lando.db: the file is damaged")

    monkeypatch.setattr(daemon.queue, "receive", damaged)
    monkeypatch.setattr(daemon.queue, "request_fence", damaged, raising=False)
    with pytest.raises(QueueUnusable):
        daemon.receiver.receive(0)
    with pytest.raises(QueueUnusable):
        daemon.receiver.request_fence()


def test_who_had_a_job_removed_is_logged(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    job = str(uuid.uuid4())
    daemon.receive(Message("cancel_job", job=job), Message("start_worker", {}, job=job))
    daemon.receive(Message("forget_job", job=job))
    assert daemon.rules.job(job).state == "failed"
    (line,) = [text for text in caplog.messages if "forget_job" in text]
    assert line.startswith(f"forget_job {job} from client") and line.endswith(": it is removed")
