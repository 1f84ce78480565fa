"""A week of outages at random, seeded and overlapping, with 500 jobs: what must be true of it in the end."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from lando.messages import Message
from lando.states.job import Job
from tests.simulation.cloud import Flaws
from tests.simulation.outages import KINDS, Outage, Outages
from tests.simulation.site import Broken, Settings, Site
from tests.simulation.workers import Workflow
from tests.simulation.world import World

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
WEEK = 7 * DAY
AFTERWARDS = DAY
"""Seconds in which what is left at the end of the week ends."""
LAST = (2.0, 4.0, 6.0, 8.0)
"""Hours after the week at which a job more is submitted."""
JOBS = 500
SETTINGS = Settings(observe=30.0, heartbeat=300.0, silence=1800.0)
EACH_KIND = 4
"""Outages of each kind."""
OUTAGE = (2 * MINUTE, 5 * HOUR)
KILLS, STOPS, STEPS, PAUSES, LOST_HOSTS = 20, 6, 10, 6, 5
DOWN = (1.0, HOUR)
"""Seconds for which no daemon runs after one was killed or stopped."""
TOGETHER = (3, 12)
"""Jobs are submitted so many at a time. One that is alone at a site shows nothing about the cloud, and ends
after its attempts: ``lando.engine.boot_failures``."""
WISHES: tuple[dict[str, Any], ...] = ({}, {}, {}, {"flavor": "m1.large"}, {"volume_size": 40})
KILL_POINTS = (
    "receive", "before-take-commit", "before-ack", "after-ack", "before-work-commit", "after-work-commit",
    "before-effect", "after-effect", "create-answered", "deleted", "before-conclude-commit",
)  # fmt: skip

Fate = Literal["sound", "workflow", "image", "silent", "flavor", "canceled"]
FATES: tuple[tuple[Fate, int], ...] = (
    ("workflow", 8), ("image", 6), ("silent", 4), ("flavor", 4), ("canceled", 6),
)  # fmt: skip
"""What becomes of so many jobs, whatever else happens; the others are sound, and must succeed."""


@dataclass
class Week:
    """What a week was like."""

    seed: int
    site: Site
    fates: dict[str, Fate]
    latencies: list[float] = field(default_factory=list)
    """Seconds from the end of each trouble of the cloud to full speed, unless something else happened."""
    alone: int = 0
    """Sound jobs that failed in an outage since they were alone: see ``Site.alone``."""
    seconds: float = 0.0
    """Of this machine's processor."""

    def busiest_hour(self) -> int:
        """The most calls of the cloud in an hour of trouble of the cloud."""
        most = 0
        for start, end in self.site.outages.of_cloud():
            at = start
            while at < end:
                most = max(most, sum(self.site.cloud.calls_between(at, at + HOUR).values()))
                at += HOUR
        return most

    def row(self) -> str:
        """A line of the table under ``HEADER``."""
        spans, cloud = self.site.outages.of_cloud(), self.site.cloud
        hours = sum(end - start for start, end in spans) / HOUR
        calls = sum(sum(cloud.calls_between(*span).values()) for span in spans)
        creates = sum(start <= at < end for at, _ in cloud.creates for start, end in spans)
        again = sum(self.site.workers.finished.values()) - len(self.site.workers.finished)
        failures = sum(self.site.job(job).failures for job, fate in self.fates.items() if fate == "sound")
        return (
            f"{self.seed:4d} {hours:7.1f} {len(self.site.downs):5d} {len(cloud.creates):7d} {creates:7d} "
            f"{calls / hours:7.0f} {self.busiest_hour():7d} {len(self.latencies):5d} "
            f"{statistics.median(self.latencies or [0.0]):6.0f} {max(self.latencies, default=0.0):7.0f} "
            f"{failures:8d} {self.alone:5d} {again:5d} {self.site.tables.fact('servers') or 0:5d} "
            f"{self.seconds:5.1f}"
        )


HEADER = (
    "     trouble no     creates         calls an hour    full speed after      "
    "failures ended runs  swept   CPU\n"
    "seed   hours daemon   all in tr.    mean    most  times median     max of sound alone again           s"
)


def week(seed: int, jobs: int = JOBS, settings: Settings = SETTINGS) -> Week:
    """Simulate it, and check what must be true in the end.

    Raises:
        Broken: it is not.
    """
    began = time.process_time()
    random = World(seed).random
    fates: list[Fate] = [fate for fate, count in FATES for _ in range(count)]
    fates += ["sound"] * (jobs - len(fates))
    random.shuffle(fates)
    outages = Outages(
        Outage(kind, start, min(WEEK, start + _spread(random, *OUTAGE)))
        for kind in KINDS
        for start in (random.uniform(0.0, WEEK) for _ in range(EACH_KIND))
    )
    site = Site(seed, outages, settings)
    here = Week(seed, site, {site.new_job_id(): fate for fate in fates})
    site.flaws = site.cloud.flaws = Flaws(*(here_with(here, fate) for fate in ("image", "silent", "flavor")))
    left = list(here.fates.items())
    for hours in LAST:  # bad jobs that are left end once others boot
        job = site.new_job_id()
        here.fates[job] = "sound"
        site.world.plan(WEEK + hours * HOUR, partial(_submit, site, job, "sound"))
    while left:
        at, count = random.uniform(0.0, WEEK - 6 * HOUR), random.randint(*TOGETHER)
        for job, fate in left[:count]:
            site.world.plan(at + random.uniform(0.0, MINUTE), partial(_submit, site, job, fate))
        del left[:count]
    _plan_mishaps(site)
    _measure_latencies(here)
    site.run(WEEK + AFTERWARDS)
    _check_end(here)
    here.seconds = time.process_time() - began
    return here


