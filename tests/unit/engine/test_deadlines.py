"""When a job that boots or runs is late: no time counts in which the daemon could not hear its worker."""

from __future__ import annotations

from lando.engine.deadlines import overdue
from lando.states.events import BootTimeout, RunTimeout, WorkerLost
from tests.support.engine_rules import NOW, POLICY, Rules


def test_a_boot_is_late_after_the_timeout_of_the_job_or_else_of_the_site(rules: Rules) -> None:
    rules.boot("a")
    rules.boot("b", "server-2", boot_timeout=5.0)
    rules.now = NOW + 5.0
    assert rules.overdue(listening_since=0.0) == [BootTimeout(rules.now)]
    rules.now = NOW + 99.9
    assert len(rules.overdue(listening_since=0.0)) == 1
    rules.now = NOW + 100.0
    assert len(rules.overdue(listening_since=0.0)) == 2


def test_the_time_of_a_boot_runs_from_when_its_create_is_sent(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.now += 10 * POLICY.boot_timeout
    assert rules.overdue(listening_since=0.0) == []
    rules.begin()
    assert rules.job("a").deadline_at == rules.now + POLICY.boot_timeout, "its time runs from here on"
    rules.now += POLICY.boot_timeout
    assert rules.overdue(listening_since=0.0) == [BootTimeout(rules.now)]


def test_a_boot_is_late_only_after_its_timeout_of_listening(rules: Rules) -> None:
    rules.boot()
    rules.now = NOW + 1000.0
    assert rules.overdue(listening_since=NOW + 950.0) == []
    assert rules.overdue(listening_since=NOW + 900.0) == [BootTimeout(rules.now)]


def test_silence_counts_from_the_last_report_and_again_in_full_after_a_reconnect(rules: Rules) -> None:
    rules.run()
    rules.now = NOW + 300.0
    rules.report("worker_progress", "a", 2)
    rules.now = NOW + 899.0
    assert rules.overdue(listening_since=0.0) == []
    rules.now = NOW + 900.0
    assert rules.overdue(listening_since=0.0) == [WorkerLost(rules.now, 600.0)]
    assert rules.overdue(listening_since=NOW + 301.0) == [], "it starts again in full after a reconnect"
    rules.now = NOW + 901.0
    assert rules.overdue(listening_since=NOW + 301.0) == [WorkerLost(rules.now, 600.0)]


def test_silence_and_a_boot_count_again_in_full_after_reports_were_refused(rules: Rules) -> None:
    rules.run("a", run_timeout=5000.0)
    rules.boot("b", "server-2")
    refused = NOW + 500.0
    rules.now = refused + 99.0
    assert rules.overdue(listening_since=0.0, hearing_since=refused) == []
    rules.now = refused + 100.0
    assert rules.overdue(listening_since=0.0, hearing_since=refused) == [BootTimeout(rules.now)]
    rules.now = refused + 600.0
    assert WorkerLost(rules.now, 600.0) in rules.overdue(listening_since=0.0, hearing_since=refused)


def test_a_run_timeout_is_exact_though_reports_are_refused(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    rules.now = NOW + 51.0
    assert rules.overdue(listening_since=NOW, hearing_since=rules.now) == [RunTimeout(rules.now)]


def test_a_run_timeout_is_exact_if_if_the_daemon_listened_all_the_time(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    rules.now = NOW + 50.9
    assert rules.overdue(listening_since=NOW) == [], "the worker's own report comes first"
    rules.now = NOW + 51.0
    assert rules.overdue(listening_since=NOW) == [RunTimeout(rules.now)]


def test_after_a_reconnect_a_run_timeout_waits_two_heartbeats_for_a_result_on_its_way(rules: Rules) -> None:
    rules.run(run_timeout=50.0)
    back = NOW + 500.0
    rules.now = back + 59.9
    assert rules.overdue(listening_since=back) == []
    rules.now = back + 60.0
    assert rules.overdue(listening_since=back) == [RunTimeout(rules.now)]


def test_a_job_that_neither_boots_nor_runs_has_no_deadline(rules: Rules) -> None:
    rules.boot()
    rules.take("cancel_job", "a")
    rules.now = NOW + 1e6
    with rules.ledgers() as ledger:
        jobs = ledger.jobs_in(("queued", "booting", "running", "terminating", "done", "failed"))
    assert len(jobs) == 1
    assert overdue(jobs, rules.now, 0.0, 0.0, rules.engine.policy, rules.engine.pace) == []
