"""Isolation, in the scenarios whose cloud always refuses what some jobs ask for: what others are promised.

That an end can be reached is too weak here: others might get there by luck only. So these bounds are of every
way that things can go, as long as there is a place.
"""

from __future__ import annotations

from collections.abc import Callable

from lando.engine.operations import Created, CreateRejected, Listed, OperationResult
from lando.states.job import LIVE_STATES, Job

from . import outages
from .rules import Broken
from .world import Scenario, World, job_of

WORDS = "as the cloud says"
"""What a refusal says."""

Due = Callable[[World, Scenario], bool]


def noted(world: World, flavor: str | None, result: OperationResult) -> World:
    """The world that knows which flavors were refused, and of which it was proven that they alone are."""
    if isinstance(result, CreateRejected) and result.kind in ("quota", "site"):
        return world._replace(refused=world.refused | {flavor})
    if isinstance(result, Created) or (isinstance(result, Listed) and result.servers):
        others = world.refused - {flavor}
        return world._replace(
            refused=world.refused & {flavor},
            proven_once=world.proven_once | others,
            proven=world.proven | (others & world.proven_once),
        )
    return world


def blamed(before: World, after: World, job_id: str, result: OperationResult) -> Broken | None:
    """A refusal fails only a job whose flavor was refused before another was accepted, twice."""
    job = job_of(after, job_id)
    if job is None or not isinstance(result, CreateRejected) or result.kind == "job":
        return None
    if job.state != "failed" or job.flavor in before.proven:
        return None
    return Broken("what may be the site's fails nobody", f"job {job.id} has failed")


def is_kept_waiting(world: World, scenario: Scenario) -> bool:
    """There is a place, and a job has none that the cloud would accept."""
    jobs = [job_of(world, job_id) for job_id in scenario.jobs if scenario.refusal(job_id) is None]
    return _has_place(world, scenario) and not all(_was_accepted(job) for job in jobs)


def is_to_fail(world: World, scenario: Scenario) -> bool:
    """There is a place for a job whose refusals were proven to be its own, where waiting cannot help."""
    return _has_place(world, scenario) and any(
        job.state != "failed" and is_fatal(world, scenario, job) for job in world.books.jobs
    )


def has_an_end(world: World, scenario: Scenario, job: Job) -> bool:
    """The cloud accepts the job, or it is to fail; another waits for ever, and that is right."""
    return scenario.refusal(job.id) is None or is_fatal(world, scenario, job)


def is_fatal(world: World, scenario: Scenario, job: Job) -> bool:
    """The next refusal of the job is to fail it."""
    fatal = scenario.refusal(job.id) == "site" and bool(job.wishes)
    return fatal and scenario.flavor(job.id) in world.proven


def dues(scenario: Scenario) -> tuple[tuple[str, Due, int], ...]:
    """What never lasts for longer than so many units: its name, and how to tell."""
    if scenario.unbootable:
        return (
            ("who fails alone ends", outages.is_to_end, scenario.ended_within),
            ("a job that does not boot delays no other", outages.is_kept_waiting, scenario.accepted_within),
        )
    return (
        ("a refused job delays no other", is_kept_waiting, scenario.accepted_within),
        ("what waiting cannot help fails in time", is_to_fail, scenario.failed_within),
    )


def _has_place(world: World, scenario: Scenario) -> bool:
    return scenario.places > sum(job.state in LIVE_STATES and _was_accepted(job) for job in world.books.jobs)


def _was_accepted(job: Job | None) -> bool:
    """A server was created for it."""
    return job is not None and (job.server_id is not None or job.state not in ("queued", "booting"))
