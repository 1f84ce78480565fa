"""The engine's ledger over memory: what the store does in SQL, over a few tuples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lando.engine.boot_failures import NONE, BootFailures
from lando.engine.holds import Holds
from lando.engine.ledger import Effect, StateChange, make_due, rank
from lando.engine.outbox import DELETIONS
from lando.engine.reservation import Reservation
from lando.states.job import LIVE_STATES, Job, State
from lando.states.table import EffectKind

NO_HOLDS = Holds()


@dataclass(frozen=True, eq=False)
class Books:
    """What is persisted. Jobs stand in the order of their arrival.

    The exploration keeps one object for each content, so that comparing and hashing cost nothing.
    """

    jobs: tuple[Job, ...] = ()
    effects: tuple[Effect, ...] = ()
    early_cancels: frozenset[str] = frozenset()
    forgotten: frozenset[str] = frozenset()
    holds: Holds = NO_HOLDS
    boot_failures: BootFailures = NONE
    seen_at: float | None = None
    """Only where time passes."""


class MemoryLedger:
    """See ``lando.engine.ledger.Ledger``; begins with the books and the ids of the processed messages."""

    def __init__(self, books: Books | None = None, processed: frozenset[str] = frozenset()) -> None:
        books = Books() if books is None else books
        self._jobs = {job.id: job for job in books.jobs}
        self._effects = {effect.id: effect for effect in books.effects}
        self._last_effect = max(self._effects, default=0)
        self._early_cancels = set(books.early_cancels)
        self._forgotten = set(books.forgotten)
        self._processed = set(processed)
        self._holds = books.holds
        self._boot_failures = books.boot_failures
        self._reservation: Reservation | None = None
        self._seen_at = books.seen_at
        self._boots: list[float] = []
        self.held_back: frozenset[str] = frozenset()
        self.is_cloud_known = True
        self.changes: list[StateChange] = []
        self.logs: dict[tuple[str, int, int], str] = {}
        self.consoles: dict[tuple[str, int], str] = {}

    def books(self) -> Books:
        """What is persisted now."""
        return Books(
            tuple(self._jobs.values()),
            tuple(self._effects.values()),
            frozenset(self._early_cancels),
            frozenset(self._forgotten),
            self._holds,
            self._boot_failures,
            self._seen_at,
        )

    def prefetch(self, message_ids: Sequence[str], job_ids: Sequence[str]) -> None:
        pass

    def job(self, job_id: str) -> Job | None:
        return self._jobs.get(job_id)

    def body(self, job_id: str) -> Mapping[str, Any]:
        return {}

    def job_of_server(self, name: str) -> Job | None:
        return next((job for job in self.jobs_in(LIVE_STATES) if job.server_name == name), None)

    def insert_job(self, job: Job, body: Mapping[str, Any], submitted_by: str | None) -> None:
        assert job.id not in self._jobs
        self._jobs[job.id] = job

    def save_job(self, job: Job) -> Job:
        assert self._jobs[job.id].version == job.version, "a stale record"
        saved = self._jobs[job.id] = replace(job, version=job.version + 1)
        return saved

    def hear(self, job: Job) -> Job:
        assert self._jobs[job.id].version == job.version, "a stale record"
        self._jobs[job.id] = job
        return job

    def append_change(self, change: StateChange) -> None:
        self.changes.append(change)

    def add_effect(self, job_id: str, kind: EffectKind, servers: tuple[str, ...], due_at: float) -> None:
        self._last_effect += 1
        self._effects[self._last_effect] = Effect(self._last_effect, job_id, kind, servers, due_at)

    def remove_effect(self, effect: Effect) -> None:
        self._effects.pop(effect.id, None)

    def postpone_effect(self, effect: Effect, due_at: float, tries: int, reason: str) -> None:
        if effect.id in self._effects:
            self._effects[effect.id] = replace(effect, due_at=due_at, tries=tries, reason=reason)

    def next_effects(self, limit: int | None = None) -> list[Effect]:
        """The effect of each job whose turn it is, as ``lando.store.store.Transaction.next_effects`` says."""
        turns: dict[str, Effect] = {}
        for effect in sorted(self._effects.values(), key=self.place):
            turns.setdefault(effect.job_id, effect)
        return sorted(turns.values(), key=lambda effect: (effect.due_at, effect.id))

    @staticmethod
    def place(effect: Effect) -> tuple[int, int]:
        """The order of a job's effects: as ordered, the deletion of its server last."""
        return (rank(effect.kind), effect.id)

    def is_processed(self, message_id: str) -> bool:
        return message_id in self._processed

    def mark_processed(self, message_id: str, at: float) -> None:
        self._processed.add(message_id)

    def remember_cancel(self, job_id: str, at: float) -> None:
        self._early_cancels.add(job_id)

    def was_canceled(self, job_id: str) -> bool:
        return job_id in self._early_cancels

    def forget(self, job: Job, at: float) -> None:
        self._forgotten.add(job.id)
        self._jobs.pop(job.id)

    def is_forgotten(self, job_id: str) -> bool:
        return job_id in self._forgotten

    def unseen_log(self, job_id: str, attempt: int, seqs: Sequence[int]) -> list[int]:
        return [seq for seq in seqs if (job_id, attempt, seq) not in self.logs]

    def append_log(self, job_id: str, attempt: int, seqs: Sequence[int], text: str) -> None:
        self.logs.update({(job_id, attempt, seq): "" for seq in seqs})
        self.logs[job_id, attempt, seqs[0]] = text

    def save_console(self, job_id: str, attempt: int, text: str) -> None:
        self.consoles[job_id, attempt] = text

    def live(self) -> dict[str, int]:
        return dict(Counter(job.wishes for job in self.jobs_in(LIVE_STATES)))

    def next_queued(
        self,
        now: float,
        skip: Collection[str] = (),
        small: Collection[str | None] = (),
        among: Collection[str] | None = None,
    ) -> Job | None:
        ready = [job for job in self._ready(now, skip, small) if among is None or job.wishes in among]
        return max(ready, key=lambda job: job.priority, default=None)  # the first of equals

    def least_doubtful(
        self,
        now: float,
        skip: Collection[str],
        small: Collection[str | None],
        among: Collection[str] | None = None,
    ) -> Job | None:
        ready = [job for job in self._ready(now, skip, small) if among is None or job.wishes in among]
        return min(ready, key=lambda job: (job.doubtful + job.unanswered, -job.priority), default=None)

    def next_wishes(
        self, now: float, skip: Collection[str], small: Collection[str | None], after: str | None
    ) -> str | None:
        wishes = {job.wishes for job in self._ready(now, skip, small)}
        return min((each for each in wishes if after is None or each > after), default=None)

    def is_any_queued(self) -> bool:
        return any(job.state == "queued" for job in self._jobs.values())

    def queued_wishes(self) -> set[str]:
        return {job.wishes for job in self.jobs_in(("queued",))}

    def _ready(self, now: float, skip: Collection[str], small: Collection[str | None]) -> Iterable[Job]:
        for job in self._jobs.values():
            is_ready = job.state == "queued" and job.not_before <= now and job.id not in self.held_back
            if is_ready and job.wishes not in skip and job.flavor not in small:
                yield job

    def jobs_in(self, states: Sequence[State]) -> list[Job]:
        return [job for job in self._jobs.values() if job.state in states]

    def owners(self, states: Sequence[State] = LIVE_STATES) -> list[Job]:
        return self.jobs_in(states)

    def effects(self, kinds: Sequence[EffectKind], job_ids: Collection[str]) -> list[Effect]:
        return [
            effect for effect in self._effects.values() if effect.kind in kinds and effect.job_id in job_ids
        ]

    def hasten_deletions(self, job_ids: Collection[str], now: float) -> None:
        deletions = self.effects(("delete_server",), job_ids)
        make_due(self, [effect for effect in deletions if not effect.tries], now)

    def hasten_failed_deletions(self, now: float, latest: float) -> None:
        deletions = [each for each in self._effects.values() if each.kind in DELETIONS]
        make_due(self, [each for each in deletions if each.tries and each.due_at <= latest], now)

    def waiting_twins(self, now: float) -> list[Effect]:
        twins = [each for each in self._effects.values() if each.kind == "delete_twins"]
        return [each for each in twins if each.due_at > now and not each.tries]

    def boots(self) -> Sequence[float]:
        return self._boots

    def set_boots(self, seconds: Sequence[float]) -> None:
        self._boots = list(seconds)

    def holds(self) -> Holds:
        return self._holds

    def set_holds(self, holds: Holds) -> None:
        self._holds = holds

    def boot_failures(self) -> BootFailures:
        return self._boot_failures

    def set_boot_failures(self, failures: BootFailures) -> None:
        self._boot_failures = failures

    def reservation(self) -> Reservation | None:
        return self._reservation

    def set_reservation(self, reservation: Reservation | None) -> None:
        self._reservation = reservation

    def seen_at(self) -> float | None:
        return self._seen_at

    def set_seen_at(self, now: float) -> None:
        self._seen_at = now

    def limit_due_times(self, effects: float, jobs: float) -> None:
        for effect in self._effects.values():
            if effect.due_at > effects:
                self._effects[effect.id] = replace(effect, due_at=effects)
        for job in self.jobs_in(("queued",)):
            if job.not_before > jobs:
                self._jobs[job.id] = replace(job, not_before=jobs)

    def shift_message_times(self, step: float, now: float) -> None:
        pass  # nothing is forgotten here
