"""The daemon's clock is set, or differs between two lives: nothing waits for longer than one back-off, and
only time that a daemon lived through counts towards a verdict."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lando.engine import clock_changes
from lando.engine.holds import Hold, Holds
from lando.engine.operations import AnswerLost, Console, Gone, Listed, Trouble
from lando.engine.reservation import Reservation
from lando.states.events import BootTimeout, RefusalKind, RunTimeout, WorkerLost
from tests.support.engine_rules import NOW, PACE, POLICY, Rules

Change = Callable[[Rules, float], None]
DAY = 86_400.0
EITHER_WAY = pytest.mark.parametrize("step", [DAY, -DAY, 7.0, -7.0])


def step_by(rules: Rules, seconds: float) -> None:
    """The clock is set while the daemon runs."""
    rules.now += seconds
    with rules.ledgers() as ledger:
        clock_changes.adjust(ledger, seconds, rules.now, POLICY, PACE)


def restart(rules: Rules, seconds: float) -> None:
    """The daemon is killed; by the next one's clock this much later it is started again."""
    rules.now += seconds
    with rules.ledgers() as ledger:
        clock_changes.resume(ledger, rules.now, POLICY, PACE)


def record(rules: Rules) -> None:
    """The daemon lives."""
    with rules.ledgers() as ledger:
        ledger.set_seen_at(rules.now)


CHANGES = pytest.mark.parametrize("change", [step_by, restart])


@CHANGES
@EITHER_WAY
def test_no_effect_is_due_later_than_the_longest_back_off(rules: Rules, change: Change, step: float) -> None:
    rules.boot()
    rules.take("cancel_job", "a")
    for _ in range(10):
        rules.conclude(Trouble("no answer"))
    change(rules, step)
    assert rules.effects()[0].due_at <= rules.now + PACE.longest


@CHANGES
@EITHER_WAY
def test_no_queued_job_waits_for_longer_than_the_longest_back_off(
    rules: Rules, change: Change, step: float
) -> None:
    rules.run()
    rules.fire("a", WorkerLost(rules.now, 600.0))
    rules.conclude(Console(""))
    rules.conclude(Gone())
    assert rules.job("a").not_before > rules.now
    change(rules, step)
    assert rules.job("a").not_before <= rules.now + POLICY.longest_wait


@CHANGES
@EITHER_WAY
@pytest.mark.parametrize("kind", ["quota", "site"])
def test_no_hold_lasts_longer_than_the_longest_back_off(
    rules: Rules, change: Change, step: float, kind: RefusalKind
) -> None:
    refused = Hold(kind, NOW + 40.0, "refused", 3)
    with rules.ledgers() as ledger:
        ledger.set_holds(Holds(refused, (("other", refused),)))
    change(rules, step)
    with rules.ledgers() as ledger:
        holds = ledger.holds()
    for hold in (holds.everybody, holds.of("other")):
        assert hold is not None
        assert hold.until <= rules.now + max(PACE.longest_hold, POLICY.hold_longest)
        assert (hold.kind, hold.reason, hold.times) == (kind, "refused", 3)


@CHANGES
def test_a_turn_of_a_reservation_counts_lived_time(rules: Rules, change: Change) -> None:
    rules.boot()
    record(rules)
    with rules.ledgers() as ledger:
        ledger.set_reservation(Reservation("b", rules.now, 60.0))
    change(rules, -86400.0)
    with rules.ledgers() as ledger:
        reservation = ledger.reservation()
    assert reservation is not None and reservation.until == rules.now + 60.0


@CHANGES
def test_what_is_due_soon_stays_due_then(rules: Rules, change: Change) -> None:
    rules.boot()
    rules.take("cancel_job", "a")
    rules.conclude(Trouble("no answer"))
    change(rules, 0.0)
    assert rules.effects()[0].due_at == NOW + PACE.first


@CHANGES
@EITHER_WAY
def test_a_boot_is_late_after_as_much_lived_time_as_without_the_change(
    rules: Rules, change: Change, step: float
) -> None:
    rules.boot()
    rules.now += 40.0
    record(rules)
    change(rules, step)
    rules.now += 59.0
    assert rules.overdue(listening_since=-1e9) == []
    rules.now += 1.0
    assert rules.overdue(listening_since=-1e9) == [BootTimeout(rules.now)]


@CHANGES
@EITHER_WAY
def test_a_workflow_is_late_after_as_much_lived_time_as_without_the_change(
    rules: Rules, change: Change, step: float
) -> None:
    rules.run(run_timeout=50.0)
    rules.now += 20.0
    record(rules)
    change(rules, step)
    rules.now += 30.9
    assert rules.overdue(listening_since=-1e9) == []
    rules.now += 0.1
    assert rules.overdue(listening_since=-1e9) == [RunTimeout(rules.now)]


