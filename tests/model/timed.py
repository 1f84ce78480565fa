"""Time, in the scenarios that have it: what passes, steps of the clock, and what must hold of both.

The rules always run at ``NOW``; the books hold times relative to it. When a unit of time passes, all times
of the books become less by one. When the daemon's clock is set, or the next daemon's differs, they become
less by the step, and the shipped rule adjusts them. Times of the past are all alike once nothing can tell
them apart, and times far in the future, too, so that there are finitely many worlds.

The daemon is quick: no time passes while it has something to do at once, or an operation is in progress.

What has truly passed while a daemon lived is counted beside the books, in ``Lived``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from lando.engine.boot_failures import EXCUSES, NONE, BootFailures
from lando.engine.deadlines import SLACK
from lando.engine.holds import Hold, Holds
from lando.engine.ledger import Effect
from lando.engine.pace import Pace
from lando.states import actions, create_requests
from lando.states.events import BootTimeout, Event, WorkerLost
from lando.states.job import CreateRequest, Job
from lando.states.table import Policy

from .ledger import Books

NOW = 1000.0
"""It is always the same moment; without time, back-offs and grace periods are over at once."""
POLICY = Policy(boot_timeout=2.0, retry_first=1.0, retry_longest=2.0, hold=1.0, hold_longest=2.0)
PACE = Pace(poll=1.0, first=1.0, longest=2.0, site_longest=2.0, settle=1.0, silence=3.0, heartbeat=0.0)
JUMP = 10.0
"""A step of the clock: more than all waits and timeouts together."""
FAR = 30.0
"""Units; a later time stays as far away for ever."""
STALE = 2.0
"""Units; an older record of the daemon's life is as good as this one."""
BEFORE = 5.0
"""Units; of a create that was sent longer ago, and a boot that failed longer ago, either may have been first:
the longest that a job boots."""
COUNTED = 5
"""Units; more are counted as this many."""


class Lived(NamedTuple):
    """Units of time that passed while a daemon lived."""

    began: int = 0
    """Since the attempt's create was sent, or, while it runs, since its worker's first report."""
    heard: int = 0
    """Since its worker was last heard."""


def earlier(books: Books, units: float) -> Books:
    """The books, all of whose times are earlier by so many units, relative to ``NOW``."""
    jobs = (
        replace(
            job,
            not_before=job.not_before - units,
            deadline_at=_less(job.deadline_at, units),
            heard_at=_less(job.heard_at, units),
            entered_at=job.entered_at - units,
            updated_at=job.updated_at - units,
            requests=tuple(replace(r, absent_since=_less(r.absent_since, units)) for r in job.requests),
        )
        for job in books.jobs
    )
    effects = (replace(effect, due_at=effect.due_at - units) for effect in books.effects)
    holds = _with_holds(books.holds, lambda hold: replace(hold, until=hold.until - units))
    failures = books.boot_failures
    if failures != NONE:
        failures = replace(
            failures,
            since=failures.since - units,
            requested_at=failures.requested_at - units,
            until=failures.until - units,
        )
    return replace(
        books,
        jobs=tuple(jobs),
        effects=tuple(effects),
        holds=holds,
        boot_failures=failures,
        seen_at=_less(books.seen_at, units),
    )


def _less(time: float | None, units: float) -> float | None:
    return None if time is None else time - units


def canonical_job(job: Job) -> Job:
    """The record without what no rule can tell apart."""
    return replace(
        job,
        version=0,
        reason="",
        seq=0,
        exit_code=None,
        misses=min(2, job.misses),
        doubtful=min(max(2, job.attempts), job.doubtful),
        excused=min(EXCUSES, job.excused),
        not_before=_within(job.not_before, 0) if job.state == "queued" else 0.0,
        deadline_at=None if job.deadline_at is None else _within(job.deadline_at, SLACK),
        heard_at=None if job.heard_at is None else _within(job.heard_at, PACE.silence),
        requests=tuple(_canonical_request(request) for request in job.requests),
        entered_at=_within(job.entered_at, BEFORE) if job.state == "booting" else NOW,
        submitted_at=NOW,
        updated_at=NOW,
    )


def _canonical_request(request: CreateRequest) -> CreateRequest:
    if request.absent_since is None:
        return request
    return replace(request, absent_since=_within(request.absent_since, PACE.settle))


def canonical_effect(effect: Effect) -> Effect:
    """The row without what no rule can tell apart."""
    lost = "lost" if effect.kind == "create_server" and effect.reason else ""
    return replace(effect, due_at=_within(effect.due_at, 0), tries=min(2, effect.tries), reason=lost)


