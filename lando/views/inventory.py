"""What this deployment has in the cloud, and what each of it belongs to, as ``servers`` shows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lando.cloud.interface import Cloud, FloatingIp, Quota, Server, Share
from lando.cloud.snapshot import CloudSnapshot, SnapshotRequest, take_snapshot
from lando.engine.ownership import CloudResource, Ownership, ResourceKind
from lando.errors import LandoError
from lando.states.job import LIVE_STATES, Job
from lando.store.facts import DEPLOYMENT_FACT
from lando.views.jobs import Views

BelongsTo = Literal["job", "deletion", "unresolved_create", "twin", "nothing", "unknown"]
"""``unknown``: there is no database that could tell."""


@dataclass(frozen=True)
class Books:
    """What the database says, in one snapshot."""

    deployment: str | None
    """Our mark; None: nothing was ever made."""
    live: tuple[Job, ...] = ()
    """Every job that may own a server."""
    named: Mapping[str, Job] | None = None
    """The jobs that were asked for, by id; None: there is no database."""
    swept: Mapping[ResourceKind, int] | None = None


@dataclass(frozen=True)
class Item:
    """A server or a floating IP of ours."""

    thing: CloudResource
    belongs_to: BelongsTo
    job: Job | None = None
    """The job that it belongs, or belonged, to."""

    @property
    def is_leaked(self) -> bool:
        """Nothing will use it any more; seen so twice, it is deleted."""
        return self.belongs_to in ("twin", "nothing")

    @property
    def name(self) -> str:
        """Of the server; floating IPs have none."""
        return self.thing.name if isinstance(self.thing, Server) else "(floating IP)"

    @property
    def status(self) -> str:
        """As the cloud has it; of a floating IP, whether it leads to a server."""
        if isinstance(self.thing, Server):
            return self.thing.status
        return "ATTACHED" if self.thing.server_port else "UNATTACHED"

    @property
    def words(self) -> str:
        """What it belongs to, for people."""
        job = self.job.id[:8] if self.job is not None else ""
        if self.job is not None and self.belongs_to == "job":
            return f"{job} {self.job.state}"
        if self.job is not None and self.belongs_to == "nothing":
            return f"leaked: belongs to no job ({job} is {self.job.state})"
        return {
            "deletion": f"being deleted (job {job})",
            "unresolved_create": f"an unresolved create of job {job}",
            "twin": f"leaked: a twin of job {job}'s server",
            "unknown": "unknown: there is no database here",
        }.get(self.belongs_to, "leaked: belongs to no job")

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``servers --json``."""
        thing = self.thing
        return {
            "id": thing.id,
            "name": thing.name if isinstance(thing, Server) else None,
            "status": self.status,
            "address": thing.address,
            "deployment": thing.deployment,
            "mark": thing.mark,
            "job": _job_id(self),
            "attempt": thing.attempt if isinstance(thing, Server) else None,
            "belongs_to": self.belongs_to,
            "leaked": self.is_leaked,
        }


def _job_id(item: Item) -> str | None:
    if item.job is not None:
        return item.job.id
    return item.thing.job_id if isinstance(item.thing, Server) else None


@dataclass(frozen=True)
class Stock:
    """What there is, and what else a person may ask about it."""

    books: Books
    snapshot: CloudSnapshot
    items: tuple[Item, ...]

    @property
    def leaked(self) -> list[Item]:
        """What may be leaked; seen once, it may also be that its job ended just now."""
        return [item for item in self.items if item.is_leaked]

    @property
    def other_servers(self) -> int:
        """How many of the project are not ours."""
        return len(self.snapshot.servers) - sum(isinstance(item.thing, Server) for item in self.items)

    @property
    def other_floating_ips(self) -> int | None:
        """The same of floating IPs; None where they could not be asked for."""
        if self.snapshot.floating_ips is None:
            return None
        ours = sum(isinstance(item.thing, FloatingIp) for item in self.items)
        return len(self.snapshot.floating_ips) - ours

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``servers --json``."""
        return {
            "deployment": self.books.deployment,
            "servers": [item.as_json() for item in self.items if isinstance(item.thing, Server)],
            "floating_ips": [item.as_json() for item in self.items if isinstance(item.thing, FloatingIp)],
            "others": {"servers": self.other_servers, "floating_ips": self.other_floating_ips},
            "quota": _quota_as_json(self.snapshot.quota),
            "swept": self.books.swept,
        }


def _quota_as_json(quota: Quota | None) -> dict[str, Any] | None:
    if quota is None:
        return None

    def share(of: Share) -> dict[str, int | None]:
        return {"used": of.used, "limit": of.limit, "left": of.left}

    return {"servers": share(quota.servers), "cores": share(quota.cores), "ram": share(quota.ram)}


def read_books(views: Views, deployment: str | None, named: Iterable[str] = ()) -> Books:
    """What the database says now; nothing is made, not even a mark where there is none yet.

    Args:
        views: reads the database.
        deployment: our mark, where the configuration has one.
        named: ids of jobs to look up.
    """
    ids = sorted(set(named))
    with views.reading() as queries:
        if queries is None:
            return Books(deployment)
        live = tuple(view.job for view in queries.jobs(LIVE_STATES))
        jobs = {view.job.id: view.job for view in queries.jobs(ids=ids)} if ids else {}
        mark = deployment or queries.fact(DEPLOYMENT_FACT)
        return Books(mark, live, jobs, queries.swept())


def take_stock(cloud: Cloud, views: Views, deployment: str | None) -> Stock:
    """Look at the cloud and at the books.

    Args:
        cloud: where servers are made.
        views: reads the database.
        deployment: our mark, where the configuration has one.

    Raises:
        CloudError: the cloud cannot be asked.
    """
    before = read_books(views, deployment)
    snapshot = take_snapshot(
        cloud, SnapshotRequest(flavors=() if cloud.has_quota else None, floating_ips=True)
    )
    mark = before.deployment
    servers = [each for each in snapshot.servers if mark is not None and each.deployment == mark]
    floating_ips = [
        each for each in snapshot.floating_ips or () if mark is not None and each.deployment == mark
    ]
    books = read_books(views, deployment, [each.job_id for each in servers if each.job_id is not None])
    # What was deleted, and its job ended, while the cloud answered, is not leaked.
    ownership = Ownership.of((*before.live, *books.live))
    things: tuple[CloudResource, ...] = (*servers, *floating_ips)
    return Stock(books, snapshot, tuple(_item(thing, ownership, books) for thing in things))


def _item(thing: CloudResource, ownership: Ownership, books: Books) -> Item:
    if books.named is None:
        return Item(thing, "unknown")
    job = ownership.owner(thing)
    if job is None:
        former = books.named.get(thing.job_id or "") if isinstance(thing, Server) else None
        is_twin = former is not None and former.state in LIVE_STATES
        return Item(thing, "twin" if is_twin else "nothing", former)
    if job.state == "terminating":
        return Item(thing, "deletion", job)
    is_unresolved = isinstance(thing, Server) and job.server_id is None
    return Item(thing, "unresolved_create" if is_unresolved else "job", job)


def require_database(stock: Stock, database: str) -> None:
    """What belongs to no job is told by the books alone.

    Args:
        stock: what was found.
        database: how the database is named to people.

    Raises:
        LandoError: there are none.
    """
    if stock.books.named is None:
        raise LandoError(
            f"there is no database at {database}: nobody can tell what is leaked, nothing was "
            "deleted; is it the configuration, and the machine, of the daemon?"
        )