@CHANGES
@EITHER_WAY
def test_a_worker_is_lost_after_as_much_lived_silence_as_without_the_change(
    rules: Rules, change: Change, step: float
) -> None:
    rules.run()
    rules.now += 400.0
    record(rules)
    change(rules, step)
    rules.now += 199.0
    assert rules.overdue(listening_since=-1e9) == []
    rules.now += 1.0
    assert rules.overdue(listening_since=-1e9) == [WorkerLost(rules.now, 600.0)]


def test_a_worker_that_was_heard_after_the_last_record_is_not_heard_in_the_future(rules: Rules) -> None:
    rules.run()
    rules.now += 9.0
    rules.report("worker_progress", "a", 2)
    restart(rules, 3600.0)
    assert rules.job("a").heard_at == rules.now, "the daemon has lived a little longer than it has recorded"


@CHANGES
@EITHER_WAY
def test_the_settle_time_of_a_lost_create_does_not_pass_by_a_change(
    rules: Rules, change: Change, step: float
) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost("no answer"))
    rules.conclude(Listed(()))
    first = rules.job("a").requests
    rules.now += PACE.settle - 2.0
    record(rules)
    change(rules, step)
    assert rules.begin()[1] is None, "its server may still be listed"
    assert len(rules.job("a").requests) == 1
    assert first[0].absent_since is not None
    assert rules.effects()[0].due_at == rules.now + 2.0
    rules.now += 2.0
    rules.conclude(Listed(()))
    assert len(rules.job("a").requests) == 2


@CHANGES
@EITHER_WAY
def test_a_list_that_takes_long_after_a_change_is_no_second_look(
    rules: Rules, change: Change, step: float
) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost("no answer"))
    rules.conclude(Listed(()))
    rules.now += 1.0
    record(rules)
    change(rules, step)
    begun_at = rules.now
    while (begun := rules.begin())[1] is None:
        rules.now = rules.effects()[0].due_at
    assert rules.now == begun_at + PACE.settle - 1.0
    rules.now += PACE.settle
    with rules.ledgers() as ledger:
        assert begun[1] is not None
        rules.outbox.conclude(ledger, begun[0], begun[1], Listed(()), rules.now)
    assert [request.status for request in rules.job("a").requests] == ["void", "ordered"]


def test_a_lost_create_is_not_absent_from_the_future_on(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(AnswerLost("no answer"))
    rules.now += 9.0
    rules.conclude(Listed(()))
    restart(rules, 3600.0)
    assert rules.job("a").requests[0].absent_since == rules.now


def test_two_steps_that_undo_each_other_change_no_lived_time(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    before = rules.job("a")
    step_by(rules, -DAY)
    step_by(rules, DAY)
    after = rules.job("a")
    assert (after.deadline_at, after.heard_at) == (before.deadline_at, before.heard_at)


def test_a_step_and_then_a_restart_count_once_each(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    step_by(rules, DAY)
    restart(rules, 5.0)
    assert rules.job("a").deadline_at == rules.now + 50.0


def test_a_clock_that_was_set_while_no_daemon_ran_counts_as_time_without_one(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    restart(rules, -DAY + 60.0)
    assert rules.job("a").deadline_at == rules.now + 50.0
    assert rules.job("a").heard_at == rules.now


def test_the_life_is_recorded_with_the_first_live_job(rules: Rules) -> None:
    with rules.ledgers() as ledger:
        ledger.set_seen_at(NOW - 30 * DAY)
    rules.boot()
    restart(rules, 1.0)
    assert rules.job("a").deadline_at == rules.now + POLICY.boot_timeout, "an idle daemon records nothing"


def test_a_database_of_a_version_that_recorded_nothing_counts_from_its_last_change(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    rules.now += 20.0
    rules.report("worker_progress", "a", 2, phase="cloning")
    with rules.ledgers() as ledger:
        ledger.set_seen_at(None)  # type: ignore[arg-type]
    restart(rules, -DAY)
    assert rules.job("a").deadline_at == rules.now + 30.0


def test_a_change_before_the_clock_of_an_older_version_was_set_back_ends_no_job(rules: Rules) -> None:
    rules.now += DAY
    rules.run("stuck")
    rules.take("cancel_job", "stuck")
    rules.now -= DAY  # the older version shifted deadlines, and no time of a change
    rules.run(run_timeout=50.0)
    with rules.ledgers() as ledger:
        ledger.set_seen_at(None)  # type: ignore[arg-type]
    restart(rules, 20.0)
    assert rules.job("a").deadline_at == rules.now + 50.0


def test_a_step_of_the_clock_is_not_learned_as_a_boot_time(rules: Rules) -> None:
    rules.engine._learns_boot = True
    for job, step in (("a", DAY), ("b", -DAY)):
        rules.boot(job, f"server-{job}")
        rules.now += 40.0
        step_by(rules, step)
        rules.report("worker_started", job)
    rules.boot("c", "server-c")
    rules.now += 40.0
    rules.report("worker_started", "c")
    with rules.ledgers() as ledger:
        assert list(ledger.boots()) == [40.0]
