"""What can happen to a job. Each event carries when (``at``, epoch seconds) and every value it brings along,
random ones too, so that the machine stays pure.

The prefixes tell who says so: a client (cancel, retry), the worker inside the VM (worker_*, workflow_*), the
cloud (create_*, server_*, boot_failed), a deadline (boot_timeout, run_timeout, worker_lost), or the daemon's
own admission (admitted, rejected).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lando.states.job import Outcome

RefusalKind = Literal["quota", "rate_limit", "capacity", "unreachable", "job", "site"]


@dataclass(frozen=True)
class Event:
    """Something that happened at ``at``."""

    name: ClassVar[str]
    at: float


@dataclass(frozen=True)
class Admitted(Event):
    """The job's turn has come: there is room for a server of its own."""

    name = "admitted"
    mark: str
    token: str
    server_name: str


@dataclass(frozen=True)
class Rejected(Event):
    """The start_worker message cannot be run as it stands."""

    name = "rejected"
    reason: str


@dataclass(frozen=True)
class Cancel(Event):
    """Somebody wants the job ended."""

    name = "cancel"


@dataclass(frozen=True)
class Retry(Event):
    """Its user wants a failed job run again."""

    name = "retry"


@dataclass(frozen=True)
class CreateSent(Event):
    """The create request is about to be sent: from here on a server may exist."""

    name = "create_sent"
    mark: str


@dataclass(frozen=True)
class CreateRefused(Event):
    """The cloud refused definitely: nothing exists. ``retry_after`` in seconds, where the cloud named it."""

    name = "create_refused"
    mark: str
    kind: RefusalKind
    reason: str
    retry_after: float | None = None


@dataclass(frozen=True)
class CreateAbsent(Event):
    """The answer to the create was lost, and a full server list does not show its mark.

    ``settle`` is how many seconds a created server may take to surface in a list; ``new_mark`` and
    ``new_token`` are for the next request, should one be due.
    """

    name = "create_absent"
    mark: str
    settle: float
    new_mark: str
    new_token: str


@dataclass(frozen=True)
class ServerCreated(Event):
    """The server of the create request exists; ``twins`` are further servers with the same mark."""

    name = "server_created"
    mark: str
    server_id: str
    twins: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerActive(Event):
    """The server is up and has an address, or another one than before."""

    name = "server_active"
    server_id: str
    address: str


@dataclass(frozen=True)
class BootFailed(Event):
    """The cloud could not build the server."""

    name = "boot_failed"
    server_id: str
    reason: str
    lacks_room: bool = False
    """It had no room for it just now."""


@dataclass(frozen=True)
class ServerLost(Event):
    """The server is down or gone without our doing."""

    name = "server_lost"
    server_id: str
    reason: str


@dataclass(frozen=True)
class ServerGone(Event):
    """The create is resolved and the server (None: there was none) is absent."""

    name = "server_gone"
    server_id: str | None


@dataclass(frozen=True)
class BootTimeout(Event):
    """No word from the worker by the booting deadline."""

    name = "boot_timeout"


@dataclass(frozen=True)
class RunTimeout(Event):
    """The workflow has run longer than it may."""

    name = "run_timeout"


@dataclass(frozen=True)
class WorkerLost(Event):
    """The worker has been silent for ``silence`` seconds, all of which the daemon was listening."""

    name = "worker_lost"
    silence: float


@dataclass(frozen=True)
class Report(Event):
    """A message from a worker; it proves itself with the token of its create request."""

    attempt: int
    token: str
    seq: int
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    step_name: str | None = None
    git_commit: str | None = None


@dataclass(frozen=True)
class WorkerStarted(Report):
    """The VM is up and its worker has begun."""

    name = "worker_started"


@dataclass(frozen=True)
class WorkerProgress(Report):
    """The worker lives; perhaps it is a step further."""

    name = "worker_progress"


@dataclass(frozen=True)
class WorkflowFinished(Report):
    """The worker's last word: how the workflow ended."""

    name = "workflow_finished"
    outcome: Outcome = "succeeded"
    exit_code: int | None = None
    outputs: Mapping[str, Any] | None = None
    log_tail: str = ""
    reason: str = ""


EVENTS: tuple[type[Event], ...] = (
    Admitted,
    Rejected,
    CreateSent,
    ServerCreated,
    ServerActive,
    CreateRefused,
    CreateAbsent,
    BootFailed,
    BootTimeout,
    WorkerStarted,
    WorkerProgress,
    WorkflowFinished,
    WorkerLost,
    ServerLost,
    RunTimeout,
    Cancel,
    Retry,
    ServerGone,
)
"""Every event, in the order in which a job meets them."""
