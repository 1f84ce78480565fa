"""What the project's quota leaves: calculated before a create is sent, so that the cloud need not refuse it.

Our own servers are counted in our database, each from its job's admission until it is known to be gone. Only
what others use is taken from the cloud. So creates in progress, or a cloud that counts them late, never lead
to more servers than the quota allows.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from lando.cloud.interface import QUOTA_UNITS, Quota, Server, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.holds import flavor_of, volume_of
from lando.engine.obstacles import NO_START
from lando.engine.ownership import Ownership
from lando.states.job import LIVE_STATES, Job
from lando.states.records import replace

ONE = Size(servers=1)
NOT_LISTED = ("volumes", "gigabytes", "ports", "floating_ips")
"""What the list of servers says nothing of."""


@dataclass(frozen=True)
class QuotaHeadroom:
    """The quota, what others use of it, and how much a server of each flavor uses (None: the default flavor).

    A flavor that is not among the sizes was not read yet.
    """

    quota: Quota
    others: Size
    sizes: Mapping[str | None, Size]
    volumes: bool = True
    """What is left of volumes was asked for, too."""

    def shortage(self, ours: Mapping[str, int], wishes: str) -> str | None:
        """What a server of a job with these wishes has to wait for; None: nothing.

        One that is larger than the whole quota does not wait: the cloud refuses it, and its message says why.

        Args:
            ours: how many servers of ours exist, or may exist, by their jobs' wishes.
            wishes: of the next one's job.
        """
        return next(self._shortages(self._taken(ours), wishes), None)

    def short(self, ours: Mapping[str, int], many: Collection[str]) -> set[str]:
        """Those of many wishes that have a ``shortage``: what is taken is added up once for all."""
        taken = self._taken(ours)
        return {each for each in many if next(self._shortages(taken, each), None) is not None}

    @property
    def has_volumes(self) -> bool:
        """Whether jobs of the same flavor may need more or less of the quota than one another."""
        return self.quota.volumes is not None

    def _taken(self, ours: Mapping[str, int]) -> Size | None:
        """What is used; None while the size of a flavor in use is not known."""
        if not self.sizes.keys() >= {flavor_of(each) for each in ours}:
            return None
        return sum((_size_of(each, self.sizes) * count for each, count in ours.items()), self.others)

    def _shortages(self, taken: Size | None, wishes: str) -> Iterator[str]:
        """What a server of a job with these wishes has to wait for, each as a sentence."""
        if taken is None or flavor_of(wishes) not in self.sizes:
            yield "the size of its flavor is being read"
            return
        if volume_of(wishes) is not None and not self.volumes:
            yield "what is left of volumes is being read"
        wanted = _size_of(wishes, self.sizes)
        for name in QUOTA_UNITS:
            share, need = getattr(self.quota, name), getattr(wanted, name)
            limit = None if share is None else share.limit
            if limit is not None and 0 < need <= limit < getattr(taken, name) + need:
                yield self._sentence(name, wanted, taken)

    def _sentence(self, name: str, wanted: Size, taken: Size) -> str:
        need, used, foreign = (getattr(size, name) for size in (wanted, taken, self.others))
        by_others = f", {foreign:,} of them by others" if foreign else ""
        is_one = name == "servers"
        needs = "" if is_one else f", and this job needs {need:,}"
        what = "VMs" if is_one else QUOTA_UNITS[name]
        return f"{used:,} of {getattr(self.quota, name).limit:,} {what} are in use{by_others}{needs}"


def measure(
    quota: Quota,
    sizes: Mapping[str | None, Size],
    theirs: Iterable[Server],
    ours: Collection[str],
    counted: Collection[str] = (),
    before: Size | None = None,
) -> QuotaHeadroom:
    """What the quota leaves now.

    Nova's count and its list may differ: it counts a server a moment after it lists it, and servers are
    created and deleted between the two calls. So all of ours are assumed to be counted; whatever is counted
    beyond that is used by others, listed or not.

    Of what is not in the list of servers (volumes, ports, floating IPs) that would be too little while ours
    are being created. What others used before is assumed to be so still, unless it cannot be.

    Args:
        quota: the limits and what the cloud counts.
        sizes: how much a server of each flavor uses.
        theirs: the listed servers that are not ours.
        ours: the wishes of our jobs whose servers exist or may exist, listed or not.
        counted: of these, of the servers that have run, so that all that they use is counted.
        before: what others used at the last look; None: there was none.
    """
    listed = sum((server.size for server in theirs), Size())
    taken, sure = (sum((_size_of(each, sizes) for each in some), Size()) for some in (ours, counted))
    others = {}
    for name in QUOTA_UNITS:
        share = getattr(quota, name)
        used = 0 if share is None else share.used
        least = max(getattr(listed, name), used - getattr(taken, name))
        most = max(0, used - getattr(sure, name))
        last = 0 if before is None else getattr(before, name)
        others[name] = min(most, max(least, last)) if name in NOT_LISTED else least
    return QuotaHeadroom(quota, Size(**others), sizes)


def _has_run(job: Job) -> bool:
    """Whether the job's worker has reported: by then its server has all that it gets."""
    return job.state == "running"


def _size_of(wishes: str, sizes: Mapping[str | None, Size]) -> Size:
    size, volume = sizes.get(flavor_of(wishes), ONE), volume_of(wishes)
    return size if volume is None else replace(size, volumes=1, gigabytes=volume)


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
        owners = [(server, ownership.owner(server)) for server in snapshot.servers]
        theirs = [server for server, owner in owners if owner is None]
        # Twins of a server belong to one job.
        counted = {owner.id: owner.wishes for _, owner in owners if owner is not None and _has_run(owner)}
        before = None if self._headroom is None else self._headroom.others
        wishes = [job.wishes for job in live]
        headroom = measure(snapshot.quota, snapshot.sizes, theirs, wishes, [*counted.values()], before)
        self._headroom = replace(headroom, volumes=snapshot.volumes or headroom.has_volumes)
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

    def covers(self, flavors: Collection[str | None], volumes: bool = False) -> bool:
        """Whether jobs of these flavors can be admitted by what was seen.

        Args:
            volumes: one of them asks for a volume.
        """
        if self.is_stale or self._headroom is None:
            return not self.is_stale
        return self._headroom.sizes.keys() >= set(flavors) and (self._headroom.volumes or not volumes)

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
