"""One job, as the commands show it: the objects of ``status --json`` and ``history --json``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lando.engine.ledger import StateChange
from lando.states.job import ENDED_STATES, Job
from lando.times import rfc3339


@dataclass(frozen=True)
class JobStatus:
    """A job as ``status`` shows it."""

    job: Job
    name: str
    submitted_by: str | None
    reason: str
    """Why it is where it is, as a sentence."""
    labels: dict[str, str]
    leaking: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is done or failed."""
        return self.job.state in ENDED_STATES

    @property
    def state_text(self) -> str:
        """The state as people read it."""
        return "failed (canceled)" if self.job.outcome == "canceled" else self.job.state

    @property
    def step_text(self) -> str:
        """Step k of n, as far as known."""
        if self.job.step is None:
            return ""
        return f"{self.job.step}/{self.job.steps}" if self.job.steps else str(self.job.step)

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``status --json``; unknown values are null, times RFC 3339."""
        job = self.job
        return {
            "id": job.id,
            "name": self.name,
            "state": job.state,
            "outcome": job.outcome,
            "reason": self.reason,
            "attempt": job.attempt,
            "attempts": job.attempts,
            "failures": job.failures,
            "priority": job.priority,
            "phase": None if self.ended else job.phase,
            "step": job.step,
            "steps": job.steps,
            "step_name": job.step_name,
            "vm": {"name": job.server_name, "id": job.server_id, "ip": job.server_ip},
            "leaking": self.leaking,
            "submitted_by": self.submitted_by,
            "submitted_at": rfc3339(job.submitted_at),
            "entered_at": rfc3339(job.entered_at),
            "updated_at": rfc3339(job.updated_at),
            "deadline_at": rfc3339(job.deadline_at),
            "not_before": rfc3339(job.not_before if job.state == "queued" and job.not_before else None),
            "git_commit": job.git_commit,
            "worker_version": job.worker_version,
            "exit_code": job.exit_code,
            "labels": self.labels,
        }


def change_as_json(change: StateChange) -> dict[str, Any]:
    """The stable object of ``history --json``."""
    return {
        "at": rfc3339(change.at),
        "event": change.event,
        "from": change.source,
        "to": change.target,
        "reason": change.reason,
        "attempt": change.attempt,
    }
