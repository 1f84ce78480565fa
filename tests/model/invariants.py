"""What must hold in every world and of every step: the design's invariants, as far as this model goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lando.states import create_requests
from lando.states.events import Event
from lando.states.job import ENDED_STATES, LIVE_STATES, Job, Outcome

from . import isolation, outages, timed
from .ledger import Books
from .rules import Broken, Rules, is_valid
from .world import Floating, Letter, Machine, Scenario, World, job_of

AGAIN = ("system_failed", "not_booted")
"""Verdicts after which a job may run again."""


def broken_in(world: World, rules: Rules) -> Broken | None:
    """The first invariant that does not hold in this world."""
    reports = frozenset(letter for letter in world.queue if letter.mark is not None)
    wrong = (
        next(_all(world, rules.scenario), None)
        or outages.blamed(world, rules.scenario)
        or rules.void_letters(world.books)
        or rules.batches(world.books, reports)
    )
    if wrong is None and rules.scenario.within:
        too_long = timed.waits_too_long(world.books, rules.policy)
        wrong = next((Broken("nothing waits too long", each) for each in too_long), None)
    return wrong


def _all(world: World, scenario: Scenario) -> Iterator[Broken]:
    yield from _lost(world, scenario)
    for job, promise in zip(_in_order(world, scenario), world.promises, strict=True):
        if job is not None:
            yield from _adopted(job)
            yield from _left_behind(world, job)
            yield from _stuck(world, job)
            yield from _kept(job, promise)
    owners = sum(job.state in LIVE_STATES for job in world.books.jobs)
    believed = len({machine.job for machine in world.machines if machine.believed})
    if max(owners, believed) > scenario.places:
        yield Broken("places", f"{max(owners, believed)} jobs own servers")


def _in_order(world: World, scenario: Scenario) -> list[Job | None]:
    jobs = {job.id: job for job in world.books.jobs}
    return [jobs.get(job_id) for job_id in scenario.jobs]


def _lost(world: World, scenario: Scenario) -> Iterator[Broken]:
    known = {job.id for job in world.books.jobs}
    queued = {letter.job for letter in world.queue if letter.type == "start_worker"}
    for job_id in scenario.jobs:
        if job_id not in known and job_id not in queued:
            yield Broken("no job is lost", f"job {job_id} is neither in the queue nor in the books")


def _adopted(job: Job) -> Iterator[Broken]:
    if sum(request.status == "adopted" for request in job.requests) > 1:
        yield Broken("one request is adopted", f"job {job.id} has adopted several")


def _stuck(world: World, job: Job) -> Iterator[Broken]:
    effects = {effect.kind for effect in world.books.effects if effect.job_id == job.id}
    if job.state == "terminating" and "delete_server" not in effects:
        yield Broken("nothing is stuck", f"job {job.id} is terminating, and nothing is to be deleted")
    if job.state == "booting" and job.deadline_at is None:
        yield Broken("nothing is stuck", f"job {job.id} boots without a deadline")
    unresolved = job.state in LIVE_STATES and create_requests.open_request(job) is not None
    if unresolved and "create_server" not in effects:
        yield Broken("nothing is stuck", f"nobody resolves the create of job {job.id}")
    if effects and job.state not in LIVE_STATES:
        yield Broken("nothing is stuck", f"job {job.id} is {job.state}, and {', '.join(effects)} is due")


def _kept(job: Job, promise: Outcome | None) -> Iterator[Broken]:
    ended = job.outcome if job.state in ENDED_STATES else job.verdict
    if promise == "canceled" and ended != promise and job.runnable:
        yield Broken("a cancel wins", f"job {job.id} was canceled, and is {job.state} ({ended})")
    if promise not in (None, "canceled") and ended != promise:
        yield Broken("finished work stands", f"job {job.id} has {promise}, and is {job.state} ({ended})")
    if (job.state == "done" or ended == "succeeded") and promise != "succeeded":
        yield Broken("done needs a result", f"job {job.id} is {job.state} without a valid result")
    if (job.state == "done") != (job.state in ENDED_STATES and job.outcome == "succeeded"):
        yield Broken("done needs a result", f"job {job.id} is {job.state} ({job.outcome})")


def _left_behind(world: World, job: Job) -> Iterator[Broken]:
    if job.state in LIVE_STATES:
        return
    left = [machine.id for machine in world.machines if machine.job == job.id and machine.believed]
    if left:
        yield Broken("no server is left behind", f"job {job.id} is {job.state}, and {left[0]} exists")

    floating = [each.id for each in world.floating if each.job == job.id and not (each.stray or each.late)]
    if floating:
        reason = f"job {job.id} is {job.state}, and {floating[0]} exists"
        yield Broken("no floating IP is left behind", reason)


def create_may_be_sent(world: World, job: Job) -> Broken | None:
    """No server of the job may exist that a look could have shown before."""
    if job.state != "booting":
        return Broken("creates are for booting jobs", f"job {job.id} is {job.state}")
    others = [m.id for m in world.machines if m.job == job.id and m.listed and not (m.stray or m.twin)]
    if others:
        return Broken("one server a job", f"a create of job {job.id} is sent, and {others[0]} exists")
    return None


def look_is_due(world: World, job_id: str) -> Broken | None:
    """A second look begins when what the first could not show yet is listed, however long it takes."""
    job = job_of(world, job_id)
    assert job is not None
    look_at = create_requests.second_look_at(job, timed.PACE.settle)
    if look_at is None or look_at <= timed.NOW:
        return None
    return Broken("only lived time counts", f"job {job_id} is looked for {look_at - timed.NOW:g} units early")


def verdict_is_due(world: World, rules: Rules, job: Job, event: Event) -> Broken | None:
    """As much time was lived through as the verdict takes."""
    lived = world.lived[rules.scenario.jobs.index(job.id)]
    too_early = timed.verdict_too_early(job, event, lived, rules.policy)
    return None if too_early is None else Broken("only lived time counts", too_early)


def nothing_is_late(world: World, rules: Rules) -> Broken | None:
    """Time passes, so no deadline is to be noticed first."""
    for job, lived in zip(_in_order(world, rules.scenario), world.lived, strict=True):
        late = None if job is None else timed.late(job, lived, world.listening or 0, rules.policy)
        if late is not None:
            return Broken("what is late is noticed", late)
    return None


def may_be_swept(world: World, thing: Machine | Floating) -> Broken | None:
    """It belongs to no live attempt and to no unresolved create."""
    return _floats(world, thing) if isinstance(thing, Floating) else _serves(world, thing)


def _floats(world: World, floating: Floating) -> Broken | None:
    for job in world.books.jobs:
        if job.state in LIVE_STATES and job.floating_ip == floating.mark:
            return Broken("the sweeper spares what lives", f"{floating.id} is that of job {job.id}")
    return None


def _serves(world: World, machine: Machine) -> Broken | None:
    for job in world.books.jobs:
        open_request = create_requests.open_request(job) if job.state in LIVE_STATES else None
        if job.server_id == machine.id:
            return Broken("the sweeper spares what lives", f"{machine.id} is the server of job {job.id}")
        if open_request is not None and open_request.mark == machine.mark:
            return Broken("the sweeper spares what lives", f"{machine.id} may be the server of job {job.id}")
    return None


def taken_once(before: Books, after: Books, letter: Letter) -> Broken | None:
    """A message that had its effect before has none now, but that a report that comes again is no silence."""
    if before is after or _silent(before) == _silent(after):
        return None
    return Broken("a message has its effect once", f"{letter} had its effect before")


def _silent(books: Books) -> tuple[object, ...]:
    jobs = tuple(replace(job, heard_at=None) for job in books.jobs)
    return jobs, books.effects, books.early_cancels, books.holds, books.boot_failures, books.seen_at


def promised(books: Books, letter: Letter, promise: Outcome | None, job_id: str) -> Outcome | None:
    """How the job has to end once the letter is taken, by the books before it is."""
    job = next((job for job in books.jobs if job.id == job_id), None)
    if not _is_about(letter, job, job_id):
        return promise
    if letter.type in ("cancel_job", "terminate_worker"):
        return "canceled" if job is None or _can_be_ended(job) else promise
    if job is None:
        return promise
    if letter.type == "retry_job" and job.state == "failed" and job.runnable:
        return None
    if letter.type == "workflow_finished" and is_valid(books, letter):
        replaces = job.verdict in AGAIN and letter.outcome != "system_failed"
        if job.state in ("booting", "running") or (job.state == "terminating" and replaces):
            return None if letter.outcome == "system_failed" else letter.outcome
    return promise


def _is_about(letter: Letter, job: Job | None, job_id: str) -> bool:
    if letter.type == "terminate_worker":
        return job is not None and job.state in LIVE_STATES and job.server_name == letter.vm_name
    return letter.job == job_id


def _can_be_ended(job: Job) -> bool:
    return job.state in ("queued", "booting", "running") or job.verdict in AGAIN


def has_ended(world: World, scenario: Scenario) -> bool:
    """All jobs have ended, nothing is left to do, and nothing is left in the cloud."""
    jobs = world.books.jobs
    if scenario.refuses:
        there = len(jobs) == len(scenario.jobs) and not world.machines
        return there and all(
            job.state in ENDED_STATES for job in jobs if isolation.has_an_end(world, scenario, job)
        )
    ended = len(jobs) == len(scenario.jobs) and all(job.state in ENDED_STATES for job in jobs)
    left = (world.books.effects, world.machines, world.floating, world.operations)
    return ended and not any(left)