def here_with(week: Week, fate: Fate) -> frozenset[str]:
    """The jobs with this fate."""
    return frozenset(job for job, its in week.fates.items() if its == fate)


def _spread(random: Any, least: float, most: float) -> float:
    """A time between these, of any order of magnitude."""
    return float(least * (most / least) ** random.random())


def _submit(site: Site, job: str, fate: Fate) -> None:
    random = site.world.random
    body = dict(random.choice(WISHES), priority=random.choice((0, 0, 0, 5)))
    if fate in ("image", "silent"):
        body["image"] = f"image-of-{job[:8]}"
    if fate == "flavor":
        body["flavor"] = "m9.absent"
    workflow = Workflow(_spread(random, 5 * MINUTE, 6 * HOUR), succeeds=fate != "workflow")
    site.workers.submit(job, workflow, **body)
    if fate == "canceled":
        cancel = Message("cancel_job", {}, job, id=f"cancel-{job}")
        site.world.plan(site.world.now + random.uniform(0.0, 3 * HOUR), partial(site.workers.send, cancel))


# what happens to the daemon and its machine


def _plan_mishaps(site: Site) -> None:
    happenings: tuple[tuple[int, Callable[[Site], None]], ...] = (
        (KILLS, _kill), (STOPS, _stop), (STEPS, _step), (PAUSES, _pause), (LOST_HOSTS, _lose_host),
    )  # fmt: skip
    for count, happens in happenings:
        for _ in range(count):
            site.world.plan(site.world.random.uniform(0.0, WEEK), partial(happens, site))


def _kill(site: Site) -> None:
    site.downtime = _spread(site.world.random, *DOWN)
    point = site.world.random.choice(KILL_POINTS)
    if point != "receive":
        site.world.kill_at = point
    elif site.daemon is not None:
        site.queue.on_receive.append(site.world.die)


def _stop(site: Site) -> None:
    site.downtime = _spread(site.world.random, *DOWN)
    if site.daemon is not None:
        site.daemon.stop()


def _step(site: Site) -> None:
    """The clock is set wrongly, and mostly corrected later."""
    random = site.world.random
    step = random.choice((-1, 1)) * _spread(random, 1.0, 12 * HOUR)
    site.world.set_by += step
    if random.random() < 0.8:
        site.world.plan(site.world.now + _spread(random, 10.0, 12 * HOUR), partial(_set_back, site, step))


def _set_back(site: Site, step: float) -> None:
    site.world.set_by -= step


def _pause(site: Site) -> None:
    """The machine sleeps, or the process is stopped."""
    random = site.world.random
    seconds, sleeps = _spread(random, 10.0, 3 * HOUR), random.random() < 0.5
    if site.daemon is not None:
        site.queue.on_receive.append(partial(_suspend, site, seconds, sleeps))


def _suspend(site: Site, seconds: float, sleeps: bool) -> None:
    began = site.world.now
    site.world.wait(began + seconds)
    site.downs.append((began, site.world.now))
    if sleeps:
        site.world.slept += seconds


def _lose_host(site: Site) -> None:
    """A server dies with its host, which its job survives: it has attempts left."""
    jobs = [job for job in site.open_jobs() if job.state == "running" and not job.failures]
    if jobs:
        server = site.cloud.machines[site.world.random.choice(jobs).server_id or ""]
        server.gone = min(server.gone, site.world.now)


# what is measured


def _measure_latencies(week: Week) -> None:
    site = week.site
    pending: list[float] = []

    def look() -> None:
        if pending and site.is_full:
            end = pending.pop()
            disturbed = site.outages.any_between(end, site.world.now) or any(
                start < site.world.now and end < until for start, until in site.downs
            )
            if not disturbed:
                week.latencies.append(site.world.now - end)

    def ended(at: float) -> None:
        pending[:] = [at]
        look()

    site.commits.append(look)
    for _, end in site.outages.of_cloud():
        site.world.plan(end, partial(ended, end))


# what must be true in the end


def _check_end(week: Week) -> None:
    site = week.site
    for job, fate in week.fates.items():
        wrong = _wrong(site.job(job), fate)
        if wrong and fate == "sound" and site.job(job).state == "failed" and site.alone.get(job):
            week.alone += 1
        elif wrong:
            raise Broken(f"seed {week.seed}: a {fate} job: {wrong}\n{site.told(job)}")
    ends = Counter(change.job_id for _, change in site.store.history if change.target in ("done", "failed"))
    left = {
        "jobs that ended twice": [job for job, count in ends.items() if count != 1],
        "servers": site.cloud.existing(),
        "floating IPs": list(site.cloud.addresses.by_mark),
        "effects": site.tables.next_effects(),
        "dead letters": site.queue.dead_letters,
        "messages": [site.queue.waiting] if site.queue.waiting else [],
    }
    for what, found in left.items():
        if found:
            raise Broken(f"seed {week.seed}: there are {what}: {found[:5]}")


def _wrong(job: Job, fate: Fate) -> str | None:
    """What is wrong with the end of a job; None if it is right."""
    expected: dict[Fate, tuple[tuple[str, str | None, str], ...]] = {
        "sound": (("done", "succeeded", ""),),
        "workflow": (("failed", "workflow_failed", "the workflow failed"),),
        "image": (("failed", "system_failed", "3 allowed"),),
        "silent": (("failed", "system_failed", "3 allowed"),),
        "flavor": (("failed", "workflow_failed", "m9.absent"),),
        "canceled": (("failed", "canceled", "canceled"), ("done", "succeeded", "")),
    }
    for state, outcome, words in expected[fate]:
        if job.state == state and job.outcome == outcome and words in job.reason:
            return None
    return f"{job.state} ({job.outcome}, {job.failures} failures): {job.reason}"
