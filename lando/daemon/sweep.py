"""Leaked resources: found in snapshots, deleted, and counted once they are gone; what stays is recorded for
``status``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from lando import backoff
from lando.cloud.interface import Cloud, Server
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon.log import log
from lando.daemon.meter import NO_METER, Meter
from lando.daemon.pool import Pool
from lando.daemon.recorded_fact import RecordedFact
from lando.engine import leaks
from lando.engine.leaks import Sweeper
from lando.engine.ownership import CloudResource, ResourceKind, described, kind_of
from lando.message_limits import REASON, shorten
from lando.states.job import Job
from lando.store.facts import STAYING_FACT, Staying, staying_value
from lando.store.transaction import Transaction

THREADS = 2
"""Deletions in progress at the same time: they have threads of their own, so that jobs' effects never
wait."""
FIRST, LONGEST = 1.0, 600.0
"""Seconds between two requests to delete the same resource: doubled each time. Some can only be deleted by an
administrator: one that is locked, or for which Nova answers 404 although it lists it."""
STAYS = 6
"""From this request on, half a minute after the first, each is logged, and ``status`` tells of it: the
resource stays."""


@dataclass
class _Tries:
    """The requests to delete one resource."""

    resource: CloudResource
    since: float
    """Epoch seconds of the first."""
    due: float = 0.0
    """When it may be requested again; monotonic seconds."""
    times: int = 0
    words: str = ""
    """Why the last one failed; empty if it was accepted."""
    was_accepted: bool = False
    """One of them was."""


@dataclass(frozen=True)
class _Requested:
    """A deletion that was requested; ``error`` says why that failed."""

    resource: CloudResource
    error: Exception | None


class Sweep:
    """Deletes what is leaked.

    Args:
        cloud: where it is.
        sweeper: finds it.
        wake: makes the loop collect what is finished.
        clock: seconds that only increase.
        meter: told what is leaked, and what is gone.
    """

    def __init__(
        self,
        cloud: Cloud,
        sweeper: Sweeper,
        wake: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        meter: Meter = NO_METER,
    ) -> None:
        self._cloud = cloud
        self._meter = meter
        self._gone: list[ResourceKind] = []
        """Counted in the transaction that is not committed yet."""
        self._sweeper = sweeper
        self._pool: Pool[_Requested] = Pool(THREADS, wake)
        self._in_progress: set[str] = set()
        self._clock = clock
        self._tries: dict[str, _Tries] = {}
        self._fact = RecordedFact(STAYING_FACT)
        self._before: dict[str, float] | None = None
        """Since when each stays, as an earlier daemon has recorded; None until that was read."""

    def find(
        self, transaction: Transaction, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float
    ) -> list[CloudResource]:
        """What is leaked and to be deleted; what was deleted and is not listed any more is counted.

        Args:
            transaction: where it is counted.
            snapshot: what the cloud showed.
            jobs: every job that may own a server, and every job that a server names.
            now: seconds of the monotonic clock.
        """
        if self._before is None:
            self._before = {each.id: each.since for each in transaction.staying()}
        leaked = self._sweeper.leaked(snapshot, jobs, now)
        self._count_gone(transaction, snapshot)
        return leaked

    def delete(self, leaked: Iterable[CloudResource]) -> None:
        """Request the deletion of each, unless that is in progress, or was requested a short while ago.

        The caller has committed what ``find`` has counted.
        """
        for kind in self._gone:
            self._meter.swept(kind)
        self._gone.clear()
        for resource in leaked:
            since = (self._before or {}).get(resource.id) or time.time()
            tries = self._tries.setdefault(resource.id, _Tries(resource, since))
            if resource.id not in self._in_progress and self._clock() >= tries.due:
                tries.times += 1
                tries.due = self._clock() + backoff.delay(tries.times, FIRST, LONGEST)
                self._in_progress.add(resource.id)
                self._pool.submit(partial(_request_deletion, self._cloud, resource))
        self._meter.leaks(Counter(kind_of(tries.resource) for tries in self._tries.values()))

    def collect(self) -> None:
        """Log the results of finished deletion requests."""
        for requested in self._pool.collect():
            what, tries = described(requested.resource), self._tries[requested.resource.id]
            self._in_progress.discard(requested.resource.id)
            tries.words = "" if requested.error is None else shorten(str(requested.error), REASON)
            if requested.error is not None:
                log.warning("%s belongs to no job and could not be deleted yet: %s", what, requested.error)
                continue
            stays = tries.times >= STAYS
            again = f" {tries.times} times, and it still existed each time" if stays else ""
            if stays or not tries.was_accepted:
                log.warning("%s belongs to no job; its deletion was requested%s", what, again)
            tries.was_accepted = True

    def write(self, transaction: Transaction) -> None:
        """Record what stays for ``status``."""
        if self._before is not None:
            stays = (tries for tries in self._tries.values() if tries.times >= STAYS)
            staying = [
                Staying(each.resource.id, described(each.resource), each.since, each.times, each.words)
                for each in stays
            ]
            self._fact.write(transaction, staying_value(staying))

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._fact.write_again()
        self._gone.clear()

    def stop(self) -> None:
        """Delete nothing more."""
        self._pool.stop()

    def _count_gone(self, transaction: Transaction, snapshot: CloudSnapshot) -> None:
        listed = {server.id for server in snapshot.servers}
        listed.update(floating_ip.id for floating_ip in snapshot.floating_ips or ())
        for id_, tries in tuple(self._tries.items()):
            is_known = isinstance(tries.resource, Server) or snapshot.floating_ips is not None
            if id_ in listed or id_ in self._in_progress or not is_known:
                continue
            del self._tries[id_]
            if tries.was_accepted:
                transaction.count_swept(kind_of(tries.resource))
                self._gone.append(kind_of(tries.resource))
                log.warning("%s, which belonged to no job, is gone", described(tries.resource))


def _request_deletion(cloud: Cloud, resource: CloudResource) -> _Requested:
    """In a thread of the pool."""
    try:
        leaks.delete(cloud, resource)
    except Exception as error:
        return _Requested(resource, error)
    return _Requested(resource, None)
