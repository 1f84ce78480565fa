"""What a snapshot of the cloud means for jobs that are booting or running, as events.

Absence from a list is a hint only: a server is lost when the cloud, asked for it by id, does not have it.
"""

from __future__ import annotations

from collections.abc import Iterable

from lando.cloud.interface import Server
from lando.cloud.snapshot import CloudSnapshot
from lando.message_limits import REASON, shorten
from lando.states.events import BootFailed, Event, ServerActive, ServerLost
from lando.states.job import Job


def events(snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[tuple[Job, Event]]:
    """The events that follow from the snapshot, for jobs that are booting or running."""
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
    reason = shorten(server.fault or f"the cloud reports {server.status}", REASON).rstrip(".")
    if server.status == "ERROR" and job.state == "booting":
        return BootFailed(now, server.id, reason, server.no_capacity)
    if server.status in ("ERROR", "SHUTOFF"):
        return ServerLost(now, server.id, reason)
    if server.status == "ACTIVE" and server.address and job.server_ip is None:
        return ServerActive(now, server.id, server.address)
    return None
