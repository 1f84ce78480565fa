"""Leaked resources: servers and floating IPs that carry our deployment's name and belong to no job."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

from lando.cloud.interface import Cloud, FloatingIp, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.ownership import CloudResource, Marked, Ownership
from lando.states.job import Job

T = TypeVar("T", bound=Marked)


class Sweeper:
    """Finds what is leaked: it carries our deployment's name, belongs to no live attempt, and was seen twice.

    Args:
        deployment: the deployment's name, which all our servers carry.
        grace: seconds that must pass between the two snapshots that show it.
    """

    def __init__(self, deployment: str, grace: float) -> None:
        self._deployment = deployment
        self._servers: _Suspects[Server] = _Suspects(grace)
        self._floating_ips: _Suspects[FloatingIp] = _Suspects(grace)

    def leaked(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[CloudResource]:
        """What is to be deleted.

        Args:
            snapshot: what the cloud showed.
            jobs: every job that may own a server, as they are after the snapshot was taken.
            now: seconds of any clock that never steps.
        """
        ownership = Ownership.of(jobs)
        leaked: list[CloudResource] = [
            *self._servers.seen_twice(self._unowned(snapshot.servers, ownership), now)
        ]
        if snapshot.floating_ips is not None:
            unowned = self._unowned(snapshot.floating_ips, ownership)
            leaked += self._floating_ips.seen_twice(unowned, now)
        return leaked

    def _unowned(self, resources: Iterable[T], ownership: Ownership) -> list[T]:
        return [
            resource
            for resource in resources
            if resource.deployment == self._deployment and ownership.owner(resource) is None
        ]


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
