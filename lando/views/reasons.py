"""Why a job is where it is, as a sentence."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lando.engine.ledger import Hold
from lando.states.job import ENDED_STATES, Job
from lando.store.facts import ROOM_FACT, JobView, Queries
from lando.views.daemon_status import Watching

LEAKING_TRIES = 5
"""After so many failed deletions a server is shown as leaking."""
LEAKING_AFTER = 300.0
"""Seconds of deleting after which a server is shown as leaking."""


@dataclass(frozen=True)
class Places:
    """What decides whose turn it is: read once, for all jobs that are shown."""

    positions: dict[str, int]
    live: int
    limit: int | None
    hold: Hold | None
    obstacle: str | None
    """What the next one waits for that is the cloud's to give."""

    @classmethod
    def read(cls, queries: Queries, limit: int | None) -> Places:
        """As the database has it; ``limit`` is max_workers."""
        return cls(
            queries.queue_positions(),
            queries.count_live(),
            limit,
            queries.hold(),
            queries.fact(ROOM_FACT),
        )


def is_leaking(view: JobView) -> bool:
    """Whether deleting its server takes unusually long, or has failed often."""
    effect = view.effect
    deleting = effect is not None and effect.kind in ("delete_server", "delete_twins")
    if view.job.state != "terminating" or effect is None or not deleting:
        return False
    return effect.tries >= LEAKING_TRIES or time.time() - view.job.entered_at > LEAKING_AFTER


def why(view: JobView, places: Places, daemon: Watching, leaking: bool) -> str:
    """The sentence, as ``status`` shows it."""
    job = view.job
    if job.state == "queued":
        why = _why_queued(job, places)
    elif job.state == "running":
        why = _why_running(job)
    elif leaking and view.effect is not None:
        tries = f"{view.effect.tries} failed tries"
        why = f"LEAKING: what it has in the cloud cannot be deleted: {view.effect.reason} ({tries})"
    elif job.state == "terminating":
        why = f"{job.reason}; its server is being deleted"
    else:
        why = job.reason
    if job.state in ENDED_STATES:
        return why
    if view.effect is not None and view.effect.kind == "attach_floating_ip" and view.effect.reason:
        why = f"{why}; it has no floating IP yet: {view.effect.reason}"
    return f"{why}{daemon.absence}{daemon.blindness if job.state in ('booting', 'terminating') else ''}"


def _why_queued(job: Job, places: Places) -> str:
    position, wait = places.positions.get(job.id, 0), job.not_before - time.time()
    if wait > 0:
        return f"{job.reason}; not before {wait:.0f} s from now, position {position}"
    return f"{_why_nobody(places)}; position {position}"


def _why_nobody(places: Places) -> str:
    """Why the next one in the order is not admitted."""
    hold, held = places.hold, 0.0 if places.hold is None else places.hold.until - time.time()
    if hold is not None and held > 0:
        sooner = ", or when a server of ours is gone" if hold.kind == "quota" else ""
        again = f"tried again in {max(1.0, held):.0f} s{sooner}"
        return f"nobody is admitted just now: {hold.reason}; {again}"
    if places.limit is not None and places.live >= places.limit:
        return f"waits for a free place ({places.live} of {places.limit} taken)"
    if places.obstacle is not None:
        return places.obstacle
    if hold is not None:
        return f"nobody is admitted just now: {hold.reason}; being tried again, with one job"
    return "waits for its turn"


def _why_running(job: Job) -> str:
    if job.phase == "running":
        return f"running {job.step_name}" if job.step_name else job.reason
    return job.phase or job.reason
