"""Servers and floating IPs that belong to no job: those that carry our deployment's name are orphans, and are
deleted, or unknown, and are left alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from lando.cloud.interface import Cloud, FloatingIp, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.ownership import CloudResource, Marked, Ownership, is_unknown
from lando.states.job import Job

T = TypeVar("T", bound=Marked)


@dataclass(frozen=True)
class Unowned(Generic[T]):
    """What no job owns."""

    orphans: tuple[T, ...] = ()
    unknown: tuple[T, ...] = ()
    """From a history that the database does not have."""


def unowned_servers(snapshot: CloudSnapshot, jobs: Iterable[Job]) -> Unowned[Server]:
    """The servers that no job owns, of whichever deployment.

    Args:
        snapshot: what the cloud showed.
        jobs: every job that may own a server and every job that a server names, as they are after the
            snapshot was taken.
    """
    by_id = {job.id: job for job in jobs}
    ownership = Ownership.of(by_id.values())
    orphans: list[Server] = []
    unknown: list[Server] = []
    for server in snapshot.servers:
        if ownership.owner(server) is None:
            named = None if server.job_id is None else by_id.get(server.job_id)
            (unknown if is_unknown(server, named) else orphans).append(server)
    return Unowned(tuple(orphans), tuple(unknown))


def held_back(servers: Unowned[Server], deployment: str) -> frozenset[str]:
    """The jobs for which no server is requested, since two would run them: those that a server names which no
    job owns. Of other deployments only what is unknown counts, which may be ours if the database is a copy
    that was renamed; their orphans are theirs to delete.

    Args:
        servers: what no job owns.
        deployment: ours.
    """
    orphans = (server for server in servers.orphans if server.deployment == deployment)
    return frozenset(server.job_id for server in (*servers.unknown, *orphans) if server.job_id is not None)


def unowned_floating_ips(
    floating_ips: Iterable[FloatingIp], jobs: Iterable[Job], unknown: Iterable[Server]
) -> Unowned[FloatingIp]:
    """The floating IPs that no job owns, of whichever deployment.

    A floating IP carries its server's mark, and names no job: it is unknown for as long as its server is
    there and unknown. Afterwards it serves nobody.

    Args:
        floating_ips: as listed.
        jobs: every job that may own a floating IP.
        unknown: the servers that are unknown, by a list that is not newer.
    """
    ownership = Ownership.of(jobs)
    marks = {server.mark for server in unknown if server.mark is not None}
    unowned = [each for each in floating_ips if ownership.owner(each) is None]
    return Unowned(
        tuple(each for each in unowned if each.mark not in marks),
        tuple(each for each in unowned if each.mark in marks),
    )


class Sweeper:
    """Finds what is to be deleted: it carries our deployment's name, is an orphan, and was seen twice.

    Args:
        deployment: the deployment's name, which all our servers carry.
        grace: seconds that must pass between the two snapshots that show it.
        with_unknown: what is unknown is to be deleted, too.
    """

    def __init__(self, deployment: str, grace: float, with_unknown: bool = False) -> None:
        self.deployment = deployment
        self._with_unknown = with_unknown
        self._servers: _Suspects[Server] = _Suspects(grace)
        self._floating_ips: _Suspects[FloatingIp] = _Suspects(grace)

    def leaked(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[CloudResource]:
        """What is to be deleted.

        Args:
            snapshot: what the cloud showed.
            jobs: every job that may own a server and every job that a server names, as they are after the
                snapshot was taken.
            now: seconds of any clock that never steps.
        """
        jobs = tuple(jobs)
        servers = unowned_servers(snapshot, jobs)
        leaked: list[CloudResource] = [*self._servers.seen_twice(self._to_delete(servers), now)]
        if snapshot.floating_ips is not None:
            floating_ips = unowned_floating_ips(snapshot.floating_ips, jobs, servers.unknown)
            leaked += self._floating_ips.seen_twice(self._to_delete(floating_ips), now)
        return leaked

    def _to_delete(self, unowned: Unowned[T]) -> list[T]:
        found = (*unowned.orphans, *(unowned.unknown if self._with_unknown else ()))
        return [each for each in found if each.deployment == self.deployment]


class _Suspects(Generic[T]):
    """Since when each resource without an owner has been seen."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._since: dict[str, float] = {}

    def seen_twice(self, unowned: Collection[T], now: float) -> list[T]:
        """Those that were seen before, the grace period ago or earlier."""
        before = self._since
        self._since = {resource.id: before.get(resource.id, now) for resource in unowned}
        return [
            resource
            for resource in unowned
            if resource.id in before and now - before[resource.id] >= self._grace
        ]


def delete(cloud: Cloud, resource: CloudResource) -> bool:
    """Request its deletion. Repeat until it is gone.

    Returns:
        Whether it is gone.

    Raises:
        CloudError: the request failed.
    """
    if isinstance(resource, Server):
        return cloud.delete(resource.id)
    assert cloud.floating_ips is not None
    cloud.floating_ips.delete(resource.id)
    return True
