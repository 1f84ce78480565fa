"""Which queued job starts next: places, back-off, refusals of the cloud, and room in the quota."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from lando.cloud.interface import Quota, Share, Size
from lando.engine import admission
from lando.engine.admission import Admission
from lando.engine.boot_failures import BootFailure, BootFailures
from lando.engine.holds import MEMORY, MOST, MOST_ACCEPTED
from lando.engine.ledger import Ledger
from lando.engine.operations import AnswerLost, Console, Created, CreateRejected, Gone
from lando.engine.quota import QuotaHeadroom
from lando.states.events import BootFailed, ServerActive
from lando.states.job import Job
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


def test_a_create_whose_answer_is_lost_ends_no_hold_of_the_account(rules: Rules) -> None:
    for job in "abc":
        rules.submit(job)
    assert rules.admit() == ["a"]
    rules.conclude(CreateRejected("rate_limit", "too many calls", retry_after=5.0))
    rules.now += 5.0
    assert rules.admit(places=9) == ["a"]
    rules.conclude(AnswerLost("timed out"))
    assert rules.admit(places=9) == ["b"], "one at a time, until one is accepted"
    assert rules.admit(places=9) == []


@pytest.mark.parametrize("last", [Created("server-1"), AnswerLost("timed out")])
def test_an_answer_to_a_create_that_was_sent_before_the_accounts_hold_does_not_end_it(
    rules: Rules, last: Created | AnswerLost
) -> None:
    for job in "abc":
        rules.submit(job)
    assert rules.admit(places=2) == ["a", "b"]
    rules.conclude(CreateRejected("rate_limit", "too many calls", retry_after=600.0))
    rules.conclude(last)
    assert rules.admit(places=9) == []
    rules.now += 600.0
    assert rules.admit(places=9) == ["a"]
    rules.conclude(Created("server-2"))
    assert rules.admit(places=9) == ["c"], "the one that finds out ends it"


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


# whom a refusal concerns

GPU = '{"flavor": "gpu"}'


def refuse_next(rules: Rules, kind: Any, reason: str = "so they say") -> None:
    rules.conclude(CreateRejected(kind, reason))


def test_jobs_with_other_wishes_find_out_one_at_a_time(rules: Rules) -> None:
    rules.submit("a", flavor="gpu")
    rules.submit("b", flavor="gpu")
    rules.submit("c")
    rules.submit("d")
    assert rules.admit() == ["a"]
    refuse_next(rules, "site")
    assert rules.admit(places=9) == ["c"]
    assert rules.admit(places=9) == [], "until its create was answered"
    rules.conclude(Created("server-1"))
    assert rules.admit(places=9) == ["d"], "b asks for the same as a"
    hold = rules.holds().of(GPU)
    assert hold is not None and hold.own and hold.until == NOW + POLICY.hold


def refuse_gpu_in_turn_with_others(rules: Rules) -> None:
    """Job a is refused, then another one is accepted, and that once more; b asks for the same as a."""
    rules.submit("a", flavor="gpu")
    for number, others in enumerate(("c", "d")):
        assert rules.admit(places=number + 1) == ["a"]
        refuse_next(rules, "site", "Policy doesn't allow it")
        rules.submit(others)
        assert rules.admit(places=number + 1) == [others]
        rules.conclude(Created(f"server-{others}"))
        hold = rules.holds().of(GPU)
        assert hold is not None and hold.own
        rules.now = hold.until
    rules.submit("b", flavor="gpu")


def test_what_the_site_refuses_these_wishes_alone_fails_the_job_at_the_third_refusal(rules: Rules) -> None:
    refuse_gpu_in_turn_with_others(rules)
    assert rules.admit(places=4) == ["a", "b"]
    refuse_next(rules, "site", "Policy doesn't allow it")
    assert (rules.job("a").state, rules.job("a").outcome) == ("failed", "workflow_failed")
    assert rules.job("a").reason == "the cloud refuses what the job asks for: Policy doesn't allow it"
    refuse_next(rules, "site", "Policy doesn't allow it")
    assert rules.job("b").state == "queued", "it was sent together with the one of a"


def test_refusals_without_an_acceptance_between_them_fail_no_job(rules: Rules) -> None:
    """Two outages, and one acceptance between them, prove nothing."""
    rules.submit("a", flavor="gpu")
    rules.admit()
    refuse_next(rules, "site")
    rules.submit("b")
    assert rules.admit() == ["b"]
    rules.conclude(Created("server-1"))
    for _ in range(9):
        hold = rules.holds().of(GPU)
        assert hold is not None
        rules.now = hold.until
        assert rules.admit(places=2) == ["a"]
        refuse_next(rules, "site")
        assert rules.job("a").state == "queued"


def test_a_refused_login_is_nobodys_wish_and_fails_no_job(rules: Rules) -> None:
    login = CreateRejected("site", "logging in: 401", account_wide=True)
    refuse_gpu_in_turn_with_others(rules)
    assert rules.admit(places=3) == ["a"]
    rules.conclude(login)
    everybody = rules.holds().everybody
    assert rules.job("a").state == "queued"
    assert everybody is not None and everybody.account
    assert everybody.reason == "the cloud refuses what landoconfig.yml names: logging in: 401"
    assert rules.holds().without("site").everybody is None, "a restart tries at once"
    rules.submit("e")
    assert rules.admit(places=9) == []
    rules.now = everybody.until
    assert len(rules.admit(places=9)) == 1


def test_what_this_installation_lacks_fails_no_job_and_is_not_called_the_clouds_refusal(rules: Rules) -> None:
    lacks = CreateRejected("site", "lando_worker is not installed", sent=False)
    refuse_gpu_in_turn_with_others(rules)
    assert rules.admit(places=3) == ["a"]
    rules.conclude(lacks)
    assert (rules.job("a").state, rules.job("a").reason) == ("queued", lacks.reason)


def test_a_limit_of_this_site_is_not_called_the_clouds_refusal(rules: Rules) -> None:
    rules.submit("a", flavor="gpu")
    rules.admit()
    said = "limits.flavors: the job asks for gpu, the site allows m1.small"
    rules.conclude(CreateRejected("job", said, sent=False))
    assert (rules.job("a").state, rules.job("a").outcome) == ("failed", "workflow_failed")
    assert rules.job("a").reason == said


@pytest.mark.parametrize(("kind", "body"), [("quota", {"flavor": "gpu"}), ("site", {}), ("quota", {})])
def test_what_may_pass_or_is_a_default_backs_off_alone_and_fails_no_job(
    rules: Rules, kind: Any, body: dict[str, Any]
) -> None:
    rules.submit("a", **body)
    rules.submit("b", volume_size=40)
    rules.admit()
    refuse_next(rules, kind)
    assert rules.admit() == ["b"]
    rules.conclude(Created("server-1"))
    waits = []
    for _ in range(7):
        hold = rules.holds().refused[0][1]
        waits.append(hold.until - rules.now)
        rules.now = hold.until
        assert rules.admit(places=2) == ["a"]
        refuse_next(rules, kind)
        assert rules.job("a").state == "queued"
    assert waits == [min(POLICY.hold_longest, POLICY.hold * 2**n) for n in range(7)]
    assert rules.holds().everybody is None


def test_two_kinds_of_wishes_that_are_refused_hold_everybody_and_take_turns(rules: Rules) -> None:
    for number, body in enumerate(({"flavor": "gpu"}, {"flavor": "large"}, {"volume_size": 40}, {})):
        rules.submit(f"job-{number}", **body)
    tried = []
    for _ in range(12):
        tried += rules.admit()
        refuse_next(rules, "site")
        holds = rules.holds()
        rules.now = NOW if holds.everybody is None else holds.everybody.until
    assert tried[:2] == ["job-0", "job-3"], "the defaults tell most"
    assert set(tried[2:]) == {f"job-{number}" for number in range(4)}
    assert all(rules.job(f"job-{number}").state == "queued" for number in range(4))
    assert rules.admit() != []
    rules.conclude(Created("server-1"))
    assert rules.holds().everybody is None
    assert len(rules.admit(places=9)) == 3, "they are tried at once: it may have been the site's alone"


def test_a_refusal_of_these_wishes_says_nothing_while_everybody_is_refused(rules: Rules) -> None:
    """So a site that is broken after it refused a job's flavor fails no job."""
    rules.submit("a", flavor="gpu")
    rules.submit("b")
    rules.admit()
    refuse_next(rules, "site")
    rules.admit()
    rules.conclude(Created("server-1"))
    rules.submit("c", volume_size=40, priority=1)
    rules.submit("d", priority=1)
    for job in ("c", "d"):
        assert rules.admit(places=2) == [job]
        refuse_next(rules, "site")
    for _ in range(20):
        everybody = rules.holds().everybody
        assert everybody is not None
        rules.now = everybody.until
        rules.admit(places=2)
        refuse_next(rules, "site")
    assert {rules.job(job).state for job in "acd"} == {"queued"}


