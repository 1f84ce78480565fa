"""The cloud as the daemon sees it: a few calls and typed errors. Knows nothing of jobs' states.

A server carries public marks (deployment, job, attempt, and the random mark of its create request), by
which it is found again when the answer to a create is lost. Drivers live beside this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from lando.errors import LandoError

ServerStatus = Literal["BUILD", "ACTIVE", "SHUTOFF", "ERROR", "UNKNOWN"]

CONSOLE_BYTES = 64 * 1024
"""The length of a console log, at most, of which a driver answers the end."""


@dataclass(frozen=True)
class Size:
    """What servers take of a quota; ``ram`` in MiB."""

    servers: int = 0
    cores: int = 0
    ram: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.servers + other.servers, self.cores + other.cores, self.ram + other.ram)


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
    lacks_room: bool = False
    """What went wrong is that the cloud had no room for it just now."""
    size: Size = Size()
    """What it takes of the project's quota, as far as the cloud says so."""


@dataclass(frozen=True)
class Share:
    """How much of a quota is used. ``limit``: None where there is none."""

    used: int
    limit: int | None

    @property
    def left(self) -> int | None:
        """What may still be used; None without limit."""
        return None if self.limit is None else max(0, self.limit - self.used)

    def told(self, unit: str) -> str:
        """What is left, for people."""
        return f"{unit}: no limit" if self.limit is None else f"{self.left:,} of {self.limit:,} {unit} left"


@dataclass(frozen=True)
class Quota:
    """The project's quota, which others use, too. ``ram`` in MiB."""

    servers: Share
    cores: Share
    ram: Share

    def __str__(self) -> str:
        shares = ((self.servers, "servers"), (self.cores, "cores"), (self.ram, "MiB of RAM"))
        return ", ".join(share.told(unit) for share, unit in shares)


@dataclass(frozen=True)
class FloatingIp:
    """A floating IP of the project; the marks are None for one that is not ours."""

    id: str
    address: str
    mark: str | None = None
    deployment: str | None = None
    server_port: str | None = None
    """The port of the server that it leads to; None while it leads nowhere."""


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
    has_quota: bool
    """Whether the cloud limits what a project may have."""

    def create(self, request: ServerRequest) -> Server:
        """Ask for a server. Anything but a CloudError of a definite kind must be treated as Ambiguous."""
        ...

    def get(self, server_id: str) -> Server | None:
        """The server, or None when the cloud definitely has none by this id."""
        ...

    def delete(self, server_id: str) -> bool:
        """Ask for deletion, and answer whether the server is absent; to be repeated until it is."""
        ...

    def servers(self) -> list[Server]:
        """Every server of the project, ours or not, unfiltered and unpaged."""
        ...

    def console_log(self, server_id: str) -> str:
        """The end of the server's console output, at most CONSOLE_BYTES as UTF-8."""
        ...

    def quota(self) -> Quota:
        """The project's quota, in a cloud that has one."""
        ...

    def size(self, flavor: str | None) -> Size:
        """What a server of this flavor takes of the quota; None: of the site's default flavor."""
        ...

    @property
    def floating_ips(self) -> FloatingIpPool | None:
        """The project's floating IPs; None where the cloud has none."""
        ...


class FloatingIpPool(Protocol):
    """Floating IPs, which outlive the servers they lead to. Every call may raise CloudError."""

    hands_out: bool
    """Whether servers get one; what there is can be released all the same."""

    def attach(self, server_id: str, mark: str, deployment: str) -> str:
        """Lead the floating IP of a mark to a server, and answer its address. It is allocated unless there is
        one by this mark, so that the call can be repeated when its answer was lost."""
        ...

    def release(self, mark: str) -> None:
        """Release every floating IP of a mark; that there is none is success."""
        ...

    def delete(self, floating_ip_id: str) -> None:
        """Release one; an absent one is success."""
        ...

    def all(self) -> list[FloatingIp]:
        """Every floating IP of the project, ours or not."""
        ...
