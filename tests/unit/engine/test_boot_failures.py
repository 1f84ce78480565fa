"""Whose fault it is that servers do not boot: the rules, over both ledgers."""

from __future__ import annotations

import pytest

from lando.engine.boot_failures import EXCUSES, MEMORY, UNANSWERED, BootFailure, BootFailures
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
    assert site.failures() == BootFailures(), "requested together with those that failed"


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
    site.submit("bad", "worse")
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


def test_jobs_that_wish_for_the_same_are_taken_for_one(site: Site) -> None:
    """A flavor that does not boot is not the site's fault, and soon holds nobody else."""
    site.submit("gpu-1", "gpu-2", flavor="gpu")
    site.submit("plain-1", "plain-2")
    site.admit()
    site.work()
    site.fail("gpu-1", "gpu-2")
    assert site.failures().are_the_sites
    site.submit("plain-3")
    site.later(POLICY.hold)
    assert site.admit() == ["plain-3"], "others are tried first"
    site.work()
    site.boot("plain-3")
    assert site.counted("gpu-1")[1:] == site.counted("gpu-2")[1:] == (1, 0)
    site.later(POLICY.retry_longest)
    assert set(site.admit()) == {"gpu-1", "gpu-2"}
    site.work()
    site.fail("gpu-1", "gpu-2")
    assert not site.failures().are_the_sites, "known to fail alone"


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
    assert site.failures() == BootFailures()


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
    for number in range(3):
        site.later(POLICY.retry_longest)
        assert site.admit() == ["unlucky"]
        site.work(answers=False)
        site.submit(f"good-{number}")
        site.admit()
        site.work()  # of this one: the other's server is not looked for yet
        for _ in range(UNANSWERED):
            assert site.counted("unlucky") == ("booting", number, 0)
            site.later(PACE.settle)
            site.work(answers=False)
        assert site.rules.job("unlucky").failures == number + 1
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
    assert site.failures() == BootFailures()


def test_an_accepted_create_shows_that_creates_are_answered_again(site: Site) -> None:
    site.submit("a", "b")
    site.admit()
    lose_answers(site, "a", "b")
    assert site.failures().are_the_sites
    site.later(POLICY.hold_longest)
    assert len(site.admit()) == 1
    site.work()
    assert site.failures() == BootFailures(), "although its server has not booted"
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
    assert site.failures() == BootFailures()


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