def test_an_answer_that_is_lost_blames_nobody(rules: Rules) -> None:
    rules.submit("a", flavor="gpu")
    rules.submit("b")
    rules.submit("c")
    rules.admit()
    refuse_next(rules, "site")
    assert rules.admit(places=9) == ["b"]
    rules.conclude(AnswerLost("timed out"))
    hold = rules.holds().of(GPU)
    assert hold is not None and not hold.own
    assert rules.admit(places=9) == ["c"], "the next one finds out"


def test_another_kind_of_refusal_is_another_question(rules: Rules) -> None:
    rules.submit("a", flavor="gpu")
    rules.submit("b")
    rules.admit()
    refuse_next(rules, "quota")
    rules.admit()
    rules.conclude(Created("server-1"))
    rules.now += POLICY.hold
    assert rules.admit(places=2) == ["a"]
    refuse_next(rules, "site")
    assert rules.job("a").state == "queued"
    hold = rules.holds().of(GPU)
    assert hold is not None and (hold.own, hold.times) == (False, 1)


def test_what_was_refused_long_ago_fails_no_job(rules: Rules) -> None:
    rules.submit("a", flavor="gpu")
    rules.submit("b")
    rules.admit()
    refuse_next(rules, "site")
    rules.admit()
    rules.conclude(Created("server-1"))
    rules.now += POLICY.hold + MEMORY
    assert rules.admit(places=2) == ["a"]
    refuse_next(rules, "site")
    assert rules.job("a").state == "queued"


