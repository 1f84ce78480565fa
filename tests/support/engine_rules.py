"""The engine over a ledger, in memory or in the real store: what unit tests of the rules drive."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from lando.engine.admission import Admission
from lando.engine.deadlines import overdue
from lando.engine.engine import Engine
from lando.engine.holds import Hold, Holds
from lando.engine.ledger import Effect, Ledger
from lando.engine.operations import Created, Operation, OperationResult
from lando.engine.outbox import Outbox
from lando.engine.pace import Pace
from lando.engine.quota import QuotaHeadroom
from lando.engine.taken import Taken
from lando.errors import UsageError
from lando.messages import Message
from lando.states.events import Event
from lando.states.job import Job, JobSpec
from lando.states.table import Policy

NOW = 10_000.0
POLICY = Policy(boot_timeout=100.0, run_timeout=None, retry_first=10.0, retry_longest=600.0, hold=30.0)
PACE = Pace(poll=2.0, first=1.0, longest=60.0, settle=30.0, silence=600.0, heartbeat=30.0)


class FullLedger(Ledger, Protocol):
    """The ledger, and the outbox as the daemon reads it."""

    def next_effects(self) -> list[Effect]: ...


Open = Callable[[], AbstractContextManager[FullLedger]]
"""Opens a transaction."""


def accept(body: Mapping[str, Any]) -> JobSpec:
    if "broken" in body:
        raise UsageError(str(body["broken"]))
    return JobSpec("https://example.org/a.git", ".", {}, "a.cwl", **body)


def new_engine(**more: Any) -> Engine:
    secrets = (f"secret-{number}" for number in itertools.count(1))
    return Engine(POLICY, PACE, accept, lambda: next(secrets), **more)


class Rules:
    """An engine over a ledger, told what happens in the words of a test."""

    def __init__(self, ledgers: Open, **more: Any) -> None:
        self.ledgers = ledgers
        self.engine = new_engine(**more)
        self.outbox = Outbox(self.engine)
        self.now = NOW

    def take(self, type: str, job: str | None = None, **more: Any) -> Taken:
        return self.deliver(Message(type, more.pop("body", {}), job, sent_at=1.0, **more))

    def deliver(self, message: Message) -> Taken:
        with self.ledgers() as ledger:
            return self.engine.take(ledger, message, self.now)

    def submit(self, job: str, **body: Any) -> Taken:
        return self.take("start_worker", job, body=body)

    def report(self, type: str, job: str, seq: int = 1, **body: Any) -> Taken:
        record = self.job(job)
        token = record.requests[-1].token
        return self.take(type, job, attempt=record.attempt, token=token, seq=seq, body=body)

    def job(self, job_id: str) -> Job:
        with self.ledgers() as ledger:
            job = ledger.job(job_id)
        assert job is not None
        return job

    def fire(self, job_id: str, event: Event) -> None:
        with self.ledgers() as ledger:
            job = ledger.job(job_id)
            assert job is not None
            self.engine.fire(ledger, job, event)

    def admit(self, places: int = 1, room: QuotaHeadroom | None = None) -> list[str]:
        with self.ledgers() as ledger:
            self.admission = Admission(self.engine, places).admit(ledger, self.now, 100, room)
        return [job.id for job in self.admission.jobs]

    def holds(self) -> Holds:
        with self.ledgers() as ledger:
            return ledger.holds().at(self.now)

    def hold(self) -> Hold | None:
        """What keeps jobs without wishes from being admitted."""
        holds = self.holds()
        return holds.everybody or holds.of("")

    def effects(self) -> list[Effect]:
        with self.ledgers() as ledger:
            return ledger.next_effects()

    def begin(self) -> tuple[Effect, Operation | None]:
        with self.ledgers() as ledger:
            effect = ledger.next_effects()[0]
            return effect, self.outbox.begin(ledger, effect, self.now)

    def conclude(self, result: OperationResult) -> Operation | None:
        """The next effect gets this result, whatever it asks for."""
        effect, operation = self.begin()
        assert operation is not None
        with self.ledgers() as ledger:
            self.outbox.conclude(ledger, effect, operation, result, self.now)
        return operation

    def overdue(self, listening_since: float, hearing_since: float | None = None) -> list[Any]:
        hearing = listening_since if hearing_since is None else hearing_since
        with self.ledgers() as ledger:
            jobs = ledger.jobs_in(("booting", "running"))
        return [
            event
            for _, event in overdue(
                jobs, self.now, listening_since, hearing, self.engine.policy, self.engine.pace
            )
        ]

    def boot(self, job: str = "a", server: str = "server-1", **body: Any) -> None:
        self.submit(job, **body)
        self.admit(places=100)
        self.conclude(Created(server))

    def run(self, job: str = "a", **body: Any) -> None:
        self.boot(job, **body)
        self.report("worker_started", job)
