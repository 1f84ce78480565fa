"""Servers that do not boot, in the scenarios that have them: for a while all, or always those of some jobs.

Those that do boot are quick, so that a boot that fails always has one of these causes.
"""

from __future__ import annotations

from lando.states.job import LIVE_STATES, Job

from .rules import Broken
from .world import Machine, Scenario, World


def fails_to_boot(world: World, scenario: Scenario, machine: Machine) -> bool:
    """This server goes into ERROR before its worker reports."""
    return world.outage or scenario.flavor(machine.job) in scenario.unbootable


def blamed(world: World, scenario: Scenario) -> Broken | None:
    """An outage fails no job."""
    failed = [job.id for job in world.books.jobs if job.state == "failed" and not _was_heard(job)]
    if scenario.outage and failed:
        return Broken("an outage fails no job", f"job {failed[0]} has failed, and was never booted without")
    return None


def is_to_end(world: World, scenario: Scenario) -> bool:
    """A job whose servers never boot tries, or waits while there is a place. How long others run, and how
    long the cloud takes to delete a server, is another matter."""
    has_place = scenario.places > sum(job.state in LIVE_STATES for job in world.books.jobs)
    return any(
        job.flavor in scenario.unbootable
        and (job.state == "booting" or (job.state == "queued" and has_place))
        for job in world.books.jobs
    )


def is_kept_waiting(world: World, scenario: Scenario) -> bool:
    """A job whose servers boot waits, and there is a place."""
    has_place = scenario.places > sum(job.state in LIVE_STATES for job in world.books.jobs)
    return has_place and any(
        job.state == "queued" and job.flavor not in scenario.unbootable for job in world.books.jobs
    )


def _was_heard(job: Job) -> bool:
    return job.heard_at is not None
