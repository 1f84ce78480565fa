"""What is stored of a job: what was asked for (JobSpec), and its state (Job). Plain records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["queued", "booting", "running", "terminating", "done", "failed"]
Outcome = Literal["succeeded", "workflow_failed", "system_failed", "canceled"]

Verdict = Literal[Outcome, "not_booted", "unsuitable"]
"""How an attempt ended. Two more are system failures: ``not_booted`` came before the worker reported, and may
be the site's; ``unsuitable`` is one that no other VM of the same image would avoid."""

LIVE_STATES: tuple[State, ...] = ("booting", "running", "terminating")
STATES: tuple[State, ...] = ("queued", "booting", "running", "terminating", "done", "failed")
ENDED_STATES: tuple[State, ...] = ("done", "failed")

DEFAULT_ATTEMPTS = 3
MAX_ATTEMPTS = 100
MAX_PRIORITY = 1_000_000
"""And its negative: the least."""
MAX_VOLUME_SIZE = 65_536
"""GB."""
MAX_JOB_DURATION = 366 * 86400.0
"""Seconds: of every duration in a job file."""


@dataclass(frozen=True)
class JobSpec:
    """A validated job file: everything needed to run one workflow. Made by ``lando.config.job_file``."""

    git_clone: str
    """Address or absolute path of the repository (or plain folder) to clone."""
    cd: str
    """Directory of the clone to work in; a leading component that is the clone's own name is the clone."""
    input: Mapping[str, Any]
    """The CWL input object. Relative file locations are relative to ``cd``."""
    run_cwl: str
    """The CWL document, relative to ``cd``; may end in ``#fragment``."""
    name: str | None = None
    git_ref: str | None = None
    """Branch, tag or commit; the remote's default branch when absent."""
    flavor: str | None = None
    image: str | None = None
    volume_size: int | None = None
    """GB."""
    attempts: int = DEFAULT_ATTEMPTS
    """How many system failures end the job."""
    boot_timeout: float | None = None
    """Seconds; the site's default when absent."""
    run_timeout: float | None = None
    """Seconds; the site's default when absent."""
    priority: int = 0
    """Higher goes first."""
    cwl_args: tuple[str, ...] = ()
    """Options for the CWL runner, passed before the document."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def wishes(self) -> str:
        """What the job asks of the cloud beside the site's defaults, as JSON; empty if nothing."""
        asked = {name: getattr(self, name) for name in ("flavor", "image", "volume_size")}
        given = {name: value for name, value in asked.items() if value is not None}
        return json.dumps(given) if given else ""

    def as_body(self) -> dict[str, Any]:
        """The JSON form: the body of a start_worker message, and what the store keeps."""
        body = {name: value for name, value in self.__dict__.items() if value is not None}
        body["cwl_args"] = list(self.cwl_args)
        return body


RequestStatus = Literal["ordered", "sent", "adopted", "void"]


@dataclass(frozen=True)
class CreateRequest:
    """One create request to the cloud. Committed before it is sent; at most one of an attempt is adopted."""

    mark: str
    """Public and random: what the server carries, and how it is found again."""
    token: str
    """Secret: the server's worker sends it to authenticate. Void together with the request."""
    status: RequestStatus = "ordered"
    absent_since: float | None = None
    """When a server list was first seen without the mark (epoch seconds)."""


@dataclass(frozen=True)
class Job:
    """A job's record: what the state machine works on. All times are epoch seconds of the daemon's clock."""

    id: str
    state: State = "queued"
    attempts: int = DEFAULT_ATTEMPTS
    priority: int = 0
    boot_timeout: float | None = None
    run_timeout: float | None = None
    flavor: str | None = None
    """What the job file asks for; None: the site's default."""
    wishes: str = ""
    """See ``JobSpec.wishes``: jobs with the same wishes are refused by the cloud together."""
    runnable: bool = True
    """False for a start_worker that cannot be run; such a job can only fail."""
    lost_secrets: bool = False
    """The secrets that it was submitted with were dropped after it had ended: it cannot run again."""

    version: int = 0
    """The store refuses a write that is not based on the newest version (compare-and-set)."""
    outcome: Outcome | None = None
    """How the job ended; None until it has."""
    verdict: Verdict | None = None
    """How the attempt ended; set while its server is being deleted."""
    reason: str = ""
    """Why the job is in its state, for people."""
    attempt: int = 0
    """Number of the attempt; never reused."""
    failures: int = 0
    """System failures since the job was submitted or last retried by its user."""
    doubtful: int = 0
    """Boots that failed since, of which it is open whether they are the site's. See ``boot_failures``."""
    excused: int = 0
    """How often failures to boot were found to be the site's since a worker of the job last reported."""
    unanswered: int = 0
    """Attempts in a row whose creates were not answered, and made no server; these are not failures."""
    misses: int = 0
    """How often in a row the cloud had no capacity for its server; these are not failures."""
    not_before: float = 0.0
    """Back-off: not admitted before this time."""
    deadline_at: float | None = None
    """When booting or running is given up."""

    requests: tuple[CreateRequest, ...] = ()
    """The create requests of this attempt, oldest first."""
    server_name: str | None = None
    server_id: str | None = None
    server_ip: str | None = None
    floating_ip: str | None = None
    """The mark of its floating IP, which may exist while this is set."""

    seq: int = 0
    """Highest sequence number heard from this attempt's worker."""
    heard_at: float | None = None
    """When the worker was last heard."""
    worker_version: str | None = None
    """Of lando-fsm on the attempt's server, as its worker reports it."""
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    step_name: str | None = None
    git_commit: str | None = None
    exit_code: int | None = None
    outputs: str | None = None
    """JSON, of up to 3 MiB: nobody parses it until a person asks for it."""
    log_tail: str = ""

    submitted_at: float = 0.0
    entered_at: float = 0.0
    updated_at: float = 0.0

    @property
    def output_object(self) -> dict[str, Any] | None:
        """The CWL output object, parsed."""
        return None if self.outputs is None else dict(json.loads(self.outputs))
