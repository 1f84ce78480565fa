"""Admission: which queued jobs get a server now, and when none does because the cloud refuses creates."""

from __future__ import annotations

from dataclasses import dataclass

from lando import backoff
from lando.engine.engine import Engine
from lando.engine.ledger import Hold, Ledger
from lando.engine.operations import CreateRejected
from lando.engine.quota import QuotaHeadroom
from lando.states.events import Admitted
from lando.states.job import Job
from lando.states.records import replace

HOLDING = ("quota", "rate_limit", "site", "unreachable")
"""Refusals that the next job would meet, too: no job is admitted for a while."""


@dataclass(frozen=True)
class AdmissionResult:
    """The jobs that were admitted, and what the next one in the order waits for if the cloud lacks it."""

    jobs: tuple[Job, ...] = ()
    obstacle: str | None = None


class Admission:
    """Admits queued jobs, by priority and then in the order of arrival.

    Args:
        engine: fires the events.
        places: how many jobs may own a server at the same time.
    """

    def __init__(self, engine: Engine, places: int) -> None:
        self._engine = engine
        self._places = places

    def admit(
        self, ledger: Ledger, now: float, at_once: int, headroom: QuotaHeadroom | None = None
    ) -> AdmissionResult:
        """Admit jobs while there are places and quota.

        A job that waits for quota blocks the jobs behind it. After a refusal that other jobs would meet, too,
        one job at a time is admitted until the cloud accepts a create.

        Args:
            ledger: the caller's transaction.
            now: the daemon's clock.
            at_once: how many creates can be sent now; no job is admitted whose create would have to wait.
            headroom: what the project's quota leaves; None where the cloud has none.
        """
        hold = ledger.hold()
        if hold is not None and (hold.until > now or _is_trying(ledger, hold)):
            return AdmissionResult()
        most = at_once if hold is None else min(1, at_once)
        live = ledger.live()
        admitted: list[Job] = []
        while len(admitted) < most and sum(live.values()) < self._places:
            job = ledger.next_queued(now)
            if job is None:
                break
            shortage = None if headroom is None else headroom.shortage(live, job.flavor)
            if shortage is not None:
                return AdmissionResult(tuple(admitted), f"waits for the project's quota: {shortage}")
            admitted.append(self._admit(ledger, job, now))
            live[job.flavor] = live.get(job.flavor, 0) + 1
        return AdmissionResult(tuple(admitted))

    def _admit(self, ledger: Ledger, job: Job, now: float) -> Job:
        event = Admitted(
            now,
            mark=self._engine.new_secret(),
            token=self._engine.new_secret(),
            server_name=server_name(job.id, job.attempt + 1),
        )
        return self._engine.fire(ledger, job, event).job


def server_name(job_id: str, attempt: int) -> str:
    """The name of an attempt's server: for people, and a valid host name. Servers are identified by their
    marks."""
    return f"lando-{job_id[:13]}-{attempt}"


def _is_trying(ledger: Ledger, hold: Hold) -> bool:
    """Whether a job that was admitted after the hold still waits for the answer to its create."""
    booting = ledger.jobs_in(("booting",))
    return any(job.server_id is None and job.entered_at >= hold.until for job in booting)


def hold(ledger: Ledger, engine: Engine, refusal: CreateRejected, reason: str, now: float) -> None:
    """Admit no job for as long as the cloud says, or for a time that doubles with each refusal in a row.

    Args:
        ledger: the caller's transaction.
        engine: has the back-off's numbers.
        refusal: what the cloud said.
        reason: why no job is admitted, for people.
        now: the daemon's clock.
    """
    before = ledger.hold()
    times = 1
    if before is not None and before.kind == refusal.kind:
        # Creates that were in progress together are refused together: that counts as one refusal.
        times = before.times + 1 if before.until <= now else before.times
    longest = engine.pace.site_longest if refusal.kind == "site" else engine.pace.longest
    wait = refusal.retry_after
    if wait is None:
        wait = backoff.delay(times, engine.policy.hold, longest)
    until = max(now + wait, 0.0 if before is None else before.until)
    ledger.set_hold(Hold(refusal.kind, until, reason, times))


def end_hold(ledger: Ledger) -> None:
    """A create was not refused: jobs are admitted as usual."""
    if ledger.hold() is not None:
        ledger.set_hold(None)


def quota_was_freed(ledger: Ledger, now: float) -> None:
    """A server of ours is gone: if the quota was used up, one job may try at once."""
    before = ledger.hold()
    if before is not None and before.kind == "quota":
        ledger.set_hold(replace(before, until=min(before.until, now)))
