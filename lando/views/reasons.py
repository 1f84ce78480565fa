"""Why a job is where it is, as a sentence for people."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lando.engine.ledger import Hold
from lando.states.job import ENDED_STATES, Job
from lando.store.facts import OBSTACLE_FACT
from lando.store.queries import JobView, Queries
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
    """The position of each queued job, from 1."""
    live: int
    """Jobs that may own a VM."""
    max_workers: int | None
    hold: Hold | None
    obstacle: str | None
    """Why the daemon cannot admit the next job: the cloud's quota, or a cloud that does not answer."""

    @classmethod
    def read(cls, queries: Queries, max_workers: int | None) -> AdmissionOrder:
        """Read it from the database."""
        return cls(
            queries.queue_positions(),
            queries.count_live(),
            max_workers,
            queries.hold(),
            queries.fact(OBSTACLE_FACT),
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
    return f"{_of_first(order)}; position {position}"


def _of_first(order: AdmissionOrder) -> str:
    """Why the first job in the order does not start."""
    hold, held = order.hold, 0.0 if order.hold is None else order.hold.until - time.time()
    if hold is not None and held > 0:
        sooner = ", or as soon as one of our VMs is gone" if hold.kind == "quota" else ""
        return f"{NO_JOB_STARTS}: {hold.reason}; retried in {max(1.0, held):.0f} s{sooner}"
    if order.max_workers is not None and order.live >= order.max_workers:
        return f"waits for a free VM slot ({order.live} of {order.max_workers} in use)"
    if order.obstacle is not None:
        return order.obstacle
    if hold is not None:
        return f"{NO_JOB_STARTS}: {hold.reason}; being retried with one job"
    return "waits for its turn"


def _of_running(job: Job) -> str:
    if job.phase == "running":
        return f"running {job.step_name}" if job.step_name else job.reason
    return job.phase or job.reason
