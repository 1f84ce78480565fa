"""Turns one server list into what it means: events for jobs, and leaked servers for the sweeper.

Absence from a list is a hint only: a known server is gone when the cloud, asked for it by id, says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lando.cloud import Cloud, Server
from lando.job import LIVE_STATES, Job
from lando.states import Event
from lando.states.events import BootFailed, ServerActive, ServerLost


@dataclass(frozen=True)
class Sighting:
    """What the cloud showed: all servers, and the ids that it definitely does not have any more."""

    servers: tuple[Server, ...]
    gone: frozenset[str] = frozenset()


def look(cloud: Cloud, known: Iterable[str]) -> Sighting:
    """One list, and a question by id for each known server that it lacks.

    Args:
        cloud: the driver.
        known: ids of servers that jobs had before the list was asked for.

    Raises:
        CloudError: nothing was seen; nothing may be concluded.
    """
    known = tuple(known)
    servers = tuple(cloud.servers())
    listed = {server.id for server in servers}
    return Sighting(servers, frozenset(id_ for id_ in known if id_ not in listed and cloud.get(id_) is None))


def events(sighting: Sighting, jobs: Iterable[Job], now: float) -> list[tuple[Job, Event]]:
    """What the sighting means for jobs that are booting or running."""
    servers = {server.id: server for server in sighting.servers}
    found = []
    for job in jobs:
        if job.state not in ("booting", "running") or job.server_id is None:
            continue
        if job.server_id in sighting.gone:
            event: Event | None = ServerLost(now, job.server_id, "the cloud does not have it any more")
        elif (server := servers.get(job.server_id)) is not None:
            event = _event(job, server, now)
        else:
            event = None
        if event is not None:
            found.append((job, event))
    return found


def _event(job: Job, server: Server, now: float) -> Event | None:
    if server.status == "ERROR" and job.state == "booting":
        return BootFailed(now, server.id, server.fault or "the cloud reports ERROR")
    if server.status in ("ERROR", "SHUTOFF"):
        return ServerLost(now, server.id, server.fault or f"the cloud reports {server.status}")
    if server.status == "ACTIVE" and server.address and server.address != job.server_ip:
        return ServerActive(now, server.id, server.address)
    return None


class Sweeper:
    """Tells which servers are leaked: they carry our mark, belong to no live attempt, and were seen so twice.

    Args:
        deployment: the mark that all our servers carry.
        grace: seconds between the two sightings.
    """

    def __init__(self, deployment: str, grace: float) -> None:
        self._deployment = deployment
        self._grace = grace
        self._suspected: dict[str, float] = {}

    def leaked(self, sighting: Sighting, jobs: Iterable[Job], now: float) -> list[Server]:
        """The servers to delete.

        Args:
            sighting: what the cloud showed.
            jobs: every job that may own a server, as they are after the list was answered.
            now: the daemon's clock.
        """
        jobs = [job for job in jobs if job.state in LIVE_STATES]
        owned_ids = {job.server_id for job in jobs}
        open_marks = {
            request.mark for job in jobs if job.server_id is None for request in job.requests
        }  # an unresolved create may own it
        suspects = [
            server
            for server in sighting.servers
            if server.deployment == self._deployment
            and server.id not in owned_ids
            and server.mark not in open_marks
        ]
        first_seen = {server.id: self._suspected.get(server.id) for server in suspects}
        self._suspected = {id_: now if seen is None else seen for id_, seen in first_seen.items()}
        return [
            server
            for server in suspects
            if (seen := first_seen[server.id]) is not None and now - seen >= self._grace
        ]
