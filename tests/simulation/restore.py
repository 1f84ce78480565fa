"""A database is restored from ten minutes ago, with jobs in every state meanwhile: none runs twice at once.

People submit, cancel and retry jobs all the time; answers to creates get lost. A while after the restore an
operator deletes what is unknown, and the jobs that were lost are submitted again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lando.cloud.snapshot import CloudSnapshot
from lando.engine.leaks import unowned_servers
from lando.messages import Message
from lando.states.job import ENDED_STATES, LIVE_STATES, Job
from tests.simulation.cloud import SimulatedServer
from tests.simulation.outages import Outage, Outages
from tests.simulation.site import Broken, Over, Settings, Site
from tests.simulation.workers import Workflow

MINUTE, HOUR = 60.0, 3600.0
BACKUP = 30 * MINUTE
RESTORE = BACKUP + 10 * MINUTE
DOWN = 2 * MINUTE
CLEANUP = RESTORE + DOWN + 20 * MINUTE
END = 4 * HOUR
JOBS = 60
LONGEST_RUN = 25 * MINUTE
UNTIMELY = 5.0
"""Seconds after which a server that is not listed yet cannot be known of in time."""
SETTINGS = Settings(places=15, observe=15.0, heartbeat=120.0, silence=1200.0)


@dataclass
class Restored:
    """What a restore was like."""

    site: Site
    backup: dict[str, Any] = field(default_factory=dict)
    then: dict[str, str] = field(default_factory=dict)
    """The states of jobs when the backup was made."""
    meanwhile: Counter[tuple[str, str]] = field(default_factory=Counter)
    """States then, and when it was restored."""
    unknown: list[SimulatedServer] = field(default_factory=list)
    """What the restored database did not know."""
    lost: set[str] = field(default_factory=set)
    """The jobs that it did not have."""
    told: set[str] = field(default_factory=set)
    """Of these: those that ``status`` named before somebody cleaned up."""


def restore(seed: int, answers_get_lost: bool = False) -> Restored:
    """Simulate it, and check what must be true.

    Raises:
        Broken: it is not.
    """
    outages = [Outage("answers", BACKUP - 3 * MINUTE, RESTORE)] if answers_get_lost else []
    here = Restored(Site(seed, Outages(outages), SETTINGS, downtime=DOWN, is_retried=True))
    site, random = here.site, here.site.world.random
    boot = site.cloud.booted
    site.cloud.booted = lambda server: (_alone(here, server), boot(server))[1]
    for _ in range(JOBS):
        job, at = site.new_job_id(), random.uniform(0.0, RESTORE)
        run = Workflow(random.uniform(MINUTE, LONGEST_RUN), succeeds=random.random() < 0.8)
        site.world.plan(at, partial(site.workers.submit, job, run))
        if random.random() < 0.2:
            _send(here, "cancel_job", job, random.uniform(at, RESTORE))
        if not run.succeeds:
            for _ in range(3):
                _send(here, "retry_job", job, random.uniform(at, RESTORE))
    site.world.plan(BACKUP, partial(_back_up, here))
    site.world.plan(RESTORE, partial(_kill, here))
    site.world.plan(CLEANUP, partial(_clean_up, here))
    site.world.plan(CLEANUP + 30 * MINUTE, partial(_sweep_unknown, here))  # what was listed late
    site.run(END)
    _check_end(here)
    return here


def _send(here: Restored, type_: str, job: str, at: float) -> None:
    message = Message(type_, {}, job, id=f"{type_}-{job}-{at}")
    here.site.world.plan(at, partial(here.site.workers.send, message))


def _alone(here: Restored, server: SimulatedServer) -> None:
    """No other server of its job exists that could have been listed when it was created."""
    now, job = here.site.world.now, server.request.job_id
    others = [
        each.id
        for each in here.site.cloud.existing()
        if each is not server and each.request.job_id == job and each.listed - each.created < UNTIMELY
    ]
    if others:
        told = here.site.told(job)
        here.site.broken = Broken(f"at {now:.0f} s {server.id} is created beside {others}: job {job}\n{told}")
        raise Over


def _back_up(here: Restored) -> None:
    here.backup = here.site.tables.contents()
    here.then = {job.id: job.state for job in _jobs(here)}


def _kill(here: Restored) -> None:
    here.site.queue.on_receive.append(partial(_restore, here))


def _restore(here: Restored) -> None:
    site = here.site
    now = {job.id: job.state for job in _jobs(here)}
    here.meanwhile = Counter((here.then.get(job, "none"), state) for job, state in now.items())
    here.lost = set(now).difference(here.then)
    vars(site.tables).update(here.backup)
    site.servers_of.clear()
    here.unknown = [each for each in _unknown(here) if not each.deleting]
    site.world.die()


def _clean_up(here: Restored) -> None:
    """What an operator does who has seen what is unknown."""
    site = here.site
    touched = [f"{each.id} of {each.request.job_id}" for each in here.unknown if each.deleting]
    if touched:
        site.broken = Broken(f"unknown servers were deleted: {touched}")
        raise Over
    facts = site.tables.fact("unknown"), site.tables.lost_jobs()
    here.told = {each["job_id"] for each in facts[0]["servers"]} | {each.job_id for each in facts[1].jobs}
    _sweep_unknown(here)
    for job in sorted(here.lost):
        site.workers.submit(job, site.workers.workflows[job])


def _sweep_unknown(here: Restored) -> None:
    """``lando-fsm servers --sweep --unknown``."""
    for server in _unknown(here):
        server.deleting, server.gone = True, here.site.world.now + 10.0


def _unknown(here: Restored) -> list[SimulatedServer]:
    cloud = here.site.cloud
    listed = (each for each in cloud.existing() if each.listed <= here.site.world.now + DOWN)
    snapshot = CloudSnapshot(tuple(map(cloud._shown, listed)))
    return [cloud.machines[each.id] for each in unowned_servers(snapshot, _jobs(here)).unknown]


def _jobs(here: Restored) -> list[Job]:
    tables = here.site.tables
    return tables.jobs_in(("queued", *LIVE_STATES)) + list(tables.ended.values())


def _check_end(here: Restored) -> None:
    site = here.site
    missing = {each.request.job_id for each in here.unknown}.intersection(here.lost) - here.told
    left = {
        "jobs that have not ended": site.open_jobs(),
        "servers": site.cloud.existing(),
        "floating IPs": list(site.cloud.addresses.by_mark),
        "effects": site.tables.next_effects(),
        "lost jobs that nobody was told of": missing,
        "jobs that failed by the system": [
            job for job in _jobs(here) if job.outcome == "system_failed" and job.state in ENDED_STATES
        ],
    }
    for what, found in left.items():
        if found:
            raise Broken(f"seed {site.seed}: there are {what}: {list(found)[:3]}")
