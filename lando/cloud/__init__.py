"""The cloud as the daemon sees it: six calls and typed errors. Knows nothing of jobs' states.

A server carries public marks (deployment, job, attempt, and the random mark of its create request), by
which it is found again when the answer to a create is lost. Drivers live beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from lando.errors import LandoError

ServerStatus = Literal["BUILD", "ACTIVE", "SHUTOFF", "ERROR", "UNKNOWN"]


@dataclass(frozen=True)
class ServerRequest:
    """What to create. ``mark`` is unique to the request; ``user_data`` is the start-up script."""

    name: str
    mark: str
    deployment: str
    job_id: str
    attempt: int
    user_data: bytes
    flavor: str | None = None
    image: str | None = None
    volume_size: int | None = None
    """GB."""


@dataclass(frozen=True)
class Server:
    """A server as the cloud lists it; marks are None for servers that are not ours."""

    id: str
    name: str
    status: ServerStatus
    mark: str | None = None
    deployment: str | None = None
    job_id: str | None = None
    attempt: int | None = None
    address: str | None = None
    fault: str | None = None
    """The cloud's own words about what went wrong."""


@dataclass(frozen=True)
class Limits:
    """What the project may still create; None where the cloud sets no limit."""

    servers: int | None = None


class CloudError(LandoError):
    """A call failed; the text is the cloud's own words.

    Args:
        retry_after: seconds the cloud asked us to wait, where it did.
    """

    def __init__(self, words: str, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.retry_after = retry_after


class QuotaExceeded(CloudError):
    """Definitely nothing was created: the project's quota is used up."""


class RateLimited(CloudError):
    """Definitely nothing was done: too many calls; wait ``retry_after``."""


class NoCapacity(CloudError):
    """Definitely nothing was created: the cloud has no room just now."""


class Unreachable(CloudError):
    """Definitely nothing was done: the request was never taken (connection refused, 503)."""


class Refused(CloudError):
    """Definitely nothing was done, and never will be as asked.

    Args:
        names: who named what was refused: the job's own file ("job") or landoconfig.yml ("site").
    """

    def __init__(self, words: str, names: Literal["job", "site"]) -> None:
        super().__init__(words)
        self.names = names


class Ambiguous(CloudError):
    """The request may or may not have been carried out: the answer was lost, or said nothing definite."""


class Cloud(Protocol):
    """A driver. Every call may raise CloudError; calls come from several threads at once."""

    settle_time: float
    """Seconds after which a server that a list does not show will not surface any more."""

    def create(self, request: ServerRequest) -> Server:
        """Ask for a server. Anything but a CloudError of a definite kind must be treated as Ambiguous."""
        ...

    def get(self, server_id: str) -> Server | None:
        """The server, or None when the cloud definitely has none by this id."""
        ...

    def delete(self, server_id: str) -> None:
        """Ask for deletion; an absent server is success. Gone only when ``get`` answers None."""
        ...

    def servers(self) -> list[Server]:
        """Every server of the project, ours or not, unfiltered and unpaged."""
        ...

    def console_log(self, server_id: str) -> str:
        """The end of the server's console output, at most 64 KiB of text."""
        ...

    def limits(self) -> Limits:
        """What may still be created."""
        ...
