"""The daemon's clock: steady between checks. A check follows the wall clock, and adjusts what is stored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import cast

import pytest

from lando.daemon import clock
from lando.daemon.clock import Clock
from lando.daemon.health import QueueHealth
from lando.daemon.receive import Receiver
from lando.states.job import CreateRequest, Job
from lando.store.database import StoreUnavailable
from lando.store.store import Store
from lando.store.transaction import Transaction
from lando.workqueue.interface import WorkQueue
from tests.support.engine_rules import PACE, new_engine

START = 10_000.0
HEARD, DEADLINE, ABSENT = START - 100.0, START + 5_000.0, START - 10.0


class Machine:
    """The clocks of a machine."""

    CLOCK_MONOTONIC, CLOCK_BOOTTIME = time.CLOCK_MONOTONIC, 7

    def __init__(self) -> None:
        self.wall, self.awake, self.since_boot = START, 500.0, 500.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.awake

    def clock_gettime(self, clock_id: int) -> float:
        return self.since_boot

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.awake += seconds
        self.since_boot += seconds

    def sleeps(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    here = Machine()
    monkeypatch.setattr(clock, "time", here)
    return here


@pytest.fixture
def running(store: Store) -> Store:
    """A store with a job that runs, and an effect that is due in five seconds."""
    request = CreateRequest("mark", "token", "sent", absent_since=ABSENT)
    job = Job("a", state="running", deadline_at=DEADLINE, heard_at=HEARD, requests=(request,))
    with store.transaction() as transaction:
        transaction.insert_job(job, {}, None)
        transaction.add_effect("a", "delete_twins", (), START + 5.0)
        transaction.set_seen_at(START)
    return store


def a_clock(store: Store) -> Clock:
    return Clock(store, new_engine())


def shifts(store: Store) -> list[float]:
    """By how much each lived time differs from what was stored first, and the record of the daemon's life."""
    with store.transaction() as transaction:
        job, seen_at = transaction.job("a"), transaction.seen_at()
    assert job is not None and job.deadline_at is not None and job.heard_at is not None
    absent_since = job.requests[0].absent_since
    assert absent_since is not None and seen_at is not None
    return [job.deadline_at - DEADLINE, job.heard_at - HEARD, absent_since - ABSENT, seen_at - START]


def due_at(store: Store) -> float:
    with store.transaction() as transaction:
        [effect] = transaction.next_effects()
    return effect.due_at


def test_nothing_changes_while_all_clocks_go_on_alike(running: Store, machine: Machine) -> None:
    checked = a_clock(running)
    for _ in range(5):
        machine.passes(20.0)
        assert checked.check() == (0.0, 0.0)
    assert shifts(running) == [0.0] * 4
    assert checked.now() == machine.wall


@pytest.mark.parametrize("step", [3600.0, -3600.0, 6.0, -6.0])
def test_when_the_clock_is_set_lived_times_are_shifted_once_by_as_much(
    running: Store, machine: Machine, step: float
) -> None:
    checked = a_clock(running)
    machine.wall += step
    assert checked.check() == (step, 0.0)
    assert checked.now() == machine.wall
    assert shifts(running) == [step] * 4
    machine.passes(1.0)
    assert checked.check() == (0.0, 0.0)
    assert shifts(running) == [step] * 4


def test_no_due_time_is_shifted_but_none_is_later_than_the_longest_back_off(
    running: Store, machine: Machine
) -> None:
    checked = a_clock(running)
    machine.wall += 3600.0
    checked.check()
    assert due_at(running) == START + 5.0, "it is due at once"
    machine.wall -= 2 * 3600.0
    checked.check()
    assert due_at(running) == machine.wall + PACE.longest


def test_until_a_step_was_stored_no_time_is_taken_from_the_new_clock(
    running: Store, machine: Machine
) -> None:
    checked = a_clock(running)
    machine.wall += 3600.0
    machine.passes(1.0)
    assert checked.now() == START + 1.0, "a report is stored as if the clock had not been set"
    checked.check()
    assert checked.now() == START + 3601.0


