"""How the work ended: what the child sends to the parent, and the exceptions that end it early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["succeeded", "workflow_failed", "system_failed"]


@dataclass(frozen=True)
class Result:
    """The end of an attempt."""

    outcome: Outcome
    reason: str = ""
    exit_code: int | None = None
    """The runner's; None if it was not run."""
    outputs: Mapping[str, Any] | None = None
    quote_log: bool = False
    """Whether to append the log's last line to the reason, since only the log says why."""
    final: bool = False
    """Whether another VM of the same image would fail in the same way."""


class WorkflowFailure(Exception):
    """The job cannot be run as it is, on any VM. The text is the job's reason."""


class SystemFailure(Exception):
    """This VM or the site's set-up is at fault, not the job. The text says what to do."""


class Unsuitable(SystemFailure):
    """Another VM of the same image would fail in the same way."""
