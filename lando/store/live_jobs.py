"""What the daemon keeps in memory of the jobs that may own a server or are queued, so that no turn, no look
at the cloud and no check of deadlines reads them all.

The one thread that owns all state writes every job, and each write is repeated here; so this is what its
transaction would read. Nothing of it outlives a transaction, or a part of one, that failed: it is read again
when it is needed next.

That a worker was heard is kept here only, if it has changed nothing else. It holds for the version of the
record that it was heard of, and is written with the record's next change. A daemon that starts has none of
it, and need not: silence counts from its start.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.states.job import LIVE_STATES, Job, State
from lando.states.records import replace
from lando.store.job_rows import to_job
from lando.store.pending import JOB_FIELDS
from lando.store.tables import JOBS

RESULTS = ("outputs", "log_tail")
"""What is not kept: up to 3 MiB of a job."""
_KEPT = tuple(JOBS.c[name] for name in JOB_FIELDS if name not in RESULTS)
# Built once: building a statement costs more than executing it.
_LIVE = sa.select(*_KEPT).where(JOBS.c.state.in_(LIVE_STATES)).order_by(JOBS.c.number)
_QUEUED = (
    sa.select(JOBS.c.wishes, JOBS.c.flavor, sa.func.count().label("jobs"))
    .where(JOBS.c.state == "queued")
    .group_by(JOBS.c.wishes, JOBS.c.flavor)
)
_WITH_IDS = sa.select(*_KEPT).where(JOBS.c.id.in_(sa.bindparam("ids", expanding=True)))
AT_ONCE = 500
"""Ids in one statement."""


class Pulse(NamedTuple):
    """When a worker was last heard, and its highest sequence number."""

    version: int
    """Of the job's record at that time."""
    heard_at: float
    seq: int


def without_results(connection: Connection, job_ids: Collection[str]) -> list[Job]:
    """Those of these jobs that the database has, without their results."""
    ids = [*job_ids]
    parts = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
    return [to_job(row) for part in parts for row in connection.execute(_WITH_IDS, {"ids": part})]


class LiveJobs:
    """See above. One thread uses it."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] | None = None
        """Those that may own a server, without results; None: to be read."""
        self._servers: Counter[str] = Counter()
        """How many of these there are, by their wishes."""
        self._queued: Counter[tuple[str, str | None]] = Counter()
        """How many jobs are queued, by wishes and flavor."""
        self._pulses: dict[str, Pulse] = {}
        self._new_pulses: dict[str, Pulse] = {}
        """Of the present transaction."""

    @contextlib.contextmanager
    def in_transaction(self) -> Iterator[None]:
        """Around a transaction and its commit; if it fails, what it did here is forgotten, too."""
        try:
            yield
        except BaseException:
            self.forget()
            raise
        self._pulses.update(self._new_pulses)
        self._new_pulses = {}

    def forget(self) -> None:
        """Something was rolled back, or may have been: what the database has is read again."""
        self._jobs = None
        self._new_pulses = {}

    @property
    def is_read(self) -> bool:
        """Whether ``read`` has nothing to do."""
        return self._jobs is not None

    def read(self, connection: Connection) -> None:
        """Read what the database has.

        Args:
            connection: a transaction that has written all that it has changed.
        """
        self._jobs = {}
        self._servers.clear()
        self._queued = Counter({(row.wishes, row.flavor): row.jobs for row in connection.execute(_QUEUED)})
        for row in connection.execute(_LIVE):
            self.put(to_job(row))
        self._pulses = {job_id: pulse for job_id, pulse in self._pulses.items() if job_id in self._jobs}

    # what the transaction has changed

    def put(self, job: Job) -> None:
        """A job was added or changed."""
        if self._jobs is None:
            return
        before = self._jobs.get(job.id)
        if before is not None:
            self._count(self._servers, before.wishes, -1)
        if job.state in LIVE_STATES:
            self._count(self._servers, job.wishes, 1)
            has_results = job.outputs is not None or job.log_tail
            job = replace(job, outputs=None, log_tail="") if has_results else job
            self._jobs[job.id] = self.refreshed(job)
        elif before is not None:
            del self._jobs[job.id]
            self._pulses.pop(job.id, None)

    def queue(self, job: Job, by: int) -> None:
        """A job has entered ``queued`` (1), or left it (-1)."""
        if self._jobs is not None:
            self._count(self._queued, (job.wishes, job.flavor), by)

    @staticmethod
    def _count(counter: Counter[Any], key: Any, by: int) -> None:
        counter[key] += by
        if not counter[key]:
            del counter[key]

    def hear(self, job: Job) -> None:
        """A worker was heard, and nothing else of the record has changed."""
        assert job.heard_at is not None
        self._new_pulses[job.id] = Pulse(job.version, job.heard_at, job.seq)
        if self._jobs is not None and job.id in self._jobs:
            self._jobs[job.id] = self.refreshed(self._jobs[job.id])

    def refreshed(self, job: Job) -> Job:
        """The record with what was heard of this version of it."""
        pulse = self._new_pulses.get(job.id) or self._pulses.get(job.id)
        if pulse is None or pulse.version != job.version:
            return job
        return replace(job, heard_at=pulse.heard_at, seq=pulse.seq)

    # what is known

    def owners(self, states: Sequence[State]) -> list[Job]:
        """See ``Ledger.owners``."""
        assert self._jobs is not None
        return [job for job in self._jobs.values() if job.state in states]

    def servers(self) -> dict[str, int]:
        """See ``Ledger.live``."""
        return dict(self._servers)

    def queued(self) -> Collection[tuple[str, str | None]]:
        """The different wishes of queued jobs, each with its flavor."""
        return self._queued.keys()

    def wishes(self) -> frozenset[str]:
        """The different wishes of all these jobs."""
        return frozenset(self._servers).union(wishes for wishes, _ in self._queued)
