"""Checks the deadlines of jobs: a deadline that has passed counts once all messages were taken that were
queued until then, since one of them may be the report that was missed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from lando.daemon.log import guarded
from lando.daemon.receive import Receiver
from lando.engine.deadlines import overdue
from lando.engine.engine import Engine
from lando.states.events import Event
from lando.states.job import Job
from lando.store.transaction import Transaction

EVERY, SOON = 1.0, 0.1
"""Seconds between two looks at the deadlines; the second where one passes before the next look."""


@dataclass(frozen=True)
class _Overdue:
    """Jobs whose deadline was found to have passed."""

    jobs: frozenset[str]
    since: float
    """When that was found (``time.monotonic``)."""


class DeadlineCheck:
    """Fires what follows when a deadline has passed.

    Args:
        engine: the rules.
        receiver: knows what was taken.
    """

    def __init__(self, engine: Engine, receiver: Receiver) -> None:
        self._engine = engine
        self._receiver = receiver
        self._overdue: _Overdue | None = None
        self._next_look = 0.0

    @property
    def waits_since(self) -> float | None:
        """Since when a deadline has passed, and waits for what was queued before; None if none does."""
        return None if self._overdue is None else self._overdue.since

    @property
    def next_look(self) -> float:
        """Seconds until ``check`` has something to do, unless a fence is met before."""
        return max(0.0, self._next_look - time.monotonic())

    def check(self, transaction: Transaction, now: float) -> None:
        """Fire the deadlines that count, and find those that have passed.

        Args:
            transaction: where jobs are changed.
            now: the daemon's clock.
        """
        may_fire = self._overdue is not None and self._receiver.was_read_since(self._overdue.since)
        if not may_fire and self.next_look > 0:
            return
        self._next_look = time.monotonic() + EVERY
        if self._receiver.listening_since is None:
            self._overdue = None
            return
        with guarded(transaction, "the check of deadlines"):
            jobs = transaction.owners(("booting", "running"))
            found = self._overdue_at(jobs, now)
            if may_fire:
                found = self._fire(transaction, found)
            elif len(self._overdue_at(jobs, now + EVERY)) > len(found):
                self._next_look = time.monotonic() + SOON
            if not found:
                self._overdue = None
            elif self._overdue is None or may_fire:
                self._overdue = _Overdue(frozenset(job.id for job, _ in found), time.monotonic())

    def _overdue_at(self, jobs: Sequence[Job], moment: float) -> list[tuple[Job, Event]]:
        listening_since = self._receiver.listening_since
        hearing_since = self._receiver.hearing_since
        assert listening_since is not None and hearing_since is not None
        return overdue(jobs, moment, listening_since, hearing_since, self._engine.policy, self._engine.pace)

    def _fire(self, transaction: Transaction, found: list[tuple[Job, Event]]) -> list[tuple[Job, Event]]:
        """Returns what has passed only since the others were found: it waits for another fence."""
        assert self._overdue is not None
        for found_job, event in found:
            job = transaction.job(found_job.id) if found_job.id in self._overdue.jobs else None
            if job is not None and job.version == found_job.version:
                self._engine.fire(transaction, job, event)
        return [(job, event) for job, event in found if job.id not in self._overdue.jobs]
