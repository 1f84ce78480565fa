"""What can happen to a job. Each event carries its time (``at``, epoch seconds) and every value that the
machine needs, random ones, too, so that the machine stays pure.

The prefixes name the source: a client (cancel, retry), the worker inside the VM (worker_*, workflow_*), the
cloud (create_*, server_*, boot_failed), a deadline (boot_timeout, run_timeout, worker_lost), or the daemon's
own admission (admitted, rejected).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lando.states.job import Outcome

RefusalKind = Literal["quota", "rate_limit", "capacity", "unreachable", "job", "site"]


BootVerdict = Literal["counts", "open", "excused"]


@dataclass(frozen=True)
class Event:
    """Something that happened at ``at``."""

    name: ClassVar[str]
    at: float


@dataclass(frozen=True)
class Admitted(Event):
    """There is a free place and quota for the job's server."""

    name = "admitted"
    mark: str
    token: str
    server_name: str


@dataclass(frozen=True)
class Rejected(Event):
    """The start_worker message cannot be run."""

    name = "rejected"
    reason: str


@dataclass(frozen=True)
class Cancel(Event):
    """A user cancels the job."""

    name = "cancel"


@dataclass(frozen=True)
class Retry(Event):
    """A user retries a failed job."""

    name = "retry"


@dataclass(frozen=True)
class CreateSent(Event):
    """The create request is about to be sent: from now on a server may exist."""

    name = "create_sent"
    mark: str


@dataclass(frozen=True)
class CreateRefused(Event):
    """The create was refused: no server exists.

    ``retry_after``: seconds, if the cloud named a time. ``sent``: the cloud refused it; else it
    was not sent.
    """

    name = "create_refused"
    mark: str
    kind: RefusalKind
    reason: str
    retry_after: float | None = None
    sent: bool = True


@dataclass(frozen=True)
class CreateAbsent(Event):
    """The answer to the create was lost, and a full server list does not show its mark.

    ``settle``: seconds within which a server that was created is listed. ``reason``: why it was not answered.
    ``again``: another request is to be sent at once, with ``new_mark`` and ``new_token``.
    """

    name = "create_absent"
    mark: str
    settle: float
    reason: str
    again: bool
    new_mark: str
    new_token: str


@dataclass(frozen=True)
class ServerCreated(Event):
    """The server of the create request exists; ``duplicates`` are further servers with the same mark."""

    name = "server_created"
    mark: str
    server_id: str
    duplicates: tuple[str, ...] = ()


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
    no_capacity: bool = False
    """The cloud had no capacity for it."""


@dataclass(frozen=True)
class ServerLost(Event):
    """The server is down or gone, and we did not delete it."""

    name = "server_lost"
    server_id: str
    reason: str


@dataclass(frozen=True)
class ServerGone(Event):
    """The create is resolved, and the server (None: there was none) is gone.

    ``boot``: of a server that did not boot, whether that counts, is open, or was found to be the site's.
    """

    name = "server_gone"
    server_id: str | None
    boot: BootVerdict = "counts"


@dataclass(frozen=True)
class BootFailuresJudged(Event):
    """Another job's server has booted, which shows whose the job's failures to boot were: its own, which
    count as one failure, or the site's, which do not count."""

    name = "boot_failures_judged"
    counted: bool


@dataclass(frozen=True)
class BootTimeout(Event):
    """The worker had not reported by the boot deadline."""

    name = "boot_timeout"


@dataclass(frozen=True)
class RunTimeout(Event):
    """The workflow has run longer than its run timeout."""

    name = "run_timeout"


@dataclass(frozen=True)
class WorkerLost(Event):
    """The worker has been silent for ``silence`` seconds, during all of which the daemon was connected."""

    name = "worker_lost"
    silence: float


@dataclass(frozen=True)
class Report(Event):
    """A message from a worker, with the token of its create request."""

    attempt: int
    token: str
    seq: int
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    step_name: str | None = None
    git_commit: str | None = None
    version: str | None = None
    """Of lando-fsm in the VM; None if the report does not say it."""


@dataclass(frozen=True)
class WorkerStarted(Report):
    """The VM is up, and its worker has started."""

    name = "worker_started"


@dataclass(frozen=True)
class WorkerProgress(Report):
    """The worker is alive, and may have got further."""

    name = "worker_progress"


@dataclass(frozen=True)
class WorkflowFinished(Report):
    """The worker's last report: how the workflow ended."""

    name = "workflow_finished"
    outcome: Outcome = "succeeded"
    exit_code: int | None = None
    outputs: Mapping[str, Any] | None = None
    log_tail: str = ""
    reason: str = ""
    final: bool = False
    """Of a system failure: another VM of the same image would fail in the same way."""


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
    BootFailuresJudged,
)
"""Every event, in the order in which a job meets them."""
