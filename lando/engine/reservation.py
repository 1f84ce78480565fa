"""The reservation: the project's quota is kept free for a job that needs more of it than is left.

While it is kept free, no job behind that one starts, so that running jobs end and make room. A job as large
as the whole quota would so stop all others for as long as anything else is there. Therefore they take turns:
the quota is kept free for a while, then jobs behind the large one may start for as long, then it is kept free
for twice as long as before, so that in the end every running job ends within one turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from lando.states.records import replace

LONGEST = 30 * 86400.0
"""Seconds: where the doubling stops."""


@dataclass(frozen=True)
class Reservation:
    """Whose turn it is: the job's, or that of the jobs behind it."""

    job_id: str
    since: float
    """When the turn began, epoch seconds."""
    seconds: float
    """How long it is."""
    kept: bool = True
    """The quota is kept free for the job; else jobs behind it may start."""
    owner: str = ""
    """The job whose turns these are, until it starts, if another one came before it; empty: ``job_id``."""

    @property
    def belongs_to(self) -> str:
        """The id of the job whose turns these are."""
        return self.owner or self.job_id

    @property
    def until(self) -> float:
        """When the turn ends, epoch seconds."""
        return self.since + self.seconds

    def at(self, now: float, first: float, draining_helps: bool) -> Reservation:
        """The turn at this time.

        Args:
            now: the daemon's clock. A turn that began later than now begins now: the clock was set.
            first: seconds of the first turn.
            draining_helps: the job would fit if none of our jobs ran. If not, others use the quota, and
                longer turns would not help.
        """
        if self.since > now:
            return replace(self, since=now)
        if now < self.until:
            return self
        seconds = self.seconds
        if not self.kept:
            seconds = min(LONGEST, 2 * seconds) if draining_helps else first
        return replace(self, since=now, seconds=seconds, kept=not self.kept)

    def before(self, job_id: str) -> Reservation:
        """The same turn, while this job is the first that waits.

        Jobs that come first for a while do not begin the turns again: those behind would never have theirs.
        """
        owner = self.belongs_to
        return replace(self, job_id=job_id, owner="" if owner == job_id else owner)

    def shifted(self, seconds: float) -> Reservation:
        """The same after the clock was set by so much."""
        return replace(self, since=self.since + seconds)
