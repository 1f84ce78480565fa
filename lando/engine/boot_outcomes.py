"""What a boot that failed, or succeeded, means for this job and for others: see ``boot_failures``."""

from __future__ import annotations

import math
from collections.abc import Callable

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
        _booted(ledger, before, event.at, fire)
    elif isinstance(event, CreateAbsent) or after.verdict == "not_booted":
        failures, reason = ledger.boot_failures().at(event.at), shorten(after.reason, REASON)
        ledger.set_boot_failures(
            failures.after_failure(before, reason, event.at, policy.hold, policy.hold_longest)
        )


def _booted(ledger: Ledger, booted: Job, now: float, fire: Fire) -> None:
    failures = ledger.boot_failures()
    if failures.shows_something(booted.entered_at):
        for job_id, _ in failures.jobs:
            job = ledger.job(job_id)
            if job is not None and job.id != booted.id and job.doubtful:
                fire(ledger, job, BootFailuresJudged(now, failures.are_own(job, booted)))
        failures = failures.after_boot(booted)
    elif booted.wishes in failures.own:
        failures = failures.without_own(booted.wishes)
    else:
        return
    ledger.set_boot_failures(failures)


def is_alone(ledger: Ledger, job: Job) -> bool:
    """Whether no other job can show, or has shown, whether the site boots servers."""
    if any(job_id != job.id for job_id, _ in ledger.boot_failures().jobs):
        return False
    if any(each.id != job.id for each in ledger.jobs_in(("booting",))):
        return False
    return ledger.next_queued(math.inf) is None
