"""Terminating: the attempt has ended; its server, if there is one, is being deleted.

The deletion was ordered by the row that led here (``effects`` of booting and running). This is the only way
to stop owning a server: the job leaves when the create is resolved and the server is gone.
"""

from __future__ import annotations

from lando.states import actions, create_requests
from lando.states.events import BootFailuresJudged, ServerGone, WorkflowFinished
from lando.states.job import Job, Outcome, Verdict
from lando.states.records import replace
from lando.states.table import Policy, StateText, ignored, moves, refused, stays

TEXT = StateText(
    name="terminating",
    means="The attempt has ended; its VM, if there is one, is being deleted.",
    waits_for="the create to be resolved and the VM to be gone",
    deadline="none: the deletion is retried indefinitely",
)

OUTCOMES: dict[Verdict, Outcome] = {
    "succeeded": "succeeded",
    "workflow_failed": "workflow_failed",
    "system_failed": "system_failed",
    "not_booted": "system_failed",
    "unsuitable": "system_failed",
    "canceled": "canceled",
}
"""How a job ends, by how its last attempt ended."""


def replaces_failure(job: Job, event: WorkflowFinished) -> bool:
    """The workflow has finished: it is not run again."""
    return (
        create_requests.is_valid_report(job, event)
        and has_system_failure(job, event)
        and event.outcome != "system_failed"
    )


def has_system_failure(job: Job, event: object) -> bool:
    """The attempt ended with a system failure: the job may run again."""
    return job.verdict in ("system_failed", "not_booted")


def is_canceled(job: Job, event: object) -> bool:
    """The job was canceled before."""
    return job.verdict == "canceled"


def succeeded(job: Job, event: object) -> bool:
    """The workflow succeeded."""
    return job.verdict == "succeeded"


def may_run_again(job: Job, event: object) -> bool:
    """A system failure, and not the last one allowed."""
    return has_system_failure(job, event) and job.failures + job.doubtful + 1 < job.attempts


def may_be_the_sites(job: Job, event: ServerGone) -> bool:
    """Its server did not boot, which may be, or was found to be, the site's fault."""
    return job.verdict == "not_booted" and event.boot != "counts" and job.failures < job.attempts


def is_to_be_judged(job: Job, event: BootFailuresJudged) -> bool:
    """Boots failed, this one or earlier ones, and it is open whose fault that is."""
    return job.verdict == "not_booted" or actions.is_in_doubt(job, event)


def judge(job: Job, event: BootFailuresJudged, policy: Policy) -> Job:
    """As elsewhere; but an attempt that did not boot either is what counts, once its server is gone."""
    if event.counted and job.verdict == "not_booted":
        return replace(job, verdict="system_failed", doubtful=0, unanswered=0)
    return actions.judge(job, event, policy)


def had_no_capacity(job: Job, event: object) -> bool:
    """The cloud had no capacity for its server: no failure is counted."""
    return job.verdict == "system_failed" and job.misses > 0


def end(job: Job, event: ServerGone, policy: Policy) -> Job:
    """Nothing of the attempt is left in the cloud; its tokens are void."""
    outcome = None if job.verdict is None else OUTCOMES[job.verdict]
    failures = job.failures + job.doubtful + (outcome == "system_failed")
    reason = job.reason
    if has_system_failure(job, event) and job.attempts > 1:
        reason = f"{job.reason}; that was failure {failures} of {job.attempts} allowed"
    return replace(leave(job), outcome=outcome, failures=failures, doubtful=0, reason=reason)


def leave(job: Job) -> Job:
    """The job without its attempt's server, which is gone."""
    return replace(job, verdict=None, requests=(), server_id=None, server_ip=None, floating_ip=None)


def back_to_the_queue(job: Job, not_before: float) -> Job:
    """The job, to be admitted again."""
    return replace(leave(job), server_name=None, not_before=not_before)


