"""What the daemon last saw of the cloud as a whole: whether it answers, and what room its quota leaves."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from lando.cloud.snapshot import CloudSnapshot
from lando.engine.leaks import Ownership
from lando.engine.quota import QuotaHeadroom, measure
from lando.states.job import LIVE_STATES, Job


class QuotaView:
    """Kept by the daemon's one thread; nothing of it outlives the process.

    Args:
        has_quota: the cloud limits what a project may have.
        lasts: seconds for which what was seen is believed.
    """

    def __init__(self, has_quota: bool, lasts: float) -> None:
        self._has_quota = has_quota
        self._lasts = lasts
        self._room: QuotaHeadroom | None = None
        self._seen_at = 0.0
        self._trouble = ""

    def take(self, snapshot: CloudSnapshot, jobs: Iterable[Job]) -> None:
        """Another look.

        Args:
            sighting: what it showed.
            jobs: every job that may own a server.
        """
        self._trouble = "; ".join(snapshot.troubles)
        if snapshot.quota is None:
            return
        live = [job for job in jobs if job.state in LIVE_STATES]
        ownership = Ownership.of(live)
        theirs = (server for server in snapshot.servers if ownership.owner(server) is None)
        self._room = measure(snapshot.quota, snapshot.sizes, theirs, (job.flavor for job in live))
        self._seen_at = time.monotonic()

    def fail(self, reason: str) -> None:
        """The cloud could not be looked at."""
        self._trouble = reason

    @property
    def is_stale(self) -> bool:
        """Nobody can be admitted by what was seen: too little, or too long ago."""
        return self._has_quota and (self._room is None or time.monotonic() - self._seen_at > self._lasts)

    def shows(self, flavors: Collection[str | None]) -> bool:
        """Whether jobs of these flavors can be admitted by what was seen."""
        return not self.is_stale and (self._room is None or self._room.sizes.keys() >= set(flavors))

    @property
    def obstacle(self) -> str | None:
        """Why nobody can be admitted, if so: what is not seen to answer would not take a create, either."""
        if self._trouble:
            return f"nobody is admitted just now: the cloud cannot be asked: {self._trouble}"
        return "the cloud is being asked for the project's quota" if self.is_stale else None

    @property
    def room(self) -> QuotaHeadroom | None:
        """What the quota leaves; None where there is none."""
        return self._room
