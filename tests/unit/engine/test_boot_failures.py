"""Whose fault it is that servers do not boot: the rules, over both ledgers."""

from __future__ import annotations

import pytest

from lando.engine.boot_failures import EXCUSES, MEMORY, PROOFS, UNANSWERED, BootFailure, BootFailures
from lando.engine.operations import (
    AnswerLost,
    Console,
    Created,
    DeleteServers,
    FetchConsole,
    FindServers,
    Gone,
    Listed,
    Operation,
    OperationResult,
    SendCreate,
)
from lando.states.events import BootFailed, BootTimeout, ServerLost
from lando.states.job import Job
from tests.support.engine_rules import PACE, POLICY, Rules

GPU, HUGE = '{"flavor": "gpu"}', '{"flavor": "huge"}'


class Site:
    """A site whose servers boot, or do not, as a test says."""

    def __init__(self, rules: Rules, places: int = 100) -> None:
        self.rules = rules
        self.places = places

    def submit(self, *jobs: str, **body: object) -> None:
        for job in jobs:
            self.rules.submit(job, **body)

    def admit(self) -> list[str]:
        return self.rules.admit(self.places)

    def work(self, answers: bool = True) -> None:
        """Carry out every effect that is due; creates are answered, or never."""
        while effects := [each for each in self.rules.effects() if each.due_at <= self.rules.now]:
            with self.rules.ledgers() as ledger:
                operation = self.rules.outbox.begin(ledger, effects[0], self.rules.now)
            if operation is None:
                continue
            with self.rules.ledgers() as ledger:
                result = self._result(operation, answers)
                self.rules.outbox.conclude(ledger, effects[0], operation, result, self.rules.now)

    def _result(self, operation: Operation, answers: bool) -> OperationResult:
        if isinstance(operation, SendCreate):
            return Created(f"server-{operation.mark}") if answers else AnswerLost("HTTP 500: oops")
        if isinstance(operation, FindServers):
            return Listed(())
        if isinstance(operation, FetchConsole):
            return Console("")
        assert isinstance(operation, DeleteServers)
        return Gone()

    def fail(self, *jobs: str, words: str = "oops") -> None:
        """The servers of these jobs go into ERROR, and are deleted."""
        for job in jobs:
            server = self.rules.job(job).server_id
            assert server is not None
            self.rules.fire(job, BootFailed(self.rules.now, server, words))
        self.work()

    def boot(self, *jobs: str) -> None:
        for job in jobs:
            self.rules.report("worker_started", job)

    def later(self, seconds: float) -> None:
        self.rules.now += seconds

    def failures(self) -> BootFailures:
        with self.rules.ledgers() as ledger:
            return ledger.boot_failures().at(self.rules.now)

    def counted(self, job: str) -> tuple[str, int, int]:
        found: Job = self.rules.job(job)
        return found.state, found.failures, found.doubtful


@pytest.fixture
def site(rules: Rules) -> Site:
    return Site(rules)


def test_a_failure_of_one_job_is_in_doubt_and_of_several_the_sites(site: Site) -> None:
    site.submit("a", "b", "c")
    site.admit()
    site.work()
    site.fail("a", words="one")
    assert site.counted("a") == ("queued", 0, 1)
    assert not site.failures().are_the_sites
    site.later(3.0)
    site.fail("b", words="two")
    failures = site.failures()
    assert failures.are_the_sites
    assert (failures.since, failures.until) == (site.rules.now - 3.0, site.rules.now + POLICY.hold)
    assert failures.reason.endswith("two")


def test_while_nothing_boots_one_job_at_a_time_is_tried_ever_more_seldom(site: Site) -> None:
    jobs = [f"job-{number}" for number in range(9)]
    site.submit(*jobs)
    assert len(site.admit()) == 9
    site.work()
    site.fail(*jobs)
    waits, tried = [], []
    for _ in range(8):
        assert site.admit() == []
        wait = site.failures().until - site.rules.now
        site.later(wait)
        probes = site.admit()
        assert len(probes) == 1
        assert site.admit() == [], "the first is still booting"
        site.work()
        assert site.admit() == [], "its server is not up"
        site.fail(*probes)
        waits.append(wait)
        tried += probes
    assert waits == sorted(waits)
    assert waits[0] == POLICY.hold
    assert waits[-1] == POLICY.hold_longest
    assert len(set(tried)) == 8, "all have their turn"
    assert all(site.counted(job)[:2] == ("queued", 0) for job in jobs)


