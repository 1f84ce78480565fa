"""The interface of a cloud: its calls and its errors. It knows nothing of jobs' states.

A server has tags, which everybody in the project can read: deployment, job, attempt, and the random mark of
its create request, by which it is found when the answer to a create was lost. Drivers: local/ and nova/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from lando.errors import LandoError

ServerStatus = Literal["BUILD", "ACTIVE", "SHUTOFF", "ERROR", "UNKNOWN"]

CONSOLE_BYTES = 64 * 1024
"""A driver returns at most this much of a console log, from its end."""
MAX_USER_DATA = 65_535
"""Characters of base64 that user data may have, on every cloud. It is Nova's limit:
https://docs.openstack.org/api-ref/compute/#create-server, user_data."""


@dataclass(frozen=True)
class Size:
    """What servers use of a quota; ``ram`` in MiB, ``gigabytes`` of volumes."""

    servers: int = 0
    cores: int = 0
    ram: int = 0
    volumes: int = 0
    gigabytes: int = 0
    ports: int = 0
    floating_ips: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.servers + other.servers,
            self.cores + other.cores,
            self.ram + other.ram,
            self.volumes + other.volumes,
            self.gigabytes + other.gigabytes,
            self.ports + other.ports,
            self.floating_ips + other.floating_ips,
        )

    def __mul__(self, count: int) -> Size:
        return Size(
            self.servers * count,
            self.cores * count,
            self.ram * count,
            self.volumes * count,
            self.gigabytes * count,
            self.ports * count,
            self.floating_ips * count,
        )


@dataclass(frozen=True)
class ServerRequest:
    """What to create. ``mark`` is random and unique to the request; ``user_data`` is the start-up script."""

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
    """A server as the cloud lists it; the tags are None for servers that lando did not create."""

    id: str
    name: str
    status: ServerStatus
    mark: str | None = None
    deployment: str | None = None
    job_id: str | None = None
    attempt: int | None = None
    address: str | None = None
    fault: str | None = None
    """The cloud's message about what went wrong."""
    no_capacity: bool = False
    """Whether that was a lack of capacity, which may pass."""
    size: Size = Size()
    """What it uses of the project's quota, as far as the cloud says."""


@dataclass(frozen=True)
class Share:
    """How much of a quota is used. ``limit``: None if there is none."""

    used: int
    limit: int | None

    @property
    def left(self) -> int | None:
        """How much may still be used; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.used)

    def describe(self, unit: str) -> str:
        """What is left, as a phrase."""
        return f"{unit}: no limit" if self.limit is None else f"{self.left:,} of {self.limit:,} {unit} left"


@dataclass(frozen=True)
class Quota:
    """The project's quota, of which others may use a part. ``ram`` in MiB, ``gigabytes`` of volumes.

    A share that is None is not known, or servers use nothing of it.
    """

    servers: Share
    cores: Share
    ram: Share
    volumes: Share | None = None
    gigabytes: Share | None = None
    ports: Share | None = None
    floating_ips: Share | None = None

    def __str__(self) -> str:
        shares = ((getattr(self, name), unit) for name, unit in QUOTA_UNITS.items())
        return ", ".join(share.describe(unit) for share, unit in shares if share is not None)


QUOTA_UNITS = {
    "servers": "servers",
    "cores": "cores",
    "ram": "MiB of RAM",
    "volumes": "volumes",
    "gigabytes": "GB of volumes",
    "ports": "ports",
    "floating_ips": "floating IPs",
}
"""The fields of ``Quota`` and of ``Size``, and the units in which people are told of them."""


@dataclass(frozen=True)
class FloatingIp:
    """A floating IP of the project; the tags are None for one that lando did not allocate."""

    id: str
    address: str
    mark: str | None = None
    deployment: str | None = None
    server_port: str | None = None
    """The port of the server that it is associated with; None if it is with none."""


class CloudError(LandoError):
    """A call failed.

    Args:
        message: says what failed, and has the cloud's message.
        retry_after: seconds to wait, if the cloud said so.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(CloudError):
    """Definitely nothing was created: the project's quota is used up."""


