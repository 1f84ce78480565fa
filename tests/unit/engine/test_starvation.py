"""No job keeps the others from running: days of admission, with a cloud that refuses some or all creates."""

from __future__ import annotations

import pytest

from lando.cloud.interface import Quota, Share, Size
from lando.engine.operations import CreateRejected
from lando.engine.quota import QuotaHeadroom
from lando.states.job import Job
from tests.support.simulated_site import DAY, HOUR, MINUTE, Site

POLICY = CreateRejected("site", "Policy doesn't allow os_compute_api:servers:create to be performed.")
LOGIN = CreateRejected("site", "logging in as lando: HTTP 401: Keystone refuses", account_wide=True)
NO_FIGURES = CreateRejected("quota", "Maximum number of ports exceeded")


def refuse_flavor(flavor: str, refusal: CreateRejected, until: float = 10 * DAY) -> Site:
    def answer(job: Job, now: float) -> CreateRejected | None:
        return refusal if job.flavor == flavor and now < until else None

    return Site(answer)


def submit_others(site: Site, count: int = 30) -> list[str]:
    """Jobs of three kinds: the site's defaults, and two with wishes."""
    wishes = ({}, {"flavor": "m1.large"}, {"volume_size": 40})
    others = [f"other-{number}" for number in range(count)]
    for number, job in enumerate(others):
        site.submit(job, **wishes[number % 3])
    return others


@pytest.mark.parametrize("places", [1, 10])
def test_a_job_that_the_policy_refuses_fails_and_delays_nobody(places: int) -> None:
    site = refuse_flavor("gpu", POLICY)
    site.places = places
    site.submit("first", flavor="gpu", priority=9)
    others = submit_others(site)
    site.until(DAY)
    wait = site.longest_wait(*others)
    print(f"{places} places: {site.tries('first')} creates of the refused job; longest wait {wait:.0f} s")
    assert site.states(*others) == {"done"}
    assert wait <= (30 / places - 1) * 30 * MINUTE + 5 * MINUTE
    assert site.job("first").state == "failed"
    assert POLICY.reason in site.job("first").reason
    assert site.tries("first") <= 3
    assert site.tries(*others) == len(others)


@pytest.mark.parametrize("refusal", [POLICY, LOGIN])
def test_outages_fail_no_job(refusal: CreateRejected) -> None:
    """The second one begins after a job with other wishes was accepted, and meets the first job only."""
    site = Site(lambda job, now: refusal if now < 4 or 0 <= now - 20 * MINUTE < 120 else None, places=1)
    site.submit("first", flavor="m1.large")
    site.until(5)
    site.submit("second", priority=5, run_time=20 * MINUTE)
    site.until(6)
    site.submit("third", priority=-1)
    site.until(6 * HOUR)
    assert site.tries("first") > 1
    assert site.states("first", "second", "third") == {"done"}


def test_a_flavor_without_quota_whose_figures_nobody_says_backs_off_alone() -> None:
    site = refuse_flavor("large", NO_FIGURES, until=DAY)
    site.submit("first", flavor="large", priority=9)
    others = submit_others(site)
    site.until(DAY)
    wait = site.longest_wait(*others)
    print(f"{site.tries('first')} creates of the refused job in 24 h; longest wait of others {wait:.0f} s")
    assert site.states(*others) == {"done"}
    assert wait <= 3 * 30 * MINUTE + 5 * MINUTE, "two rounds, and a turn of the first job between them"
    assert site.job("first").state == "queued"
    assert site.tries("first") < 200
    assert site.tries(*others) == len(others)
    site.until(DAY + HOUR)
    assert site.job("first").state == "done", "it runs once the quota is larger"


def test_a_job_as_large_as_the_quota_and_a_stream_of_small_ones_take_turns() -> None:
    quota = Quota(Share(0, None), Share(0, 8), Share(0, None))
    sizes = {None: Size(1, 1, 512), "large": Size(1, 8, 512)}
    site = Site(lambda job, now: None, places=100, room=QuotaHeadroom(quota, Size(), sizes))
    site.submit("long", run_time=20 * HOUR)
    small = []
    for number in range(2 * 24 * 6):
        if number == 6:
            site.submit("large", run_time=HOUR, flavor="large")
        small.append(f"small-{number}")
        site.submit(small[-1], run_time=HOUR)
        site.until((number + 1) * 10 * MINUTE)
    site.until(60 * HOUR)
    large, longest = site.longest_wait("large") / HOUR, site.longest_wait(*small) / HOUR
    print(
        f"the large job waited {large:.1f} h, while one ran for 20 h; the small ones at most {longest:.1f} h"
    )
    assert site.states("large", "long", *small) == {"done"}
    assert large < 24.0
    assert longest < 12.0


def test_a_large_job_is_not_overtaken_for_ever() -> None:
    """Without long ones it starts within its first turn, however many small ones there are."""
    quota = Quota(Share(0, None), Share(0, 4), Share(0, None))
    sizes = {None: Size(1, 1, 512), "large": Size(1, 4, 512)}
    site = Site(lambda job, now: None, places=100, room=QuotaHeadroom(quota, Size(), sizes))
    small = [f"small-{number}" for number in range(200)]
    for job in small[:4]:
        site.submit(job, run_time=45 * MINUTE)
    site.until(MINUTE)
    site.submit("large", flavor="large")
    for job in small[4:]:
        site.submit(job, run_time=45 * MINUTE)
    site.until(12 * HOUR)
    wait = site.longest_wait("large") / HOUR
    print(f"among 200 small jobs of 45 min the large one waited {wait:.1f} h")
    assert site.job("large").state == "done"
    assert wait < 2.5


