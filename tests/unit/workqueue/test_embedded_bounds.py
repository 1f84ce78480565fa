"""The embedded queue's fence, its limits, and files of the first release."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lando.errors import UsageError
from lando.workqueue import embedded
from lando.workqueue.embedded import (
    EmbeddedPublisher,
    EmbeddedQueue,
    waiting,
)
from lando.workqueue.embedded_dead_letters import EmbeddedDeadLetters
from lando.workqueue.embedded_errors import QueueOutage
from lando.workqueue.interface import REPORT_BYTES_KEPT, QueueUnavailable
from tests.unit.workqueue.test_embedded import raws

FIRST_RELEASE = """
CREATE TABLE queue_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, sender TEXT,
    raw BLOB NOT NULL, at REAL NOT NULL
);
CREATE TABLE queue_dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, reason TEXT NOT NULL, raw BLOB NOT NULL, at REAL NOT NULL,
    origin TEXT, sender TEXT
);
INSERT INTO queue_messages (origin, sender, raw, at) VALUES ('worker', NULL, x'0102', 1);
INSERT INTO queue_messages (origin, sender, raw, at) VALUES ('client', 'alice', x'03', 1);
INSERT INTO queue_dead_letters (reason, raw, at, origin, sender) VALUES ('because', x'01', 1, 'worker', NULL);
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "lando.db"


@pytest.fixture
def queue(database: Path) -> Iterator[EmbeddedQueue]:
    queue = EmbeddedQueue(database)
    yield queue
    queue.close()


@pytest.fixture
def client(queue: EmbeddedQueue, database: Path) -> Iterator[EmbeddedPublisher]:
    publisher = EmbeddedPublisher(database, "client", sender="alice")
    yield publisher
    publisher.close()


@pytest.fixture
def worker(queue: EmbeddedQueue, database: Path) -> Iterator[EmbeddedPublisher]:
    publisher = EmbeddedPublisher(database, "worker", create=False)
    yield publisher
    publisher.close()


# the fence


def test_a_fence_is_met_behind_what_was_queued_before(
    queue: EmbeddedQueue, client: EmbeddedPublisher, worker: EmbeddedPublisher
) -> None:
    for number in range(4):
        worker.publish(b"%d" % number)
    before = time.monotonic()
    queue.request_fence()
    client.publish(b"late")
    worker.publish(b"late")
    assert raws(queue.receive(3, 0)) == [b"0", b"1", b"2"]
    assert queue.passed_fence() is None
    assert raws(queue.receive(3, 0)) == [b"3"]
    asked_at = queue.passed_fence()
    assert asked_at is not None
    assert before <= asked_at <= time.monotonic()
    assert raws(queue.receive(3, 0)) == [b"late", b"late"]
    assert queue.passed_fence() == asked_at


def test_a_fence_is_met_though_the_queue_is_never_empty(
    queue: EmbeddedQueue, worker: EmbeddedPublisher
) -> None:
    worker.publish(b"first")
    for _ in range(20):
        last = queue.passed_fence()
        queue.request_fence()
        worker.publish(b"next")
        queue.ack(queue.receive(10, 0))
        assert (queue.passed_fence() or 0.0) > (last or 0.0)


def test_a_fence_of_an_empty_queue_ends_the_wait(queue: EmbeddedQueue) -> None:
    queue.request_fence()
    begun = time.monotonic()
    assert queue.receive(10, 20.0) == []
    assert time.monotonic() - begun < 5
    assert queue.passed_fence() is not None


def test_a_rewind_ends_a_fence(queue: EmbeddedQueue, client: EmbeddedPublisher) -> None:
    client.publish(b"one")
    queue.request_fence()
    queue.receive(10, 0)
    assert queue.passed_fence() is not None
    queue.rewind()
    assert queue.passed_fence() is None


