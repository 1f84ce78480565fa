"""A site in simulated time: the daemon and all that is around it, and what must hold at every commit."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from lando.cloud.interface import ServerRequest
from lando.daemon.daemon import Daemon
from lando.daemon.effects import Effects
from lando.engine import boot_times
from lando.engine.engine import Engine
from lando.engine.leaks import Sweeper
from lando.engine.operations import SendCreate
from lando.engine.pace import Pace
from lando.states.job import ENDED_STATES, LIVE_STATES, Job, JobSpec
from lando.states.table import Policy
from tests.simulation.broker import SimulatedQueue
from tests.simulation.cloud import SETTLE, Flaws, SimulatedCloud
from tests.simulation.outages import Outages
from tests.simulation.store import Changed, SimulatedStore
from tests.simulation.workers import Workers
from tests.simulation.world import Killed, World, simulated

DEPLOYMENT = "simulated"
TOLD = 3000
"""Characters of a job's history that are told."""
ENDING = 90.0
"""Seconds: deleting a server takes no longer while the cloud works."""


class Over(BaseException):
    """The simulation has ended."""


class Broken(AssertionError):
    """Something happened that must never happen."""


@dataclass(frozen=True)
class Settings:
    """What landoconfig.yml would say; the defaults are lando's."""

    places: int = 20
    observe: float = 10.0
    grace: float = 60.0
    heartbeat: float = 30.0
    silence: float = 600.0
    hold: float = 30.0
    look: float = 20.0
    """Seconds between two looks at the deadlines; see ``world.simulated``."""
    floating_ips: bool = True


