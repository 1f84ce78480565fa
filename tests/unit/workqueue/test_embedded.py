"""The embedded queue within one process: order, ack, dead letters, waking, files that cannot be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.workqueue import embedded as module
from lando.workqueue.embedded import (
    EmbeddedPublisher,
    EmbeddedQueue,
    connect,
    waiting,
    wakeup_fifo,
)
from lando.workqueue.embedded_dead_letters import EmbeddedDeadLetters
from lando.workqueue.interface import Delivery, Publisher, QueueUnavailable, WorkQueue

LONG = 30.0
"""Seconds after which a test fails; every wait below ends long before."""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "lando.db"


@pytest.fixture
def queue(database: Path) -> Iterator[EmbeddedQueue]:
    queue = EmbeddedQueue(database)
    yield queue
    queue.close()


@pytest.fixture
def publisher(database: Path) -> Iterator[EmbeddedPublisher]:
    publisher = EmbeddedPublisher(database, "client", sender="alice")
    yield publisher
    publisher.close()


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAFETY_POLL", LONG)


def raws(deliveries: list[Delivery]) -> list[bytes]:
    return [delivery.raw for delivery in deliveries]


def test_implements_the_interfaces(queue: EmbeddedQueue, publisher: EmbeddedPublisher) -> None:
    as_queue: WorkQueue = queue
    as_publisher: Publisher = publisher
    assert as_queue and as_publisher


def test_a_publisher_finds_a_file_that_was_replaced(database: Path, tmp_path: Path) -> None:
    """What it committed to the earlier one, nobody would read. The worker of a local VM is open for hours."""
    connect(database).close()
    publisher = EmbeddedPublisher(database, "worker", create=False)
    publisher.publish(b"one")
    database.unlink()
    with pytest.raises(QueueUnavailable):
        publisher.publish(b"two")
    for suffix in ("-wal", "-shm"):
        database.with_name(f"lando.db{suffix}").unlink(missing_ok=True)
    queue = EmbeddedQueue(database)
    publisher.publish(b"two")
    assert raws(queue.receive(10, 0)) == [b"two"]
    queue.close()
    publisher.close()


def test_commands_first_each_oldest_first_with_its_origin(
    queue: EmbeddedQueue, publisher: EmbeddedPublisher, database: Path
) -> None:
    worker = EmbeddedPublisher(database, "worker")
    publisher.publish(b"one")
    worker.publish(b"\x00\xff")
    publisher.publish(b"three")
    first, second, third = queue.receive(10, 0)
    assert (first.raw, first.origin, first.sender) == (b"one", "client", "alice")
    assert second.raw == b"three"
    assert (third.raw, third.origin, third.sender) == (b"\x00\xff", "worker", None)
    worker.close()


def test_limit(queue: EmbeddedQueue, publisher: EmbeddedPublisher) -> None:
    for number in range(5):
        publisher.publish(b"%d" % number)
    assert [len(queue.receive(2, 0)) for _ in range(4)] == [2, 2, 1, 0]


def test_received_once_until_rewound(queue: EmbeddedQueue, publisher: EmbeddedPublisher) -> None:
    publisher.publish(b"one")
    publisher.publish(b"two")
    one, _ = queue.receive(10, 0)
    assert queue.receive(10, 0) == []
    queue.ack([one])
    queue.rewind()
    assert raws(queue.receive(10, 0)) == [b"two"]


def test_what_was_not_acked_is_delivered_to_the_next_reader(
    database: Path, publisher: EmbeddedPublisher
) -> None:
    for raw in (b"one", b"two", b"three"):
        publisher.publish(raw)
    first = EmbeddedQueue(database)
    deliveries = first.receive(10, 0)
    first.ack(deliveries[:2])
    first.close()
    second = EmbeddedQueue(database)
    assert raws(second.receive(10, 0)) == [b"three"]
    second.close()


def test_a_tag_is_never_used_again(queue: EmbeddedQueue, publisher: EmbeddedPublisher) -> None:
    publisher.publish(b"one")
    old = queue.receive(1, 0)
    queue.ack(old)
    publisher.publish(b"two")
    queue.ack(old)
    assert raws(queue.receive(1, 0)) == [b"two"]


def test_ack_of_nothing(queue: EmbeddedQueue) -> None:
    queue.ack([])


def test_dead_letters(queue: EmbeddedQueue, publisher: EmbeddedPublisher, database: Path) -> None:
    before = time.time()
    for raw in (b"bad", b"good", b"worse"):
        publisher.publish(raw)
    bad, _, worse = queue.receive(10, 0)
    queue.dead_letter([(bad, "not JSON"), (worse, "unknown type")])
    assert [(letter.first_bytes, letter.reason) for letter in EmbeddedDeadLetters(database).all()] == [
        (b"bad", "not JSON"),
        (b"worse", "unknown type"),
    ]
    assert all(before <= letter.at <= time.time() for letter in EmbeddedDeadLetters(database).all())
    assert raws(waiting(database)) == [b"good"]
    queue.rewind()
    assert raws(queue.receive(10, 0)) == [b"good"]


def test_listing_does_not_create_a_queue(database: Path) -> None:
    assert (waiting(database), EmbeddedDeadLetters(database).all()) == ([], [])
    assert not database.exists()
    sqlite3.connect(database).execute("CREATE TABLE other (x)")
    assert (waiting(database), EmbeddedDeadLetters(database).all()) == ([], [])


def test_listing_removes_nothing(queue: EmbeddedQueue, publisher: EmbeddedPublisher, database: Path) -> None:
    publisher.publish(b"one")
    assert raws(waiting(database)) == raws(waiting(database)) == [b"one"]
    assert raws(queue.receive(1, 0)) == [b"one"]
    assert raws(waiting(database)) == [b"one"], "received, but not acked"


def test_empty_queue_waits_no_longer_than_asked(queue: EmbeddedQueue) -> None:
    started = time.monotonic()
    assert queue.receive(1, 0.05) == []
    assert 0.04 < time.monotonic() - started < LONG / 2


@pytest.mark.usefixtures("no_polling")
def test_publishing_wakes_the_reader(queue: EmbeddedQueue, publisher: EmbeddedPublisher) -> None:
    waits = threading.Timer(0.05, publisher.publish, [b"one"])
    started = time.monotonic()
    waits.start()
    assert raws(queue.receive(1, LONG)) == [b"one"]
    assert time.monotonic() - started < LONG / 2
    waits.join()


@pytest.mark.usefixtures("no_polling")
def test_wake_ends_the_wait(queue: EmbeddedQueue) -> None:
    waits = threading.Timer(0.05, queue.wake)
    started = time.monotonic()
    waits.start()
    assert queue.receive(1, LONG) == []
    assert time.monotonic() - started < LONG / 2
    waits.join()


@pytest.mark.usefixtures("no_polling")
def test_wake_just_before_the_wait_is_not_lost(queue: EmbeddedQueue) -> None:
    started = time.monotonic()
    queue.wake()
    assert queue.receive(1, LONG) == []
    assert time.monotonic() - started < LONG / 2
    assert queue.receive(1, 0.01) == []


def test_waking_without_end_does_not_block(queue: EmbeddedQueue, publisher: EmbeddedPublisher) -> None:
    for _ in range(70_000):  # more than a pipe holds
        queue.wake()
    publisher.publish(b"one")
    assert raws(queue.receive(1, 0)) == [b"one"]


def test_wake_after_close_does_nothing(database: Path) -> None:
    queue = EmbeddedQueue(database)
    queue.close()
    queue.wake()
    queue.close()


@pytest.mark.parametrize("obstacle", ["no pipes here", "a file in its place"])
def test_reader_without_a_named_pipe_polls(
    obstacle: str, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mkfifo(*_: object) -> None:
        raise PermissionError("no pipes on this file system")

    if obstacle == "no pipes here":
        monkeypatch.setattr(os, "mkfifo", mkfifo)
    else:
        wakeup_fifo(database).write_text("")
    monkeypatch.setattr(module, "SAFETY_POLL", 0.02)
    queue, publisher = EmbeddedQueue(database), EmbeddedPublisher(database, "client")
    late = threading.Timer(0.05, publisher.publish, [b"one"])
    late.start()
    assert raws(queue.receive(1, LONG)) == [b"one"]
    late.join()
    started = time.monotonic()
    queue.wake()
    assert queue.receive(1, LONG) == []
    assert time.monotonic() - started < LONG / 2
    queue.close()
    publisher.close()


def test_files_are_private(queue: EmbeddedQueue, publisher: EmbeddedPublisher, database: Path) -> None:
    publisher.publish(b"one")
    for path in database.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_every_commit_is_synced(queue: EmbeddedQueue, publisher: EmbeddedPublisher) -> None:
    for side in (queue, publisher):
        full = 2
        assert side._connection.execute("PRAGMA synchronous").fetchone() == (full,)
        assert side._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_several_threads_publish(queue: EmbeddedQueue, database: Path) -> None:
    def publish(who: int) -> None:
        publisher = EmbeddedPublisher(database, "client")
        for number in range(20):
            publisher.publish(b"%d %d" % (who, number))
        publisher.close()

    threads = [threading.Thread(target=publish, args=[who]) for who in range(4)]
    for thread in threads:
        thread.start()
    received: list[bytes] = []
    deadline = time.monotonic() + LONG
    while len(received) < 80 and time.monotonic() < deadline:
        deliveries = queue.receive(7, LONG)  # nothing, if a wakeup arrives late
        received += raws(deliveries)
        queue.ack(deliveries)
    for thread in threads:
        thread.join()
    for who in range(4):
        own = [raw for raw in received if raw.startswith(b"%d " % who)]
        assert own == [b"%d %d" % (who, number) for number in range(20)]


@pytest.mark.parametrize("unusable", ["no directory", "a directory", "no database"])
def test_database_that_cannot_be_opened(unusable: str, tmp_path: Path) -> None:
    path = tmp_path / "x" / "lando.db"
    if unusable == "a directory":
        path.mkdir(parents=True)
    if unusable == "no database":
        path.parent.mkdir()
        path.write_text("this is no database " * 100)
    for use in (lambda: EmbeddedPublisher(path, "client"), lambda: EmbeddedQueue(path)):
        with pytest.raises(QueueUnavailable) as caught:
            use()
        assert str(path) in str(caught.value)
    if unusable == "no directory":
        assert waiting(path) == []
    else:
        with pytest.raises(QueueUnavailable):
            waiting(path)


def test_worker_does_not_make_a_queue(database: Path) -> None:
    with pytest.raises(QueueUnavailable):
        EmbeddedPublisher(database, "worker", create=False)
    assert not database.exists()


def test_full_disk_loses_nothing(queue: EmbeddedQueue, publisher: EmbeddedPublisher, database: Path) -> None:
    publisher.publish(b"before")
    pages = publisher._connection.execute("PRAGMA page_count").fetchone()[0]
    publisher._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(QueueUnavailable, match="disk is full"):
        publisher.publish(b"x" * 100_000)
    publisher._connection.execute("PRAGMA max_page_count = 1000000")
    publisher.publish(b"after")
    assert raws(queue.receive(10, 0)) == [b"before", b"after"]


def test_reader_goes_on_after_a_full_disk(
    queue: EmbeddedQueue, publisher: EmbeddedPublisher, database: Path
) -> None:
    publisher.publish(b"x" * 100_000)
    deliveries = queue.receive(1, 0)
    pages = queue._connection.execute("PRAGMA page_count").fetchone()[0]
    queue._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(QueueUnavailable, match="disk is full"):
        queue.dead_letter([(deliveries[0], "too large")])
    queue._connection.execute("PRAGMA max_page_count = 1000000")
    assert EmbeddedDeadLetters(database).all() == [] and len(waiting(database)) == 1
    queue.dead_letter([(deliveries[0], "too large")])
    assert len(EmbeddedDeadLetters(database).all()) == 1 and waiting(database) == []


def test_commit_that_fails_leaves_no_transaction_open(
    queue: EmbeddedQueue, publisher: EmbeddedPublisher, database: Path
) -> None:
    publisher.publish(b"one")
    deliveries = queue.receive(1, 0)
    connection = queue._connection
    connection.executescript(
        "PRAGMA foreign_keys=ON; CREATE TABLE a (x PRIMARY KEY);"
        "CREATE TABLE b (x REFERENCES a DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TRIGGER t AFTER DELETE ON queue_messages BEGIN INSERT INTO b VALUES (1); END;"
    )
    with pytest.raises(QueueUnavailable, match="FOREIGN KEY"):
        queue.ack(deliveries)
    assert not connection.in_transaction and len(waiting(database)) == 1
    connection.execute("DROP TRIGGER t")
    queue.ack(deliveries)
    assert waiting(database) == []


def test_failed_connect_leaves_no_file_open(database: Path) -> None:
    database.write_text("this is no database " * 100)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(QueueUnavailable):
            connect(database)
    assert len(os.listdir("/proc/self/fd")) == before


def test_waits_for_a_new_file_that_another_process_is_writing(database: Path) -> None:
    other = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE other (x)")
    other.execute("BEGIN IMMEDIATE")
    late = threading.Timer(0.05, other.execute, ["COMMIT"])
    late.start()
    EmbeddedPublisher(database, "client").close()
    late.join()
    other.close()


def test_path_that_looks_like_an_address(tmp_path: Path) -> None:
    directory = tmp_path / "odd ?mode=ro#%41"
    directory.mkdir()
    publisher = EmbeddedPublisher(directory / "lando.db", "client")
    publisher.publish(b"one")
    publisher.close()
    assert raws(waiting(directory / "lando.db")) == [b"one"]
    shutil.rmtree(directory)


# figures


def test_figures_tell_what_waits_and_what_was_dead_lettered(database: Path, queue: EmbeddedQueue) -> None:
    before = time.time()
    client, worker = (EmbeddedPublisher(database, origin) for origin in ("client", "worker"))
    for publisher, count in ((client, 3), (worker, 2)):
        for _ in range(count):
            publisher.publish(b"x")
        publisher.close()
    found = queue.figures()
    assert found.waiting == {"client": 3, "worker": 2}
    assert before <= found.oldest_at["client"] <= found.oldest_at["worker"] <= time.time()
    assert found.letters == found.dead_lettered == {"client": 0, "worker": 0}
    first, _, _, report, _ = deliveries = queue.receive(10, 0.0)
    assert queue.figures().waiting == {"client": 3, "worker": 2}, "until they are acked"
    queue.dead_letter([(first, "rubbish"), (report, "rubbish")])
    queue.ack(deliveries[1:3])
    found = queue.figures()
    assert found.waiting == {"client": 0, "worker": 1}
    assert found.oldest_at.keys() == {"worker"}
    assert found.letters == found.dead_lettered == {"client": 1, "worker": 1}
    EmbeddedDeadLetters(database).drop([letter.id for letter in EmbeddedDeadLetters(database).all()])
    found = queue.figures()
    assert found.letters == {"client": 0, "worker": 0}
    assert found.dead_lettered == {"client": 1, "worker": 1}, "what was counted stays"


def test_figures_may_be_asked_while_another_thread_writes(database: Path, queue: EmbeddedQueue) -> None:
    with connect(database) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        assert queue.figures().waiting == {"client": 0, "worker": 0}
        assert time.monotonic() - begun < 1.0
        other.execute("ROLLBACK")
    other.close()


def test_what_could_not_be_dead_lettered_is_not_counted(
    database: Path, queue: EmbeddedQueue, publisher: EmbeddedPublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(b"x")
    (delivery,) = queue.receive(1, 0.0)
    monkeypatch.setattr(queue, "_drop_oldest_letters", lambda origin: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        queue.dead_letter([(delivery, "rubbish")])
    assert queue.figures().dead_lettered == {"client": 0, "worker": 0}