def test_a_small_step_changes_nothing_at_all(running: Store, machine: Machine) -> None:
    checked = a_clock(running)
    machine.wall += clock.STEP - 0.1
    assert checked.check() == (0.0, 0.0)
    assert checked.now() == START
    assert shifts(running) == [0.0] * 4


def test_small_steps_that_add_up_are_followed_together(running: Store, machine: Machine) -> None:
    checked = a_clock(running)
    for _ in range(3):
        machine.wall += 2.0
        checked.check()
    assert checked.now() == machine.wall
    assert shifts(running) == [6.0] * 4


def test_a_pause_longer_than_an_iteration_is_reported_once(running: Store, machine: Machine) -> None:
    checked = a_clock(running)
    machine.passes(clock.LONGEST_ITERATION)
    assert checked.check() == (0.0, 0.0)
    machine.passes(45.0)
    assert checked.check() == (0.0, 45.0)
    assert checked.check() == (0.0, 0.0)
    longer = 45.0 - clock.LONGEST_ITERATION
    assert shifts(running) == [longer, longer, longer, clock.LONGEST_ITERATION + 45.0]


def test_a_process_that_was_stopped_has_not_lived_meanwhile(running: Store, machine: Machine) -> None:
    checked = a_clock(running)
    machine.passes(3600.0)
    assert checked.check() == (0.0, 3600.0)
    assert shifts(running)[:3] == [3600.0 - clock.LONGEST_ITERATION] * 3
    assert due_at(running) == START + 5.0


def test_a_clock_that_was_set_while_the_process_was_stopped(running: Store, machine: Machine) -> None:
    checked = a_clock(running)
    machine.passes(3600.0)
    machine.wall -= 7200.0
    assert checked.check() == (-7200.0, 3600.0)
    assert shifts(running)[:3] == [-3600.0 - clock.LONGEST_ITERATION] * 3
    assert checked.check() == (0.0, 0.0)


def test_a_pause_before_the_last_life_was_resumed_counts_once(running: Store, machine: Machine) -> None:
    started = a_clock(running)
    machine.passes(600.0)
    with running.transaction() as transaction:
        started.resume(transaction)
    started.check()
    assert shifts(running) == [600.0] * 4, "the database was locked for so long"