class RateLimited(CloudError):
    """Definitely nothing was done: there were too many calls."""


class NoCapacity(CloudError):
    """Definitely nothing was created: the cloud has no capacity at present."""


class Unreachable(CloudError):
    """Nothing was done: the request was not accepted (connection refused, 503). Of a create that is definite:
    a 503 of a proxy is ``Ambiguous``.

    Args:
        message: says what failed.
        retry_after: see ``CloudError``.
        sent: it was a create request, and the cloud answered it; else none was sent.
    """

    def __init__(self, message: str, retry_after: float | None = None, sent: bool = False) -> None:
        super().__init__(message, retry_after)
        self.sent = sent


class Refused(CloudError):
    """Definitely nothing was done, and repeating the request cannot help.

    Args:
        message: says what was refused, and where it is set.
        origin: whether that is in the job file ("job") or in landoconfig.yml ("site").
        account_wide: every request would be refused, whatever it asks for: the login is refused, say.
    """

    def __init__(self, message: str, origin: Literal["job", "site"], account_wide: bool = False) -> None:
        super().__init__(message)
        self.origin = origin
        self.account_wide = account_wide


class Ambiguous(CloudError):
    """The request may or may not have been carried out: the answer was lost, or is not definite."""


class Cloud(Protocol):
    """A driver. Every call may raise CloudError; several threads make calls at once."""

    settle_time: float
    """Seconds after a create request within which its server is listed, if there is one."""
    has_quota: bool
    """Whether the cloud limits what a project may use."""

    def create(self, request: ServerRequest) -> Server:
        """Create a server. An exception that is not a definite CloudError must be treated as Ambiguous."""
        ...

    def get(self, server_id: str) -> Server | None:
        """The server; None if the cloud definitely has none with this id."""
        ...

    def delete(self, server_id: str) -> bool:
        """Request the deletion, and return whether the server is absent; to be repeated until it is."""
        ...

    def servers(self) -> list[Server]:
        """All servers of the project, of lando or not."""
        ...

    def console_log(self, server_id: str) -> str:
        """The end of the server's console output, at most CONSOLE_BYTES as UTF-8."""
        ...

    def quota(self, volumes: bool = False) -> Quota:
        """The project's quota, if ``has_quota``.

        Args:
            volumes: jobs ask for a volume, though servers have none by default.
        """
        ...

    def size(self, flavor: str | None) -> Size:
        """What a server of this flavor uses of the quota, beside a volume that its job asks for; None: of the
        default flavor."""
        ...

    def check_services(self) -> None:
        """Ask each service that every create depends on for something small, past all that is remembered.

        Returns if all answer; what they answer does not matter.

        Raises:
            CloudError: one does not answer, which the message names, or the login is refused.
        """
        ...

    @property
    def floating_ips(self) -> FloatingIpPool | None:
        """The project's floating IPs; None if the cloud has no such thing."""
        ...

    @property
    def project(self) -> str | None:
        """The id of the project that has the servers; None: not known yet, or the cloud has no projects."""
        ...


class FloatingIpPool(Protocol):
    """Floating IPs, which outlive the servers they belong to. Every call may raise CloudError."""

    allocates: bool
    """Whether servers get one; if not, existing ones can still be released."""

    def attach(self, server_id: str, mark: str, deployment: str) -> str:
        """Associate the floating IP of a mark with a server, and return its address.

        It is allocated if there is none with this mark, so that the call can be repeated when its answer was
        lost.
        """
        ...

    def release(self, mark: str) -> None:
        """Release every floating IP of a mark; no error if there is none."""
        ...

    def delete(self, floating_ip_id: str) -> None:
        """Release one; no error if there is none with this id."""
        ...

    def all(self) -> list[FloatingIp]:
        """All floating IPs of the project, of lando or not."""
        ...