def test_what_could_not_be_removed_is_received_again(database: Path) -> None:
    queue = EmbeddedQueue(database, patience=0.05)
    client = EmbeddedPublisher(database, "client")
    for raw in (b"1", b"2"):
        client.publish(raw)
    other = sqlite3.connect(database, isolation_level=None)
    for remove in (queue.ack, lambda received: queue.dead_letter([(one, "because") for one in received])):
        queue.request_fence()
        received = queue.receive(10, 0)
        assert queue.passed_fence() is not None
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(QueueOutage):
            remove(received)
        other.execute("ROLLBACK")
        assert queue.passed_fence() is None
    assert raws(queue.receive(10, 0)) == [b"1", b"2"]
    for open_one in (other, client, queue):
        open_one.close()


# limits


def test_too_many_reports_are_refused_until_some_are_taken(
    queue: EmbeddedQueue,
    client: EmbeddedPublisher,
    worker: EmbeddedPublisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "REPORTS_WAITING", 5)
    for _ in range(5):
        worker.publish(b"report")
    with pytest.raises(QueueUnavailable, match=r"5 reports .*wait for the daemon already"):
        worker.publish(b"refused")
    client.publish(b"command")
    first, *reports = queue.receive(10, 0)
    assert first.raw == b"command"
    assert raws(reports) == [b"report"] * 5
    queue.ack(reports[:1])
    worker.publish(b"again")
    with pytest.raises(QueueUnavailable):
        worker.publish(b"refused")
    queue.dead_letter([(reports[1], "because")])
    worker.publish(b"again")
    assert raws(queue.receive(10, 0)) == [b"again"] * 2


def test_the_reader_notices_every_refusal(
    queue: EmbeddedQueue, worker: EmbeddedPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "REPORTS_WAITING", 3)
    worker.publish(b"1")
    received = queue.receive(10, 0)
    assert queue.refused_at() is None
    for number in (2, 3):  # it fills up between two receives, and is not full when the next one comes
        worker.publish(b"%d" % number)
    with pytest.raises(QueueUnavailable):
        worker.publish(b"refused")
    before = time.monotonic()
    queue.ack(received)
    first = queue.refused_at()
    assert first is not None
    assert before <= first <= time.monotonic()
    queue.dead_letter([(queue.receive(10, 0)[0], "because")])
    assert queue.refused_at() == first
    for _ in range(2):
        worker.publish(b"again")
    with pytest.raises(QueueUnavailable):
        worker.publish(b"refused")
    queue.receive(10, 0)
    second = queue.refused_at()
    assert second is not None
    assert second > first