@pytest.mark.parametrize("kind", ["site", "rate_limit"])
def test_a_hold_of_a_clock_that_was_ahead_is_over(rules: Rules, kind: Any) -> None:
    rules.submit("a")
    rules.now = NOW + 366 * 86400
    rules.admit()
    refuse_next(rules, kind)
    rules.now = NOW
    assert rules.admit() == ["a"]


def test_no_hold_is_longer_than_an_hour(rules: Rules) -> None:
    rules.submit("a")
    rules.admit()
    rules.conclude(CreateRejected("rate_limit", "", retry_after=1e9))
    hold = rules.hold()
    assert hold is not None and hold.until == NOW + 3600.0


def test_holds_are_bounded_in_number(rules: Rules) -> None:
    with rules.ledgers() as ledger:
        for number in range(10 * MOST):
            job = Job(f"job-{number}", wishes=f'{{"volume_size": {number + 1}}}')
            admission.accept(ledger, job, NOW)
            admission.refuse(ledger, rules.engine, job, CreateRejected("site", "no"), NOW)
        holds = ledger.holds()
    assert (len(holds.refused), len(holds.accepted)) == (MOST, MOST_ACCEPTED)
    assert holds.of(f'{{"volume_size": {10 * MOST}}}') is not None, "the last ones are kept"


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


def with_volumes(used: int) -> QuotaHeadroom:
    here = room(servers=99)
    return replace(here, quota=replace(here.quota, volumes=Share(used, 2)), others=Size(volumes=used))


def test_a_job_that_waits_for_a_volume_keeps_its_turn_and_lets_those_without_one_pass(rules: Rules) -> None:
    for job in "abc":
        rules.submit(job, volume_size=10)
    rules.submit("d")
    assert rules.admit(places=9, room=with_volumes(1)) == ["a"]
    assert rules.admission.obstacle == (
        "waits for the project's quota: 2 of 2 volumes are in use, 1 of them by others, and this job needs 1"
    )
    rules.now += PACE.reservation
    assert rules.admit(places=9, room=with_volumes(1)) == ["d"], "it needs none of them"


def test_where_the_first_waits_for_its_volume_one_with_a_smaller_volume_finds_out(rules: Rules) -> None:
    for job in "ab":
        rules.submit(job)
    rules.submit("c", volume_size=10)
    assert rules.admit() == ["a"]
    rules.conclude(CreateRejected("unreachable", "HTTP 503", retry_after=5.0))
    rules.now += 5.0
    here = room(servers=99)
    here = replace(
        here,
        quota=replace(here.quota, volumes=Share(2, None), gigabytes=Share(80, 100)),
        others=Size(gigabytes=80),
        sizes={None: Size(1, 1, 512, volumes=1, gigabytes=40)},
    )
    assert rules.admit(places=9, room=here) == ["c"]


MANY = 300


