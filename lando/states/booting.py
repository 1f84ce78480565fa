"""Booting: a server was requested and may exist; its worker has not reported yet."""

from __future__ import annotations

from lando.states import actions, create_requests
from lando.states.events import CreateAbsent, CreateRefused, CreateSent, RefusalKind
from lando.states.job import CreateRequest, Job
from lando.states.records import replace
from lando.states.table import Policy, StateText, ignored, moves, refused, stays

TEXT = StateText(
    name="booting",
    means="A VM was requested and may exist; its worker has not reported yet.",
    waits_for="the worker's first report",
    deadline="boot_timeout",
)


def send(job: Job, event: CreateSent, policy: Policy) -> Job:
    """From this commit on a server may exist. The attempt's first request starts its boot timeout."""
    if len(job.requests) == 1:
        job = replace(job, deadline_at=event.at + actions.boot_timeout(job, policy))
    return create_requests.set_status(job, event.mark, "sent")


def is_to_be_sent_again(job: Job, event: CreateAbsent) -> bool:
    """The request made no server, and another one is sent at once."""
    return create_requests.is_absent_for_good(job, event) and event.again


def ask_again(job: Job, event: CreateAbsent, policy: Policy) -> Job:
    """The lost request made no server: it is void, and a new one gets its own mark and token."""
    job = create_requests.set_status(job, event.mark, "void")
    return replace(job, requests=(*job.requests, CreateRequest(event.new_mark, event.new_token)))


def blames_job(job: Job, event: CreateRefused) -> bool:
    """What the job file asks for is refused."""
    return create_requests.is_open(job, event) and event.kind == "job"


def fail_for_good(job: Job, event: CreateRefused, policy: Policy) -> Job:
    """The same request would be refused again."""
    job = actions.nothing_exists(job, event, policy)
    return replace(
        job,
        outcome="workflow_failed",
        misses=0,
        deadline_at=None,
        reason=why_refused(event.kind, job.wishes, event.reason, event.sent),
    )


WAITS = {
    "quota": "the project's quota is used up",
    "rate_limit": "the cloud's rate limit is reached",
    "capacity": "the cloud has no capacity",
    "unreachable": "the cloud cannot be reached",
    "site": "the cloud refuses what landoconfig.yml names",
}


def why_refused(kind: RefusalKind, wishes: str, words: str, sent: bool) -> str:
    """Why a job has failed, or a job or all jobs wait, after a refusal, as a sentence.

    Args:
        kind: of the refusal.
        wishes: of the job that was refused.
        words: the cloud's, or this installation's.
        sent: the cloud refused the create; else it was not sent. What this installation refuses it says all
            itself.
    """
    if not sent and kind != "unreachable":
        return words
    if kind == "job":
        return f"the cloud refuses what the job asks for: {words}"
    if kind == "site" and wishes:
        return f"the cloud refuses what the job asks for, or what landoconfig.yml names: {words}"
    return f"{WAITS[kind]}: {words}"


def no_capacity(job: Job, event: CreateRefused) -> bool:
    """The cloud has no capacity for this job's server; it may have for another's."""
    return create_requests.is_open(job, event) and event.kind == "capacity"


def back_off(job: Job, event: CreateRefused, policy: Policy) -> Job:
    """This job alone waits, longer each time; no failure is counted."""
    job = back_to_the_queue(job, event, policy)
    misses = job.misses + 1
    wait = actions.capacity_wait(misses, policy) if event.retry_after is None else event.retry_after
    return replace(job, misses=misses, not_before=event.at + wait)


def back_to_the_queue(job: Job, event: CreateRefused, policy: Policy) -> Job:
    """The job is not at fault: it keeps its place, and no failure is counted."""
    job = actions.nothing_exists(job, event, policy)
    reason = why_refused(event.kind, job.wishes, event.reason, event.sent)
    return replace(job, deadline_at=None, server_name=None, reason=reason)


def wait_unanswered(job: Job, event: CreateAbsent, policy: Policy) -> Job:
    """The cloud did not answer, and made no server: that counts only if others are answered meanwhile."""
    wait = actions.wait_after_failure(job, policy)
    return replace(
        actions.nothing_exists(job, event, policy),
        unanswered=job.unanswered + 1,
        deadline_at=None,
        server_name=None,
        not_before=event.at + wait,
        reason=why_unanswered(event.reason),
    )


