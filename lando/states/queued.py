"""Queued: the job is stored, owns no server, and waits to be admitted."""

from __future__ import annotations

from lando.states import actions
from lando.states.events import Admitted, BootFailuresJudged, Cancel, Rejected
from lando.states.job import CreateRequest, Job
from lando.states.records import replace
from lando.states.table import Policy, StateText, ignored, moves, refused, stays

TEXT = StateText(
    name="queued",
    means="The job is stored and owns no server.",
    waits_for="admission: a free place, quota, and the end of its back-off",
    deadline="none: it keeps its place until it is admitted or canceled",
)


def start_attempt(job: Job, event: Admitted, policy: Policy) -> Job:
    """A new attempt, with its own create request; the record of the last attempt is cleared."""
    return replace(
        job,
        attempt=job.attempt + 1,
        requests=(CreateRequest(mark=event.mark, token=event.token),),
        server_name=event.server_name,
        server_id=None,
        server_ip=None,
        floating_ip=None,
        verdict=None,
        seq=0,
        heard_at=None,
        worker_version=None,
        phase=None,
        step=None,
        steps=None,
        step_name=None,
        git_commit=None,
        exit_code=None,
        outputs=None,
        log_tail="",
        deadline_at=event.at + actions.boot_timeout(job, policy),
        reason="a VM is being created",
    )


def reject(job: Job, event: Rejected, policy: Policy) -> Job:
    """The job cannot run, and no retry can help."""
    return replace(job, runnable=False, outcome="workflow_failed", reason=event.reason)


def cancel_unstarted(job: Job, event: Cancel, policy: Policy) -> Job:
    """There is nothing to delete."""
    return replace(job, outcome="canceled", misses=0, reason="canceled")


def was_last_failure(job: Job, event: BootFailuresJudged) -> bool:
    """The failures to boot were the job's own, and no other is allowed."""
    return actions.is_in_doubt(job, event) and event.counted and job.failures + 1 >= job.attempts


def fail(job: Job, event: BootFailuresJudged, policy: Policy) -> Job:
    """Its servers do not boot, while those of others do."""
    job = actions.judge(job, event, policy)
    counted = f"that was failure {job.failures} of {job.attempts} allowed"
    failed, _, _ = job.reason.partition(actions.TRYING_AGAIN)
    reason = f"{failed}; the VMs of other jobs have booted since; {counted}"
    return replace(job, outcome="system_failed", misses=0, reason=reason)


STALE = "a report of an attempt that has ended; its token is void"
NO_SERVER = "a queued job owns no server: the create of its last attempt was resolved before"

ROWS = (
    moves(
        "admitted",
        "booting",
        action=start_attempt,
        effects=("create_server",),
        why="there is a free place and quota",
    ),
    moves("rejected", "failed", action=reject, why="its start_worker cannot be run"),
    moves("cancel", "failed", action=cancel_unstarted, why="it was canceled before it started"),
    moves(
        "boot_failures_judged",
        "failed",
        action=fail,
        when=was_last_failure,
        why="its VMs do not boot while those of other jobs do; that was the last allowed system failure",
    ),
    stays(
        "boot_failures_judged",
        action=actions.judge,
        when=actions.is_in_doubt,
        why="whose its failures to boot were is known",
    ),
    ignored("boot_failures_judged", why="none of its failures is in doubt"),
    refused("retry", why="only a failed job can be retried; this one is queued already"),
    refused("create_sent", why=NO_SERVER),
    refused("server_created", why=NO_SERVER),
    refused("create_refused", why=NO_SERVER),
    refused("create_absent", why=NO_SERVER),
    refused("server_gone", why=NO_SERVER),
    ignored("server_active", why="it is about the last attempt's server"),
    ignored("boot_failed", why="it is about the last attempt's server"),
    ignored("server_lost", why="it is about the last attempt's server"),
    ignored("boot_timeout", why="the attempt of this deadline has ended"),
    ignored("run_timeout", why="the attempt of this deadline has ended"),
    ignored("worker_lost", why="the attempt of this deadline has ended"),
    ignored("worker_started", why=STALE),
    ignored("worker_progress", why=STALE),
    ignored("workflow_finished", why=STALE),
)
