"""Twelve hours of an outage, with a long queue: nobody fails, few creates are sent, and then all goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tests.simulation.outages import Kind, Outage, Outages
from tests.simulation.site import Settings, Site
from tests.simulation.workers import Workflow

MINUTE, HOUR = 60.0, 3600.0
BEGIN, LENGTH = 30 * MINUTE, 12 * HOUR
END = BEGIN + LENGTH
JOBS, PLACES = 60, 20
RUN = (25 * MINUTE, 75 * MINUTE)
"""Seconds that a workflow takes: at the begin of the outage some servers boot, and most run."""
SETTINGS = Settings(PLACES, observe=30.0, heartbeat=120.0, floating_ips=False)
"""Cheaper to simulate than the defaults, and slower to notice an end."""


@dataclass(frozen=True)
class Figures:
    """What a night cost."""

    states: Counter[str]
    """Of all jobs, in the end."""
    attempts: int
    """Failed attempts that were counted against jobs."""
    creates: int
    """Creates during the outage."""
    calls: Counter[str]
    """Calls of the cloud during the outage."""
    full_after: float
    """Seconds from the end of the outage until every place had a sound server."""
    running_after: float
    """Seconds until every one of these servers ran its workflow, too."""

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        an_hour = sum(self.calls.values()) / (LENGTH / HOUR)
        return (
            f"{self.creates} creates and {an_hour:.0f} calls an hour during the outage; all places with a "
            f"server {self.full_after:.0f} s after it, and running after {self.running_after:.0f} s; in the "
            f"end {ended}, {self.attempts} failures counted"
        )


def night(*kinds: Kind, seed: int = 1, settings: Settings = SETTINGS) -> Figures:
    """Simulate it.

    Args:
        kinds: what is broken, all of it for the whole night.
        seed: of the times.
        settings: of the daemon.
    """
    site = Site(seed, Outages([Outage(kind, BEGIN, END) for kind in kinds]), settings)
    for _ in range(JOBS):
        site.workers.submit(site.new_job_id(), Workflow(site.world.random.uniform(*RUN)))
    full: list[float] = []
    running: list[float] = []

    def note() -> None:
        if site.world.now < END or running:
            return
        if not full and site.is_full:
            full.append(site.world.now - END)
        if full and not any(job.state == "booting" for job in site.open_jobs()):
            running.append(site.world.now - END)

    site.commits.append(note)
    site.run(END + 6 * HOUR)
    jobs = [site.job(job) for job in site.workers.workflows]
    never = float("inf")
    return Figures(
        states=Counter(job.state for job in jobs),
        attempts=sum(job.failures for job in jobs),
        creates=sum(BEGIN <= at < END for at, _ in site.cloud.creates),
        calls=site.cloud.calls_between(BEGIN, END),
        full_after=full[0] if full else never,
        running_after=running[0] if running else never,
    )
