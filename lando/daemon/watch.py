"""Takes snapshots of the cloud and applies them: one snapshot serves all jobs, the quota and the sweep.

A snapshot is applied only if the work queue was read up to date after it was taken: a report that was still
in the queue may be newer than the snapshot.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from lando.cloud.interface import Cloud, CloudError
from lando.cloud.snapshot import CloudSnapshot, SnapshotRequest, take_snapshot
from lando.daemon.health import CloudHealth
from lando.daemon.log import guarded, log
from lando.daemon.meter import NO_METER, Meter
from lando.daemon.pool import Pool
from lando.daemon.recorded_fact import RecordedFact
from lando.daemon.sweep import Sweep
from lando.daemon.unknown import Unknown
from lando.engine.engine import Engine
from lando.engine.holds import flavor_of, volume_of
from lando.engine.observation import events
from lando.engine.outbox import Outbox
from lando.engine.ownership import CloudResource
from lando.engine.quota import QuotaView
from lando.states.job import Job
from lando.store.facts import PROJECT_FACT
from lando.store.transaction import Transaction

AFTER_DELETION = 3.0
"""Seconds after a deletion until the cloud is looked at: the server may be gone."""
QUOTA_VALID_FOR = 60.0
"""Seconds for which at least a snapshot's quota may be used."""