def test_once_a_server_boots_all_go_on_and_nothing_was_counted(site: Site) -> None:
    jobs = [f"job-{number}" for number in range(6)]
    site.submit(*jobs)
    site.admit()
    site.work()
    site.fail(*jobs)
    site.later(POLICY.hold_longest)
    (probe,) = site.admit()
    site.work()
    site.boot(probe)
    assert set(site.admit()) == {*jobs} - {probe}
    assert all(site.rules.job(job).failures == site.rules.job(job).doubtful == 0 for job in jobs)


def test_a_server_that_was_requested_before_shows_nothing(site: Site) -> None:
    site.submit("early")
    site.admit()
    site.work()
    site.later(1.0)
    site.submit("a", "b", "c")
    site.admit()
    site.work()
    site.fail("a")
    site.boot("early")
    assert site.counted("a") == ("queued", 0, 1)
    site.fail("b")
    assert site.failures().are_the_sites
    site.boot("c")
    assert not site.failures().jobs, "requested together with those that failed"


def test_a_job_that_fails_alone_while_others_boot_ends_after_its_attempts(site: Site) -> None:
    site.submit("bad")
    for number in range(3):
        others = f"good-{number}", f"spare-{number}"
        site.submit(*others)
        site.later(POLICY.retry_longest)
        assert "bad" in site.admit()
        site.work()
        site.fail("bad")
        site.submit(f"next-{number}")
        site.later(1.0)
        site.admit()
        site.work()
        assert site.counted("bad")[:2] == ("queued", number)
        site.boot(f"next-{number}")
    assert site.counted("bad") == ("failed", 3, 0)
    job = site.rules.job("bad")
    assert job.outcome == "system_failed"
    ends = "oops; the VMs of other jobs have booted since; that was failure 3 of 3 allowed"
    assert job.reason == f"the VM could not be built: {ends}"


def test_what_counts_while_a_further_attempt_boots_is_not_the_last_that_is_allowed(site: Site) -> None:
    site.submit("bad", attempts=2)
    site.submit("other")
    site.admit()
    site.work()
    for number in range(2):
        site.fail("bad")
        site.later(POLICY.retry_longest)
        site.submit(f"good-{number}")
        assert {"bad", f"good-{number}"} <= {*site.admit()}
        site.work()
        site.boot(f"good-{number}")
        assert site.counted("bad") == ("booting", 1, 0)
    site.boot("other")
    site.fail("bad")
    site.submit("last")
    site.admit()
    site.work()
    site.boot("last")
    assert site.counted("bad") == ("failed", 2, 0)
    assert site.rules.job("bad").reason.endswith("that was failure 2 of 2 allowed")


def test_a_job_that_is_alone_ends_after_its_attempts(site: Site) -> None:
    site.submit("a")
    for number in range(3):
        site.later(POLICY.retry_longest)
        assert site.admit() == ["a"], number
        site.work()
        site.fail("a")
    assert site.counted("a") == ("failed", 3, 0)


def test_failures_of_a_job_that_was_alone_are_excused_once_others_fail_too(site: Site) -> None:
    site.submit("a")
    site.admit()
    site.work()
    site.fail("a")
    site.submit("b")
    site.later(POLICY.retry_longest)
    site.admit()
    site.work()
    site.fail("a", "b")
    site.later(POLICY.hold_longest)
    (probe,) = site.admit()
    site.work()
    site.boot(probe)
    assert site.counted("a")[1:] == site.counted("b")[1:] == (0, 0)