@pytest.mark.parametrize("is_probe", [False, True])
def test_volumes_of_hundreds_of_sizes_that_wait_cost_a_few_queries(
    rules: Rules, is_probe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(
        room(servers=99),
        quota=Quota(*[Share(0, None)] * 3, volumes=Share(0, None), gigabytes=Share(950, 1000)),
        others=Size(gigabytes=950),
    )
    for number in range(MANY):
        rules.submit(f"waits-{number}", volume_size=60 + number)
    rules.submit("fits", volume_size=50)
    rules.submit("refused", volume_size=1001)
    assert rules.admit(places=9, room=here) == [], "it is kept free for the first"
    rules.now += PACE.reservation
    with rules.ledgers() as ledger:
        if is_probe:
            failures = (BootFailure("waits-0", "", True), BootFailure("waits-1", "", True))
            ledger.set_boot_failures(BootFailures(failures, rules.now - 9))
        queries = count(monkeypatch, ledger, "next_queued", "least_doubtful", "queued_wishes")
        result = Admission(rules.engine, 9).admit(ledger, rules.now, 9, here)
    first = ["fits"] if is_probe else ["fits", "refused"]
    assert [job.id for job in result.jobs] == first
    assert queries.total() < 20, queries


def count(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, *names: str) -> Counter[str]:
    """How often these methods are called from now on."""
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        method = getattr(ledger, name)

        def call(*args: Any) -> Any:
            calls[name] += 1
            return method(*args)

        return call

    for name in names:
        monkeypatch.setattr(ledger, name, counted(name), raising=False)
    return calls


# the reservation

LARGE = room(cores=4, large=Size(1, 4, 512))


def wait_for_room(rules: Rules) -> None:
    """One small job runs, a large one waits, and another small one is behind it."""
    rules.run("a")
    rules.submit("b", flavor="large")
    rules.submit("c")


def reservation(rules: Rules) -> tuple[bool, float]:
    """Whether the quota is kept free, and for how many seconds more."""
    with rules.ledgers() as ledger:
        found = ledger.reservation()
    assert found is not None and found.job_id == "b"
    return found.kept, found.until - rules.now


def test_the_quota_is_kept_free_for_the_first_job_in_turns_that_grow(rules: Rules) -> None:
    wait_for_room(rules)
    seen = []
    for _ in range(6):
        rules.admit(places=9, room=room(cores=4, large=Size(1, 4, 512), small=Size(1, 4, 512)))
        kept, seconds = reservation(rules)
        seen.append((kept, seconds / 1800.0))
        if kept:
            assert rules.admission.jobs == ()
        elif rules.admission.jobs:
            assert [job.id for job in rules.admission.jobs] == ["c"]
        assert "waits for the project's quota" in (rules.admission.obstacle or "")
        rules.now += seconds
    assert seen == [(True, 1), (False, 1), (True, 2), (False, 2), (True, 4), (False, 4)]


def test_turns_do_not_grow_while_others_of_the_project_use_the_quota(rules: Rules) -> None:
    wait_for_room(rules)
    seen = []
    for _ in range(5):
        rules.admit(places=9, room=room(cores=4, others=1, large=Size(1, 4, 512)))
        kept, seconds = reservation(rules)
        seen.append((kept, seconds / 1800.0))
        rules.now += seconds
    assert seen == [(True, 1), (False, 1), (True, 1), (False, 1), (True, 1)]


def test_in_the_turn_of_the_others_each_starts_that_fits_whatever_else_is_large(rules: Rules) -> None:
    wait_for_room(rules)
    for number in range(3):
        rules.submit(f"large-{number}", flavor="large", volume_size=number + 1, priority=-1)
    rules.submit("d", priority=-2)
    assert rules.admit(places=9, room=LARGE) == []
    rules.now += 1800.0
    assert rules.admit(places=9, room=LARGE) == ["c", "d"]


def test_the_reservation_ends_when_its_job_starts_or_is_canceled(rules: Rules) -> None:
    wait_for_room(rules)
    assert rules.admit(places=9, room=LARGE) == []
    rules.report("workflow_finished", "a", 2, outcome="succeeded")
    rules.conclude(Gone())
    assert rules.admit(places=9, room=LARGE) == ["b"]
    with rules.ledgers() as ledger:
        found = ledger.reservation()
    assert found is not None and found.job_id == "c", "now that one is first, and waits"
    rules.take("cancel_job", "c")
    assert rules.admit(places=9, room=LARGE) == []
    with rules.ledgers() as ledger:
        assert ledger.reservation() is None


def test_a_turn_that_begins_in_the_future_begins_now(rules: Rules) -> None:
    wait_for_room(rules)
    rules.now = NOW + 366 * 86400
    rules.admit(places=9, room=LARGE)
    rules.now = NOW
    rules.admit(places=9, room=LARGE)
    assert reservation(rules) == (True, 1800.0)
