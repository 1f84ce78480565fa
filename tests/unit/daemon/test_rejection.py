"""Messages that cannot be understood: which of them become dead letters, and what the log says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from lando import token_bucket
from lando.daemon import rejection
from lando.daemon.rejection import LOGGED_AT_ONCE, REPORTS_AT_ONCE, SUMMARY_EVERY, Rejection
from lando.messages import Origin
from lando.workqueue.interface import Delivery, WorkQueue


class Queue:
    """Counts what is dead-lettered and what is acked."""

    def __init__(self) -> None:
        self.letters: list[Delivery] = []
        self.acked: list[Delivery] = []

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        self.letters += [delivery for delivery, _ in rejected]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += deliveries


class Machine:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    for module in (rejection, token_bucket):
        monkeypatch.setattr(module, "time", machine)
    return machine


def rubbish(count: int, origin: Origin | None = "worker") -> list[tuple[Delivery, str]]:
    return [(Delivery(number, b"x", origin), "not JSON") for number in range(count)]


@pytest.mark.parametrize("origin", ["client", None])
def test_what_no_worker_sent_is_dead_lettered_without_a_bound(
    machine: Machine, origin: Origin | None
) -> None:
    queue = Queue()
    Rejection(cast(WorkQueue, queue)).reject(rubbish(5 * REPORTS_AT_ONCE, origin))
    assert len(queue.letters) == 5 * REPORTS_AT_ONCE
    assert queue.acked == []


def test_rubbish_takes_no_place_of_a_result(machine: Machine) -> None:
    queue = Queue()
    rejection = Rejection(cast(WorkQueue, queue))
    rejection.reject(rubbish(2 * REPORTS_AT_ONCE))
    result = Delivery(99, b"{}", "worker", decoded_as="workflow_finished")
    rejection.reject([(result, "an unknown job")])
    assert queue.letters[REPORTS_AT_ONCE:] == [result]
    rejection.reject([(result, "an unknown job")] * 2 * REPORTS_AT_ONCE)
    assert len(queue.letters) == 2 * REPORTS_AT_ONCE


def test_of_a_flood_of_workers_few_are_dead_lettered_and_one_line_a_minute_is_logged(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    queue = Queue()
    reject = Rejection(cast(WorkQueue, queue))
    for _ in range(600):  # for a minute, 4,000 a second
        reject.reject(rubbish(400))
        reject.log_summary()
        machine.now += 0.1
    assert len(queue.letters) == pytest.approx(REPORTS_AT_ONCE + 60, abs=2)
    assert len(queue.letters) + len(queue.acked) == 240_000
    summaries = [text for text in caplog.messages if "were removed" in text]
    assert len(summaries) == 1
    assert len(caplog.messages) < 2 * LOGGED_AT_ONCE + 70
    machine.now += SUMMARY_EVERY
    reject.log_summary()
    reject.log_summary()
    (last,) = [text for text in caplog.messages if "were removed" in text][1:]
    assert last.endswith("the last: not JSON")
