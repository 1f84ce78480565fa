"""A deadline that has passed counts once everything was taken that was queued before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from lando.daemon import deadline_check
from lando.daemon.deadline_check import EVERY, SOON, DeadlineCheck
from lando.daemon.receive import Receiver
from lando.store.store import Store
from tests.support.engine_rules import NOW, POLICY, Rules


class Read:
    """Stands in for the receiver: everything was taken that was queued before ``until``."""

    def __init__(self) -> None:
        self.listening_since: float | None = 0.0
        self.refused_until = 0.0
        self.until = 0.0

    @property
    def hearing_since(self) -> float | None:
        return None if self.listening_since is None else max(self.listening_since, self.refused_until)

    def was_read_since(self, moment: float) -> bool:
        return self.listening_since is not None and moment <= self.until


class Machine:
    """Its monotonic clock."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Site:
    """Rules over a store, and the check of its deadlines."""

    def __init__(self, store: Store, machine: Machine) -> None:
        self.rules = Rules(store.transaction)
        self.machine = machine
        self.read = Read()
        self.check = DeadlineCheck(self.rules.engine, cast(Receiver, self.read))

    def pass_by(self, seconds: float) -> None:
        self.machine.now += seconds
        self.rules.now += seconds
        self.look()

    def look(self) -> None:
        with self.rules.ledgers() as transaction:
            self.check.check(transaction, self.rules.now)  # type: ignore[arg-type]

    def state(self, job: str) -> str:
        return self.rules.job(job).state


@pytest.fixture
def site(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    machine = Machine()
    monkeypatch.setattr(deadline_check, "time", machine)
    yield Site(store, machine)


def test_a_deadline_counts_only_after_what_was_queued_until_it_passed(site: Site) -> None:
    site.rules.boot("a")
    site.pass_by(POLICY.boot_timeout + EVERY)
    assert site.state("a") == "booting"
    assert site.check.waits_since == site.machine.now
    site.read.until = site.machine.now - 0.1
    site.pass_by(EVERY)
    assert site.state("a") == "booting"
    assert site.check.waits_since == site.machine.now - EVERY, "it asks for no later fence each time"
    site.read.until = site.machine.now
    site.look()  # before the next look is due
    assert site.state("a") == "terminating"
    assert site.check.waits_since is None


def test_a_report_that_was_queued_in_time_averts_the_deadline(site: Site) -> None:
    site.rules.boot("a")
    site.pass_by(POLICY.boot_timeout + EVERY)
    assert site.check.waits_since is not None
    site.rules.report("worker_started", "a")
    site.read.until = site.machine.now
    site.look()
    assert site.state("a") == "running"
    assert site.check.waits_since is None


def test_no_boot_times_out_while_reports_are_refused(site: Site) -> None:
    site.rules.boot("a")
    site.pass_by(POLICY.boot_timeout + EVERY)
    assert site.check.waits_since is not None
    site.read.refused_until = site.rules.now  # its fence was passed, but by a queue that refused it
    site.read.until = site.machine.now
    site.look()
    assert site.state("a") == "booting"
    assert site.check.waits_since is None
    site.pass_by(POLICY.boot_timeout + EVERY)
    site.read.until = site.machine.now
    site.look()
    assert site.state("a") == "terminating"


def test_what_passes_while_another_waits_needs_a_fence_of_its_own(site: Site) -> None:
    site.rules.boot("a")
    site.rules.now += 0.5
    site.rules.boot("b", "server-2")
    site.rules.now -= 0.5
    site.pass_by(POLICY.boot_timeout + 0.1)
    asked = site.machine.now
    site.read.until = asked
    site.pass_by(EVERY)
    assert (site.state("a"), site.state("b")) == ("terminating", "booting")
    assert site.check.waits_since == site.machine.now
    site.read.until = site.machine.now
    site.look()
    assert site.state("b") == "terminating"


def test_a_lost_connection_ends_the_wait(site: Site) -> None:
    site.rules.boot("a")
    site.pass_by(POLICY.boot_timeout + EVERY)
    site.read.listening_since = None
    site.pass_by(EVERY)
    assert site.check.waits_since is None
    site.read.listening_since, site.read.until = site.rules.now, site.machine.now
    site.pass_by(EVERY)
    assert site.state("a") == "booting"


def test_it_looks_once_a_second_and_more_often_before_a_deadline(site: Site) -> None:
    site.look()
    assert site.check.next_look == EVERY
    site.rules.boot("a")
    assert site.rules.now == NOW
    site.pass_by(POLICY.boot_timeout - EVERY - 0.1)
    assert site.check.next_look == pytest.approx(EVERY)
    site.pass_by(EVERY)
    assert site.check.next_look == pytest.approx(SOON)
    site.pass_by(SOON)
    assert site.check.waits_since == site.machine.now
