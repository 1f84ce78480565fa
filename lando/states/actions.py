"""Actions, guards and effects that rows of several states share. An action returns the new record, nothing
else."""

from __future__ import annotations

import json

from lando import backoff
from lando.states import create_requests
from lando.states.events import (
    BootFailed,
    BootFailuresJudged,
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
from lando.states.job import Job, Verdict
from lando.states.records import replace
from lando.states.table import EffectKind, Policy

STALE = "the report is another attempt's, or comes from a server that is no longer the job's"
BOOTED = "its worker has reported since"
ENDING: tuple[EffectKind, ...] = ("save_console_log", "delete_server")
"""The effects of leaving a server that failed."""


def take_report(job: Job, event: Report, policy: Policy) -> Job:
    """A valid report: its request is adopted, and its worker is alive."""
    request = create_requests.reporting_request(job, event)
    assert request is not None
    job = replace(create_requests.adopt(job, request.mark), heard_at=event.at)
    if event.version is not None:
        job = replace(job, worker_version=event.version)
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


def boot_timeout(job: Job, policy: Policy) -> float:
    """Seconds that the job may boot: as its file says, else the site."""
    return policy.boot_timeout if job.boot_timeout is None else job.boot_timeout


def run_timeout(job: Job, policy: Policy) -> float | None:
    """Seconds that the job may run: as its file says, else the site; None: without a limit."""
    return policy.run_timeout if job.run_timeout is None else job.run_timeout


def start_running(job: Job, event: Report, policy: Policy) -> Job:
    """The worker has reported: its silence and the run timeout count from now on."""
    timeout = run_timeout(job, policy)
    return replace(
        take_report(job, event, policy),
        doubtful=0,
        excused=0,
        unanswered=0,
        deadline_at=None if timeout is None else event.at + timeout,
        reason="the workflow is running",
    )


def finish(job: Job, event: WorkflowFinished, policy: Policy) -> Job:
    """The workflow has ended: its result is recorded."""
    reason = event.reason or {"succeeded": "the workflow succeeded"}.get(event.outcome, "the workflow failed")
    job = replace(
        take_report(job, event, policy),
        exit_code=event.exit_code,
        outputs=None if event.outputs is None else json.dumps(event.outputs, ensure_ascii=False),
        log_tail=event.log_tail,
        doubtful=0,
        excused=0,
        unanswered=0,
    )
    is_final = event.final and event.outcome == "system_failed"
    return conclude(job, "unsuitable" if is_final else event.outcome, reason)


def conclude(job: Job, verdict: Verdict, reason: str) -> Job:
    """The attempt has ended: a create that was not sent is withdrawn, a server that exists will be
    deleted."""
    job = create_requests.withdraw_unsent(job)
    return replace(job, verdict=verdict, reason=reason, deadline_at=None, misses=0)


def cancel(job: Job, event: Cancel, policy: Policy) -> Job:
    """The job is canceled; later results change nothing."""
    return conclude(job, "canceled", "canceled")


def boot_timed_out(job: Job, event: object, policy: Policy) -> Job:
    """The boot deadline has passed."""
    timeout = boot_timeout(job, policy)
    return conclude(job, "not_booted", f"the worker did not report within {timeout:g} s (boot_timeout)")


def run_timed_out(job: Job, event: RunTimeout, policy: Policy) -> Job:
    """The run deadline has passed: the workflow failed, and is not run again."""
    timeout = run_timeout(job, policy)
    return conclude(job, "workflow_failed", f"the workflow ran longer than {timeout or 0:g} s (run_timeout)")


def boot_failed(job: Job, event: BootFailed, policy: Policy) -> Job:
    """The cloud could not build the server."""
    if not event.no_capacity:
        verdict: Verdict = "not_booted" if job.state == "booting" else "system_failed"
        return conclude(job, verdict, f"the VM could not be built: {event.reason}")
    concluded = conclude(job, "system_failed", f"the cloud has no capacity: {event.reason}")
    return replace(concluded, misses=job.misses + 1)


def judge(job: Job, event: BootFailuresJudged, policy: Policy) -> Job:
    """The failures to boot were the job's own, which count as one, or the site's, which do not count."""
    if event.counted:
        # The attempt that has begun since is a further one that is allowed.
        most = job.attempts if job.state == "queued" else job.attempts - 1
        return replace(job, failures=min(most, job.failures + 1), doubtful=0, unanswered=0)
    return replace(job, doubtful=0, unanswered=0, excused=job.excused + 1)


def is_in_doubt(job: Job, event: object) -> bool:
    """Boots failed, and it is open whose fault that is."""
    return job.doubtful > 0 or job.unanswered > 0


TRYING_AGAIN = "; trying again after "
"""Before what a reason says of the next attempt."""


def wait_after_failure(job: Job, policy: Policy) -> float:
    """Seconds until the job may be admitted again after one more failure; doubled by each."""
    failures = job.failures + job.doubtful + job.unanswered + 1
    return backoff.delay(failures, policy.retry_first, policy.retry_longest)


def capacity_wait(misses: int, policy: Policy) -> float:
    """Seconds until a job is admitted again for whose server the cloud had no capacity, ``misses`` times in a
    row."""
    return backoff.delay(misses, policy.hold, policy.hold_longest)


def record_address(job: Job, event: ServerActive, policy: Policy) -> Job:
    """The server is up. If servers get a floating IP, one may exist from this commit on, and its mark is
    recorded."""
    return replace(
        job,
        server_ip=event.address,
        floating_ip=_adopted_mark(job) if policy.floating_ip else job.floating_ip,
        misses=0,
        reason="the VM is up; waiting for its worker" if job.state == "booting" else job.reason,
    )


def _adopted_mark(job: Job) -> str | None:
    return next((request.mark for request in job.requests if request.status == "adopted"), None)


def is_first_address(job: Job, event: ServerActive) -> bool:
    """The job's server had no address before."""
    return is_about_its_server(job, event) and job.server_ip is None


def server_lost(job: Job, event: ServerLost, policy: Policy) -> Job:
    """The server is gone, or down."""
    verdict: Verdict = "not_booted" if job.state == "booting" else "system_failed"
    return conclude(job, verdict, f"the VM was lost: {event.reason}")


def worker_lost(job: Job, event: WorkerLost, policy: Policy) -> Job:
    """The worker was silent for too long."""
    return conclude(job, "system_failed", f"the worker was silent for {event.silence:.0f} s")


def adopt_server(job: Job, event: ServerCreated, policy: Policy) -> Job:
    """The server of the open request exists, and is the job's."""
    return replace(create_requests.adopt(job, event.mark), server_id=event.server_id, unanswered=0)


def record_absence(job: Job, event: CreateAbsent, policy: Policy) -> Job:
    """The server is not listed: the time is recorded, so that a second list can decide."""
    return create_requests.record_absence(job, event)


def nothing_exists(job: Job, event: CreateRefused | CreateAbsent, policy: Policy) -> Job:
    """The request made no server."""
    return create_requests.set_status(job, event.mark, "void")


def is_about_its_server(job: Job, event: BootFailed | ServerLost | ServerActive) -> bool:
    """The event is about the server that the job has now."""
    return job.server_id is not None and event.server_id == job.server_id


def has_duplicates(job: Job, event: ServerCreated) -> bool:
    """The request made several servers."""
    return create_requests.is_open(job, event) and bool(event.duplicates)