@dataclass
class Site:
    """The site.

    Args:
        seed: of everything that is random.
        outages: what is broken, and when.
        settings: of the daemon.
        flaws: of the jobs.
    """

    seed: int
    outages: Outages
    settings: Settings = field(default_factory=Settings)
    flaws: Flaws = field(default_factory=Flaws)
    downtime: float = 0.0
    """Seconds until the next daemon starts after one was killed."""
    downs: list[tuple[float, float]] = field(default_factory=list)
    """From when to when no daemon ran."""
    servers_of: dict[str, set[str]] = field(default_factory=dict)
    """The servers that were ever believed to be a job's, and may exist."""
    alone: dict[str, bool] = field(default_factory=dict)
    """Whether no other job waited or booted when a job failed to boot, the last time: it ends after its
    attempts, outage or not (``is_alone`` in ``lando.engine.boot_outcomes``)."""
    daemon: Daemon | None = None
    broken: Broken | None = None
    is_retried: bool = False
    """Whether people retry jobs that have failed."""

    def __post_init__(self) -> None:
        self.world = World(self.seed)
        self.queue = SimulatedQueue(self.world, self.outages)
        self.workers = Workers(self.world, self.queue, self.settings.heartbeat)
        self.cloud = SimulatedCloud(
            self.world,
            self.outages,
            self.workers.boot,
            self.flaws,
            limit=self.settings.places + 5,
            has_floating_ips=self.settings.floating_ips,
        )
        self.store = SimulatedStore(self.world, self.outages, self._check)
        self.tables = self.store.tables
        self.commits: list[Callable[[], None]] = []
        """Called after each commit that has changed a job."""

    def run(self, until: float) -> None:
        """Run daemons, one after the other, until then.

        Raises:
            Broken: something happened that must never happen.
        """
        self.world.plan(until, self._end)
        with simulated(self.world, self.settings.look), contextlib.suppress(Over):
            while True:
                self.world.life += 1
                self.daemon = self._new_daemon()
                with contextlib.suppress(Killed):
                    self.daemon.run()
                self.daemon = None
                self.queue.rewind()
                self.downs.append((self.world.now, self.world.now + self.downtime))
                self.world.wait(self.world.now + self.downtime)
        if self.broken is not None:
            raise self.broken
        if self.world.bugs:
            raise Broken("the daemon's log tells of a bug:\n" + "\n".join(self.world.bugs[:3]))

    def _end(self) -> None:
        raise Over

    def _new_daemon(self) -> Daemon:
        settings = self.settings
        policy = Policy(
            boot_timeout=boot_times.timeout(self.tables.boots()),
            hold=settings.hold,
            floating_ip=settings.floating_ips,
        )
        pace = Pace(
            poll=max(30.0, 3 * settings.observe),
            settle=SETTLE,
            silence=settings.silence,
            heartbeat=settings.heartbeat,
        )
        engine = Engine(policy, pace, _accept, self.new_secret, learns_boot=True)
        return Daemon(
            cast(Any, self.store),
            self.queue,
            self.cloud,
            engine,
            Effects(self.cloud, DEPLOYMENT, _request),
            Sweeper(DEPLOYMENT, settings.grace),
            max_workers=settings.places,
            observe=settings.observe,
            grace=settings.grace,
        )

    def new_secret(self) -> str:
        return f"{self.world.random.getrandbits(128):032x}"

    def new_job_id(self) -> str:
        return str(uuid.UUID(int=self.world.random.getrandbits(128), version=4))

    # what must hold

    def _check(self, changed: Changed) -> None:
        try:
            for before, job in changed:
                self._check_job(before, job)
        except Broken as broken:
            self.broken = broken
            raise Over from None  # past the daemon, which goes on after every error
        for each in tuple(self.commits):
            each()

    def _check_job(self, before: Job | None, job: Job) -> None:
        servers = self.servers_of.setdefault(job.id, set())
        if job.server_id is not None:
            servers.add(job.server_id)
        if before is not None and (before.state, job.state) == ("booting", "terminating"):
            others = self.tables.jobs_in(("queued", "booting"))
            self.alone[job.id] = all(each.id == job.id for each in others)
        if len(self.cloud.marks) < len(self.cloud.creates):
            raise Broken(f"{self._told(job)}: a create was sent twice with one mark")
        believed = {each for each in servers if self._exists(each)}
        if len(believed) > 1:
            raise Broken(f"{self._told(job)}: two servers are believed to be its: {sorted(believed)}")
        is_retried = self.is_retried and job.reason == "retried"
        if (
            before is not None
            and before.state in ENDED_STATES
            and not is_retried
            and before.state != job.state
        ):
            raise Broken(f"{self._told(job)}: it had ended: {before.state}")
        if job.state not in LIVE_STATES and believed:
            raise Broken(f"{self._told(job)}: its server exists: {sorted(believed)}")
        address = None if before is None or job.state in LIVE_STATES else before.floating_ip
        if address in self.cloud.addresses.by_mark:
            raise Broken(f"{self._told(job)}: its floating IP exists")

    def _exists(self, server_id: str) -> bool:
        server = self.cloud.machines.get(server_id)
        return server is not None and server.exists(self.world.now)

    def _told(self, job: Job) -> str:
        return f"seed {self.seed}, at {self.world.now:.1f} s, job {job.id} ({job.state})"

    # what is true

    def job(self, job_id: str) -> Job:
        job = self.tables.job(job_id)
        assert job is not None, f"job {job_id} is lost"
        return job

    def open_jobs(self) -> list[Job]:
        """The jobs that have not ended."""
        return self.tables.jobs_in(("queued", *LIVE_STATES))

    @property
    def is_full(self) -> bool:
        """Whether no sound job waits that could have a place: whatever has a server that cannot run a job, or
        has been ending one for long, should have made room."""
        served, waiting, others = 0, 0, 0
        for job in self.open_jobs():
            if job.id in self.flaws or self._ends_now(job):
                others += job.state in LIVE_STATES
            elif self._is_served(job):
                served += 1
            else:
                waiting += 1
        return not waiting or served + others >= self.settings.places

    def _ends_now(self, job: Job) -> bool:
        return job.state == "terminating" and self.world.time() - job.entered_at < ENDING

    def _is_served(self, job: Job) -> bool:
        server = self.cloud.machines.get(job.server_id or "")
        return job.state in ("booting", "running") and server is not None and server.is_sound

    def told(self, job: str) -> str:
        """The end of a job's history, for whoever looks for the cause of a failure."""
        return "\n".join(
            f"{at:9.1f} s  {change.event}: {change.source} → {change.target}, attempt {change.attempt}: "
            f"{change.reason}"
            for at, change in self.store.history
            if change.job_id == job
        )[-TOLD:]


def _accept(body: Any) -> JobSpec:
    return JobSpec("https://example.org/a.git", ".", {}, "a.cwl", **body)


def _request(operation: SendCreate, deployment: str) -> ServerRequest:
    job = operation.job
    return ServerRequest(
        job.server_name or "", operation.mark, deployment, job.id, job.attempt, operation.token.encode()
    )