def test_bad_jobs_do_not_excuse_each_other_for_ever(site: Site) -> None:
    site.submit("bad", flavor="gpu")
    site.submit("worse", flavor="huge")
    for number in range(20):
        site.submit(f"good-{number}")
        site.later(POLICY.retry_longest)
        bad = [job for job in site.admit() if not job.startswith("good")]
        site.work()
        site.fail(*bad)
        site.submit(f"next-{number}")
        site.later(max(1.0, site.failures().until - site.rules.now))
        site.admit()
        site.work()
        site.boot(f"next-{number}")
        if site.counted("bad")[0] == "failed":
            break
    assert site.counted("bad") == site.counted("worse") == ("failed", 3, 0)
    assert site.rules.job("bad").excused == EXCUSES


def test_what_the_sites_defaults_do_is_never_the_fault_of_jobs_that_fail_together(site: Site) -> None:
    site.submit("a", "b")
    for number in range(2 * EXCUSES):
        site.later(POLICY.retry_longest)
        site.admit()
        site.work()
        site.fail("a", "b")
        site.submit(f"good-{number}")
        site.later(max(1.0, site.failures().until - site.rules.now))
        assert site.admit() == [f"good-{number}"]
        site.work()
        site.boot(f"good-{number}")
        assert site.counted("a") == site.counted("b") == ("queued", 0, 0)


def test_jobs_that_wish_for_the_same_are_taken_for_one(site: Site) -> None:
    """A flavor that does not boot is not the site's fault, and soon holds nobody else."""
    bad = ["gpu-1", "gpu-2"]
    site.submit(*bad, flavor="gpu")
    for number in range(PROOFS):
        site.later(POLICY.retry_longest)
        assert {*site.admit()} >= {*bad}
        site.work()
        site.fail(*bad)
        assert site.failures().are_the_sites
        site.submit(f"plain-{number}")
        site.later(max(1.0, site.failures().until - site.rules.now))
        assert site.admit() == [f"plain-{number}"], "others are tried first"
        site.work()
        site.boot(f"plain-{number}")
        assert site.counted("gpu-1")[1:] == site.counted("gpu-2")[1:] == (number + 1, 0)
    site.later(POLICY.retry_longest)
    site.admit()
    site.work()
    site.fail(*bad)
    assert not site.failures().are_the_sites, "known to fail alone"
    assert site.counted("gpu-1") == site.counted("gpu-2") == ("failed", 3, 0)


def test_one_bad_image_in_many_jobs_stops_nobody_for_long(rules: Rules) -> None:
    """They come first, and fill every place for as long as they may boot."""
    site = Site(rules, places=4)
    bad = [f"bad-{number}" for number in range(12)]
    site.submit(*bad, image="mine")
    began = site.rules.now
    good: list[str] = []
    while any(site.counted(job)[0] != "failed" for job in bad):
        assert site.rules.now < began + 2 * 12 * 3 * 300.0 / 4
        good.append(f"good-{len(good)}")
        site.submit(good[-1])
        site.admit()
        site.work()
        for job in good:
            if site.counted(job)[0] == "booting":
                site.boot(job)
                site.rules.report("workflow_finished", job, seq=2, outcome="succeeded")
        site.later(100.0)
        for job in bad:
            if site.counted(job)[0] == "booting" and site.rules.now - site.rules.job(job).entered_at > 300.0:
                site.rules.fire(job, BootTimeout(site.rules.now))
        site.work()
    assert site.counted(good[0])[0] == "done"


def test_bad_jobs_of_many_wishes_are_not_all_tried_before_the_sites_defaults(site: Site) -> None:
    for number in range(30):
        site.submit(f"bad-{number:02}", image=f"mine-{number}")
    site.admit()
    site.work()
    site.fail(*(f"bad-{number:02}" for number in range(8)))
    site.submit("good")
    for _ in range(3):
        site.later(site.failures().until - site.rules.now)
        probes = site.admit()
        assert len(probes) == 1
        if probes == ["good"]:
            break
        site.work()
        site.fail(*probes)
    assert probes == ["good"]


