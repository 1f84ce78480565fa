"""How long an outage of the cloud holds all jobs, and what ends that."""

from __future__ import annotations

from typing import Any

import pytest

from lando.engine import admission
from lando.engine.operations import Created, CreateRejected
from tests.support.engine_rules import PACE, POLICY, Rules


def held_until(rules: Rules) -> float:
    hold = rules.hold()
    assert hold is not None
    return hold.until


def test_an_outage_costs_few_creates_however_long_it_is(rules: Rules) -> None:
    rules.submit("a")
    waits = []
    for _ in range(7):
        assert rules.admit() == ["a"]
        rules.conclude(CreateRejected("unreachable", "HTTP 503"))
        waits.append(held_until(rules) - rules.now)
        rules.now = held_until(rules)
    assert waits == [min(POLICY.hold_longest, POLICY.hold * 2**n) for n in range(7)]


def test_what_was_not_sent_is_tried_more_often(rules: Rules) -> None:
    rules.submit("a")
    waits = []
    for _ in range(3):
        assert rules.admit() == ["a"]
        rules.conclude(CreateRejected("unreachable", "connection refused", sent=False))
        waits.append(held_until(rules) - rules.now)
        rules.now = held_until(rules)
    assert waits == [POLICY.hold, PACE.longest, PACE.longest]
    assert "the cloud cannot be reached: connection refused" in rules.job("a").reason


def test_a_proxy_that_says_a_short_time_in_an_outage_is_believed_once(rules: Rules) -> None:
    rules.submit("a")
    waits = []
    for _ in range(4):
        assert rules.admit() == ["a"]
        rules.conclude(CreateRejected("unreachable", "HTTP 503", retry_after=100.0))
        waits.append(held_until(rules) - rules.now)
        rules.now = held_until(rules)
    assert waits == [100.0, 100.0, 4 * POLICY.hold, 8 * POLICY.hold]


@pytest.mark.parametrize("kind", ["unreachable", "site"])
def test_services_that_answer_again_end_the_sites_hold(rules: Rules, kind: Any) -> None:
    rules.submit("a")
    rules.submit("b")
    rules.admit()
    rules.conclude(CreateRejected(kind, "no answer", account_wide=True))
    with rules.ledgers() as ledger:
        assert ledger.holds().doubt_services
        admission.services_answer(ledger, rules.now)
    assert rules.admit(places=9) == ["a"], "one finds out"
    rules.conclude(Created("server-1"))
    assert rules.admit(places=9) == ["b"]


@pytest.mark.parametrize("refusal", [CreateRejected("quota", ""), CreateRejected("rate_limit", "")])
def test_services_that_answer_say_nothing_of_quota_and_rate_limit(
    rules: Rules, refusal: CreateRejected
) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(refusal)
    before = rules.hold()
    with rules.ledgers() as ledger:
        assert not ledger.holds().doubt_services
        admission.services_answer(ledger, rules.now)
    assert rules.hold() == before


def test_services_that_answer_end_no_hold_of_single_wishes(rules: Rules) -> None:
    rules.submit("a", flavor="odd")
    rules.submit("b")
    assert rules.admit() == ["a"]
    rules.conclude(CreateRejected("site", "no such thing"))
    with rules.ledgers() as ledger:
        assert not ledger.holds().doubt_services
        admission.services_answer(ledger, rules.now)
    assert rules.admit() == ["b"]
    rules.conclude(Created("server-1"))
    assert rules.admit(places=9) == []
