"""Which queued job starts next: places, back-off, refusals of the cloud, and room in the quota."""

from __future__ import annotations

from typing import Any

import pytest

from lando.cloud.interface import Quota, Share, Size
from lando.engine.operations import AnswerLost, Console, Created, CreateRejected, Gone
from lando.engine.quota import QuotaHeadroom
from lando.states.events import BootFailed, ServerActive
from tests.support.engine_rules import NOW, PACE, POLICY, Rules

# places and order


def test_admission_goes_by_priority_and_then_by_arrival(rules: Rules) -> None:
    for job, priority in (("a", 0), ("b", 5), ("c", 5), ("d", -1)):
        rules.submit(job, priority=priority)
    assert rules.admit(places=3) == ["b", "c", "a"]
    assert rules.admit(places=3) == []
    assert rules.admit(places=4) == ["d"]


def test_a_place_is_free_once_the_server_of_its_job_is_gone_and_no_earlier(rules: Rules) -> None:
    rules.run("a")
    rules.submit("b")
    assert rules.admit() == []
    rules.report("workflow_finished", "a", 2, outcome="succeeded")
    assert rules.admit() == [], "its server still exists"
    rules.conclude(Gone())
    assert rules.admit() == ["b"]


def test_a_job_that_backs_off_is_not_admitted_and_blocks_no_other(rules: Rules) -> None:
    rules.run("a")
    rules.report("workflow_finished", "a", 2, outcome="system_failed")
    rules.conclude(Gone())
    rules.submit("b")
    assert rules.admit() == ["b"], "who waits does not block others"
    rules.now = NOW + 9.9
    assert rules.admit(places=9) == []
    rules.now = NOW + 10.0
    assert rules.admit(places=9) == ["a"]
    assert rules.job("a").attempt == 2


def test_every_attempt_has_a_mark_and_a_token_of_its_own(rules: Rules) -> None:
    rules.submit("a")
    rules.submit("b")
    rules.admit(places=2)
    requests = [request for job in "ab" for request in rules.job(job).requests]
    secrets = {secret for request in requests for secret in (request.mark, request.token)}
    assert len(secrets) == 4
    assert [rules.job(job).server_name for job in "ab"] == ["lando-a-1", "lando-b-1"]


# refusals


@pytest.mark.parametrize("kind", ["quota", "rate_limit", "site", "unreachable"])
def test_a_refusal_of_all_jobs_holds_admission_until_one_gets_a_server(rules: Rules, kind: Any) -> None:
    rules.submit("a")
    rules.submit("b")
    assert rules.admit() == ["a"]
    rules.conclude(CreateRejected(kind, "so they say", retry_after=5.0))
    assert rules.admit(places=9) == []
    rules.now += 5.0
    assert rules.admit(places=9) == ["a"], "it kept its place, and tries alone whether it is still so"
    assert rules.admit(places=9) == [], "until a server was created"
    rules.conclude(Created("server-1"))
    assert rules.hold() is None
    assert rules.admit(places=9) == ["b"]


@pytest.mark.parametrize("kind", ["capacity", "job"])
def test_a_refusal_that_concerns_one_job_does_not_hold_the_others(rules: Rules, kind: Any) -> None:
    rules.submit("a")
    rules.submit("b")
    rules.admit()
    rules.conclude(CreateRejected(kind, ""))
    assert rules.admit() == ["b"]


def test_each_refused_try_holds_admission_twice_as_long_up_to_a_bound(rules: Rules) -> None:
    rules.submit("a")
    waits = []
    for _ in range(6):
        assert rules.admit() == ["a"]
        rules.conclude(CreateRejected("site", "no image named lando"))
        hold = rules.hold()
        assert hold is not None and "no image named lando" in hold.reason
        waits.append(hold.until - rules.now)
        rules.now = hold.until
    assert waits == [min(PACE.site_longest, POLICY.hold * 2**n) for n in range(6)]


def test_a_create_whose_answer_is_lost_ends_the_hold(rules: Rules) -> None:
    for job in "abc":
        rules.submit(job)
    assert rules.admit() == ["a"]
    rules.conclude(CreateRejected("rate_limit", "too many calls", retry_after=5.0))
    rules.now += 5.0
    assert rules.admit(places=9) == ["a"]
    rules.conclude(AnswerLost("timed out"))
    assert rules.admit(places=9) == ["b", "c"]


