"""Boot failures: whose fault it is that servers do not boot. Plain records and pure rules.

A job fails to boot when its server goes into ERROR or is lost before its worker reports, when its worker does
not report in time, or when its create is not answered and makes no server. The cause may be the job's (its
image, its flavor) or the site's (Neutron, Glance, the hosts, the network of the servers). One failure cannot
tell. So it is in doubt (``Job.doubtful``) until a server boots that was requested no earlier:

- Several jobs have failed until then: the fault was the site's. Nothing is counted, and while it lasts, one
  job at a time is admitted, ever more seldom.
- One job has failed, or several that wish for the same flavor, image or volume, and another's server has
  booted: the fault is theirs, and counts as one failure. Answers get lost now and then: while only one job
  meets that, its create is sent again, ``UNANSWERED`` times in an attempt; and where only creates were not
  answered, an accepted one shows as much as a server that boots.

Bad jobs may come in pairs, which would excuse each other for ever. Therefore a job is excused ``EXCUSES``
times at most, until a worker of it reports. A job that is alone shows nothing: it ends after its attempts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from lando import backoff
from lando.states.job import Job
from lando.states.records import replace

EXCUSES = 3
"""How often a job's failures to boot are taken for the site's, before they are taken for its own."""
UNANSWERED = 3
"""How many creates in a row that are not answered, and make no server, end an attempt."""
MOST = 64
"""Jobs that are remembered: the first that failed."""
MOST_OWN = 8
"""Wishes that are remembered as failing alone: the last."""
LONGEST = 3600.0
"""Seconds: no hold ends later than this from now. One that does was written by a clock that was ahead."""
MEMORY = 86400.0
"""Seconds after the end of the hold for which failures are remembered."""


class BootFailure(NamedTuple):
    """A job whose server did not boot."""

    job_id: str
    wishes: str
    """Of the job."""
    had_server: bool
    """There was a server the last time."""


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
    own: tuple[str, ...] = ()
    """Wishes whose servers did not boot while those of others did: they hold nobody."""

    @property
    def are_the_sites(self) -> bool:
        """Several jobs have failed, and no server has booted since."""
        return sum(each.wishes not in self.own for each in self.jobs) > 1

    @property
    def wishes(self) -> frozenset[str]:
        """What the jobs wish for that failed, without the site's defaults."""
        return frozenset(each.wishes for each in self.jobs if each.wishes)

    def at(self, now: float) -> BootFailures:
        """What counts now: without what ended long ago, and with no end later than can be."""
        if self.jobs and max(self.until, self.since) + MEMORY < now:
            return BootFailures(own=self.own)
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
        times = self.times + 1 if self.until <= now else max(1, self.times)
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
        others = any(_kind(each) != _kind(failure) for each in self.jobs)
        alike = bool(job.wishes) and job.wishes == booted.wishes
        return job.excused >= EXCUSES or not (others or alike)

    def after_boot(self, booted: Job) -> BootFailures:
        """What is left of them when a server has booted that shows something."""
        kinds = {_kind(each) for each in self.jobs}
        own = self.without_own(booted.wishes).own
        if len(kinds) == 1 and self.wishes and booted.wishes not in self.wishes:
            (wishes,) = self.wishes
            own = (wishes, *(each for each in own if each != wishes))[:MOST_OWN]
        return BootFailures(own=own)

    def without_own(self, wishes: str) -> BootFailures:
        """The same, once a server with these wishes has booted."""
        return replace(self, own=tuple(each for each in self.own if each != wishes))

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


def _kind(failure: BootFailure) -> str:
    """Jobs of one kind fail for the same fault of their own."""
    return failure.wishes or failure.job_id