def canonical_boot_failures(failures: BootFailures) -> BootFailures:
    """The boot failures without what no rule can tell apart."""
    if failures == NONE:
        return failures
    return replace(
        failures,
        since=NOW if failures.jobs else 0.0,
        requested_at=_within(failures.requested_at, BEFORE) if failures.jobs else 0.0,
        until=_within(failures.until, 0),
        reason="",
        times=min(2, failures.times),
    )


def canonical_holds(holds: Holds) -> Holds:
    """The holds without what no rule can tell apart: the turns count refusals by fours."""

    def canonical(hold: Hold) -> Hold:
        times = hold.times if hold.times < 2 else 2 + (hold.times - 2) % 4
        return replace(hold, until=_within(hold.until, 0), reason="", times=times)

    return _with_holds(holds, canonical)


def _with_holds(holds: Holds, change: Callable[[Hold], Hold]) -> Holds:
    if holds.everybody is None and not holds.refused:
        return holds
    everybody = None if holds.everybody is None else change(holds.everybody)
    refused = tuple((wishes, change(hold)) for wishes, hold in holds.refused)
    return replace(holds, everybody=everybody, refused=refused)


def canonical_record(seen_at: float | None) -> float | None:
    """The record of the daemon's life without what no rule can tell apart."""
    return None if seen_at is None else _within(seen_at, STALE)


def _within(time: float, back: float) -> float:
    return min(NOW + FAR, max(NOW - back, time))


# what was lived through


def lived_on(lived: tuple[Lived, ...]) -> tuple[Lived, ...]:
    """Another unit has passed while the daemon lived."""
    return tuple(Lived(min(COUNTED, began + 1), min(COUNTED, heard + 1)) for began, heard in lived)


def lived_since(lived: Lived, before: Job | None, after: Job | None) -> Lived:
    """What is counted once a rule has made another record of the job."""
    if after is None or after.state not in ("booting", "running"):
        return Lived()
    began, heard = lived
    moved = before is None or before.state != after.state
    if moved or (not _was_sent(before) and _was_sent(after)):
        began = 0
    if moved or after.state == "booting" or (before is not None and before.heard_at != after.heard_at):
        heard = 0
    return Lived(began, heard)


def _was_sent(job: Job | None) -> bool:
    return job is not None and (len(job.requests) > 1 or job.requests[0].status != "ordered")


def verdict_too_early(job: Job, event: Event, lived: Lived, policy: Policy) -> str | None:
    """What is wrong with a verdict, if less time was lived through than it takes."""
    if isinstance(event, BootTimeout):
        passed, needed = lived.began, actions.boot_timeout(job, policy)
    elif isinstance(event, WorkerLost):
        passed, needed = lived.heard, PACE.silence
    else:
        passed, needed = lived.began, actions.run_timeout(job, policy) or 0.0
    return f"{event.name} of job {job.id} after {passed} of {needed:g} units" if passed < needed else None


def waits_too_long(books: Books, policy: Policy) -> Iterator[str]:
    """What is due later than the longest back-off of its kind."""
    for effect in books.effects:
        if effect.due_at > NOW + PACE.longest_wait:
            yield f"{effect.kind} is due in {effect.due_at - NOW:g} units"
    refused = [hold for _, hold in books.holds.refused]
    for hold in (*refused, books.holds.everybody):
        if hold is not None and hold.until > NOW + max(PACE.longest_hold, policy.hold_longest):
            yield f"a hold lasts {hold.until - NOW:g} units"
    if books.boot_failures.until > NOW + policy.hold_longest:
        yield f"boot failures hold all jobs for {books.boot_failures.until - NOW:g} units"
    for job in books.jobs:
        if job.state == "queued" and job.not_before > NOW + policy.longest_wait:
            yield f"job {job.id} waits for {job.not_before - NOW:g} units"


def late(job: Job, lived: Lived, listening: int, policy: Policy) -> str | None:
    """What has lasted for as long as it may, all of which time the daemon lived and listened."""
    began, heard = min(lived.began, listening), min(lived.heard, listening)
    request = create_requests.open_request(job)
    waits = request is not None and request.status == "ordered"  # another create, to be sent first
    if job.state == "booting" and not waits and began >= actions.boot_timeout(job, policy):
        return f"job {job.id} boots for {began} units"
    if job.state != "running":
        return None
    run_timeout = actions.run_timeout(job, policy)
    if run_timeout is not None and began >= run_timeout + SLACK:
        return f"job {job.id} runs for {began} units"
    return f"the worker of job {job.id} is silent for {heard} units" if heard >= PACE.silence else None