def test_a_job_that_is_judged_while_its_server_is_deleted_ends_after_its_attempts(site: Site) -> None:
    site.submit("bad", "other")
    for number in range(3):
        site.later(POLICY.retry_longest)
        site.admit()
        site.work()
        server = site.rules.job("bad").server_id
        assert server is not None
        site.rules.fire("bad", BootFailed(site.rules.now, server, "oops"))
        site.submit(f"good-{number}")
        site.later(1.0)
        site.admit()
        with site.rules.ledgers() as ledger:
            effects = [each for each in ledger.next_effects() if each.job_id == f"good-{number}"]
            operation = site.rules.outbox.begin(ledger, effects[0], site.rules.now)
            assert operation is not None
            site.rules.outbox.conclude(ledger, effects[0], operation, Created("s"), site.rules.now)
        site.boot(f"good-{number}")
        assert site.rules.job("bad").state == "terminating"
        site.work()
    assert site.counted("bad") == ("failed", 3, 0)


def test_a_probe_holds_its_turn_for_no_longer_than_the_site_allows_a_boot(site: Site) -> None:
    site.submit("slow", boot_timeout=30 * 86400.0)
    site.admit()
    site.work()
    site.submit("a", "b")
    site.admit()
    site.work()
    site.fail("a", "b", "slow")
    site.later(POLICY.hold_longest)
    (first,) = site.admit()
    site.work()
    site.later(POLICY.boot_timeout)
    assert len(site.admit()) == 1
    assert first


def test_jobs_that_have_ended_are_no_sign_of_an_outage(site: Site) -> None:
    site.submit("a", "b")
    site.admit()
    site.work()
    site.fail("a", "b")
    for job in "ab":
        site.rules.take("cancel_job", job)
    site.submit("c")
    site.later(POLICY.hold_longest)
    for number in range(3):
        assert site.admit() == ["c"]
        assert not site.failures().are_the_sites
        site.work()
        site.fail("c")
        assert site.counted("c")[0] == ("queued" if number < 2 else "failed")
        site.later(POLICY.hold_longest)


def test_a_job_that_is_alone_is_not_charged_for_creates_that_were_not_answered(site: Site) -> None:
    site.submit("a")
    for _ in range(9):
        site.later(POLICY.retry_longest)
        site.admit()
        lose_answers(site, "a")
    site.later(POLICY.retry_longest)
    site.admit()
    site.work()
    site.fail("a")
    assert site.counted("a") == ("queued", 0, 1)


def test_an_outage_that_meets_jobs_of_one_flavor_only_fails_none(site: Site) -> None:
    site.submit("gpu-1", "gpu-2", "gpu-3", flavor="gpu")
    site.admit()
    site.work()
    site.fail("gpu-1", "gpu-2", "gpu-3")
    for _ in range(20):
        site.later(POLICY.hold_longest)
        probes = site.admit()
        site.work()
        site.fail(*probes)
    site.later(POLICY.hold_longest)
    (probe,) = site.admit()
    site.work()
    site.boot(probe)
    assert {site.rules.job(f"gpu-{number}").failures for number in (1, 2, 3)} == {0}
    assert not site.failures().jobs


@pytest.mark.parametrize("kind", [BootTimeout, ServerLost])
def test_every_end_of_a_boot_before_the_worker_reports_may_be_the_sites(site: Site, kind: type) -> None:
    site.submit("a", "b")
    site.admit()
    site.work()
    for job in "ab":
        server = site.rules.job(job).server_id
        more = (server, "gone") if kind is ServerLost else ()
        site.rules.fire(job, kind(site.rules.now, *more))
    site.work()
    assert site.failures().are_the_sites
    assert site.counted("a") == site.counted("b") == ("queued", 0, 1)


def lose_answers(site: Site, *jobs: str) -> None:
    """The creates of these jobs are not answered, until all wait in the queue."""
    while any(site.rules.job(job).state != "queued" for job in jobs):
        site.work(answers=False)
        site.later(PACE.settle)


def test_creates_that_are_not_answered_fail_nobody_and_are_told(site: Site) -> None:
    site.submit("a", "b")
    for _ in range(10):
        site.later(POLICY.hold_longest)
        site.admit()
        lose_answers(site, "a", "b")
    assert site.counted("a")[:2] == site.counted("b")[:2] == ("queued", 0)
    assert site.failures().reason == "the create was not answered, and no VM was made: HTTP 500: oops"


