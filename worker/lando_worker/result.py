"""How the work ended: what the child hands to the parent, and what makes it end early."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["succeeded", "workflow_failed", "system_failed"]


@dataclass(frozen=True)
class Result:
    """The end of an attempt; ``exit_code`` is the runner's, None when it was not run."""

    outcome: Outcome
    reason: str = ""
    exit_code: int | None = None
    outputs: Mapping[str, Any] | None = None
    quote_log: bool = False
    """Whether only the log can tell why: its last line belongs to the reason."""


class WorkflowFailure(Exception):
    """The job cannot be run as it stands, here or anywhere; the text says why."""


class SystemTrouble(Exception):
    """Not the job's fault: this VM, or how the site set it up; the text says what to do."""
