"""The clock of the daemon: when the wall clock is set, due times move with it; a suspension is noticed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from lando.daemon import clock
from lando.daemon.clock import Clock
from lando.states.job import Job
from lando.store.database import StoreUnavailable
from lando.store.store import Store
from lando.store.transaction import Transaction

DUE = 50_000.0


class Machine:
    """The two clocks of a machine."""

    def __init__(self) -> None:
        self.wall, self.boot = 10_000.0, 500.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.boot

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    here = Machine()
    monkeypatch.setattr(clock, "time", here)
    return here


@pytest.fixture
def due(store: Store) -> Store:
    """A store with one effect that is due at ``DUE``."""
    with store.transaction() as transaction:
        transaction.insert_job(Job("a"), {}, None)
        transaction.add_effect("a", "create_server", (), DUE)
    return store


def due_at(store: Store) -> float:
    with store.transaction() as transaction:
        [effect] = transaction.next_effects()
    return effect.due_at


def test_nothing_is_shifted_while_both_clocks_go_on_alike(due: Store, machine: Machine) -> None:
    checked = Clock(due)
    for _ in range(5):
        machine.passes(20.0)
        assert checked.check() == 0.0
    assert due_at(due) == DUE


@pytest.mark.parametrize("step", [3600.0, -3600.0, 6.0, -6.0])
def test_when_the_clock_is_set_due_times_are_shifted_once_by_as_much(
    due: Store, machine: Machine, step: float
) -> None:
    checked = Clock(due)
    machine.passes(1.0)
    machine.wall += step
    checked.check()
    assert due_at(due) == DUE + step
    machine.passes(1.0)
    checked.check()
    assert due_at(due) == DUE + step


def test_a_small_step_shifts_nothing(due: Store, machine: Machine) -> None:
    checked = Clock(due)
    machine.wall += clock.STEP - 0.1
    checked.check()
    assert due_at(due) == DUE


def test_small_steps_that_add_up_are_shifted_together(due: Store, machine: Machine) -> None:
    checked = Clock(due)
    for _ in range(3):
        machine.wall += 2.0
        checked.check()
    assert due_at(due) == DUE + 6.0


def test_a_pause_longer_than_an_iteration_is_reported_once(due: Store, machine: Machine) -> None:
    checked = Clock(due)
    machine.passes(clock.LONGEST_ITERATION)
    assert checked.check() == 0.0
    machine.passes(45.0)
    assert checked.check() == 45.0
    assert checked.check() == 0.0
    assert due_at(due) == DUE, "both clocks went on alike: no due time is shifted"


def test_times_that_could_not_be_shifted_are_shifted_at_the_next_check(
    due: Store, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = Clock(due)
    machine.wall += 100.0
    with monkeypatch.context() as patch:
        patch.setattr(due, "transaction", unavailable)
        with pytest.raises(StoreUnavailable):
            checked.check()
    assert due_at(due) == DUE
    checked.check()
    assert due_at(due) == DUE + 100.0


@contextlib.contextmanager
def unavailable() -> Iterator[Transaction]:
    raise StoreUnavailable("the disk is full")
    yield
