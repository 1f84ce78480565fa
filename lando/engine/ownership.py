"""Which job a server or a floating IP belongs to, and what is unknown to the database.

A database that was restored, is empty, or is another one by mistake knows less than the cloud. An attempt is
committed before its server is requested, and its number is never used again. So a server of a job that the
database never had, or of an attempt that its record has not reached, is not leaked: it comes from a history
that this database does not have, and may be at work.
"""

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


def is_unknown(server: Server, job: Job | None) -> bool:
    """Whether a server that no job owns comes from a history that the database does not have.

    Args:
        server: carries our tags; one that names no job is not unknown.
        job: the record of the job that it names, read after the server was listed; None: there is none.
    """
    if job is None:
        return server.job_id is not None
    return (server.attempt or 1) > job.attempt


def why_unknown(resource: CloudResource, job: Job | None) -> str:
    """What an unknown resource names, and what the database knows of that, for people.

    Args:
        resource: a server, or a floating IP of such a server.
        job: the record of the job that the server names.
    """
    if isinstance(resource, FloatingIp):
        return "it is the floating IP of a VM that is unknown"
    if job is None:
        attempt = "" if resource.attempt is None else f", attempt {resource.attempt}"
        return f"it names job {resource.job_id}{attempt}; the database never had that job"
    known = f"knows up to attempt {job.attempt}" if job.attempt else "knows no attempt"
    attempt = "" if resource.attempt is None else f"attempt {resource.attempt} of "
    return f"it names {attempt}job {job.id}, of which the database {known}"


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
