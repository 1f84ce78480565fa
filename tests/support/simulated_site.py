"""A site whose days pass in a second: the engine over a ledger in memory, and a cloud that may refuse."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lando.engine.operations import (
    Console,
    Created,
    CreateRejected,
    FetchConsole,
    Gone,
    Operation,
    OperationResult,
    SendCreate,
)
from lando.engine.quota import QuotaHeadroom
from lando.states.job import Job
from tests.model.ledger import MemoryLedger
from tests.support.engine_rules import NOW, Rules

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
STEP = 5.0
"""Seconds between two looks of the daemon."""

Answer = Callable[[Job, float], CreateRejected | None]


@dataclass
class Site:
    """The daemon's rules, driven through simulated time; all times are seconds since the beginning.

    Args:
        answer: what the cloud says to a job's create; None: it is accepted.
        places: how many servers there may be.
        room: what the project's quota leaves.
    """

    answer: Answer
    places: int = 10
    room: QuotaHeadroom | None = None
    now: float = 0.0
    creates: list[tuple[float, str]] = field(default_factory=list)
    """Every create that was sent: when, and the job's id."""
    submitted: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    run_times: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ledger = MemoryLedger()
        self.rules = Rules(lambda: contextlib.nullcontext(ledger))
        self.ledger = ledger

    def submit(self, job: str, run_time: float = 30 * MINUTE, **body: Any) -> None:
        self.run_times[job] = run_time
        self.submitted[job] = self.now
        self.rules.now = NOW + self.now
        self.rules.submit(job, **body)

    def until(self, end: float) -> None:
        """Let the time pass."""
        while self.now < end:
            self._look()
            self.now += STEP

    def _look(self) -> None:
        self.rules.now = NOW + self.now
        for job in [each for each, at in self.ends.items() if at <= self.now]:
            del self.ends[job]
            self.rules.report("workflow_finished", job, 2, outcome="succeeded")
        self._carry_out()
        self.rules.admit(self.places, self.room)
        self._carry_out()

    def _carry_out(self) -> None:
        outbox, ledger, now = self.rules.outbox, self.ledger, self.rules.now
        for effect in ledger.next_effects():
            if effect.due_at > now:
                continue
            operation = outbox.begin(ledger, effect, now)
            if operation is not None:
                outbox.conclude(ledger, effect, operation, self._result(operation), now)
            if isinstance(operation, SendCreate) and self.job(effect.job_id).state == "booting":
                self.rules.report("worker_started", effect.job_id)
                self.started[effect.job_id] = self.now
                self.ends[effect.job_id] = self.now + self.run_times[effect.job_id]

    def _result(self, operation: Operation) -> OperationResult:
        if isinstance(operation, FetchConsole):
            return Console("")
        if not isinstance(operation, SendCreate):
            return Gone()
        self.creates.append((self.now, operation.job.id))
        return self.answer(operation.job, self.now) or Created(f"server-{len(self.creates)}")

    def job(self, job_id: str) -> Job:
        job = self.ledger.job(job_id)
        assert job is not None
        return job

    def states(self, *jobs: str) -> set[str]:
        return {self.job(job).state for job in jobs}

    def tries(self, *jobs: str) -> int:
        """Creates of these jobs."""
        return sum(job in jobs for _, job in self.creates)

    def longest_wait(self, *jobs: str) -> float:
        """Seconds, the longest of these jobs; of one that has not started: until now."""
        return max(self.started.get(job, self.now) - self.submitted[job] for job in jobs)
