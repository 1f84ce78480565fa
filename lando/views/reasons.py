"""Why a job is where it is, as a sentence for people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from lando.engine.boot_failures import MOST, BootFailures
from lando.engine.holds import Hold, Holds
from lando.engine.obstacles import NO_START, WAITS_FOR_QUOTA
from lando.engine.reservation import Reservation
from lando.states.job import ENDED_STATES, Job
from lando.store.facts import OBSTACLE_FACT, UnknownServer
from lando.store.queries import JobView, Queries
from lando.times import rfc3339
from lando.views.daemon_status import DaemonStatus

LEAKING_TRIES = 5
"""Failed deletions after which a job is shown as leaking."""
LEAKING_AFTER = 300.0
"""Seconds in ``terminating`` after which a job is shown as leaking."""
NO_JOB_STARTS = "no job is started"


@dataclass(frozen=True)
class AdmissionOrder:
    """What decides when queued jobs start: read once, for all jobs that are shown."""

    positions: dict[str, int]
    """The positions of the queued jobs that are shown, from 1."""
    live: int
    """Jobs that may own a VM."""
    max_workers: int | None
    holds: Holds
    boot_failures: BootFailures
    obstacle: str | None
    """Why the daemon cannot admit the next job: the cloud's quota, or a cloud that does not answer."""
    reservation: Reservation | None = None
    unknown: Mapping[str, UnknownServer] = field(default_factory=dict)
    """By the jobs that they name: the servers of which the database does not know."""
    orphans: Mapping[str, UnknownServer] = field(default_factory=dict)
    """By the queued jobs that they name: the servers that the sweep deletes."""

    @classmethod
    def read(cls, queries: Queries, max_workers: int | None) -> AdmissionOrder:
        """Read it from the database, but for the positions."""
        unknown = queries.unknown()
        return cls(
            {},
            queries.count_live(),
            max_workers,
            queries.holds().at(time.time()),
            queries.boot_failures().at(time.time()),
            queries.fact(OBSTACLE_FACT),
            queries.reservation(),
            {server.job_id: server for server in unknown.servers},
            {server.job_id: server for server in unknown.orphans},
        )


def is_leaking(view: JobView) -> bool:
    """Whether deleting the job's VM has failed often, or takes unusually long."""
    effect = view.effect
    deleting = effect is not None and effect.kind in ("delete_server", "delete_twins")
    if view.job.state != "terminating" or effect is None or not deleting:
        return False
    return effect.tries >= LEAKING_TRIES or time.time() - view.job.entered_at > LEAKING_AFTER


def reason(view: JobView, order: AdmissionOrder, daemon: DaemonStatus) -> str:
    """The sentence that ``status`` shows.

    Args:
        view: the job.
        order: of all queued jobs.
        daemon: what it cannot reach is part of the sentence.
    """
    job, effect = view.job, view.effect
    sentence = _of_job(view, order)
    if job.state in ENDED_STATES:
        return sentence
    if effect is not None and effect.kind == "attach_floating_ip" and effect.reason:
        sentence = f"{sentence}; the VM has no floating IP yet: {effect.reason}"
    if job.state != "queued" and (unknown := order.unknown.get(job.id)) is not None:
        sentence = f"{sentence}; the cloud has VM {_of_unknown(unknown)}"
    needs_cloud = job.state in ("booting", "terminating")
    return f"{sentence}{remark(daemon, needs_cloud)}"


def remark(daemon: DaemonStatus, needs_cloud: bool = False) -> str:
    """In brackets: what keeps a job from getting further; empty where nothing does.

    Args:
        daemon: what it cannot reach.
        needs_cloud: the job waits for the cloud.
    """
    queue = daemon.queue_problem if daemon.pid is not None else "no daemon is running"
    problems = (queue, daemon.cloud_problem if needs_cloud else "")
    return "".join(f" ({problem})" for problem in problems if problem)


def _of_job(view: JobView, order: AdmissionOrder) -> str:
    job = view.job
    if job.state == "queued":
        return _of_queued(job, order)
    if job.state == "running":
        return _of_running(job)
    if view.effect is not None and is_leaking(view):
        failures = f"failed {view.effect.tries} times so far; retried until it succeeds"
        return f"LEAKING: its VM or floating IP cannot be deleted: {view.effect.reason} ({failures})"
    if job.state == "terminating":
        return f"{job.reason}; its VM is being deleted"
    return job.reason


