"""Jobs that are forgotten, the clock that is believed, and bodies without their secrets."""

from __future__ import annotations

import pytest

from lando.credentials import job_secrets
from lando.engine.retention import BELIEVED, JUMP, BelievedClock, without_secrets
from lando.redaction import MASK
from lando.states.job import Job
from tests.support.engine_rules import Rules

A = "aaaaaaaa-0000-4000-8000-000000000000"
DAY, YEAR = 86400.0, 365 * 86400.0
NOW = 1000 * DAY


def ended(rules: Rules) -> None:
    rules.submit(A)
    rules.take("cancel_job", A)


def test_only_a_job_that_has_ended_is_forgotten(rules: Rules) -> None:
    rules.submit(A)
    answer = rules.take("forget_job", A)
    assert (answer.disposition, answer.detail[:33]) == ("refused", "the job is queued: cancel it firs")
    rules.take("cancel_job", A)
    assert rules.take("forget_job", A).disposition == "taken"
    assert rules.take("forget_job", A).disposition == "duplicate"
    assert rules.take("forget_job", "b" + A[1:]).disposition == "ignored"


def test_a_job_that_was_forgotten_is_not_run_again(rules: Rules) -> None:
    ended(rules)
    rules.take("forget_job", A)
    with rules.ledgers() as ledger:
        if hasattr(ledger, "remove_rows"):
            while ledger.remove_rows(10, 100):
                pass
    assert rules.submit(A).disposition == "duplicate"
    assert rules.take("retry_job", A).disposition == "ignored"
    assert rules.take("cancel_job", A).disposition == "ignored"
    report = rules.take("worker_progress", A, attempt=1, token="t", seq=1)
    assert report.disposition == "ignored", "not a dead letter"
    with rules.ledgers() as ledger:
        assert ledger.job(A) is None
        assert not ledger.was_canceled(A)


def test_a_job_without_its_secrets_is_not_retried(rules: Rules) -> None:
    ended(rules)
    with rules.ledgers() as ledger:
        job = ledger.job(A)
        assert job is not None
        ledger.save_job(Job(**{**vars(job), "lost_secrets": True}))
    answer = rules.take("retry_job", A)
    assert answer.disposition == "refused"
    assert "retention.secrets" in answer.detail and "submit it again" in answer.detail


@pytest.mark.parametrize(
    "body",
    [
        {"git_clone": "https://ana:hunter22@example.org/wf.git"},
        {"input": {"password": "hunter22", "db": {"auth": {"deep": "hunter23"}}}},
        {"input": {"password": 12345678, "token": "x"}},
        {"input": {"text": "curl -H 'Authorization: Bearer abcdef123456'"}},
        {"input": {"file": {"class": "File", "contents": '{"api_key": "k-123456"}'}}},
        {"input": {"password": "one\ntwo lines\nthree lines"}, "name": "two lines"},
        {"cwl_args": ["--password", "hunter22"]},
        {"labels": {"secret": "hunter22"}, "name": "of hunter22"},
    ],
)
def test_a_body_without_its_secrets(body: dict[str, object]) -> None:
    secrets = job_secrets(body)
    masked = without_secrets(body)
    assert secrets and masked is not None
    assert [each for each in job_secrets(masked) if MASK not in each] == []
    assert [each for each in secrets if len(each) > 4 and each in str(masked)] == []
    assert without_secrets(masked) is None


def test_a_body_that_has_none_stays_and_a_deep_one_is_read() -> None:
    assert without_secrets({"input": {"n": 3, "yes": True, "none": None}}) is None
    deep: dict[str, object] = {"password": "hunter22"}
    for _ in range(3000):
        deep = {"x": [deep]}
    assert without_secrets(deep) is not None


def test_a_clock_that_goes_on_is_believed() -> None:
    clock = BelievedClock(NOW)
    for hours in range(1, 100):
        clock = clock.next(NOW + hours * 3600.0)
        assert clock.at == NOW + hours * 3600.0


def test_a_clock_that_is_set_forward_by_a_year_is_believed_a_day_later() -> None:
    wrong = NOW + YEAR
    clock = BelievedClock(NOW).next(wrong)
    assert clock.at == NOW
    assert clock.next(wrong + BELIEVED - 1).at == NOW
    assert clock.next(NOW + 3600.0) == BelievedClock(NOW + 3600.0), "it was corrected"
    assert clock.next(wrong + BELIEVED).at == wrong + BELIEVED


def test_a_daemon_that_seldom_runs_lags_behind_by_one_run() -> None:
    clock = BelievedClock(NOW)
    believed = []
    for run in range(1, 5):
        clock = clock.next(NOW + run * 2 * JUMP)
        believed.append((clock.at - NOW) / (2 * JUMP))
    assert believed == [0, 1, 2, 3]
