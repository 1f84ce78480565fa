"""What a boot that failed, or succeeded, means for this job and for others: see ``boot_failures``."""

from __future__ import annotations

import math
from collections.abc import Callable

from lando.engine.boot_failures import UNANSWERED, BootFailure
from lando.engine.ledger import Ledger
from lando.message_limits import REASON, shorten
from lando.states.events import BootFailuresJudged, CreateAbsent, Event, Report
from lando.states.job import Job
from lando.states.table import Policy

Fire = Callable[[Ledger, Job, Event], object]


def ended(ledger: Ledger, before: Job, after: Job, event: Event, policy: Policy, fire: Fire) -> None:
    """A job has left ``booting``.

    Args:
        ledger: the caller's transaction.
        before: its record until then.
        after: its record now.
        event: what happened.
        policy: the back-offs.
        fire: answers an event.
    """
    if isinstance(event, Report):
        _judge(ledger, before, event.at, fire, has_booted=True)
    elif isinstance(event, CreateAbsent) and _was_another_accepted_since(ledger, before):
        if after.doubtful >= UNANSWERED:
            fire(ledger, after, BootFailuresJudged(event.at, counted=True))
    elif isinstance(event, CreateAbsent) or after.verdict == "not_booted":
        failure = BootFailure(before.id, before.wishes, before.server_id is not None)
        failures, reason = ledger.boot_failures().at(event.at), shorten(after.reason, REASON)
        ledger.set_boot_failures(
            failures.after_failure(
                failure, before.entered_at, reason, event.at, policy.hold, policy.hold_longest
            )
        )


def _was_another_accepted_since(ledger: Ledger, unanswered: Job) -> bool:
    return any(
        job.server_id is not None and job.entered_at >= unanswered.entered_at
        for job in ledger.jobs_in(("booting",))
        if job.id != unanswered.id
    )


def accepted(ledger: Ledger, job: Job, now: float, fire: Fire) -> None:
    """The cloud has made a server.

    Args:
        ledger: the caller's transaction.
        job: whose create it was.
        now: the daemon's clock.
        fire: answers an event.
    """
    _judge(ledger, job, now, fire, has_booted=False)


def _judge(ledger: Ledger, witness: Job, now: float, fire: Fire, has_booted: bool) -> None:
    failures = ledger.boot_failures()
    if failures.are_judged_by(witness.entered_at, has_booted):
        for failure in failures.jobs:
            job = ledger.job(failure.job_id)
            if job is not None and job.id != witness.id and job.doubtful:
                own = failures.are_own(failure, job, witness)
                if own is not None:
                    fire(ledger, job, BootFailuresJudged(now, own))
        ledger.set_boot_failures(failures.after_boot(witness))
    elif has_booted and witness.wishes in failures.own:
        ledger.set_boot_failures(failures.without_own(witness.wishes))


def is_alone(ledger: Ledger, job: Job) -> bool:
    """Whether no other job can show, or has shown, whether the site boots servers."""
    if any(each.job_id != job.id for each in ledger.boot_failures().jobs):
        return False
    if any(each.id != job.id for each in ledger.jobs_in(("booting",))):
        return False
    return ledger.next_queued(math.inf) is None