def _of_queued(job: Job, order: AdmissionOrder) -> str:
    position, wait = order.positions.get(job.id, 0), job.not_before - time.time()
    if wait > 0:
        return f"{job.reason}; starts in {wait:.0f} s at the earliest; position {position}"
    if (unknown := order.unknown.get(job.id)) is not None:
        return f"not started while the cloud has VM {_of_unknown(unknown)}; position {position}"
    if (orphan := order.orphans.get(job.id)) is not None:
        return (
            f"not started before VM {_named(orphan)} is gone, an orphan that is deleted; position {position}"
        )
    return f"{_of_waiting(job, order, time.time())}; position {position}"


def _of_unknown(server: UnknownServer) -> str:
    whose = "see `lando-fsm servers`" if server.ours else "it carries another deployment's name"
    return f"{_named(server)}, which this database does not know: {whose}"


def _named(server: UnknownServer) -> str:
    attempt = "" if server.attempt is None else f" of its attempt {server.attempt}"
    return f"{server.name} ({server.id}){attempt}"


def _of_waiting(job: Job, order: AdmissionOrder, now: float) -> str:
    """Why a job does not start that has no back-off."""
    everybody, alike = order.holds.everybody, order.holds.of(job.wishes)
    failures = order.boot_failures
    if order.obstacle is not None and order.obstacle.startswith(NO_START):
        return order.obstacle
    if everybody is not None and everybody.until > now:
        return f"{NO_JOB_STARTS}: {_retried(everybody, now)}"
    if failures.are_the_sites and failures.until > now:
        wait = max(1.0, failures.until - now)
        return f"{no_boots(failures)}; one job is tried in {wait:.0f} s"
    if alike is not None and everybody is None and alike.until > now:
        others = "other jobs are accepted" if alike.own else "whether other jobs are accepted is being tried"
        return f"no job that asks for the same is started: {_retried(alike, now)}; {others}"
    if order.max_workers is not None and order.live >= order.max_workers:
        return f"waits for a free VM slot ({order.live} of {order.max_workers} in use)"
    if order.obstacle is not None:
        return _of_quota(job, order.obstacle, order.reservation)
    if everybody is not None:
        return f"{NO_JOB_STARTS}: {everybody.reason}; being retried with one job"
    if failures.are_the_sites:
        return f"{no_boots(failures)}; being retried with one job"
    if order.holds.unclear:
        return "waits for its turn; one job at a time is started, since the cloud refused another one"
    return "waits for its turn"


def no_boots(failures: BootFailures) -> str:
    """The sentence about boot failures that are the site's."""
    jobs = f"{len(failures.jobs)} jobs" if len(failures.jobs) < MOST else f"{MOST} jobs or more"
    return f"VMs have failed to boot since {rfc3339(failures.since)} ({jobs} tried): {failures.reason}"


def _retried(hold: Hold, now: float) -> str:
    sooner = ", or as soon as one of our VMs is gone" if hold.kind == "quota" and not hold.own else ""
    return f"{hold.reason}; retried in {max(1.0, hold.until - now):.0f} s{sooner}"


def _of_quota(job: Job, obstacle: str, reservation: Reservation | None) -> str:
    if reservation is None or not obstacle.startswith(WAITS_FOR_QUOTA):
        return obstacle
    until = rfc3339(reservation.until)
    if job.id == reservation.job_id and reservation.kept:
        return f"{obstacle}; the project's quota is kept free for it until {until}"
    if job.id == reservation.job_id:
        return f"{obstacle}; jobs behind it may start until {until}"
    first = reservation.job_id[:8]
    if reservation.kept:
        return f"waits behind job {first}, for which the project's quota is kept free until {until}"
    return f"waits for its turn, or for the project's quota, of which job {first} needs more than is left"


def _of_running(job: Job) -> str:
    if job.phase == "running":
        return f"running {job.step_name}" if job.step_name else job.reason
    return job.phase or job.reason