def test_creates_that_are_refused_together_count_as_one_try(rules: Rules) -> None:
    for job in "abc":
        rules.submit(job)
    assert rules.admit(places=3) == ["a", "b", "c"]
    for _ in "abc":
        rules.conclude(CreateRejected("unreachable", "no route"))
    hold = rules.hold()
    assert hold is not None and (hold.times, hold.until) == (1, NOW + POLICY.hold)
    rules.now = hold.until
    assert rules.admit(places=3) == ["a"]


def test_a_hold_for_the_quota_ends_when_a_server_is_gone(rules: Rules) -> None:
    rules.run("a")
    rules.submit("b")
    rules.admit(places=9)
    rules.conclude(CreateRejected("quota", "2 of 2 servers"))
    assert rules.admit(places=9) == []
    rules.take("cancel_job", "a")
    rules.conclude(Gone())
    assert rules.admit(places=9) == ["b"]


def test_a_job_whose_server_finds_no_host_waits_longer_each_time_and_has_not_failed(rules: Rules) -> None:
    rules.submit("a", attempts=1)
    waits = []
    for _ in range(7):
        assert rules.admit() == ["a"]
        rules.conclude(Created("server-1"))
        rules.fire("a", BootFailed(rules.now, "server-1", "No valid host was found.", no_capacity=True))
        rules.conclude(Console(""))
        rules.conclude(Gone())
        job = rules.job("a")
        assert (job.state, job.failures) == ("queued", 0)
        assert "No valid host" in job.reason
        waits.append(job.not_before - rules.now)
        rules.now = job.not_before
    assert waits == [min(POLICY.hold_longest, POLICY.hold * 2**n) for n in range(7)]
    rules.admit()
    rules.conclude(Created("server-2"))
    rules.fire("a", ServerActive(rules.now, "server-2", "192.0.2.1"))
    assert rules.job("a").misses == 0


# room in the quota


def room(servers: int = 5, cores: int | None = None, others: int = 0, **sizes: Size) -> QuotaHeadroom:
    quota = Quota(Share(0, servers), Share(0, cores), Share(0, None))
    return QuotaHeadroom(quota, Size(others, others, 0), {None: Size(1, 1, 512), **sizes})


def test_no_more_jobs_are_admitted_than_the_quota_has_room_for(rules: Rules) -> None:
    for job in "abcd":
        rules.submit(job)
    assert rules.admit(places=9, room=room(servers=3, others=1)) == ["a", "b"]
    assert rules.admission.obstacle == (
        "waits for the project's quota: 3 of 3 VMs are in use, 1 of them by others"
    )
    assert rules.admit(places=9, room=room(servers=3)) == ["c"], "the other one is gone"
    assert rules.admit(places=9, room=room(servers=3)) == []
    assert rules.admission.obstacle == "waits for the project's quota: 3 of 3 VMs are in use"


def test_a_server_counts_until_it_is_gone_even_where_the_cloud_does_not_count_it(rules: Rules) -> None:
    rules.run("a")
    rules.submit("b")
    assert rules.admit(places=9, room=room(servers=1)) == []
    rules.take("cancel_job", "a")
    assert rules.admit(places=9, room=room(servers=1)) == []
    rules.conclude(Gone())
    assert rules.admit(places=9, room=room(servers=1)) == ["b"]


def test_no_job_is_admitted_before_the_size_of_its_flavor_is_known(rules: Rules) -> None:
    rules.submit("a", flavor="large")
    rules.submit("b")
    assert rules.admit(places=9, room=room(cores=5)) == []
    assert "size of its flavor" in (rules.admission.obstacle or "")
    assert rules.admit(places=9, room=room(cores=5, large=Size(1, 4, 512))) == ["a", "b"]


def test_no_job_overtakes_one_that_waits_for_room(rules: Rules) -> None:
    rules.submit("a", flavor="large")
    rules.submit("b")
    here = room(cores=4, others=1, large=Size(1, 4, 512))
    assert rules.admit(places=9, room=here) == []
    assert rules.admission.obstacle == (
        "waits for the project's quota: 1 of 4 cores are in use, 1 of them by others, and this job needs 4"
    )


def test_a_flavor_larger_than_the_whole_quota_is_admitted_for_the_cloud_to_refuse(rules: Rules) -> None:
    rules.submit("a", flavor="huge")
    assert rules.admit(places=9, room=room(cores=4, huge=Size(1, 8, 512))) == ["a"]
