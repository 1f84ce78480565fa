"""A snapshot of the cloud: its servers and, where asked for, floating IPs, quota and flavors' sizes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lando.cloud.interface import Cloud, CloudError, FloatingIp, Quota, Refused, Server, Size


@dataclass(frozen=True)
class SnapshotRequest:
    """What to ask for, in addition to the list of servers."""

    known: Collection[str] = ()
    """Ids of servers that jobs had before the list was requested."""
    flavors: Collection[str | None] | None = None
    """Flavors of jobs that wait or have a server; None: no job waits, and the quota is not requested."""
    floating_ips: bool = False
    volumes: bool = False
    """Whether one of these jobs asks for a volume."""


@dataclass(frozen=True)
class CloudSnapshot:
    """What the cloud had at one time."""

    servers: tuple[Server, ...]
    gone: frozenset[str] = frozenset()
    """Those of the known ids that the cloud definitely does not have."""
    floating_ips: tuple[FloatingIp, ...] | None = None
    """None: not requested, or not available."""
    quota: Quota | None = None
    """None: not requested, not available, or without limits."""
    volumes: bool = False
    """The quota was requested for jobs that ask for a volume."""
    sizes: Mapping[str | None, Size] = field(default_factory=dict)
    """Of the requested flavors; an unknown flavor has no cores and no RAM."""
    troubles: tuple[str, ...] = ()
    """Why something that was requested is not available."""


def take_snapshot(cloud: Cloud, wanted: SnapshotRequest) -> CloudSnapshot:
    """List the servers, get each known one that the list lacks, and ask for what else is wanted.

    Raises:
        CloudError: there is no list, so that nothing is known of any server.
    """
    known = tuple(wanted.known)
    servers = tuple(cloud.servers())
    listed = {server.id for server in servers}
    gone = frozenset(id_ for id_ in known if id_ not in listed and cloud.get(id_) is None)
    quota, floating_ips, sizes, troubles = None, None, {}, []
    if wanted.flavors is not None:
        try:
            quota, sizes = cloud.quota(wanted.volumes), _sizes(cloud, wanted.flavors)
        except CloudError as error:
            troubles.append(str(error))
    if wanted.floating_ips and cloud.floating_ips is not None:
        try:
            floating_ips = tuple(cloud.floating_ips.all())
        except CloudError as error:
            if cloud.floating_ips.allocates:
                troubles.append(str(error))
    return CloudSnapshot(servers, gone, floating_ips, quota, wanted.volumes, sizes, tuple(troubles))


def _sizes(cloud: Cloud, flavors: Collection[str | None]) -> dict[str | None, Size]:
    sizes = {}
    for flavor in flavors:
        try:
            sizes[flavor] = cloud.size(flavor)
        except Refused:
            sizes[flavor] = Size(servers=1)  # the create of its job will fail with the reason
    return sizes