def test_where_creates_of_several_jobs_are_not_answered_none_is_sent_again_at_once(site: Site) -> None:
    site.submit(*"abcd")
    site.admit()
    lose_answers(site, *"abcd")
    requests = [len(site.rules.job(job).requests) for job in "abcd"]
    assert requests == [2, 1, 1, 1], "the first could not know"


def test_a_job_whose_creates_get_lost_while_others_are_accepted_ends_after_its_attempts(site: Site) -> None:
    site.submit("unlucky")
    for number in range(3 * UNANSWERED):
        site.later(POLICY.retry_longest)
        assert site.admit() == ["unlucky"]
        site.work(answers=False)
        site.submit(f"good-{number}")
        site.admit()
        site.work()  # of this one: the other's server is not looked for yet
        for _ in range(UNANSWERED):
            assert site.counted("unlucky") == ("booting", number // UNANSWERED, 0)
            site.later(PACE.settle)
            site.work(answers=False)
        assert site.rules.job("unlucky").failures == (number + 1) // UNANSWERED
    assert site.counted("unlucky")[0] == "failed"


def test_answers_that_get_lost_while_others_are_accepted_hold_nobody(site: Site) -> None:
    site.submit("a", "b")
    site.admit()
    site.work(answers=False)
    site.submit("c")
    site.admit()
    site.later(PACE.settle)
    site.work()
    assert site.rules.job("c").server_id is not None
    assert not site.failures().jobs


def test_an_accepted_create_shows_that_creates_are_answered_again(site: Site) -> None:
    site.submit("a", "b")
    site.admit()
    lose_answers(site, "a", "b")
    assert site.failures().are_the_sites
    site.later(POLICY.hold_longest)
    assert len(site.admit()) == 1
    site.work()
    assert not site.failures().jobs, "although its server has not booted"
    assert len(site.admit()) == 1


def test_an_accepted_create_does_not_show_that_servers_boot(site: Site) -> None:
    site.submit("a", "b", "c")
    site.admit()
    site.work()
    site.fail("a", "b")
    site.later(POLICY.hold_longest)
    assert len(site.admit()) == 1
    site.work()
    assert site.failures().are_the_sites


def test_a_full_cloud_is_no_failure_to_boot(site: Site) -> None:
    site.submit("a", "b")
    site.admit()
    site.work()
    for job in "ab":
        server = site.rules.job(job).server_id
        assert server is not None
        site.rules.fire(job, BootFailed(site.rules.now, server, "No valid host", no_capacity=True))
    assert not site.failures().jobs


def test_a_cancel_is_no_failure_to_boot_and_frees_the_turn(site: Site) -> None:
    site.submit("a", "b", "c")
    site.admit()
    site.work()
    site.fail("a", "b", "c")
    site.later(POLICY.hold_longest)
    (probe,) = site.admit()
    site.rules.take("cancel_job", probe)
    site.work()
    assert len(site.admit()) == 1


def test_failures_are_forgotten_after_a_day_and_survive_a_step_of_the_clock() -> None:
    failures = BootFailures()
    for job in "ab":
        failures = failures.after_failure(BootFailure(job, "", True), 900.0, "oops", 1000.0, 30.0, 600.0)
    assert failures.at(1030.0 + MEMORY) == failures
    assert failures.at(1031.0 + MEMORY) == BootFailures()
    assert failures.at(-1e6).until == -1e6, "written by a clock that was ahead"
    set_back = failures.adjusted(-500.0, latest=900.0)
    assert (set_back.since, set_back.until) == (500.0, 900.0)


def test_a_retry_by_the_user_starts_the_count_again(site: Site) -> None:
    site.submit("a", attempts=1)
    site.admit()
    site.work()
    site.fail("a")
    assert site.counted("a") == ("failed", 1, 0)
    site.rules.take("retry_job", "a")
    assert site.counted("a") == ("queued", 0, 0)
