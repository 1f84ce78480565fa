"""While everybody is held, the cloud's services are asked; that decides whether a job tries."""

from __future__ import annotations

import threading
import time

import pytest

from benchmarks.emptycloud import EmptyCloud
from lando.cloud.interface import CloudError, RateLimited, Unreachable
from lando.daemon import services_check
from lando.daemon.services_check import ServicesCheck
from lando.engine.holds import Hold, Holds
from lando.messages import Message
from lando.states.events import RefusalKind
from lando.store.store import Store
from tests.support.engine_rules import NOW, new_engine

DOWN = Unreachable("Neutron does not answer: HTTP 503")
PATIENCE = 30.0
EVERY, LONGEST = 30.0, 600.0


class Services(EmptyCloud):
    """Answers, or fails, as a test says."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.checks = 0

    def check_services(self) -> None:
        self.checks += 1
        if self.error is not None:
            raise self.error


class Loop:
    """The check, driven as the loop drives it; its clock is the test's."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.cloud = Services()
        self.time = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.time)
        monkeypatch.setattr(services_check.random, "uniform", lambda low, high: 1.0)
        self._woken = threading.Semaphore(0)
        self.check = ServicesCheck(self.cloud, EVERY, LONGEST, self._woken.release)
        with store.transaction() as transaction:
            new_engine().take(transaction, Message("start_worker", {}, "a"), NOW)

    def hold(self, kind: RefusalKind = "unreachable", until: float = NOW + 600.0) -> None:
        hold = Hold(kind, until, "no, says the cloud", account=kind != "site")
        with self.store.transaction() as transaction:
            transaction.set_holds(Holds(everybody=hold))

    def release(self) -> None:
        with self.store.transaction() as transaction:
            transaction.set_holds(Holds())

    def iterate(self, now: float = NOW) -> None:
        """Once, and until a check that it begins is over and was judged."""
        before = self.cloud.checks
        self._once(now)
        if self.cloud.checks != before or self.check._in_progress:
            assert self._woken.acquire(timeout=PATIENCE)
            self._once(now)

    def _once(self, now: float) -> None:
        with self.store.transaction() as transaction:
            self.check.judge(transaction, now)
        self.check.start()

    def look(self, error: Exception | None, after: float = EVERY) -> None:
        """Let time pass, and the next check have this outcome."""
        self.time += after
        self.cloud.error = error
        before = self.cloud.checks
        self.iterate()
        assert self.cloud.checks == before + 1

    def let_pass(self, seconds: float) -> int:
        """How many checks there are meanwhile."""
        before, end = self.cloud.checks, self.time + seconds
        while self.time < end:
            self.time += 1.0
            self.iterate()
        return self.cloud.checks - before

    @property
    def until(self) -> float:
        with self.store.transaction() as transaction:
            everybody = transaction.holds().everybody
        assert everybody is not None
        return everybody.until


@pytest.fixture
def loop(store: Store, monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(store, monkeypatch)


def test_without_a_hold_nothing_is_asked(loop: Loop) -> None:
    assert loop.let_pass(100.0) == 0


@pytest.mark.parametrize("kind", ["quota", "rate_limit"])
def test_a_hold_that_says_nothing_of_services_asks_nothing(loop: Loop, kind: RefusalKind) -> None:
    loop.hold(kind)
    assert loop.let_pass(100.0) == 0


def test_where_no_job_waits_nothing_is_asked(loop: Loop) -> None:
    loop.hold()
    with loop.store.transaction() as transaction:
        new_engine().take(transaction, Message("cancel_job", {}, "a"), NOW)
    assert loop.let_pass(100.0) == 0


@pytest.mark.parametrize("kind", ["unreachable", "site"])
def test_while_a_service_does_not_answer_no_job_tries(loop: Loop, kind: RefusalKind) -> None:
    loop.hold(kind)
    loop.look(None)
    assert loop.check.obstacle is None
    loop.look(DOWN)
    words = "no job is started at present: Neutron does not answer: HTTP 503; one job tries"
    assert str(loop.check.obstacle).startswith(words)
    loop.look(None)
    assert loop.check.obstacle is None


@pytest.mark.parametrize("kind", ["unreachable", "site"])
def test_when_all_answer_again_the_hold_is_over(loop: Loop, kind: RefusalKind) -> None:
    loop.hold(kind)
    loop.look(DOWN)
    loop.look(DOWN)
    assert loop.until == NOW + 600.0
    loop.look(None)
    assert loop.until == NOW


def test_services_that_answer_all_the_time_end_no_hold(loop: Loop) -> None:
    loop.hold()
    for _ in range(3):
        loop.look(None, after=LONGEST)
    assert loop.until == NOW + 600.0


def test_a_failure_before_the_hold_does_not_count(loop: Loop) -> None:
    loop.hold()
    loop.look(DOWN)
    loop.release()
    loop.iterate()
    assert loop.check.obstacle is None
    loop.hold()
    loop.look(None)
    assert loop.until == NOW + 600.0


def test_what_is_rolled_back_is_done_again(loop: Loop) -> None:
    loop.hold()
    loop.look(DOWN)
    loop.time += EVERY
    loop.cloud.error = None
    loop._once(NOW)
    assert loop._woken.acquire(timeout=PATIENCE)
    with pytest.raises(ZeroDivisionError), loop.store.transaction() as transaction:
        loop.check.judge(transaction, NOW)
        raise ZeroDivisionError
    assert loop.until == NOW + 600.0
    loop.iterate()
    assert loop.until == NOW


def test_a_service_that_answers_now_and_then_lets_ever_fewer_jobs_try(loop: Loop) -> None:
    loop.hold()
    tries = []
    for number in range(200):
        loop.look(DOWN if number % 5 == 0 else None, after=LONGEST)
        if loop.until == NOW:
            tries.append(number)
            loop.hold()  # that job was refused, too
    assert tries == [1, 7, 14], "after one success, after two, after four"


def test_calls_in_an_outage_are_bounded(loop: Loop) -> None:
    loop.hold()
    loop.cloud.error = DOWN
    assert loop.let_pass(3600.0) <= 121


def test_while_all_answer_they_are_asked_less_and_less(loop: Loop) -> None:
    loop.hold()
    assert loop.let_pass(3600.0) <= 11
    loop.cloud.error = DOWN
    loop.let_pass(LONGEST)
    assert loop.let_pass(300.0) >= 9, "as often as ever once one fails"


def test_a_check_that_may_be_wrong_stops_jobs_for_an_hour_at_most(loop: Loop) -> None:
    loop.hold()
    loop.cloud.error = DOWN
    tries = []
    for _ in range(3 * 3600):
        loop.time += 1.0
        loop.iterate()
        if loop.check.obstacle is None and (not tries or loop.time > tries[-1] + 60.0):
            tries.append(loop.time)
    first, second = tries
    assert 3600.0 <= first <= 3700.0
    assert 3600.0 <= second - first <= 3700.0


def test_the_cloud_says_when_to_ask_again(loop: Loop) -> None:
    loop.hold()
    loop.look(RateLimited("asking Keystone: too many logins", retry_after=300.0))
    assert loop.let_pass(299.0) == 0
    assert loop.let_pass(2.0) == 1


def test_a_bug_is_logged_and_keeps_nobody_waiting(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.hold()
    loop.look(KeyError("access"))
    assert loop.check.obstacle is None
    assert "this is a bug in lando-fsm" in caplog.text


def test_the_log_has_a_line_at_the_begin_and_at_the_end(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    loop.hold()
    for error in (None, DOWN, CloudError("Neutron does not answer: HTTP 500"), None, None):
        loop.look(error, after=LONGEST)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
