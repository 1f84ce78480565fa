"""What an effect asks of the cloud (an operation), and its result. Plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lando.states.events import RefusalKind
from lando.states.job import Job


@dataclass(frozen=True)
class SendCreate:
    """Send the create request of this job."""

    job: Job
    mark: str
    token: str
    body: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """Of the job's start_worker, read in the transaction that begins it: who carries an operation out does
    not read the database, whose outage would look like one of the cloud."""


@dataclass(frozen=True)
class FindServers:
    """List all servers, and find those that carry the mark."""

    mark: str


@dataclass(frozen=True)
class AttachFloatingIp:
    """Attach the floating IP of this mark to the server; allocate it first if there is none."""

    server_id: str
    mark: str


@dataclass(frozen=True)
class DeleteServers:
    """Delete these servers, then release the floating IP of this mark, if there is one."""

    servers: tuple[str, ...]
    floating_ip: str | None = None


@dataclass(frozen=True)
class FetchConsole:
    """Fetch the end of the server's console output."""

    server_id: str


Operation = SendCreate | FindServers | AttachFloatingIp | DeleteServers | FetchConsole


@dataclass(frozen=True)
class Created:
    """The create was accepted: this is the server."""

    server_id: str


@dataclass(frozen=True)
class CreateRejected:
    """The create was refused: no server exists."""

    kind: RefusalKind
    reason: str
    retry_after: float | None = None
    sent: bool = True
    """The cloud refused it; else it was not sent, because this installation or a call before it failed."""
    account_wide: bool = False
    """It is about the account or the address of the cloud, as a refused login: every request meets it."""


@dataclass(frozen=True)
class AnswerLost:
    """The create was not answered: a server may exist."""

    reason: str


@dataclass(frozen=True)
class Listed:
    """The servers that carry the mark. If there is none, one may still be listed later."""

    servers: tuple[str, ...]


@dataclass(frozen=True)
class Attached:
    """The floating IP is attached."""

    address: str


@dataclass(frozen=True)
class Gone:
    """All servers are gone, and the floating IP is released."""


@dataclass(frozen=True)
class StillExists:
    """The deletion was accepted, and the cloud has not finished it."""


@dataclass(frozen=True)
class Console:
    """The console output."""

    text: str


@dataclass(frozen=True)
class Trouble:
    """The call failed; it is tried again."""

    reason: str
    retry_after: float | None = None


OperationResult = (
    Created | CreateRejected | AnswerLost | Listed | Attached | Gone | StillExists | Console | Trouble
)