def try_again(job: Job, event: ServerGone, policy: Policy) -> Job:
    """Back to the queue, with a back-off that doubles with each failure."""
    wait = actions.wait_after_failure(job, policy)
    has_booted = job.verdict != "not_booted"
    failures = job.failures + job.doubtful + 1
    return replace(
        back_to_the_queue(job, event.at + wait),
        # A failure to boot may still turn out to be the site's.
        failures=job.failures + has_booted,
        doubtful=job.doubtful + (not has_booted),
        reason=f"{job.reason}{actions.TRYING_AGAIN}{wait:g} s (failure {failures} of {job.attempts})",
    )


def wait_for_others(job: Job, event: ServerGone, policy: Policy) -> Job:
    """Back to the queue, with a back-off that doubles each time; whether the failure counts is open."""
    wait = actions.wait_after_failure(job, policy)
    return replace(
        back_to_the_queue(job, event.at + wait),
        doubtful=job.doubtful + (event.boot == "open"),
        reason=f"{job.reason}{actions.TRYING_AGAIN}{wait:g} s{OPEN if event.boot == 'open' else ''}",
    )


def wait_for_capacity(job: Job, event: ServerGone, policy: Policy) -> Job:
    """Back to the queue, with a back-off that doubles each time in a row; no failure is counted."""
    return back_to_the_queue(job, event.at + actions.capacity_wait(job.misses, policy))


OPEN = "; that counts as a failure only if the next VMs of other jobs boot"
OVER = "the attempt has ended already"

ROWS = (
    moves(
        "server_gone",
        "done",
        action=end,
        when=succeeded,
        why="the workflow succeeded, and its server is gone",
    ),
    moves(
        "server_gone",
        "queued",
        action=wait_for_capacity,
        when=had_no_capacity,
        why="the cloud had no capacity for the server: no failure is counted",
    ),
    moves(
        "server_gone",
        "queued",
        action=wait_for_others,
        when=may_be_the_sites,
        why="its server did not boot, which may be the site's fault: other jobs will show",
    ),
    moves(
        "server_gone",
        "queued",
        action=try_again,
        when=may_run_again,
        why="a system failure, and the job may run again",
    ),
    moves(
        "server_gone",
        "failed",
        action=end,
        why="canceled, the workflow failed, or the last allowed system failure",
    ),
    stays(
        "workflow_finished",
        action=actions.finish,
        when=replaces_failure,
        why="the result replaces a system failure: a finished workflow is not run again",
    ),
    ignored("workflow_finished", why="the attempt's outcome is known, or the report is another attempt's"),
    ignored("cancel", when=is_canceled, why="it is being canceled already"),
    stays("cancel", action=actions.cancel, when=has_system_failure, why="a cancel wins over a pending retry"),
    ignored("cancel", why="its workflow has ended already; only its VM is still being deleted"),
    ignored("create_sent", why="the create was withdrawn, or sent before: the server is looked for"),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=actions.has_duplicates,
        effects=("delete_twins",),
        why="the server is known and can be deleted, and its duplicates, too",
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=create_requests.is_open,
        why="the server is known and can be deleted",
    ),
    refused("server_created", why="its request was resolved before; the sweep deletes such a server"),
    stays(
        "create_refused",
        action=actions.nothing_exists,
        when=create_requests.is_unheard,
        why="there is no server",
    ),
    ignored(
        "create_refused",
        when=create_requests.is_open,
        why="its worker has reported, so the server exists whatever the answer says: it is looked for",
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
        action=actions.record_absence,
        when=create_requests.is_open,
        why="the server is not listed yet: it is looked for again",
    ),
    refused("create_absent", why="its request was resolved before"),
    ignored("worker_started", why=OVER),
    ignored("worker_progress", why=OVER),
    ignored("server_active", why=OVER),
    ignored("boot_failed", why=OVER),
    ignored("server_lost", why="the deletion itself finds out"),
    stays(
        "boot_failures_judged",
        action=judge,
        when=is_to_be_judged,
        why="whose its failures to boot were is known",
    ),
    ignored("boot_failures_judged", why="none of its failures is in doubt"),
    ignored("boot_timeout", why=OVER),
    ignored("run_timeout", why=OVER),
    ignored("worker_lost", why=OVER),
    refused("admitted", why="its server is not gone yet"),
    refused("rejected", why="the job was found runnable before"),
    refused("retry", why="only a failed job can be retried; this one is terminating"),
)