def why_unanswered(words: str) -> str:
    """Why a job waits whose create made no server, as a sentence; ``words`` say why there was no answer."""
    return f"the create was not answered, and no VM was made: {words}"


# Rows that booting and running have in common are written in both: each state is read alone.
ROWS = (
    stays("create_sent", action=send, when=create_requests.is_unsent, why="from now on a server may exist"),
    ignored(
        "create_sent",
        why="it was sent before and its answer was lost: the server is looked for, the create not repeated",
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=actions.has_duplicates,
        effects=("delete_twins",),
        why="the request made several servers: one is kept, the others are deleted",
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=create_requests.is_open,
        why="the server is the job's",
    ),
    refused("server_created", why="its request was resolved before; the sweep deletes such a server"),
    stays(
        "server_active",
        action=actions.record_address,
        when=actions.is_first_address,
        effects=("attach_floating_ip",),
        why="the server is up",
    ),
    stays(
        "server_active",
        action=actions.record_address,
        when=actions.is_about_its_server,
        why="it has another address",
    ),
    ignored("server_active", why="it is about another server"),
    moves(
        "create_refused",
        "failed",
        action=fail_for_good,
        when=blames_job,
        why="what the job asks for is refused",
    ),
    moves(
        "create_refused",
        "queued",
        action=back_off,
        when=no_capacity,
        why="no server exists; the job waits, and no failure is counted",
    ),
    moves(
        "create_refused",
        "queued",
        action=back_to_the_queue,
        when=create_requests.is_open,
        why="no server exists; it keeps its place, and no failure is counted",
    ),
    refused("create_refused", why="its request was resolved before"),
    stays(
        "create_absent",
        action=ask_again,
        when=is_to_be_sent_again,
        why="the request made no server: a new one is sent, with its own mark and token",
    ),
    moves(
        "create_absent",
        "queued",
        action=wait_unanswered,
        when=create_requests.is_absent_for_good,
        why="the request made no server, and the cloud does not answer creates",
    ),
    stays(
        "create_absent",
        action=actions.record_absence,
        when=create_requests.is_open,
        why="the server is not listed yet: it is looked for again",
    ),
    refused("create_absent", why="its request was resolved before"),
    moves(
        "worker_started",
        "running",
        action=actions.start_running,
        when=create_requests.is_valid_report,
        why="the worker has reported",
    ),
    ignored("worker_started", why=actions.STALE),
    moves(
        "worker_progress",
        "running",
        action=actions.start_running,
        when=create_requests.is_valid_report,
        why="any report proves that the worker runs",
    ),
    ignored("worker_progress", why=actions.STALE),
    moves(
        "workflow_finished",
        "terminating",
        action=actions.finish,
        when=create_requests.is_valid_report,
        effects=("delete_server",),
        why="any report proves that the worker runs",
    ),
    ignored("workflow_finished", why=actions.STALE),
    moves(
        "boot_failed",
        "terminating",
        action=actions.boot_failed,
        when=actions.is_about_its_server,
        effects=actions.ENDING,
        why="the cloud could not build the server",
    ),
    ignored("boot_failed", why="it is about another server"),
    moves(
        "server_lost",
        "terminating",
        action=actions.server_lost,
        when=actions.is_about_its_server,
        effects=actions.ENDING,
        why="the server is gone",
    ),
    ignored("server_lost", why="it is about another server"),
    moves(
        "boot_timeout",
        "terminating",
        action=actions.boot_timed_out,
        effects=actions.ENDING,
        why="the worker did not report in time",
    ),
    moves(
        "cancel",
        "terminating",
        action=actions.cancel,
        effects=("delete_server",),
        why="it was canceled",
    ),
    ignored("run_timeout", why="the workflow has not started"),
    ignored("worker_lost", why="the worker has not reported yet; boot_timeout covers that"),
    refused("admitted", why="the job was admitted before"),
    refused("rejected", why="the job was found runnable before"),
    refused("retry", why="only a failed job can be retried; this one is booting"),
    refused("server_gone", why="no deletion was requested"),
    stays(
        "boot_failures_judged",
        action=actions.judge,
        when=actions.is_in_doubt,
        why="whose the failures of earlier attempts were is known",
    ),
    ignored("boot_failures_judged", why="none of its failures is in doubt"),
)