def test_too_large_reports_are_refused(
    queue: EmbeddedQueue, worker: EmbeddedPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "REPORT_BYTES_WAITING", 10_000)
    for _ in range(2):
        worker.publish(bytes(9_999 // 2))
    worker.publish(bytes(5_000))
    with pytest.raises(QueueUnavailable, match="3 reports"):
        worker.publish(b"")
    queue.ack(queue.receive(10, 0))
    worker.publish(b"again")


def test_a_batch_has_a_limited_size(
    queue: EmbeddedQueue,
    client: EmbeddedPublisher,
    worker: EmbeddedPublisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded, "MAX_BATCH", 250)
    for publisher in (worker, client):
        for _ in range(4):
            publisher.publish(bytes(100))
    queue.request_fence()
    assert [len(queue.receive(10, 0)) for _ in range(4)] == [3, 3, 2, 0]
    assert queue.passed_fence() is not None


def test_commands_leave_room_for_reports(
    queue: EmbeddedQueue,
    client: EmbeddedPublisher,
    worker: EmbeddedPublisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(20):
        client.publish(bytes(100))
        worker.publish(bytes(100))
    assert [one.origin for one in queue.receive(8, 0)] == ["client"] * 6 + ["worker"] * 2
    monkeypatch.setattr(embedded, "MAX_BATCH", 800)
    assert [one.origin for one in queue.receive(100, 0)] == ["client"] * 6 + ["worker"] * 2
    queue.request_fence()
    origins = []
    while queue.passed_fence() is None:
        batch = queue.receive(4, 0)
        origins += [one.origin for one in batch]
    assert (origins.count("client"), origins.count("worker")) == (8, 16)


def test_dead_letters_of_workers_displace_none_of_clients(
    queue: EmbeddedQueue,
    client: EmbeddedPublisher,
    worker: EmbeddedPublisher,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(embedded.LETTERS_KEPT, "worker", 3)
    client.publish(b"a job")
    queue.dead_letter([(queue.receive(1, 0)[0], "a newer version's")])
    for number in range(6):
        worker.publish(b"%d" % number)
    queue.dead_letter([(one, "rubbish") for one in queue.receive(10, 0)])
    letters = EmbeddedDeadLetters(database).all()
    assert [(one.origin, one.first_bytes) for one in letters] == [
        ("client", b"a job"),
        ("worker", b"3"),
        ("worker", b"4"),
        ("worker", b"5"),
    ]
    monkeypatch.setitem(embedded.LETTER_BYTES_KEPT, "worker", 100)
    for _ in range(2):
        worker.publish(bytes(60))
    queue.dead_letter([(one, "rubbish") for one in queue.receive(10, 0)])
    assert [(one.origin, one.size) for one in EmbeddedDeadLetters(database).all()] == [
        ("client", 5),
        ("worker", 60),
    ]


def test_of_a_long_report_the_dead_letter_keeps_the_beginning(
    queue: EmbeddedQueue, client: EmbeddedPublisher, worker: EmbeddedPublisher, database: Path
) -> None:
    long = b"x" * (REPORT_BYTES_KEPT + 1)
    for publisher in (client, worker):
        publisher.publish(long)
    queue.dead_letter([(one, "because") for one in queue.receive(10, 0)])
    letters = EmbeddedDeadLetters(database)
    of_client, of_worker = letters.all()
    assert of_client.size == of_worker.size == len(long)
    with pytest.raises(UsageError, match="only its first 65,536 bytes were kept"):
        letters.requeue([of_client.id, of_worker.id])
    assert waiting(database) == []
    letters.requeue([of_client.id])
    assert raws(waiting(database)) == [long]
    queue.ack(queue.receive(10, 0))


def test_the_dead_letter_of_a_valid_report_is_whole(
    queue: EmbeddedQueue, worker: EmbeddedPublisher, database: Path
) -> None:
    long = b"x" * (REPORT_BYTES_KEPT + 1)
    worker.publish(long)
    (report,) = queue.receive(10, 0)
    queue.dead_letter([(replace(report, decoded_as="workflow_finished"), "an unknown job")])
    letters = EmbeddedDeadLetters(database)
    letters.requeue([letters.all()[0].id])
    assert raws(queue.receive(10, 0)) == [long]


# files of the first release


@pytest.fixture
def old(database: Path) -> Path:
    connection = sqlite3.connect(database)
    connection.executescript(FIRST_RELEASE)
    connection.close()
    return database


def test_an_old_file_can_be_read_before_any_daemon_opens_it(old: Path) -> None:
    assert raws(waiting(old)) == [b"\x01\x02", b"\x03"]
    assert [one.size for one in EmbeddedDeadLetters(old).all()] == [1]
    worker = EmbeddedPublisher(old, "worker", create=False)
    worker.publish(b"report")
    worker.close()


def test_what_waits_in_an_old_file_counts(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        queue = EmbeddedQueue(old)
        counted = queue._connection.execute("SELECT * FROM queue_reports_waiting").fetchall()
        assert counted == [(1, 2)]
        queue.close()
    monkeypatch.setattr(embedded, "REPORTS_WAITING", 1)
    worker = EmbeddedPublisher(old, "worker", create=False)
    with pytest.raises(QueueUnavailable):
        worker.publish(b"report")
    worker.close()
    EmbeddedDeadLetters(old).drop(["1"])
    assert EmbeddedDeadLetters(old).all() == []
