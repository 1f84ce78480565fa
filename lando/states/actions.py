"""The changes that rows of several states share; each returns the new record and touches nothing else."""

from __future__ import annotations

from lando import backoff
from lando.states import create_requests
from lando.states.events import (
    BootFailed,
    Cancel,
    CreateAbsent,
    CreateRefused,
    Report,
    RunTimeout,
    ServerActive,
    ServerCreated,
    ServerLost,
    WorkerLost,
    WorkflowFinished,
)
from lando.states.job import Job, Outcome
from lando.states.records import replace
from lando.states.table import Policy


def heard(job: Job, event: Report, policy: Policy) -> Job:
    """Take a worker's report: its server is the one we believe in, and it lives."""
    request = create_requests.reporting(job, event)
    assert request is not None
    job = replace(create_requests.adopt(job, request.mark), heard_at=event.at)
    if event.seq <= job.seq:
        return job
    return replace(
        job,
        seq=event.seq,
        phase=event.phase or job.phase,
        step=job.step if event.step is None else event.step,
        steps=job.steps if event.steps is None else event.steps,
        step_name=event.step_name or job.step_name,
        git_commit=event.git_commit or job.git_commit,
    )


def start_running(job: Job, event: Report, policy: Policy) -> Job:
    """The worker speaks: from here on its silence and the run timeout count."""
    run_timeout = job.run_timeout if job.run_timeout is not None else policy.run_timeout
    return replace(
        heard(job, event, policy),
        deadline_at=None if run_timeout is None else event.at + run_timeout,
        reason="the workflow is running",
    )


def finish(job: Job, event: WorkflowFinished, policy: Policy) -> Job:
    """Take the workflow's result."""
    reason = event.reason or {"succeeded": "the workflow succeeded"}.get(event.outcome, "the workflow failed")
    job = replace(
        heard(job, event, policy),
        exit_code=event.exit_code,
        outputs=event.outputs,
        log_tail=event.log_tail,
    )
    return conclude(job, event.outcome, reason)


def conclude(job: Job, verdict: Outcome, reason: str) -> Job:
    """The attempt is over; what was not sent is withdrawn, what exists will be deleted."""
    job = create_requests.withdraw_unsent(job)
    return replace(job, verdict=verdict, reason=reason, deadline_at=None, misses=0)


def cancel(job: Job, event: Cancel, policy: Policy) -> Job:
    """Canceled: nothing that comes later counts."""
    return conclude(job, "canceled", "canceled")


def give_up_booting(job: Job, event: object, policy: Policy) -> Job:
    """The booting deadline has passed."""
    timeout = job.boot_timeout if job.boot_timeout is not None else policy.boot_timeout
    return conclude(job, "system_failed", f"the worker did not report within {timeout:g} s (boot_timeout)")


def give_up_running(job: Job, event: RunTimeout, policy: Policy) -> Job:
    """The run timeout has passed: the workflow's own failure, final."""
    timeout = job.run_timeout if job.run_timeout is not None else policy.run_timeout
    return conclude(job, "workflow_failed", f"the workflow ran longer than {timeout or 0:g} s (run_timeout)")


def boot_failed(job: Job, event: BootFailed, policy: Policy) -> Job:
    """The cloud could not build the server."""
    if not event.lacks_room:
        return conclude(job, "system_failed", f"the server could not be built: {event.reason}")
    concluded = conclude(job, "system_failed", f"the cloud has no room just now: {event.reason}")
    return replace(concluded, misses=job.misses + 1)


def room_wait(misses: int, policy: Policy) -> float:
    """Seconds until a job for whose server there was no room is admitted again; ``misses`` in a row."""
    return backoff.delay(misses, policy.hold, policy.hold_longest)


def note_address(job: Job, event: ServerActive, policy: Policy) -> Job:
    """The server is up; the floating IP that is ordered, if servers get one, is known from here on."""
    return replace(
        job,
        server_ip=event.address,
        floating_ip=_adopted_mark(job) if policy.floating_ip else job.floating_ip,
        misses=0,
        reason="the server is up; waiting for its worker" if job.state == "booting" else job.reason,
    )


def _adopted_mark(job: Job) -> str | None:
    return next((request.mark for request in job.requests if request.status == "adopted"), None)


def is_first_address(job: Job, event: ServerActive) -> bool:
    """The job's server was not seen up before."""
    return of_its_server(job, event) and job.server_ip is None


def server_lost(job: Job, event: ServerLost, policy: Policy) -> Job:
    """The server went away."""
    return conclude(job, "system_failed", f"the server was lost: {event.reason}")


def worker_lost(job: Job, event: WorkerLost, policy: Policy) -> Job:
    """The worker fell silent."""
    return conclude(job, "system_failed", f"the worker was silent for {event.silence:.0f} s")


def adopt_server(job: Job, event: ServerCreated, policy: Policy) -> Job:
    """The server of the open request exists: it is the one."""
    return replace(create_requests.adopt(job, event.mark), server_id=event.server_id)


def look_again(job: Job, event: CreateAbsent, policy: Policy) -> Job:
    """Not listed: remember since when, so that a second look can conclude."""
    return create_requests.saw_absent(job, event)


def nothing_exists(job: Job, event: CreateRefused | CreateAbsent, policy: Policy) -> Job:
    """The request came to nothing."""
    return create_requests.set_status(job, event.mark, "void")


def of_its_server(job: Job, event: BootFailed | ServerLost | ServerActive) -> bool:
    """The observation is of the server that the job has now."""
    return job.server_id is not None and event.server_id == job.server_id


def has_twins(job: Job, event: ServerCreated) -> bool:
    """The create made several servers."""
    return create_requests.is_open(job, event) and bool(event.twins)
