"""Failed: the job was canceled, or the workflow or the system failed; nothing of it is left in the cloud."""

from __future__ import annotations

from lando.states.ended import rows
from lando.states.events import Retry
from lando.states.job import Job
from lando.states.records import replace
from lando.states.table import Policy, StateText, moves, refused

TEXT = StateText(
    name="failed",
    means="The job was canceled, or the workflow or the system failed; its VM is gone.",
    waits_for="nothing; a user may retry it",
    deadline="none",
)


def is_whole(job: Job, event: Retry) -> bool:
    """The job can run, and what it was submitted with is all there."""
    return job.runnable and not job.lost_secrets


def has_lost_secrets(job: Job, event: Retry) -> bool:
    """The job could run, but for the secrets that it was submitted with."""
    return job.runnable and job.lost_secrets


def start_over(job: Job, event: Retry, policy: Policy) -> Job:
    """The count of failures starts again; the numbers of attempts continue."""
    return replace(
        job,
        outcome=None,
        failures=0,
        doubtful=0,
        excused=0,
        unanswered=0,
        not_before=event.at,
        reason="retried",
    )


ROWS = rows(
    moves("retry", "queued", action=start_over, when=is_whole, why="it was retried"),
    refused(
        "retry",
        when=has_lost_secrets,
        why="the secrets in what was submitted were dropped after the job had ended (retention.secrets in "
        "landoconfig.yml); submit it again",
    ),
    refused("retry", why="the job cannot run as it was submitted; correct it and submit it again"),
)