def test_wishes_that_are_refused_alone_are_not_tried_whenever_a_short_job_ends() -> None:
    site = refuse_flavor("large", NO_FIGURES)
    site.submit("first", flavor="large")
    for number in range(1500):
        site.submit(f"short-{number}", run_time=MINUTE)
    site.until(2 * HOUR)
    print(f"{site.tries('first')} creates of the refused job in 2 h, while {len(site.started)} others ran")
    assert len(site.started) > 300
    assert site.tries("first") < 30


def test_a_job_for_which_the_quota_is_too_small_without_figures_has_its_turn_too() -> None:
    """Its VM needs the whole quota of something whose use the cloud does not tell."""
    site: Site

    def answer(job: Job, now: float) -> CreateRejected | None:
        return NO_FIGURES if job.wishes and site.ends else None

    site = Site(answer)
    for number in range(4):
        site.submit(f"early-{number}", run_time=20 * MINUTE)
    site.until(MINUTE)
    site.submit("first", volume_size=900, priority=9)
    for number in range(1000):
        site.submit(f"small-{number}", run_time=(20 + number % 7) * MINUTE)
    site.until(6 * HOUR)
    wait = site.longest_wait("first") / HOUR
    print(f"among 1,000 small jobs it waited {wait:.1f} h, and was tried {site.tries('first')} times")
    assert site.job("first").state == "done"
    assert wait < 2.5
    assert site.tries("first") < 30


@pytest.mark.parametrize("pairs", [False, True])
def test_jobs_of_higher_priority_do_not_make_the_turn_of_a_large_one_endless(pairs: bool) -> None:
    """Whether they fit at once, or one of them is the first in the order for a while."""
    quota = Quota(Share(0, None), Share(0, 8), Share(0, None))
    sizes = {None: Size(1, 1, 512), "half": Size(1, 4, 512), "large": Size(1, 8, 512)}
    site = Site(lambda job, now: None, places=100, room=QuotaHeadroom(quota, Size(), sizes))
    low = [f"low-{number}" for number in range(20)]
    for number in range(3 * 24):
        site.submit(f"high-{number}", run_time=25 * MINUTE, priority=1)
        for each in "ab" if pairs else "":
            site.submit(f"half-{number}-{each}", run_time=9 * MINUTE, flavor="half", priority=1)
        site.until((number * 20 + 1) * MINUTE)
        if number == 0:
            site.submit("large", flavor="large")
            for job in low:
                site.submit(job, run_time=10 * MINUTE)
        site.until((number + 1) * 20 * MINUTE)
    wait = site.longest_wait(*low) / HOUR
    print(f"behind a large job, under a stream of higher priority: {wait:.1f} h")
    assert site.states(*low) == {"done"}
    assert wait < 6.0, "at the latest in their third turn"


def test_a_site_that_refuses_everything_fails_no_job_and_is_not_asked_often() -> None:
    wrong = CreateRejected("site", "network nowhere not found")
    site = Site(lambda job, now: wrong if now < 6 * HOUR else None)
    jobs = submit_others(site)
    site.until(6 * HOUR)
    asked = [site.tries(*jobs[kind::3]) for kind in range(3)]
    print(f"{len(site.creates)} creates in 6 h, by wishes {asked}")
    assert site.states(*jobs) == {"queued"}
    assert len(site.creates) < 100
    assert min(asked) >= 10, "all wishes take turns"
    site.until(9 * HOUR)
    assert site.states(*jobs) == {"done"}
    assert len(site.creates) < 100 + len(jobs)


def test_hundreds_of_wishes_that_are_refused_do_not_keep_one_that_is_accepted() -> None:
    """Even if nobody asks for the site's defaults, and no wishes are known to work."""
    site = Site(lambda job, now: None if job.flavor == "m1.large" else POLICY)
    for number in range(300):
        site.submit(f"bad-{number}", flavor="gpu", volume_size=number + 1, priority=9)
    good = [f"good-{number}" for number in range(20)]
    for job in good:
        site.submit(job, flavor="m1.large")
    site.until(2 * DAY)
    bad = [f"bad-{number}" for number in range(300)]
    failed = sum(site.job(job).state == "failed" for job in bad)
    wait = site.longest_wait(*good) / HOUR
    print(f"longest wait {wait:.1f} h; {failed} of 300 refused jobs failed, in {site.tries(*bad)} creates")
    assert site.states(*good) == {"done"}
    assert wait < 6.0


def test_a_restart_changes_nothing_but_lets_what_the_site_refused_try_again() -> None:
    site = refuse_flavor("large", NO_FIGURES)
    site.submit("first", flavor="large", priority=9)
    submit_others(site, 3)
    site.until(HOUR)
    holds = site.ledger.holds()
    (own,) = (hold for _, hold in holds.refused)
    assert own.own and own.until > site.rules.now
    assert holds.without("site") == holds
    assert holds.without("quota").refused == ()
