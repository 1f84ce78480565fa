"""What a snapshot of the cloud means for jobs that are booting or running, as events.

Absence from a list is a hint only: a server is lost when the cloud, asked for it by id, does not have it.

A server whose worker reports is not lost because it is in ERROR, as after a failed live migration, nor
because the cloud does not have it, as with another project's account or a database that lags behind.
"""

from __future__ import annotations

from collections.abc import Iterable

from lando.cloud.interface import Server
from lando.cloud.snapshot import CloudSnapshot
from lando.message_limits import REASON, shorten
from lando.states.events import BootFailed, Event, ServerActive, ServerLost
from lando.states.job import Job

HEARTBEATS = 2
"""A worker that was heard within so many heartbeats is alive."""


def events(
    snapshot: CloudSnapshot, jobs: Iterable[Job], now: float, heartbeat: float, listening_since: float
) -> list[tuple[Job, Event]]:
    """The events that follow from the snapshot, for jobs that are booting or running.

    Args:
        snapshot: what the cloud had.
        jobs: as they are once everything was taken that was queued before the snapshot.
        now: the daemon's clock.
        heartbeat: seconds between two reports of a worker.
        listening_since: when the daemon had read the queue up to date, after it last connected. Of what it
            heard before, it may know less than was heard.
    """
    servers = {server.id: server for server in snapshot.servers}
    found = []
    for job in jobs:
        if job.state not in ("booting", "running") or job.server_id is None:
            continue
        server = servers.get(job.server_id)
        is_doubted = job.server_id in snapshot.gone or (server is not None and server.status == "ERROR")
        if is_doubted and job.state == "running" and _reports(job, now, heartbeat, listening_since):
            continue
        if job.server_id in snapshot.gone:
            event: Event | None = ServerLost(now, job.server_id, "the cloud does not have it any more")
        else:
            event = None if server is None else _event(job, server, now)
        if event is not None:
            found.append((job, event))
    return found


def _reports(job: Job, now: float, heartbeat: float, listening_since: float) -> bool:
    return now - max(job.heard_at or 0.0, listening_since) < HEARTBEATS * heartbeat


def _event(job: Job, server: Server, now: float) -> Event | None:
    reason = shorten(server.fault or f"the cloud reports {server.status}", REASON).rstrip(".")
    if server.status == "ERROR" and job.state == "booting":
        return BootFailed(now, server.id, reason, server.no_capacity)
    if server.status in ("ERROR", "SHUTOFF"):
        return ServerLost(now, server.id, reason)
    if server.status == "ACTIVE" and server.address and job.server_ip is None:
        return ServerActive(now, server.id, server.address)
    return None
