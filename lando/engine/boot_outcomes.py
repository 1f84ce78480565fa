"""What a boot that failed, or succeeded, means for this job and for others: see ``boot_failures``."""

from __future__ import annotations

from collections.abc import Callable

from lando.engine.boot_failures import UNANSWERED, BootFailure, BootFailures
from lando.engine.ledger import Ledger
from lando.message_limits import REASON, shorten
from lando.states.events import BootFailuresJudged, BootVerdict, Event, Report
from lando.states.job import ENDED_STATES, Job
from lando.states.table import Policy

PATIENCE = 10
"""Failures to boot for which a job waits for others that show nothing."""
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
    elif after.verdict == "not_booted":
        ledger.set_boot_failures(_after_failure(ledger, before, after.reason, event.at, policy))


def is_create_sent_again(ledger: Ledger, job: Job, now: float, policy: Policy) -> bool:
    """Whether a job whose create was not answered, and made no server, sends another one at once.

    Args:
        ledger: the caller's transaction.
        job: its record, before anything else is recorded of that.
        now: the daemon's clock.
        policy: the back-offs.
    """
    if len(job.requests) >= UNANSWERED:
        return False
    if _was_another_accepted_since(ledger, job):
        return True
    return not (job.unanswered or _after_failure(ledger, job, "", now, policy).are_the_sites)


def unanswered(
    ledger: Ledger, before: Job, after: Job, reason: str, now: float, policy: Policy, fire: Fire
) -> None:
    """A create was not answered, and made no server.

    Args:
        ledger: the caller's transaction.
        before: the job's record until then.
        after: its record now.
        reason: why there was no answer.
        now: the daemon's clock.
        policy: the back-offs.
        fire: answers an event.
    """
    if not _was_another_accepted_since(ledger, before):
        ledger.set_boot_failures(_after_failure(ledger, before, reason, now, policy))
    elif after.state == "queued" and after.unanswered >= UNANSWERED:
        fire(ledger, after, BootFailuresJudged(now, counted=True))


def _after_failure(ledger: Ledger, job: Job, reason: str, now: float, policy: Policy) -> BootFailures:
    return (
        ledger.boot_failures()
        .at(now)
        .after_failure(
            BootFailure(job.id, job.wishes, job.server_id is not None),
            job.entered_at,
            shorten(reason, REASON),
            now,
            policy.hold,
            policy.hold_longest,
        )
    )


def _was_another_accepted_since(ledger: Ledger, unanswered: Job) -> bool:
    return any(
        job.server_id is not None and job.entered_at >= unanswered.entered_at
        for job in ledger.owners(("booting",))
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
            if job is not None and job.id != witness.id:
                counted = failures.are_own(failure, job, witness)
                if counted and not failure.had_server and job.unanswered < UNANSWERED:
                    continue  # answers get lost now and then
                fire(ledger, job, BootFailuresJudged(now, counted))
        ledger.set_boot_failures(failures.judged(witness, has_booted))
    elif has_booted and (after := failures.with_booted(witness.wishes)) != failures:
        ledger.set_boot_failures(after)


def verdict(ledger: Ledger, job: Job) -> BootVerdict:
    """Whether it counts that the server of a job, which is gone, did not boot."""
    failures = ledger.boot_failures()
    if failures.is_own(job.wishes) or _is_alone(ledger, failures, job):
        return "counts"
    return "open" if any(each.job_id == job.id for each in failures.jobs) else "excused"


def _is_alone(ledger: Ledger, failures: BootFailures, job: Job) -> bool:
    """Whether no other job can show, or has shown, whether the site boots servers."""
    others = (ledger.job(each.job_id) for each in failures.jobs if each.job_id != job.id)
    if any(other is not None and other.state not in ENDED_STATES for other in others):
        return False
    if job.doubtful >= PATIENCE:
        return True
    if any(each.id != job.id for each in ledger.owners(("booting",))):
        return False
    return not ledger.is_any_queued()
