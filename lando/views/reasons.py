"""Why a job is where it is, as a sentence for people."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lando.engine.ledger import Hold
from lando.states.job import ENDED_STATES, Job
from lando.store.facts import ROOM_FACT
from lando.store.queries import JobView, Queries
from lando.views.daemon_status import DaemonStatus

LEAKING_TRIES = 5
"""Failed deletions after which a job is shown as leaking."""
LEAKING_AFTER = 300.0
"""Seconds in ``terminating`` after which a job is shown as leaking."""


@dataclass(frozen=True)
class AdmissionOrder:
    """What decides when queued jobs start: read once, for all jobs that are shown."""

    positions: dict[str, int]
    """The position of each queued job, from 1."""
    live: int
    """Jobs that may own a VM."""
    max_workers: int | None
    hold: Hold | None
    quota_reason: str | None
    """What the next job waits for, where that is the cloud's quota."""

    @classmethod
    def read(cls, queries: Queries, max_workers: int | None) -> AdmissionOrder:
        """Read it from the database."""
        return cls(
            queries.queue_positions(),
            queries.count_live(),
            max_workers,
            queries.hold(),
            queries.fact(ROOM_FACT),
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
        daemon: what keeps it from working is said, too.
    """
    job, effect = view.job, view.effect
    sentence = _of_job(view, order)
    if job.state in ENDED_STATES:
        return sentence
    if effect is not None and effect.kind == "attach_floating_ip" and effect.reason:
        sentence = f"{sentence}; it has no floating IP yet: {effect.reason}"
    in_the_cloud = job.state in ("booting", "terminating")
    return f"{sentence}{daemon.queue_remark}{daemon.cloud_remark if in_the_cloud else ''}"


def _of_job(view: JobView, order: AdmissionOrder) -> str:
    job = view.job
    if job.state == "queued":
        return _of_queued(job, order)
    if job.state == "running":
        return _of_running(job)
    if view.effect is not None and is_leaking(view):
        tries = f"{view.effect.tries} failed tries"
        return f"LEAKING: what it has in the cloud cannot be deleted: {view.effect.reason} ({tries})"
    if job.state == "terminating":
        return f"{job.reason}; its server is being deleted"
    return job.reason


def _of_queued(job: Job, order: AdmissionOrder) -> str:
    position, wait = order.positions.get(job.id, 0), job.not_before - time.time()
    if wait > 0:
        return f"{job.reason}; not before {wait:.0f} s from now, position {position}"
    return f"{_of_first(order)}; position {position}"


def _of_first(order: AdmissionOrder) -> str:
    """Why the first job in the order does not start."""
    hold, held = order.hold, 0.0 if order.hold is None else order.hold.until - time.time()
    if hold is not None and held > 0:
        sooner = ", or when a server of ours is gone" if hold.kind == "quota" else ""
        again = f"tried again in {max(1.0, held):.0f} s{sooner}"
        return f"nobody is admitted just now: {hold.reason}; {again}"
    if order.max_workers is not None and order.live >= order.max_workers:
        return f"waits for a free place ({order.live} of {order.max_workers} taken)"
    if order.quota_reason is not None:
        return order.quota_reason
    if hold is not None:
        return f"nobody is admitted just now: {hold.reason}; being tried again, with one job"
    return "waits for its turn"


def _of_running(job: Job) -> str:
    if job.phase == "running":
        return f"running {job.step_name}" if job.step_name else job.reason
    return job.phase or job.reason
