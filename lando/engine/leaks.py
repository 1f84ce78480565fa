"""Turns one look at the cloud into what it means: events for jobs, room for more, and what is leaked.

Absence from a list is a hint only: a known server is gone when the cloud, asked for it by id, says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from lando.cloud.interface import Cloud, FloatingIp, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.states.events import BootFailed, Event, ServerActive, ServerLost
from lando.states.job import LIVE_STATES, Job


def events(snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[tuple[Job, Event]]:
    """What the sighting means for jobs that are booting or running."""
    servers = {server.id: server for server in snapshot.servers}
    found = []
    for job in jobs:
        if job.state not in ("booting", "running") or job.server_id is None:
            continue
        if job.server_id in snapshot.gone:
            event: Event | None = ServerLost(now, job.server_id, "the cloud does not have it any more")
        elif (server := servers.get(job.server_id)) is not None:
            event = _event(job, server, now)
        else:
            event = None
        if event is not None:
            found.append((job, event))
    return found


def _event(job: Job, server: Server, now: float) -> Event | None:
    reason = (server.fault or f"the cloud reports {server.status}").rstrip(".")
    if server.status == "ERROR" and job.state == "booting":
        return BootFailed(now, server.id, reason, server.lacks_room)
    if server.status in ("ERROR", "SHUTOFF"):
        return ServerLost(now, server.id, reason)
    if server.status == "ACTIVE" and server.address and job.server_ip is None:
        return ServerActive(now, server.id, server.address)
    return None


class Marked(Protocol):
    """What carries marks: a server or a floating IP."""

    @property
    def id(self) -> str:
        """The cloud's name for it."""
        ...

    @property
    def mark(self) -> str | None:
        """Of the create request that it comes from."""
        ...

    @property
    def deployment(self) -> str | None:
        """Whose it is."""
        ...


T = TypeVar("T", bound=Marked)


@dataclass(frozen=True)
class Ownership:
    """What jobs own, or may own, in the cloud; made of every job that may own a server."""

    jobs: Mapping[str, Job]
    """By the ids of their servers, and by the marks of requests whose server's id is not known, or that their
    floating IP carries."""

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> Ownership:
        """What these jobs own."""
        owners: dict[str, Job] = {}
        for job in jobs:
            if job.state not in LIVE_STATES:
                continue
            if job.server_id is not None:
                owners[job.server_id] = job
            else:  # an unresolved create may own it
                owners.update((request.mark, job) for request in job.requests)
            if job.floating_ip is not None:
                owners[_of_floating_ip(job.floating_ip)] = job
        return cls(owners)

    def owner(self, thing: Marked) -> Job | None:
        """The job that the thing belongs to."""
        if isinstance(thing, FloatingIp):
            return None if thing.mark is None else self.jobs.get(_of_floating_ip(thing.mark))
        return self.jobs.get(thing.id) or (None if thing.mark is None else self.jobs.get(thing.mark))


def _of_floating_ip(mark: str) -> str:
    return f"floating {mark}"


CloudResource = Server | FloatingIp


def kind_of(thing: CloudResource) -> Literal["servers", "floating_ips"]:
    """What it counts as."""
    return "floating_ips" if isinstance(thing, FloatingIp) else "servers"


def described(thing: CloudResource) -> str:
    """What it is, for people."""
    if isinstance(thing, FloatingIp):
        return f"floating IP {thing.address} ({thing.id})"
    return f"server {thing.name} ({thing.id})"


def delete(cloud: Cloud, thing: CloudResource) -> bool:
    """Ask for its deletion, and answer whether it is gone; to be repeated until it is.

    Raises:
        CloudError: it could not be asked for.
    """
    if isinstance(thing, Server):
        return cloud.delete(thing.id)
    assert cloud.floating_ips is not None
    cloud.floating_ips.delete(thing.id)
    return True


class Sweeper:
    """Tells what is leaked: it carries our mark, belongs to no live attempt, and was seen so twice.

    Args:
        deployment: the mark that all our servers carry.
        grace: seconds between the two sightings.
    """

    def __init__(self, deployment: str, grace: float) -> None:
        self._deployment = deployment
        self._servers: _Suspects[Server] = _Suspects(grace)
        self._floating_ips: _Suspects[FloatingIp] = _Suspects(grace)

    def leaked(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[CloudResource]:
        """What is to be deleted.

        Args:
            sighting: what the cloud showed.
            jobs: every job that may own a server, as they are after the list was answered.
            now: the daemon's clock.
        """
        ownership = Ownership.of(jobs)
        leaked: list[CloudResource] = [*self._servers.again(self._unowned(snapshot.servers, ownership), now)]
        if snapshot.floating_ips is not None:
            unowned = self._unowned(snapshot.floating_ips, ownership)
            leaked += self._floating_ips.again(unowned, now)
        return leaked

    def _unowned(self, things: Iterable[T], ownership: Ownership) -> list[T]:
        return [
            thing
            for thing in things
            if thing.deployment == self._deployment and ownership.owner(thing) is None
        ]


class _Suspects(Generic[T]):
    """Since when what belongs to nobody has been seen."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._since: dict[str, float] = {}

    def again(self, unowned: Collection[T], now: float) -> list[T]:
        """Those that were seen before, the grace period ago or earlier."""
        before = self._since
        self._since = {thing.id: before.get(thing.id, now) for thing in unowned}
        return [thing for thing in unowned if thing.id in before and now - before[thing.id] >= self._grace]
