"""Messages become jobs and events: each has its effect once, or its sender is told why not."""

from __future__ import annotations

import pytest

from lando.engine import boot_times
from lando.engine.admission import server_name
from lando.engine.operations import Gone
from lando.messages import Message
from lando.states.events import BootTimeout, CreateSent
from lando.store.logs import MAX_LOG
from lando.store.pending import StaleRecord
from lando.store.store import Store
from lando.store.transaction import Transaction
from tests.support.engine_rules import NOW, Open, Rules, new_engine

# submissions


def test_a_job_is_taken_with_what_its_file_says(rules: Rules) -> None:
    assert rules.submit("a", attempts=5, priority=7, boot_timeout=9.0, run_timeout=8.0).disposition == "taken"
    job = rules.job("a")
    assert (job.state, job.attempts, job.priority, job.boot_timeout, job.run_timeout) == (
        "queued",
        5,
        7,
        9.0,
        8.0,
    )
    assert job.submitted_at == job.entered_at == NOW, "the sender's clock is not used"


def test_a_job_submitted_again_under_its_id_is_a_duplicate(rules: Rules) -> None:
    rules.submit("a", priority=1)
    assert rules.submit("a", priority=2).disposition == "duplicate"
    assert rules.job("a").priority == 1


def test_a_submission_that_is_refused_is_a_failed_job_and_cannot_be_retried(rules: Rules) -> None:
    assert rules.submit("a", broken="cd: missing").disposition == "refused"
    job = rules.job("a")
    assert (job.state, job.outcome, job.reason, job.runnable) == (
        "failed",
        "workflow_failed",
        "cd: missing",
        False,
    )
    assert rules.take("retry_job", "a").disposition == "refused"


# commands


def test_a_message_that_arrives_twice_has_its_effect_once(rules: Rules) -> None:
    rules.submit("a")
    cancel, retry = Message("cancel_job", job="a"), Message("retry_job", job="a")
    assert rules.deliver(cancel).disposition == "taken"
    assert rules.deliver(retry).disposition == "taken"
    assert rules.deliver(cancel).disposition == "duplicate"
    assert rules.deliver(retry).disposition == "duplicate"
    assert rules.job("a").state == "queued"


def test_a_cancel_that_arrives_before_its_job_cancels_the_job_when_it_arrives(rules: Rules) -> None:
    assert rules.take("cancel_job", "a").disposition == "taken"
    rules.submit("a")
    assert (rules.job("a").state, rules.job("a").outcome) == ("failed", "canceled")
    assert rules.admit() == []


def test_a_retry_of_an_unknown_job_is_ignored(rules: Rules) -> None:
    assert rules.take("retry_job", "nobody").disposition == "ignored"


def test_terminate_worker_cancels_the_job_that_owns_the_server_of_that_name(rules: Rules) -> None:
    rules.boot()
    assert rules.take("terminate_worker", body={"vm_name": "lando-b-1"}).disposition == "ignored"
    assert rules.take("terminate_worker", body={"vm_name": server_name("a", 1)}).disposition == "taken"
    assert (rules.job("a").state, rules.job("a").verdict) == ("terminating", "canceled")


def test_a_shutdown_that_arrives_twice_stops_one_daemon(rules: Rules) -> None:
    shutdown = Message("shutdown_server")
    assert rules.deliver(shutdown).disposition == "shutdown"
    assert rules.deliver(shutdown).disposition == "duplicate"


# reports of workers


def test_a_report_about_an_unknown_job_is_unknown_and_names_the_likely_cause(rules: Rules) -> None:
    taken = rules.take("worker_progress", "nobody", attempt=1, token="t", seq=1)
    assert taken.disposition == "unknown"
    assert "does another daemon serve the queue" in taken.detail
    assert "submit it again, with --id and this id" in taken.detail


def test_a_result_of_an_attempt_that_the_database_does_not_have_is_kept_for_people(rules: Rules) -> None:
    rules.submit("a")
    for type_, disposition in (("worker_progress", "ignored"), ("workflow_finished", "unknown")):
        body = {"outcome": "succeeded"} if type_ == "workflow_finished" else {}
        taken = rules.take(type_, "a", attempt=1, token="t", seq=1, body=body)
        assert taken.disposition == disposition
        assert "about attempt 1 of job a, of which this database knows no attempt" in taken.detail
    assert rules.job("a").state == "queued"


