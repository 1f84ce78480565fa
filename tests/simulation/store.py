"""The simulated database: the exploration's ledger, with transactions that are rolled back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from lando.engine.ledger import StateChange
from lando.messages import Origin
from lando.sqlite.opening import DAEMON_BUSY_TIMEOUT
from lando.states.job import ENDED_STATES, Job
from lando.store.database import StoreUnavailable
from lando.store.facts import (
    LOST_JOBS_FACT,
    STAYING_FACT,
    LostJobs,
    Staying,
    to_lost_jobs,
    to_staying,
)
from tests.model.ledger import MemoryLedger
from tests.simulation.outages import Outages
from tests.simulation.world import World

Changed = Sequence[tuple[Job | None, Job]]
"""Jobs before and after a change."""


class Tables(MemoryLedger):
    """Everything that is stored; stands for ``lando.store.transaction.Transaction``."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: dict[str, Job] = {}
        """Apart from the others, so that looking for these takes no longer as jobs end."""
        self._facts: dict[str, Any] = {}
        self.changed: list[tuple[Job | None, Job]] = []

    def contents(self) -> dict[str, Any]:
        """All that would have to be restored."""
        return {name: value.copy() if hasattr(value, "copy") else value for name, value in vars(self).items()}

    @contextlib.contextmanager
    def part(self) -> Iterator[None]:
        """Rolled back with the whole transaction only: it fails alone by a bug only, which ends the
        simulation."""
        yield

    def job(self, job_id: str) -> Job | None:
        return super().job(job_id) or self.ended.get(job_id)

    def insert_job(self, job: Job, body: Mapping[str, Any], submitted_by: str | None) -> None:
        super().insert_job(job, body, submitted_by)
        self.changed.append((None, job))

    def save_job(self, job: Job) -> Job:
        if job.id in self.ended:
            self._jobs[job.id] = self.ended.pop(job.id)
        before, saved = self._jobs[job.id], super().save_job(job)
        if saved.state in ENDED_STATES:
            self.ended[job.id] = self._jobs.pop(job.id)
        self.changed.append((before, saved))
        return saved

    def unseen_log(self, job_id: str, attempt: int, seqs: Sequence[int]) -> list[int]:
        return []

    def save_console(self, job_id: str, attempt: int, text: str) -> None:
        pass

    # what only the store has

    def jobs_with(self, job_ids: Collection[str]) -> list[Job]:
        return [job for job_id in job_ids if (job := self.job(job_id)) is not None]

    def wishes(self) -> tuple[bool, frozenset[str]]:
        is_waiting = any(job.state == "queued" for job in self._jobs.values())
        return is_waiting, frozenset(job.wishes for job in self._jobs.values())

    def fact(self, name: str) -> Any:
        return self._facts.get(name)

    def set_fact(self, name: str, value: Any) -> None:
        self._facts[name] = value

    def staying(self) -> tuple[Staying, ...]:
        return to_staying(self.fact(STAYING_FACT))

    def lost_jobs(self) -> LostJobs:
        return to_lost_jobs(self.fact(LOST_JOBS_FACT))

    def count_swept(self, kind: str) -> None:
        self._facts[kind] = self._facts.get(kind, 0) + 1

    def forget_processed(self, origin: Origin, before: float, limit: int) -> int:
        return 0


class SimulatedStore:
    """See ``lando.store.store.Store``.

    Args:
        world: has the time.
        outages: of disk and lock.
        committed: told of the jobs that a transaction has changed.
    """

    def __init__(self, world: World, outages: Outages, committed: Callable[[Changed], None]) -> None:
        self.tables = Tables()
        self.guard = None
        """It has no file."""
        self.history = None
        self._world = world
        self._outages = outages
        self._committed = committed
        self.history: list[tuple[float, StateChange]] = []
        """With the true times."""

    def reach(self) -> None:
        with self.transaction():
            pass

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Tables]:
        tables, now = self.tables, self._world.now
        if self._outages.lasts("lock", now):
            self._world.sleep(DAEMON_BUSY_TIMEOUT)
            if self._outages.lasts("lock", self._world.now):
                raise StoreUnavailable("lando.db: database is locked")
        tables.changes, tables.changed = [], []
        is_full = self._outages.lasts("disk", now)
        before = tables.contents() if is_full or self._world.kill_at is not None else None
        try:
            yield tables
            if is_full and before != tables.contents():
                raise StoreUnavailable("lando.db: database or disk is full")
        except BaseException:
            if before is not None:
                vars(tables).update(before)
            raise
        self.history += [(self._world.now, change) for change in tables.changes]
        if tables.changed:
            self._committed(tables.changed)
