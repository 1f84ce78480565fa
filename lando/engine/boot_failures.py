"""Boot failures: whose fault it is that servers do not boot. Plain records and pure rules.

A job fails to boot when its server goes into ERROR or is lost before its worker reports, when its worker does
not report in time, or when its create is not answered and makes no server. The cause may be the job's (its
image, its flavor) or the site's (Neutron, Glance, the hosts, the network of the servers). One failure cannot
tell. So it is in doubt (``Job.doubtful``) until a server boots that was requested no earlier:

- Several jobs have failed until then: the fault was the site's. Nothing is counted, and while it lasts, one
  job at a time is admitted, ever more seldom.
- One job has failed, or several that wish for the same flavor and image, and another's server has booted: the
  fault is theirs, and counts as one failure. Answers get lost now and then: while only one job
  meets that, its create is sent again, ``UNANSWERED`` times in an attempt; and where only creates were not
  answered, an accepted one shows as much as a server that boots.

An outage may begin between two creates, so that one judgement proves little. Wishes that were found to be at
fault ``PROOFS`` times are known to fail alone: their failures count at once, and hold nobody.

Bad jobs may come in pairs, which would excuse each other for ever. Therefore a job that wishes for something
is excused ``EXCUSES`` times at most, until a worker of it reports; what the site's defaults do is never the
job's fault while others fail, too. A job that is alone shows nothing: it ends after its attempts.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from lando import backoff
from lando.engine.holds import LONGEST, times_in_a_row
from lando.states.job import Job
from lando.states.records import replace

EXCUSES = 3
"""How often a job's failures to boot are taken for the site's, before they are taken for its own."""
UNANSWERED = 3
"""How many creates in a row that are not answered, and make no server, end an attempt; and how many such
attempts in a row count as one failure."""
MOST = 64
"""Jobs that are remembered: the first that failed."""
PROOFS = 2
"""How often wishes are found to be at fault before their failures count at once."""
MOST_WISHES = 8
"""Wishes that are remembered as failing alone, or as booting: the last."""
MEMORY = 86400.0
"""Seconds after the end of the hold for which failures are remembered."""


class BootFailure(NamedTuple):
    """A job whose server did not boot."""

    job_id: str
    wishes: str
    """Of the job."""
    had_server: bool
    """There was a server the last time."""

    @property
    def kind(self) -> str:
        """Jobs of one kind fail for the same fault of their own."""
        return kind_of(self.wishes) or self.job_id


@dataclass(frozen=True)
class BootFailures:
    """The servers that did not boot since the last one that did."""

    jobs: tuple[BootFailure, ...] = ()
    """Each job once, the first to fail first."""
    since: float = 0.0
    """When the first of them failed, epoch seconds."""
    requested_at: float = 0.0
    """When the first of them was requested. What was requested before shows nothing: the cause may have begun
    in between."""
    reason: str = ""
    """Why the last of them failed, for people."""
    until: float = 0.0
    """If the fault is the site's: there is no create until then (epoch seconds)."""
    times: int = 0
    """How often in a row such a hold was set."""
    probe: str | None = None
    """The id of the job that finds out whether servers boot again."""
    suspected: tuple[str, ...] = ()
    """Kinds of wishes whose servers did not boot while those of others did, as often as they are here."""
    booted: tuple[str, ...] = ()
    """Wishes whose servers have booted."""

    @property
    def are_the_sites(self) -> bool:
        """Several jobs have failed, and no server has booted since."""
        return sum(not self.is_own(each.wishes) for each in self.jobs) > 1

    def is_own(self, wishes: str) -> bool:
        """Whether such jobs are known to fail alone."""
        return self.suspected.count(kind_of(wishes)) >= PROOFS

    @property
    def wishes(self) -> frozenset[str]:
        """What the jobs wish for that failed, without the site's defaults."""
        return frozenset(each.wishes for each in self.jobs if each.wishes)

    def at(self, now: float) -> BootFailures:
        """What counts now: without what ended long ago, and with no end later than can be."""
        if self.jobs and max(self.until, self.since) + MEMORY < now:
            return self._forgotten()
        return replace(self, until=now) if self.until > now + LONGEST else self

    def after_failure(
        self,
        failure: BootFailure,
        requested_at: float,
        reason: str,
        now: float,
        first: float,
        longest: float,
    ) -> BootFailures:
        """One more job has failed to boot. Servers that were booting together fail together, and count as
        one.

        Args:
            failure: the job, and what became of its server.
            requested_at: when that was requested, epoch seconds.
            reason: for people.
            now: the daemon's clock.
            first: seconds that the first hold lasts; doubled by each further one in a row.
            longest: seconds, where the doubling stops.
        """
        if any(each.job_id == failure.job_id for each in self.jobs):
            jobs = tuple(failure if each.job_id == failure.job_id else each for each in self.jobs)
        else:
            jobs = (*self.jobs, failure)[:MOST]
        after = replace(
            self,
            jobs=jobs,
            since=self.since if self.jobs else now,
            requested_at=min(self.requested_at, requested_at) if self.jobs else requested_at,
            reason=reason,
        )
        if not after.are_the_sites:
            return after
        times = times_in_a_row(self.times, self.until, now)
        until = max(self.until, now + backoff.delay(times, first, longest))
        return replace(after, times=times, until=until)

    def are_judged_by(self, requested_at: float, has_booted: bool) -> bool:
        """Whether a server shows whose these failures were.

        Args:
            requested_at: when its job was admitted.
            has_booted: its worker has reported; else only its create was accepted, which says something where
                creates were not answered.
        """
        shows = has_booted or not any(each.had_server for each in self.jobs)
        return bool(self.jobs) and requested_at >= self.requested_at and shows

    def are_own(self, failure: BootFailure, job: Job, booted: Job) -> bool:
        """Whether the failures of a job are its own.

        Args:
            failure: one of ``jobs``.
            job: its record.
            booted: whose server has booted meanwhile.
        """
        others = any(each.kind != failure.kind for each in self.jobs)
        kind = kind_of(job.wishes)
        if others and not kind and job.boot_timeout is None:
            return False
        alike = bool(kind) and kind == kind_of(booted.wishes)
        return job.excused >= EXCUSES or not (others or alike)

    def judged(self, witness: Job, has_booted: bool) -> BootFailures:
        """What is left of them once a server has shown whose they were; see ``are_judged_by``."""
        kinds = {kind_of(each.wishes) for each in self.jobs}
        after = (self.with_booted(witness.wishes) if has_booted else self)._forgotten()
        if len(kinds) == 1 and kinds.isdisjoint(("", kind_of(witness.wishes))):
            return replace(after, suspected=(*kinds, *after.suspected)[: PROOFS * MOST_WISHES])
        return after

    def with_booted(self, wishes: str) -> BootFailures:
        """The same, once a server with these wishes has booted."""
        kind = kind_of(wishes)
        booted = self.booted if wishes in self.booted else (wishes, *self.booted)[:MOST_WISHES]
        return replace(self, suspected=tuple(each for each in self.suspected if each != kind), booted=booted)

    def without(self, job_ids: Collection[str]) -> BootFailures:
        """The same without those of these jobs, which have ended."""
        jobs = tuple(each for each in self.jobs if each.job_id not in job_ids)
        return replace(self, jobs=jobs) if jobs else self._forgotten()

    def _forgotten(self) -> BootFailures:
        return BootFailures(suspected=self.suspected, booted=self.booted)

    def due(self, now: float) -> BootFailures:
        """The same, with the hold ending now: the cause may be gone."""
        return replace(self, until=min(self.until, now))

    def adjusted(self, step: float, latest: float) -> BootFailures:
        """The same after the clock was set.

        Args:
            step: by so many seconds.
            latest: no hold ends later (epoch seconds).
        """
        until = min(self.until, latest)
        if not self.jobs:
            return replace(self, until=until)
        return replace(self, since=self.since + step, requested_at=self.requested_at + step, until=until)


NONE = BootFailures()


def kind_of(wishes: str) -> str:
    """What may keep a server from booting, of what a job wishes for: flavor and image, as JSON."""
    asked = json.loads(wishes) if wishes else {}
    kind = {name: asked[name] for name in ("flavor", "image") if name in asked}
    return json.dumps(kind) if kind else ""
