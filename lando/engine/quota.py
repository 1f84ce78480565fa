"""What the project's quota has room for: reckoned before a create is sent, so that none need be refused.

What we take ourselves is counted by our own books, where a server counts from its job's admission until it
is known to be gone. Only what others take is the cloud's to say. So neither creates under way nor a cloud
that is slow to count them lead to more servers than the quota allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lando.cloud.interface import Quota, Server, Size

ONE = Size(servers=1)


@dataclass(frozen=True)
class QuotaHeadroom:
    """The quota, what others take of it, and what servers of ours take, by flavor (None: the default one).

    A flavor that is not among the sizes was not asked for yet.
    """

    quota: Quota
    others: Size
    sizes: Mapping[str | None, Size]

    def lacks(self, ours: Mapping[str | None, int], flavor: str | None) -> str | None:
        """What a server of this flavor would have to wait for; None: there is room.

        One that is larger than the whole quota need not wait: the cloud is to refuse it, in its own words.

        Args:
            ours: how many servers of ours there are, or may be, by flavor.
            flavor: of the next one.
        """
        if not self.sizes.keys() >= {flavor, *ours}:
            return "the cloud is being asked how large a server it takes"
        wanted = self.sizes[flavor]
        taken = self.others
        for each, count in ours.items():
            size = self.sizes[each]
            taken += Size(size.servers * count, size.cores * count, size.ram * count)
        return next(self._shortages(wanted, taken), None)

    def _shortages(self, wanted: Size, taken: Size) -> Iterator[str]:
        quota, others = self.quota, self.others
        for what, limit, need, used, foreign in (
            ("servers", quota.servers.limit, wanted.servers, taken.servers, others.servers),
            ("cores", quota.cores.limit, wanted.cores, taken.cores, others.cores),
            ("MiB of RAM", quota.ram.limit, wanted.ram, taken.ram, others.ram),
        ):
            if limit is not None and need <= limit < used + need:
                by_others = f", {foreign:,} of them by others" if foreign else ""
                takes = "" if what == "servers" else f", and its server takes {need:,}"
                yield f"{used:,} of {limit:,} {what} are taken{by_others}{takes}"


def measure(
    quota: Quota, sizes: Mapping[str | None, Size], theirs: Iterable[Server], ours: Iterable[str | None]
) -> QuotaHeadroom:
    """The room there is.

    The cloud need not count just what it lists: Nova counts a server a moment after it has listed it, and
    some are created or deleted between the two. So all of ours is taken to be counted, and what is more than
    that is certainly theirs, listed or not.

    Args:
        quota: as the cloud says.
        sizes: what servers of ours take, by flavor.
        theirs: the servers listed that are not ours.
        ours: the flavors of those that are, or may be, listed or not.
    """
    listed = sum((server.size for server in theirs), Size())
    taken = sum((sizes.get(flavor, ONE) for flavor in ours), Size())
    others = Size(
        max(listed.servers, quota.servers.used - taken.servers),
        max(listed.cores, quota.cores.used - taken.cores),
        max(listed.ram, quota.ram.used - taken.ram),
    )
    return QuotaHeadroom(quota, others, sizes)
