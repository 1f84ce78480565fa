"""Booting: a server was ordered and may exist; its worker has not spoken yet."""

from __future__ import annotations

from lando.states import actions, create_requests
from lando.states.events import CreateAbsent, CreateRefused, CreateSent
from lando.states.job import CreateRequest, Job
from lando.states.records import replace
from lando.states.table import EffectKind, Policy, StateText, ignored, moves, refused, stays

TEXT = StateText(
    name="booting",
    means="A server was ordered and may exist; its worker has not spoken yet.",
    waits_for="the worker's first report",
    deadline="boot_timeout",
)

STALE = "the report of another attempt, or of a server that was given up"
ENDING: tuple[EffectKind, ...] = ("save_console_log", "delete_server")


def send(job: Job, event: CreateSent, policy: Policy) -> Job:
    """From this commit on a server may exist; with the attempt's first request its time begins to run."""
    if len(job.requests) == 1:
        boot_timeout = job.boot_timeout if job.boot_timeout is not None else policy.boot_timeout
        job = replace(job, deadline_at=event.at + boot_timeout)
    return create_requests.set_status(job, event.mark, "sent")


def ask_again(job: Job, event: CreateAbsent, policy: Policy) -> Job:
    """The lost request came to nothing: void it, and order a new one with a mark and token of its own."""
    job = create_requests.set_status(job, event.mark, "void")
    return replace(job, requests=(*job.requests, CreateRequest(event.new_mark, event.new_token)))


def blames_job(job: Job, event: CreateRefused) -> bool:
    """The cloud refuses what the job's own file names."""
    return create_requests.is_open(job, event) and event.kind == "job"


def fail_for_good(job: Job, event: CreateRefused, policy: Policy) -> Job:
    """Asking again would be refused again."""
    job = actions.nothing_exists(job, event, policy)
    return replace(
        job,
        outcome="workflow_failed",
        misses=0,
        deadline_at=None,
        reason=f"the cloud refuses what the job asks for: {event.reason}",
    )


WAITS = {
    "quota": "the project's quota is used up",
    "rate_limit": "the cloud asks for fewer calls",
    "capacity": "the cloud has no room just now",
    "unreachable": "the cloud cannot be reached",
    "site": "landoconfig.yml names what the cloud refuses",
}


def lacks_room(job: Job, event: CreateRefused) -> bool:
    """There is no room for this job's server; for another's there may be."""
    return create_requests.is_open(job, event) and event.kind == "capacity"


def back_off(job: Job, event: CreateRefused, policy: Policy) -> Job:
    """It alone waits, ever longer, and no failure is counted."""
    job = back_to_the_queue(job, event, policy)
    misses = job.misses + 1
    wait = actions.room_wait(misses, policy) if event.retry_after is None else event.retry_after
    return replace(job, misses=misses, not_before=event.at + wait)


def back_to_the_queue(job: Job, event: CreateRefused, policy: Policy) -> Job:
    """Not the job's fault: it keeps its place, and no failure is counted."""
    job = actions.nothing_exists(job, event, policy)
    reason = f"{WAITS[event.kind]}: {event.reason}"
    return replace(job, deadline_at=None, server_name=None, reason=reason)


ROWS = (
    stays("create_sent", action=send, when=create_requests.is_unsent, why="from here on a server may exist"),
    ignored("create_sent", why="sent before, and the answer was lost: it is looked for, not sent again"),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=actions.has_twins,
        effects=("delete_twins",),
        why="one of several servers of the request is kept, the others deleted",
    ),
    stays(
        "server_created",
        action=actions.adopt_server,
        when=create_requests.is_open,
        why="the server is adopted",
    ),
    refused("server_created", why="its request was resolved before; the sweeper deletes what surfaces"),
    stays(
        "server_active",
        action=actions.note_address,
        when=actions.is_first_address,
        effects=("attach_floating_ip",),
        why="the server is up",
    ),
    stays(
        "server_active", action=actions.note_address, when=actions.of_its_server, why="it has another address"
    ),
    ignored("server_active", why="an observation of another server"),
    moves(
        "create_refused", "failed", action=fail_for_good, when=blames_job, why="the job names what is refused"
    ),
    moves(
        "create_refused",
        "queued",
        action=back_off,
        when=lacks_room,
        why="nothing exists; the job waits, and no failure is counted",
    ),
    moves(
        "create_refused",
        "queued",
        action=back_to_the_queue,
        when=create_requests.is_open,
        why="nothing exists; all jobs wait, its place is kept, and no failure is counted",
    ),
    refused("create_refused", why="its request was resolved before"),
    stays(
        "create_absent",
        action=ask_again,
        when=create_requests.is_absent_for_good,
        why="the request came to nothing: a new one, with its own mark and token",
    ),
    stays(
        "create_absent",
        action=actions.look_again,
        when=create_requests.is_open,
        why="not listed yet: look again",
    ),
    refused("create_absent", why="its request was resolved before"),
    moves(
        "worker_started",
        "running",
        action=actions.start_running,
        when=create_requests.speaks,
        why="the worker is up",
    ),
    ignored("worker_started", why=STALE),
    moves(
        "worker_progress",
        "running",
        action=actions.start_running,
        when=create_requests.speaks,
        why="a lost or late worker_started does not matter",
    ),
    ignored("worker_progress", why=STALE),
    moves(
        "workflow_finished",
        "terminating",
        action=actions.finish,
        when=create_requests.speaks,
        effects=("delete_server",),
        why="a lost or late worker_started does not matter",
    ),
    ignored("workflow_finished", why=STALE),
    moves(
        "boot_failed",
        "terminating",
        action=actions.boot_failed,
        when=actions.of_its_server,
        effects=ENDING,
        why="the cloud could not build the server",
    ),
    ignored("boot_failed", why="an observation of another server"),
    moves(
        "server_lost",
        "terminating",
        action=actions.server_lost,
        when=actions.of_its_server,
        effects=ENDING,
        why="the server went away",
    ),
    ignored("server_lost", why="an observation of another server"),
    moves(
        "boot_timeout",
        "terminating",
        action=actions.give_up_booting,
        effects=ENDING,
        why="the worker did not report in time",
    ),
    moves(
        "cancel",
        "terminating",
        action=actions.cancel,
        effects=("delete_server",),
        why="somebody asked for it",
    ),
    ignored("run_timeout", why="the workflow has not begun"),
    ignored("worker_lost", why="the worker has not spoken yet; boot_timeout watches over that"),
    refused("admitted", why="the job was admitted before"),
    refused("rejected", why="the job was found runnable before"),
    refused("retry", why="only a failed job can be retried; this one is booting"),
    refused("server_gone", why="nothing was ordered to be deleted"),
)
