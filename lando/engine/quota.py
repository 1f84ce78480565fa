"""What the project's quota leaves: calculated before a create is sent, so that the cloud need not refuse it.

Our own servers are counted in our database, each from its job's admission until it is known to be gone. Only
what others use is taken from the cloud. So creates in progress, or a cloud that counts them late, never lead
to more servers than the quota allows.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from lando.cloud.interface import Quota, Server, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.ownership import Ownership
from lando.states.job import LIVE_STATES, Job

ONE = Size(servers=1)
NO_START = "no job is started at present"
"""Begins what is said of a cloud that does not answer."""


@dataclass(frozen=True)
class QuotaHeadroom:
    """The quota, what others use of it, and how much a server of each flavor uses (None: the default flavor).

    A flavor that is not among the sizes was not read yet.
    """

    quota: Quota
    others: Size
    sizes: Mapping[str | None, Size]

    def shortage(self, ours: Mapping[str | None, int], flavor: str | None) -> str | None:
        """What a server of this flavor has to wait for; None: nothing.

        One that is larger than the whole quota does not wait: the cloud refuses it, and its message says why.

        Args:
            ours: how many servers of ours exist, or may exist, by flavor.
            flavor: the flavor of the next one.
        """
        if not self.sizes.keys() >= {flavor, *ours}:
            return "the size of its flavor is being read"
        wanted = self.sizes[flavor]
        taken = self.others
        for each, count in ours.items():
            size = self.sizes[each]
            taken += Size(size.servers * count, size.cores * count, size.ram * count)
        return next(self._shortages(wanted, taken), None)

    def _shortages(self, wanted: Size, taken: Size) -> Iterator[str]:
        quota, others = self.quota, self.others
        for what, limit, need, used, foreign in (
            ("VMs", quota.servers.limit, wanted.servers, taken.servers, others.servers),
            ("cores", quota.cores.limit, wanted.cores, taken.cores, others.cores),
            ("MiB of RAM", quota.ram.limit, wanted.ram, taken.ram, others.ram),
        ):
            if limit is not None and need <= limit < used + need:
                by_others = f", {foreign:,} of them by others" if foreign else ""
                needs = "" if what == "VMs" else f", and this job needs {need:,}"
                yield f"{used:,} of {limit:,} {what} are in use{by_others}{needs}"


def measure(
    quota: Quota, sizes: Mapping[str | None, Size], theirs: Iterable[Server], ours: Iterable[str | None]
) -> QuotaHeadroom:
    """What the quota leaves now.

    Nova's count and its list may differ: it counts a server a moment after it lists it, and servers are
    created and deleted between the two calls. So all of ours are assumed to be counted; whatever is counted
    beyond that is used by others, listed or not.

    Args:
        quota: the limits and what the cloud counts.
        sizes: how much a server of each flavor uses.
        theirs: the listed servers that are not ours.
        ours: the flavors of our servers that exist or may exist, listed or not.
    """
    listed = sum((server.size for server in theirs), Size())
    taken = sum((sizes.get(flavor, ONE) for flavor in ours), Size())
    others = Size(
        max(listed.servers, quota.servers.used - taken.servers),
        max(listed.cores, quota.cores.used - taken.cores),
        max(listed.ram, quota.ram.used - taken.ram),
    )
    return QuotaHeadroom(quota, others, sizes)


class QuotaView:
    """What the daemon last saw of the project's quota. One thread uses it, and it does not outlive the
    process.

    Args:
        has_quota: whether the cloud limits what a project may have.
        valid_for: seconds for which what was seen may be used.
    """

    def __init__(self, has_quota: bool, valid_for: float) -> None:
        self._has_quota = has_quota
        self._valid_for = valid_for
        self._headroom: QuotaHeadroom | None = None
        self._seen_at = 0.0
        self._trouble = ""

    def update(self, snapshot: CloudSnapshot, jobs: Iterable[Job]) -> None:
        """Take another snapshot.

        Args:
            snapshot: what the cloud showed.
            jobs: every job that may own a server.
        """
        self._trouble = "; ".join(snapshot.troubles)
        if snapshot.quota is None:
            return
        live = [job for job in jobs if job.state in LIVE_STATES]
        ownership = Ownership.of(live)
        theirs = (server for server in snapshot.servers if ownership.owner(server) is None)
        self._headroom = measure(snapshot.quota, snapshot.sizes, theirs, (job.flavor for job in live))
        self._seen_at = time.monotonic()

    def fail(self, reason: str) -> None:
        """The cloud could not be read."""
        self._trouble = reason

    @property
    def is_stale(self) -> bool:
        """Whether no job can be admitted by what was seen: nothing yet, or too long ago."""
        return self._has_quota and (
            self._headroom is None or time.monotonic() - self._seen_at > self._valid_for
        )

    def covers(self, flavors: Collection[str | None]) -> bool:
        """Whether jobs of these flavors can be admitted by what was seen."""
        return not self.is_stale and (self._headroom is None or self._headroom.sizes.keys() >= set(flavors))

    @property
    def obstacle(self) -> str | None:
        """Why no job can be admitted, if so: a cloud that cannot be read would not take a create, either."""
        if self._trouble:
            return f"{NO_START}: the cloud does not answer: {self._trouble}"
        return "the project's quota is being read" if self.is_stale else None

    @property
    def headroom(self) -> QuotaHeadroom | None:
        """What the quota leaves; None where there is none."""
        return self._headroom
