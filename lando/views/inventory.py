"""What this deployment has in the cloud, and which job each resource belongs to, as ``servers`` shows it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lando.cloud.interface import QUOTA_UNITS, Cloud, FloatingIp, Quota, Server, Share
from lando.cloud.snapshot import CloudSnapshot, SnapshotRequest, take_snapshot
from lando.engine.leaks import unowned_floating_ips
from lando.engine.ownership import CloudResource, Ownership, ResourceKind, is_unknown, why_unknown
from lando.errors import LandoError, UsageError
from lando.states.job import LIVE_STATES, Job
from lando.store.copying.mark import CopyMark
from lando.store.facts import DEPLOYMENT_FACT, Staying
from lando.store.retention import REMOVED
from lando.times import rfc3339
from lando.views.jobs import Views

BelongsTo = Literal["job", "deletion", "unresolved_create", "twin", "nothing", "unknown"]
"""``twin``: a duplicate of a live job's server; ``unknown``: there is no database to ask, or it does not know
the job or the attempt that the server names."""


@dataclass(frozen=True)
class DatabaseSnapshot:
    """What the database says about ownership, read at one moment."""

    deployment: str | None
    """The deployment name that our servers and floating IPs carry; None: none was ever created."""
    live: tuple[Job, ...] = ()
    """Every job that may own a server."""
    named: Mapping[str, Job] | None = None
    """The jobs that servers of ours name, by id; None: there is no database."""
    swept: Mapping[ResourceKind, int] | None = None
    """How many leaked resources were deleted so far."""
    staying: Mapping[str, Staying] = field(default_factory=dict)
    """What the daemon's sweep cannot delete, by id."""
    copy_mark: CopyMark | None = None
    """What the database says about its being copied."""

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What the rules ask for: every job that may own a server, and every job that a server names."""
        return (*self.live, *(self.named or {}).values())


@dataclass(frozen=True)
class InventoryItem:
    """A server or a floating IP that carries our deployment name."""

    resource: CloudResource
    belongs_to: BelongsTo
    job: Job | None = None
    """The job that it belongs, or belonged, to; of what is unknown, the job that it names."""
    has_database: bool = True
    staying: Staying | None = None
    """The daemon has tried to delete it, and it still exists."""

    @property
    def is_unknown(self) -> bool:
        """Whether the database does not know what it names; only an operator deletes it."""
        return self.belongs_to == "unknown" and self.has_database

    @property
    def is_leaked(self) -> bool:
        """Whether no job owns it; seen twice in that state, it is deleted."""
        return self.belongs_to in ("twin", "nothing")

    @property
    def name(self) -> str:
        """Of the server; floating IPs have none."""
        return self.resource.name if isinstance(self.resource, Server) else "(floating IP)"

    @property
    def status(self) -> str:
        """As the cloud reports it; of a floating IP, whether it is attached to a port."""
        if isinstance(self.resource, Server):
            return self.resource.status
        return "ATTACHED" if self.resource.server_port else "UNATTACHED"

    @property
    def description(self) -> str:
        """What it belongs to, for people, and whether it cannot be deleted."""
        belongs = self._what_it_belongs_to()
        return belongs if self.staying is None else f"{belongs}; {self.staying.sentence}"

    def _what_it_belongs_to(self) -> str:
        if self.is_unknown:
            return f"unknown: {why_unknown(self.resource, self.job)}"
        job = self.job.id[:8] if self.job is not None else ""
        if self.job is not None and self.belongs_to == "job":
            return f"{job} {self.job.state}"
        if self.job is not None and self.belongs_to == "nothing":
            state = f"was {REMOVED}" if self.job.reason == REMOVED else f"is {self.job.state}"
            return f"orphaned: no job owns it ({job} {state})"
        return {
            "deletion": f"being deleted (job {job})",
            "unresolved_create": f"an unanswered create of job {job}",
            "twin": f"orphaned: a duplicate of job {job}'s VM",
            "unknown": "unknown: there is no database here",
        }.get(self.belongs_to, "orphaned: no job owns it")

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``servers --json``."""
        server = self.resource if isinstance(self.resource, Server) else None
        return {
            "id": self.resource.id,
            "name": None if server is None else server.name,
            "status": self.status,
            "address": self.resource.address,
            "deployment": self.resource.deployment,
            "mark": self.resource.mark,
            "job": self._job_id(),
            "attempt": None if server is None else server.attempt,
            "belongs_to": self.belongs_to,
            "leaked": self.is_leaked,
            "stays_since": None if self.staying is None else rfc3339(self.staying.since),
        }

    def _job_id(self) -> str | None:
        if self.job is not None:
            return self.job.id
        return self.resource.job_id if isinstance(self.resource, Server) else None


