"""Whether queue and cloud answer: a line of the log when that changes, and a fact, written again after a
rollback."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from lando.daemon import health
from lando.daemon.health import CloudHealth, QueueHealth
from lando.store.facts import CLOUD_FACT, QUEUE_FACT
from lando.store.store import Store


class Time:
    """The wall clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    here = Time()
    monkeypatch.setattr(health, "time", here)
    return here


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines of the log since the last call."""
    caplog.set_level(logging.INFO, "lando")

    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return lines


Logged = Callable[[], list[str]]


def fact(store: Store, name: str) -> Any:
    with store.reading() as queries:
        return queries.fact(name)


def write(store: Store, *parts: QueueHealth | CloudHealth) -> None:
    with store.transaction() as transaction:
        for part in parts:
            part.write(transaction)


def write_and_roll_back(store: Store, *parts: QueueHealth | CloudHealth) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        for part in parts:
            part.write(transaction)
        raise ZeroDivisionError


# the work queue


def test_a_disconnection_is_logged_once_a_reason_and_when_it_ends(clock: Time, logged: Logged) -> None:
    queue = QueueHealth()
    queue.disconnected("connection refused")
    clock.now += 10.0
    queue.disconnected("connection refused")
    assert len(logged()) == 1
    queue.disconnected("access refused")
    [line] = logged()
    assert "since 1970-01-12" in line and "access refused" in line
    assert queue.disconnected_since == clock.now - 10.0
    queue.connected()
    assert logged() == ["connected to the work queue after 10.0 s"]
    queue.connected()
    assert logged() == []
    assert queue.disconnected_since is None


def test_the_state_of_the_queue_is_written_when_it_changes(store: Store, clock: Time) -> None:
    queue = QueueHealth()
    write(store, queue)
    assert fact(store, QUEUE_FACT) == {"disconnected_since": None, "words": ""}
    queue.disconnected("connection refused")
    write(store, queue)
    assert fact(store, QUEUE_FACT) == {"disconnected_since": clock.now, "words": "connection refused"}
    with store.transaction() as transaction:
        transaction.set_fact(QUEUE_FACT, "as it was")
    queue.disconnected("connection refused")
    write(store, queue)
    assert fact(store, QUEUE_FACT) == "as it was", "nothing has changed"
    queue.connected()
    write(store, queue)
    assert fact(store, QUEUE_FACT) == {"disconnected_since": None, "words": ""}


# the cloud


def test_a_cloud_that_does_not_answer_is_logged_now_and_then_and_once_when_it_answers(
    clock: Time, logged: Logged
) -> None:
    cloud = CloudHealth()
    cloud.note("")
    assert logged() == []
    begun = clock.now
    for request in range(10):
        cloud.note(f"503 (request {request})")
        clock.now += 1.0
    assert logged() == ["the cloud does not answer: 503 (request 0); retrying"]
    clock.now = begun + health.LOG_AGAIN
    cloud.note("503 (request 11)")
    assert logged() == ["the cloud does not answer: 503 (request 11); retrying"]
    assert cloud.silent_since == begun
    cloud.note("")
    assert logged() == [f"the cloud answers again after {health.LOG_AGAIN:.1f} s"]
    assert cloud.silent_since is None


def test_the_state_of_the_cloud_is_written_when_it_changes(store: Store, clock: Time) -> None:
    cloud = CloudHealth()
    write(store, cloud)
    assert fact(store, CLOUD_FACT) == {"unreachable_since": None, "words": ""}
    cloud.note("no route")
    write(store, cloud)
    assert fact(store, CLOUD_FACT) == {"unreachable_since": clock.now, "words": "no route"}
    with store.transaction() as transaction:
        transaction.set_fact(CLOUD_FACT, "as it was")
    cloud.note("no route")
    write(store, cloud)
    assert fact(store, CLOUD_FACT) == "as it was", "nothing has changed"


# rollbacks


def test_what_was_rolled_back_is_written_again(store: Store, clock: Time) -> None:
    queue, cloud = QueueHealth(), CloudHealth()
    write(store, queue, cloud)
    queue.disconnected("connection refused")
    cloud.note("no route")
    write_and_roll_back(store, queue, cloud)
    queue.write_again()
    cloud.write_again()
    write(store, queue, cloud)
    assert fact(store, QUEUE_FACT) == {"disconnected_since": clock.now, "words": "connection refused"}
    assert fact(store, CLOUD_FACT) == {"unreachable_since": clock.now, "words": "no route"}
