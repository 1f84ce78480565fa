"""Failed: canceled, or the workflow or the system failed; nothing of it is left in the cloud."""

from __future__ import annotations

from lando.states.ended import rows
from lando.states.events import Retry
from lando.states.job import Job
from lando.states.records import replace
from lando.states.table import Policy, StateText, moves, refused

TEXT = StateText(
    name="failed",
    means="The job was canceled, or the workflow or the system failed; its server is gone.",
    waits_for="nothing; its user may retry it",
    deadline="none",
)


def is_runnable(job: Job, event: Retry) -> bool:
    """The job could run, had it another chance."""
    return job.runnable


def start_over(job: Job, event: Retry, policy: Policy) -> Job:
    """The count of failures starts again; attempt serials go on."""
    return replace(job, outcome=None, failures=0, not_before=event.at, reason="retried by its user")


ROWS = rows(
    moves("retry", "queued", action=start_over, when=is_runnable, why="its user wants another run"),
    refused("retry", why="the job cannot be run as it was submitted; submit it anew, corrected"),
)
