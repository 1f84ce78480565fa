"""What an effect asks of the cloud (a task), and what came of it (a result). Plain records."""

from __future__ import annotations

from dataclasses import dataclass

from lando.states.events import RefusalKind
from lando.states.job import Job


@dataclass(frozen=True)
class SendCreate:
    """Send the create request of this job."""

    job: Job
    mark: str
    token: str


@dataclass(frozen=True)
class FindServers:
    """List all servers and tell which carry the mark."""

    mark: str


@dataclass(frozen=True)
class AttachFloatingIp:
    """Lead the floating IP of this mark to the server; allocate it unless there is one."""

    server_id: str
    mark: str


@dataclass(frozen=True)
class DeleteServers:
    """Delete these, then what floating IP there is of this mark, and tell whether all are gone."""

    servers: tuple[str, ...]
    floating_ip: str | None = None


@dataclass(frozen=True)
class FetchConsole:
    """Fetch the end of the server's console output."""

    server_id: str


Operation = SendCreate | FindServers | AttachFloatingIp | DeleteServers | FetchConsole


@dataclass(frozen=True)
class Created:
    """The cloud answered: this is the server."""

    server_id: str


@dataclass(frozen=True)
class CreateWasRefused:
    """The cloud answered: nothing was created."""

    kind: RefusalKind
    reason: str
    retry_after: float | None = None


@dataclass(frozen=True)
class AnswerLost:
    """Nobody knows whether a server was created."""

    reason: str


@dataclass(frozen=True)
class Listed:
    """The servers that carry the mark; none may mean not yet."""

    servers: tuple[str, ...]


@dataclass(frozen=True)
class Attached:
    """The floating IP leads to the server."""

    address: str


@dataclass(frozen=True)
class Gone:
    """All are absent."""


@dataclass(frozen=True)
class StillThere:
    """The deletion is under way."""


@dataclass(frozen=True)
class Console:
    """The console output."""

    text: str


@dataclass(frozen=True)
class Trouble:
    """The call failed and changed nothing that we know of; worth trying again."""

    reason: str
    retry_after: float | None = None


OperationResult = (
    Created | CreateWasRefused | AnswerLost | Listed | Attached | Gone | StillThere | Console | Trouble
)
