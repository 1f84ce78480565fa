"""A snapshot of the cloud: its servers and, where asked for, floating IPs, quota and flavors' sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lando.cloud.interface import Cloud, CloudError, FloatingIp, Quota, Refused, Server, Size


@dataclass(frozen=True)
class SnapshotRequest:
    """What a look is to answer, beside the list of servers."""

    known: Collection[str] = ()
    """Ids of servers that jobs had before the list was asked for."""
    flavors: Collection[str | None] | None = None
    """Flavors that jobs ask for, who wait or own a server; None: nobody waits, and no quota is asked for."""
    floating_ips: bool = False


@dataclass(frozen=True)
class CloudSnapshot:
    """What the cloud showed: all servers, and the ids that it definitely does not have any more."""

    servers: tuple[Server, ...]
    gone: frozenset[str] = frozenset()
    floating_ips: tuple[FloatingIp, ...] | None = None
    """None: not asked for, or not to be had."""
    quota: Quota | None = None
    """None: not asked for, not to be had, or none is set."""
    sizes: Mapping[str | None, Size] = field(default_factory=dict)
    """Of the flavors asked for; one that the cloud does not have counts as a server of no size."""
    troubles: tuple[str, ...] = ()
    """Why something could not be had."""


def take_snapshot(cloud: Cloud, wanted: SnapshotRequest) -> CloudSnapshot:
    """One list, a question by id for each known server that it lacks, and what else is wanted.

    Raises:
        CloudError: nothing was seen; nothing may be concluded.
    """
    known = tuple(wanted.known)
    servers = tuple(cloud.servers())
    listed = {server.id for server in servers}
    gone = frozenset(id_ for id_ in known if id_ not in listed and cloud.get(id_) is None)
    quota, floating_ips, sizes, troubles = None, None, {}, []
    if wanted.flavors is not None:
        try:
            quota, sizes = cloud.quota(), _sizes(cloud, wanted.flavors)
        except CloudError as error:
            troubles.append(str(error))
    if wanted.floating_ips and cloud.floating_ips is not None:
        try:
            floating_ips = tuple(cloud.floating_ips.all())
        except CloudError as error:
            if cloud.floating_ips.hands_out:
                troubles.append(str(error))
    return CloudSnapshot(servers, gone, floating_ips, quota, sizes, tuple(troubles))


def _sizes(cloud: Cloud, flavors: Collection[str | None]) -> dict[str | None, Size]:
    sizes = {}
    for flavor in flavors:
        try:
            sizes[flavor] = cloud.size(flavor)
        except Refused:
            sizes[flavor] = Size(servers=1)  # its job's create will say what is wrong with it
    return sizes