@dataclass(frozen=True)
class Inventory:
    """Our servers and floating IPs, and what else a person may ask about them."""

    database: DatabaseSnapshot
    snapshot: CloudSnapshot
    items: tuple[InventoryItem, ...]

    @property
    def leaked(self) -> list[InventoryItem]:
        """What may be leaked; seen once, it may also be that its job has just ended."""
        return [item for item in self.items if item.is_leaked]

    @property
    def unknown(self) -> list[InventoryItem]:
        """What the database does not know."""
        return [item for item in self.items if item.is_unknown]

    @property
    def other_servers(self) -> int:
        """How many servers of the project are not ours."""
        return len(self.snapshot.servers) - sum(isinstance(item.resource, Server) for item in self.items)

    @property
    def other_floating_ips(self) -> int | None:
        """How many floating IPs of the project are not ours; None where they could not be listed."""
        if self.snapshot.floating_ips is None:
            return None
        ours = sum(isinstance(item.resource, FloatingIp) for item in self.items)
        return len(self.snapshot.floating_ips) - ours

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``servers --json``."""
        return {
            "deployment": self.database.deployment,
            "servers": [item.as_json() for item in self.items if isinstance(item.resource, Server)],
            "floating_ips": [item.as_json() for item in self.items if isinstance(item.resource, FloatingIp)],
            "others": {"servers": self.other_servers, "floating_ips": self.other_floating_ips},
            "quota": _quota_as_json(self.snapshot.quota),
            "swept": self.database.swept,
            "unknown": self._unknown_as_json(),
        }

    def _unknown_as_json(self) -> dict[str, int] | None:
        if self.database.named is None:
            return None
        servers = sum(isinstance(item.resource, Server) for item in self.unknown)
        return {"servers": servers, "floating_ips": len(self.unknown) - servers}


def _quota_as_json(quota: Quota | None) -> dict[str, Any] | None:
    if quota is None:
        return None

    def share(of: Share | None) -> dict[str, int | None] | None:
        return None if of is None else {"used": of.used, "limit": of.limit, "left": of.left}

    return {name: share(getattr(quota, name)) for name in QUOTA_UNITS}


def take_inventory(cloud: Cloud, views: Views, deployment: str | None) -> Inventory:
    """List what is in the cloud, and ask the database what it belongs to.

    Args:
        cloud: where servers are created.
        views: reads the database.
        deployment: our deployment name, where the configuration has one.

    Raises:
        CloudError: the cloud cannot be asked.
    """
    before = read_database(views, deployment)
    snapshot = take_snapshot(
        cloud, SnapshotRequest(flavors=() if cloud.has_quota else None, floating_ips=True)
    )
    ours = before.deployment
    servers = [each for each in snapshot.servers if ours is not None and each.deployment == ours]
    floating_ips = [
        each for each in snapshot.floating_ips or () if ours is not None and each.deployment == ours
    ]
    after = read_database(views, deployment, [each.job_id for each in servers if each.job_id is not None])
    # What was deleted, and its job ended, while the cloud answered, is not leaked.
    ownership = Ownership.of((*before.live, *after.live))
    items = [_server_item(each, ownership, after) for each in servers]
    unknown = [server for server, item in zip(servers, items, strict=True) if item.is_unknown]
    with_unknown = {each.id for each in unowned_floating_ips(floating_ips, after.live, unknown).unknown}
    items += [_floating_ip_item(each, ownership, after, with_unknown) for each in floating_ips]
    return Inventory(after, snapshot, tuple(_with_staying(item, after) for item in items))


def _with_staying(item: InventoryItem, database: DatabaseSnapshot) -> InventoryItem:
    staying = database.staying.get(item.resource.id) if item.is_leaked else None
    return item if staying is None else replace(item, staying=staying)


def read_database(views: Views, deployment: str | None, named: Iterable[str] = ()) -> DatabaseSnapshot:
    """What the database says now; nothing is written, not even a deployment name where there is none yet.

    Args:
        views: reads the database.
        deployment: our deployment name, where the configuration has one.
        named: ids of jobs to look up.
    """
    ids = sorted(set(named))
    with views.reading() as queries:
        if queries is None:
            return DatabaseSnapshot(deployment)
        live = tuple(view.job for view in queries.jobs(LIVE_STATES))
        jobs = {view.job.id: view.job for view in queries.jobs(ids=ids)} if ids else {}
        gone = [each for each in ids if each not in jobs]
        jobs.update({each.id: each.as_job() for each in queries.forgotten(gone)} if gone else {})
        deployment = deployment or queries.fact(DEPLOYMENT_FACT)
        staying = {each.id: each for each in queries.staying()}
        mark = queries.copy_mark()
        return DatabaseSnapshot(deployment, live, jobs, queries.swept(), staying, mark)


def _server_item(server: Server, ownership: Ownership, database: DatabaseSnapshot) -> InventoryItem:
    if database.named is None:
        return InventoryItem(server, "unknown", has_database=False)
    job = ownership.owner(server)
    if job is not None:
        return _owned(server, job, "unresolved_create" if job.server_id is None else "job")
    named = database.named.get(server.job_id or "")
    if is_unknown(server, named):
        return InventoryItem(server, "unknown", named)
    is_duplicate = named is not None and named.state in LIVE_STATES
    return InventoryItem(server, "twin" if is_duplicate else "nothing", named)


def _floating_ip_item(
    floating_ip: FloatingIp, ownership: Ownership, database: DatabaseSnapshot, unknown: Container[str]
) -> InventoryItem:
    if database.named is None:
        return InventoryItem(floating_ip, "unknown", has_database=False)
    job = ownership.owner(floating_ip)
    if job is not None:
        return _owned(floating_ip, job, "job")
    return InventoryItem(floating_ip, "unknown" if floating_ip.id in unknown else "nothing")


def _owned(resource: CloudResource, job: Job, belongs_to: BelongsTo) -> InventoryItem:
    return InventoryItem(resource, "deletion" if job.state == "terminating" else belongs_to, job)


def require_database(inventory: Inventory, database: str) -> None:
    """Refuse to say what is leaked where no database says what belongs to a job.

    Args:
        inventory: what was found.
        database: how the database is named to people.

    Raises:
        LandoError: there is none, or it was left for a copy, or is an incomplete one.
    """
    mark = inventory.database.copy_mark
    words = None if mark is None else mark.refusal(database)
    if words is not None:
        raise UsageError(f"{words}; nothing was deleted")
    if inventory.database.named is None:
        raise LandoError(
            f"there is no database at {database}, so it is unknown what is orphaned; nothing was deleted. "
            "Run this with the daemon's configuration, on the daemon's machine"
        )
