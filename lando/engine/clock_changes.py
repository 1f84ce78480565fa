"""What becomes of stored times when the daemon's clock is set, the machine sleeps, the process is stopped, or
no daemon ran.

There are two kinds of stored times, both of the daemon's clock:

due times    when something is tried next: of effects, of queued jobs, of a hold. They are never shifted; none
             is later than now plus the longest back-off of its kind. A clock that was wrong delays nothing
             for longer than that.
lived times  what a verdict counts from: deadlines, when a worker was last heard, since when a lost create's
             server is absent; the turns of a reservation; since when servers do not boot; and since when
             messages are remembered, such as a cancel that came before its job. Only time that the daemon
             lived through counts: each discontinuity shifts them by its length. What has passed, and what is
             left, stay the same.

A clock that is set discloses its step. Between two lives nothing does, so a daemon that has live jobs records
the time now and then: ``seen_at``.
"""

from __future__ import annotations

from collections.abc import Sequence

from lando.engine.boot_failures import NONE
from lando.engine.ledger import Ledger
from lando.engine.pace import Pace
from lando.states.job import LIVE_STATES, Job
from lando.states.records import replace
from lando.states.table import Policy


def resume(ledger: Ledger, now: float, policy: Policy, pace: Pace) -> None:
    """A daemon has started: the time since the last one, however long by whichever clock, does not count.

    Args:
        ledger: the caller's transaction.
        now: the daemon's clock.
        policy: the back-offs of jobs.
        pace: the back-offs of effects and holds.
    """
    jobs = ledger.jobs_in(LIVE_STATES)
    seen_at = ledger.seen_at()
    if seen_at is None:  # an older version wrote these times
        seen_at = _last_change([job.updated_at for job in jobs], now)
    adjust(ledger, now - seen_at, now, policy, pace)


def _last_change(changes: Sequence[float], now: float) -> float:
    """When something was changed last. If only some changes are in the future, they are older: the clock was
    set back after them. If all are, this clock is behind the last daemon's."""
    return max((at for at in changes if at <= now), default=max(changes, default=now))


def adjust(ledger: Ledger, step: float, now: float, policy: Policy, pace: Pace) -> None:
    """The daemon's clock has jumped: it was set, the machine slept, or the process was stopped.

    Args:
        ledger: the caller's transaction.
        step: seconds by which the clock is ahead of what it would show if it counted only time that was lived
            through; may be negative.
        now: the daemon's clock, after the jump.
        policy: the back-offs of jobs.
        pace: the back-offs of effects and holds.
    """
    for job in ledger.jobs_in(LIVE_STATES):
        shifted = _shifted(job, step, now)
        if shifted != job:
            ledger.save_job(shifted)
    ledger.limit_due_times(effects=now + pace.longest_wait, jobs=now + policy.longest_wait)
    holds = ledger.holds()
    limited = holds.limited(now + max(pace.longest_hold, policy.hold_longest))
    if limited != holds:
        ledger.set_holds(limited)
    failures = ledger.boot_failures()
    if failures != NONE:
        ledger.set_boot_failures(failures.adjusted(step, now + policy.hold_longest))
    reservation = ledger.reservation()
    if reservation is not None:
        ledger.set_reservation(reservation.shifted(step))
    ledger.shift_message_times(step, now)
    ledger.set_seen_at(now)


def record(ledger: Ledger, now: float) -> None:
    """The daemon lives, and while there are live jobs that counts. To be called every few seconds.

    ``Engine.fire`` records it in the transaction that makes a job live, so an idle daemon writes nothing.
    """
    if ledger.live():
        ledger.set_seen_at(now)


def _shifted(job: Job, step: float, now: float) -> Job:
    """The job with its lived times shifted. None that is in the past by nature is in the future."""
    return replace(
        job,
        deadline_at=None if job.deadline_at is None else job.deadline_at + step,
        heard_at=None if job.heard_at is None else min(job.heard_at + step, now),
        requests=tuple(
            request
            if request.absent_since is None
            else replace(request, absent_since=min(request.absent_since + step, now))
            for request in job.requests
        ),
    )
