"""Terminating: the attempt is over; its server, if there is one, is being deleted.

The only way out of owning a server: the job leaves when the create is resolved and the server is absent.
"""

from __future__ import annotations

from lando import backoff
from lando.states import actions, create_requests
from lando.states.events import ServerGone, WorkflowFinished
from lando.states.job import Job
from lando.states.records import replace
from lando.states.table import Policy, StateText, ignored, moves, refused, stays

TEXT = StateText(
    name="terminating",
    means="The attempt is over; its server, if there is one, is being deleted.",
    waits_for="the create to be resolved and the server to be absent",
    deadline="none: deleting is never given up",
)


def replaces_failure(job: Job, event: WorkflowFinished) -> bool:
    """Finished work is not run again."""
    return (
        create_requests.speaks(job, event)
        and job.verdict == "system_failed"
        and event.outcome != "system_failed"
    )


def would_be_retried(job: Job, event: object) -> bool:
    """Without a cancel it would run again."""
    return job.verdict == "system_failed"


def is_canceled(job: Job, event: object) -> bool:
    """It was canceled before."""
    return job.verdict == "canceled"


def succeeded(job: Job, event: object) -> bool:
    """The workflow's result is in."""
    return job.verdict == "succeeded"


def has_tries_left(job: Job, event: object) -> bool:
    """A system failure, and not the last that is allowed."""
    return job.verdict == "system_failed" and job.failures + 1 < job.attempts


def lacked_room(job: Job, event: object) -> bool:
    """The cloud had no room for its server: nobody's failure."""
    return job.verdict == "system_failed" and job.misses > 0


def end(job: Job, event: ServerGone, policy: Policy) -> Job:
    """Nothing of the attempt is left; its tokens are void."""
    failed = 1 if job.verdict == "system_failed" else 0
    reason = job.reason
    if failed and job.attempts > 1:
        reason = f"{job.reason}; that was failure {job.failures + 1} of {job.attempts} allowed"
    return replace(
        job,
        outcome=job.verdict,
        verdict=None,
        failures=job.failures + failed,
        requests=(),
        server_id=None,
        server_ip=None,
        floating_ip=None,
        reason=reason,
    )


def try_again(job: Job, event: ServerGone, policy: Policy) -> Job:
    """Back to the queue, after a back-off that doubles with each failure."""
    wait = backoff.delay(job.failures + 1, policy.retry_first, policy.retry_longest)
    return replace(
        end(job, event, policy),
        outcome=None,
        server_name=None,
        not_before=event.at + wait,
        reason=f"{job.reason}; trying again after {wait:g} s (failure {job.failures + 1} of {job.attempts})",
    )


def wait_for_room(job: Job, event: ServerGone, policy: Policy) -> Job:
    """Back to the queue, after a back-off that doubles each time in a row; no failure is counted."""
    return replace(
        end(job, event, policy),
        outcome=None,
        failures=job.failures,
        server_name=None,
        not_before=event.at + actions.room_wait(job.misses, policy),
        reason=job.reason,
    )


OVER = "the attempt is over already"

ROWS = (
    moves("server_gone", "done", action=end, when=succeeded, why="the workflow succeeded, nothing is left"),
    moves(
        "server_gone",
        "queued",
        action=wait_for_room,
        when=lacked_room,
        why="there was no room for the server: no failure is counted",
    ),
    moves(
        "server_gone", "queued", action=try_again, when=has_tries_left, why="a system failure, tries are left"
    ),
    moves("server_gone", "failed", action=end, why="canceled, the workflow's own failure, or the last try"),
    stays(
        "workflow_finished",
        action=actions.finish,
        when=replaces_failure,
        why="the result replaces a system failure: finished work is not run again",
    ),
    ignored("workflow_finished", why="the attempt has its verdict, or it is another attempt's report"),
    ignored("cancel", when=is_canceled, why="it is being canceled already"),
    stays("cancel", action=actions.cancel, when=would_be_retried, why="a cancel wins over a pending retry"),
    ignored("cancel", why="its workflow has ended already; only its server is still being deleted"),
    ignored("create_sent", why="withdrawn, or sent before: it is looked for, not sent"),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=actions.has_twins,
        effects=("delete_twins",),
        why="now it can be deleted, and its twins",
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=create_requests.is_open,
        why="now it can be deleted",
    ),
    refused("server_created", why="its request was resolved before; the sweeper deletes what surfaces"),
    stays(
        "create_refused",
        action=actions.nothing_exists,
        when=create_requests.is_unheard,
        why="there is no server",
    ),
    ignored(
        "create_refused",
        when=create_requests.is_open,
        why="its worker has spoken, so the server exists whatever the answer says: it is looked for",
    ),
    refused("create_refused", why="its request was resolved before"),
    stays(
        "create_absent",
        action=actions.nothing_exists,
        when=create_requests.is_absent_for_good,
        why="there is no server",
    ),
    stays(
        "create_absent",
        action=actions.look_again,
        when=create_requests.is_open,
        why="not listed yet: look again",
    ),
    refused("create_absent", why="its request was resolved before"),
    ignored("worker_started", why=OVER),
    ignored("worker_progress", why=OVER),
    ignored("server_active", why=OVER),
    ignored("boot_failed", why=OVER),
    ignored("server_lost", why="absence is for the deletion itself to find out"),
    ignored("boot_timeout", why=OVER),
    ignored("run_timeout", why=OVER),
    ignored("worker_lost", why=OVER),
    refused("admitted", why="its server is not gone yet"),
    refused("rejected", why="the job was found runnable before"),
    refused("retry", why="only a failed job can be retried; this one is terminating"),
)
