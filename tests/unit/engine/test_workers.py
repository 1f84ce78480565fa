"""A worker that cannot do what its job needs is refused by name; every other one runs it."""

from __future__ import annotations

from typing import Any

import pytest

from lando.engine.operations import Gone
from tests.support.engine_rules import Open, Rules

ABLE = {"version": "0.3.0", "abilities": ["git_ref", "archive"]}
UNABLE = {"version": "0.2.0", "abilities": ["git_ref"]}


def booting(ledgers: Open, *needs: str) -> Rules:
    """A job that boots, and whose worker must know these settings."""
    rules = Rules(ledgers, needs=lambda body: needs)
    rules.boot("a")
    return rules


@pytest.mark.parametrize(
    ("body", "named"),
    [(UNABLE, "(lando-fsm 0.2.0)"), ({}, "(an older lando-fsm)"), ({"version": 7}, "(an older lando-fsm)")],
    ids=["reports its abilities", "reports nothing", "reports nonsense"],
)
def test_a_worker_that_is_too_old_is_refused_once_and_for_all(
    ledgers: Open, body: dict[str, Any], named: str
) -> None:
    rules = booting(ledgers, "git_ref", "archive")
    rules.report("worker_started", "a", phase="cloning", **body)
    job = rules.job("a")
    assert (job.state, job.verdict) == ("terminating", "unsuitable")
    assert f"the worker in the VM {named} does not know the setting archive: rebuild" in job.reason
    assert [effect.kind for effect in rules.effects()] == ["delete_server"]
    assert rules.report("workflow_finished", "a", seq=2, outcome="succeeded").disposition == "ignored"
    rules.conclude(Gone())
    ended = rules.job("a")
    assert (ended.state, ended.outcome, ended.failures, ended.attempt) == ("failed", "system_failed", 1, 1)
    assert rules.take("retry_job", "a").disposition == "taken", "once the image is new"


def test_a_worker_that_is_able_runs_the_job(ledgers: Open) -> None:
    rules = booting(ledgers, "git_ref", "archive")
    rules.report("worker_started", "a", phase="cloning", **ABLE)
    assert (rules.job("a").state, rules.job("a").worker_version) == ("running", "0.3.0")


def test_a_worker_of_before_runs_what_it_knows(ledgers: Open) -> None:
    rules = booting(ledgers, "git_ref", "cwl_args", "outputs")
    rules.report("worker_started", "a", phase="cloning")
    assert (rules.job("a").state, rules.job("a").worker_version) == ("running", "unknown")


def test_a_report_with_a_wrong_token_refuses_nothing(ledgers: Open) -> None:
    rules = booting(ledgers, "archive")
    said = rules.take("worker_started", "a", attempt=1, token="wrong", seq=1, body=UNABLE)
    assert (said.disposition, rules.job("a").state) == ("ignored", "booting")


def test_a_worker_that_refuses_is_believed_at_once(ledgers: Open) -> None:
    rules = booting(ledgers)
    body = {"outcome": "system_failed", "reason": "it does not know", "version": "0.2.0", "final": True}
    rules.report("workflow_finished", "a", **body)
    job = rules.job("a")
    assert (job.verdict, job.reason, job.worker_version) == ("unsuitable", "it does not know", "0.2.0")


@pytest.mark.parametrize("outcome", ["succeeded", "workflow_failed"])
def test_only_a_system_failure_can_be_final_in_that_way(ledgers: Open, outcome: str) -> None:
    rules = booting(ledgers)
    rules.report("workflow_finished", "a", outcome=outcome, final=True)
    assert rules.job("a").verdict == outcome


def test_the_next_attempt_begins_without_a_version(ledgers: Open) -> None:
    rules = booting(ledgers)
    rules.report("worker_started", "a", **ABLE)
    rules.report("workflow_finished", "a", seq=2, outcome="system_failed")
    rules.conclude(Gone())
    rules.now += 1000
    rules.admit()
    assert (rules.job("a").attempt, rules.job("a").worker_version) == (2, None)