def test_the_time_for_which_times_could_not_be_adjusted_is_a_pause(
    running: Store, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = a_clock(running)
    machine.passes(100.0)
    with monkeypatch.context() as patch:
        patch.setattr(running, "transaction", unavailable)
        with pytest.raises(StoreUnavailable):
            checked.check()
    machine.passes(100.0)
    checked.check()
    assert shifts(running)[0] == 200.0 - clock.LONGEST_ITERATION


def test_deadlines_pass_however_slow_the_daemon_is(running: Store, machine: Machine) -> None:
    checked = a_clock(running)
    left = [DEADLINE - START]
    while left[-1] > 0:
        machine.passes(100.0)
        checked.check()
        left.append(DEADLINE + shifts(running)[0] - checked.now())
        assert left[-1] == left[-2] - clock.LONGEST_ITERATION


def test_a_machine_that_slept_is_a_pause_and_lived_times_are_shifted(
    running: Store, machine: Machine
) -> None:
    checked = a_clock(running)
    machine.sleeps(3600.0)
    assert checked.check() == (3600.0, 3600.0)
    assert shifts(running) == [3600.0] * 4


def test_times_that_could_not_be_adjusted_are_adjusted_at_the_next_check(
    running: Store, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = a_clock(running)
    machine.wall += 100.0
    with monkeypatch.context() as patch:
        patch.setattr(running, "transaction", unavailable)
        with pytest.raises(StoreUnavailable):
            checked.check()
    assert checked.now() == START
    checked.check()
    assert shifts(running) == [100.0] * 4


@pytest.mark.parametrize("was_done", [True, False])
def test_times_are_adjusted_once_although_the_answer_to_a_commit_was_lost(
    running: Store, machine: Machine, monkeypatch: pytest.MonkeyPatch, was_done: bool
) -> None:
    @contextlib.contextmanager
    def losing_the_answer() -> Iterator[Transaction]:
        with contextlib.suppress(ZeroDivisionError), Store.transaction(running) as transaction:
            yield transaction
            if not was_done:
                raise ZeroDivisionError  # rolls back
        raise StoreUnavailable("the connection was lost")

    checked = a_clock(running)
    machine.sleeps(100.0)
    with monkeypatch.context() as patch:
        patch.setattr(running, "transaction", losing_the_answer)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                checked.check()
            machine.sleeps(50.0)
    checked.check()
    assert shifts(running) == [200.0] * 4


@contextlib.contextmanager
def unavailable() -> Iterator[Transaction]:
    raise StoreUnavailable("the disk is full")
    yield


@pytest.mark.parametrize("gap", [86_400.0, -86_400.0])
def test_the_time_between_two_lives_shifts_lived_times(running: Store, machine: Machine, gap: float) -> None:
    machine.wall += gap
    with running.transaction() as transaction:
        a_clock(running).resume(transaction)
    assert shifts(running) == [gap] * 4
    assert due_at(running) <= machine.wall + PACE.longest


def test_a_life_is_recorded_now_and_then_while_it_counts_for_a_job(running: Store, machine: Machine) -> None:
    recorded = a_clock(running)
    seen = []
    for _ in range(12):
        with running.transaction() as transaction:
            recorded.record(transaction)
            seen.append(transaction.seen_at())
        machine.passes(1.0)
    assert seen == [START] * 5 + [START + 5.0] * 5 + [START + 10.0] * 2


MONTH = 30 * 86_400.0


def remembers(store: Store, machine: Machine) -> tuple[bool, bool]:
    """Whether the message and the cancel of ``remembering`` are, after what is old was forgotten."""
    with store.transaction() as transaction:
        a_receiver(store).forget(transaction, machine.wall)
        return transaction.is_processed("client:m"), transaction.was_canceled("later")


@pytest.fixture
def remembering(store: Store) -> Store:
    """A store with a message that was processed, and a cancel that came before its job."""
    with store.transaction() as transaction:
        transaction.mark_processed("client:m", START)
        transaction.remember_cancel("later", START)
        transaction.set_seen_at(START)
    return store


@pytest.mark.parametrize("step", [2 * MONTH, -2 * MONTH])
def test_messages_are_forgotten_after_lived_time_and_by_no_step_of_the_clock(
    remembering: Store, machine: Machine, step: float
) -> None:
    checked = a_clock(remembering)
    for each in (step, -step, step):
        machine.wall += each
        checked.check()
        assert remembers(remembering, machine) == (True, True)
    machine.passes(MONTH - 1.0)
    assert remembers(remembering, machine) == (True, True)
    machine.passes(2.0)
    assert remembers(remembering, machine) == (False, False)


@pytest.mark.parametrize("gap", [2 * MONTH, -2 * MONTH])
def test_messages_are_not_forgotten_because_no_daemon_ran(
    remembering: Store, machine: Machine, gap: float
) -> None:
    machine.wall += gap
    with remembering.transaction() as transaction:
        a_clock(remembering).resume(transaction)
    assert remembers(remembering, machine) == (True, True)
    machine.passes(MONTH + 1.0)
    assert remembers(remembering, machine) == (False, False)


def test_an_idle_daemon_records_nothing(store: Store, machine: Machine) -> None:
    with store.transaction() as transaction:
        a_clock(store).record(transaction)
        assert transaction.seen_at() is None


def a_receiver(store: Store) -> Receiver:
    engine = new_engine()
    queue = cast(WorkQueue, None)
    return Receiver(store, queue, engine, QueueHealth(), Clock(store, engine), stop=lambda: None)


def test_a_step_changes_nothing_about_how_long_the_daemon_has_listened(
    store: Store, machine: Machine
) -> None:
    receiver = a_receiver(store)
    receiver.listening_since = START
    machine.passes(20.0)
    machine.wall -= 3600.0
    receiver.check_clock()
    assert receiver.listening_since == START - 3600.0


def test_after_a_pause_the_daemon_listens_anew(store: Store, machine: Machine) -> None:
    receiver = a_receiver(store)
    receiver.listening_since = START
    machine.sleeps(3600.0)
    receiver.check_clock()
    assert receiver.listening_since is None