def test_a_report_with_a_wrong_token_is_ignored_each_time_it_arrives(rules: Rules) -> None:
    rules.boot()
    for number in range(2):
        taken = rules.take("worker_progress", "a", id="same", attempt=1, token="wrong", seq=number + 1)
        assert taken.disposition == "ignored"


def test_a_message_that_is_ignored_or_refused_changes_no_record(rules: Rules) -> None:
    rules.run()
    before = rules.job("a")
    assert rules.take("worker_started", "a", attempt=1, token="another", seq=1).disposition == "ignored"
    assert rules.take("retry_job", "a").disposition == "refused"
    assert rules.job("a") == before


def test_a_piece_of_log_is_kept_once_and_only_from_the_worker_of_the_attempt(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.run()
    rules.report("worker_progress", "a", 2, log="hello")
    rules.report("worker_progress", "a", 2, log="hello")
    rules.take("worker_progress", "a", attempt=1, token="another", seq=3, body={"log": "intruder"})
    with store.reading() as queries:
        assert queries.log("a") == [(1, 2, "hello")]


def test_of_a_long_log_the_newest_megabyte_is_kept(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.run()
    third = MAX_LOG // 3
    for seq in range(2, 8):
        rules.report("worker_progress", "a", seq, log=str(seq) * third)
    with store.reading() as queries:
        kept = queries.log("a")
    assert [seq for _, seq, _ in kept] == [5, 6, 7]
    assert sum(len(text) for _, _, text in kept) <= MAX_LOG


def test_the_history_of_a_job_that_succeeds_has_every_state_in_order(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.run()
    rules.report("workflow_finished", "a", 2, outcome="succeeded", exit_code=0, outputs={"count": 1})
    rules.conclude(Gone())
    with store.reading() as queries:
        history = [(change.source, change.target) for change in queries.history("a")]
    assert history == [
        (None, "queued"),
        ("queued", "booting"),
        ("booting", "running"),
        ("running", "terminating"),
        ("terminating", "done"),
    ]
    assert (rules.job("a").output_object, rules.job("a").exit_code) == ({"count": 1}, 0)
    assert rules.effects() == []


# transactions


def test_a_record_that_was_changed_meanwhile_is_not_overwritten(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.submit("a")
    rules.admit()
    stale = rules.job("a")
    rules.take("cancel_job", "a")
    with pytest.raises(StaleRecord, match="job a"), store.transaction() as ledger:
        rules.engine.fire(ledger, stale, CreateSent(NOW, stale.requests[0].mark))
    assert rules.job("a").state == "terminating"


def test_a_message_that_fails_is_rolled_back_alone(store: Store) -> None:
    engine = new_engine()

    def fail(transaction: Transaction) -> None:
        with transaction.part():
            engine.take(transaction, Message("start_worker", {}, "b"), NOW)
            raise RuntimeError("a bug")

    with store.transaction() as transaction:
        engine.take(transaction, Message("start_worker", {}, "a"), NOW)
        with pytest.raises(RuntimeError, match="a bug"):
            fail(transaction)
        assert [change.job_id for change in transaction.changes] == ["a"]
    with store.transaction() as transaction:
        assert [job.id for job in transaction.jobs_in(("queued",))] == ["a"]


# the boot timeout


def test_the_boot_timeout_is_learned_from_boots_and_reset_by_a_boot_that_times_out(ledgers: Open) -> None:
    rules = Rules(ledgers, learns_boot=True)
    seen = []
    for number in range(boot_times.ENOUGH + 1):
        job = f"job-{number}"
        rules.boot(job, f"server-{number}")
        rules.now += 100.0 + number
        rules.report("worker_started", job)
        seen.append(rules.engine.policy.boot_timeout)
    assert seen[: boot_times.ENOUGH - 1] == [boot_times.MOST] * (boot_times.ENOUGH - 1)
    assert seen[boot_times.ENOUGH - 1 :] == [3 * 104.0, 3 * 105.0]
    rules.boot("slow", "server-slow")
    rules.fire("slow", BootTimeout(rules.now))
    assert rules.engine.policy.boot_timeout == boot_times.MOST, "what was learned is doubted"
    assert boot_times.timeout([1.0] * 9) == boot_times.LEAST
    assert boot_times.timeout([9000.0] * 9) == boot_times.MOST
