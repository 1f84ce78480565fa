"""The result of a message, for whoever sent it and for the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lando.states.machine import Fired

Disposition = Literal["taken", "duplicate", "ignored", "refused", "shutdown", "unknown"]


@dataclass(frozen=True)
class Taken:
    """The result of a message; ``detail`` says why."""

    disposition: Disposition
    detail: str = ""
    job_id: str | None = None


def taken(fired: Fired) -> Taken:
    """The result of a message whose event was answered so."""
    if fired.answer == "ignored":
        return Taken("ignored", fired.why, fired.job.id)
    if fired.answer == "refused":
        return Taken("refused", fired.why, fired.job.id)
    return Taken("taken", job_id=fired.job.id)
