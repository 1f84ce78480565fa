"""Deadlines of jobs that are booting or running.

Silence counts only while the daemon listened: it starts again in full after every reconnect, and whenever
reports were refused since too many waited; so does the wait for the first report, which a boot ends with. The
times that are compared are lived times (``clock_changes``): no step of the clock, and no time without a
daemon, counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from lando.engine.pace import Pace
from lando.states import actions, create_requests
from lando.states.events import BootTimeout, Event, RunTimeout, WorkerLost
from lando.states.job import Job
from lando.states.table import Policy

SLACK = 1.0
"""Seconds after a run timeout. The worker enforces it itself: its report, which has the end of the log, comes
first."""


def overdue(
    jobs: Iterable[Job],
    now: float,
    listening_since: float,
    hearing_since: float,
    policy: Policy,
    pace: Pace,
) -> list[tuple[Job, Event]]:
    """The deadlines that have passed, each as the event to fire.

    Args:
        jobs: the jobs to look at.
        now: the daemon's clock.
        listening_since: when the daemon had read the queue up to date, after it last connected.
        hearing_since: since when no report was refused, as well; never earlier.
        policy: the site's time limits.
        pace: how long a worker may be silent.
    """
    found = []
    silent_since = now - pace.silence
    for job in jobs:
        deadline = math.inf if job.deadline_at is None else job.deadline_at
        if deadline > now and (job.state == "booting" or (job.heard_at or 0.0) > silent_since):
            continue  # most of thousands
        event: Event | None = None
        if job.state == "booting":
            event = _boot_timeout(job, now, hearing_since, policy)
        elif job.state == "running":
            event = _run_timeout(job, now, listening_since, policy, pace)
            event = event or _silence(job, now, hearing_since, pace)
        if event is not None:
            found.append((job, event))
    return found


def _boot_timeout(job: Job, now: float, hearing_since: float, policy: Policy) -> Event | None:
    request = create_requests.open_request(job)
    if request is not None and request.status == "ordered":
        return None  # the create was not sent yet
    timeout = actions.boot_timeout(job, policy)
    deadline = max(job.deadline_at or 0.0, hearing_since + timeout)
    return BootTimeout(now) if now >= deadline else None


def _run_timeout(job: Job, now: float, listening_since: float, policy: Policy, pace: Pace) -> Event | None:
    if job.deadline_at is None:
        return None
    began = job.deadline_at - (actions.run_timeout(job, policy) or 0.0)
    # The result of a workflow that ended while the daemon was not connected may not have arrived yet.
    allowance = 0.0 if listening_since <= began else 2 * pace.heartbeat
    return RunTimeout(now) if now >= max(job.deadline_at + SLACK, listening_since + allowance) else None


def _silence(job: Job, now: float, hearing_since: float, pace: Pace) -> Event | None:
    silence = now - max(job.heard_at or 0.0, hearing_since)
    return WorkerLost(now, silence) if silence >= pace.silence else None
