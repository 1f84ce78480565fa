"""Which job a server or a floating IP belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from lando.cloud.interface import FloatingIp, Server
from lando.states.job import LIVE_STATES, Job

CloudResource = Server | FloatingIp
ResourceKind = Literal["servers", "floating_ips"]


class Marked(Protocol):
    """A resource of the cloud that carries marks: a server or a floating IP."""

    @property
    def id(self) -> str:
        """The cloud's id of it."""
        ...

    @property
    def mark(self) -> str | None:
        """The mark of the create request that it comes from."""
        ...

    @property
    def deployment(self) -> str | None:
        """The deployment that it belongs to."""
        ...


@dataclass(frozen=True)
class Ownership:
    """What jobs own, or may own, in the cloud; made of every job that may own a server."""

    jobs: Mapping[str, Job]
    """By the ids of their servers, by the marks of requests whose server's id is not known, and by the marks
    of their floating IPs."""

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
                owners[_floating_ip_key(job.floating_ip)] = job
        return cls(owners)

    def owner(self, resource: Marked) -> Job | None:
        """The job that the resource belongs to."""
        mark = resource.mark
        if isinstance(resource, FloatingIp):
            return None if mark is None else self.jobs.get(_floating_ip_key(mark))
        return self.jobs.get(resource.id) or (None if mark is None else self.jobs.get(mark))


def _floating_ip_key(mark: str) -> str:
    return f"floating {mark}"


def kind_of(resource: CloudResource) -> ResourceKind:
    """What it is counted as."""
    return "floating_ips" if isinstance(resource, FloatingIp) else "servers"


def described(resource: CloudResource) -> str:
    """What it is, for people."""
    if isinstance(resource, FloatingIp):
        return f"floating IP {resource.address} ({resource.id})"
    return f"server {resource.name} ({resource.id})"