class Watcher:
    """Takes snapshots of the cloud, in a thread of its own: creates that hang do not delay them.

    Args:
        cloud: what is looked at.
        engine: fires the events that follow.
        outbox: told which servers are listed.
        sweep: finds what is leaked.
        unknown: told what each snapshot shows.
        observe: seconds between two snapshots.
        grace: seconds between two lists of floating IPs, and between two answers that a server is gone.
        wake: makes the loop collect what is finished.
        meter: told whether the cloud answers, and of the quota.
    """

    def __init__(
        self,
        cloud: Cloud,
        engine: Engine,
        outbox: Outbox,
        sweep: Sweep,
        unknown: Unknown,
        observe: float,
        grace: float,
        wake: Callable[[], None],
        meter: Meter = NO_METER,
    ) -> None:
        self._cloud = cloud
        self._meter = meter
        self._engine = engine
        self._outbox = outbox
        self._sweep = sweep
        self._unknown = unknown
        self._observe = observe
        self._grace = grace
        self.health = CloudHealth()
        self.is_cloud_silent = False
        """The last look at the cloud got no list of servers."""
        self.project = RecordedFact(PROJECT_FACT)
        self.quota = QuotaView(cloud.has_quota, max(QUOTA_VALID_FOR, 3 * observe))
        self._pool: Pool[CloudSnapshot | Exception] = Pool(1, wake)
        self._snapshots: collections.deque[CloudSnapshot] = collections.deque()
        self._in_progress = False
        self._is_outdated = False
        """The snapshot in progress was begun before ``begin_anew``."""
        self._next = 0.0
        self._next_floating_ips = 0.0
        self._denied_since: dict[str, float] = {}
        """Since when the cloud has denied each server that a job has, asked by id."""

    def collect(self) -> int:
        """Take what the thread has finished.

        Returns:
            How many snapshots there are to judge.
        """
        for result in self._pool.collect():
            self._in_progress = False
            is_outdated, self._is_outdated = self._is_outdated, False
            if is_outdated:
                continue
            self.is_cloud_silent = not isinstance(result, CloudSnapshot)
            if isinstance(result, CloudSnapshot):
                self._note("; ".join(result.troubles))
                self._snapshots.append(result)
            elif isinstance(result, CloudError):
                self._note(str(result))
                self._next = max(self._next, time.monotonic() + (result.retry_after or 0.0))
            else:
                log.error("a snapshot failed; this is a bug in lando-fsm", exc_info=result)
                self._note(f"{type(result).__name__}: {result}")
        return len(self._snapshots)

    def begin_anew(self) -> None:
        """Look at the cloud again, now: what was seen until now, or is being looked at, does not count."""
        self._snapshots.clear()
        self._is_outdated = self._in_progress
        self._next = 0.0

    def judge(
        self, transaction: Transaction, count: int, now: float, listening_since: float | None
    ) -> list[CloudResource]:
        """Fire what the first ``count`` snapshots mean for jobs, and update the quota.

        Args:
            transaction: the iteration's.
            count: how many snapshots may be judged.
            now: the daemon's clock.
            listening_since: when it had read the queue up to date; not None if a snapshot may be judged.

        Returns:
            What is leaked, to be deleted after the commit.
        """
        leaked: list[CloudResource] = []
        if self._cloud.project is not None:
            self.project.write(transaction, self._cloud.project)  # before a job is admitted
        for _ in range(0 if listening_since is None else count):
            assert listening_since is not None
            snapshot = self._snapshots.popleft()
            snapshot = replace(snapshot, gone=self._gone_for_good(snapshot.gone, time.monotonic()))
            with guarded(transaction, "the judgement of a snapshot"):
                jobs = _jobs(transaction, snapshot, self._unknown.jobs)
                self._unknown.look(snapshot, jobs, time.monotonic())
                self.quota.update(snapshot, jobs)
                self._meter.quota(self.quota.headroom)
                if snapshot.floating_ips is not None:
                    self._next_floating_ips = time.monotonic() + self._grace
                leaked += self._sweep.find(transaction, snapshot, jobs, time.monotonic())
                for found, event in events(snapshot, jobs, now, self._engine.pace.heartbeat, listening_since):
                    job = transaction.job(found.id)
                    assert job is not None
                    self._engine.fire(transaction, job, event)
                listed = {server.id for server in snapshot.servers}
                self._outbox.notice_absence(transaction, listed, now)
        return leaked

    def _gone_for_good(self, denied: frozenset[str], now: float) -> frozenset[str]:
        """Those that were denied before, the grace period ago or earlier.

        A replica of Nova's database that lags behind denies servers that were created a moment ago.
        """
        before = self._denied_since
        self._denied_since = {server: before.get(server, now) for server in denied}
        return frozenset(
            server for server in denied if server in before and now - before[server] >= self._grace
        )

    def request(self, transaction: Transaction) -> SnapshotRequest | None:
        """What the next snapshot has to show, if one is due; None if not."""
        if self._in_progress or self._snapshots:
            return None  # the last snapshot is judged first
        waiting, wishes = transaction.wishes() if self._cloud.has_quota else (False, frozenset())
        flavors = {flavor_of(each) for each in wishes}
        volumes = any(volume_of(each) is not None for each in wishes)
        now = time.monotonic()
        is_urgent = waiting and self.health.silent_since is None and not self.quota.covers(flavors, volumes)
        if now < self._next and not is_urgent:
            return None
        self._next = now + self._observe
        floating_ips = self._cloud.floating_ips is not None and now >= self._next_floating_ips
        jobs = transaction.owners(("booting", "running"))
        known = tuple(job.server_id for job in jobs if job.server_id is not None)
        return SnapshotRequest(known, flavors if waiting else None, floating_ips, volumes)

    def start(self, request: SnapshotRequest | None, deleting: bool) -> None:
        """Take a snapshot, if one was requested; sooner than usual if a deletion was begun."""
        if deleting:
            self._next = min(self._next, time.monotonic() + AFTER_DELETION)
        if request is not None:
            self._in_progress = True
            self._pool.submit(partial(_take_snapshot, self._cloud, request))

    def _note(self, trouble: str) -> None:
        self.health.note(trouble)
        self._meter.cloud(trouble)
        if trouble:
            self.quota.fail(trouble)


def _jobs(transaction: Transaction, snapshot: CloudSnapshot, held_back: frozenset[str]) -> list[Job]:
    """Every job that may own a server, every other job that a listed server names, and those that are held
    back: the server that one of these names may be missing in one list."""
    live = transaction.owners()
    named = held_back.union(server.job_id for server in snapshot.servers if server.job_id is not None)
    return live + transaction.jobs_with(named.difference(job.id for job in live))


def _take_snapshot(cloud: Cloud, request: SnapshotRequest) -> CloudSnapshot | Exception:
    """In the thread of the pool."""
    try:
        return take_snapshot(cloud, request)
    except Exception as error:
        return error
