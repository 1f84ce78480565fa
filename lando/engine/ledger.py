"""What the engine reads and writes: one transaction over all persistent state, as an interface.

The store implements it in SQL, and the exploration in the tests in memory: both run the same engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from lando.engine.boot_failures import BootFailures
from lando.engine.holds import Holds
from lando.engine.reservation import Reservation
from lando.states.job import LIVE_STATES, Job, State

if TYPE_CHECKING:
    from lando.states.table import EffectKind


@dataclass(frozen=True)
class Effect:
    """A row of the outbox: something to do in the cloud. Effects of a job run one at a time, in order."""

    id: int
    job_id: str
    kind: EffectKind
    servers: tuple[str, ...] = ()
    due_at: float = 0.0
    tries: int = 0
    reason: str = ""
    """Why it was postponed."""


def rank(kind: EffectKind) -> int:
    """Effects of a job run by rank, then by id: the deletion of its server is the last."""
    return 1 if kind == "delete_server" else 0


@dataclass(frozen=True)
class StateChange:
    """A row of a job's history; the first has no ``source``."""

    job_id: str
    at: float
    event: str
    source: State | None
    target: State
    reason: str
    attempt: int
    since: float | None = field(default=None, compare=False)
    """Since when the job was in ``source``; not stored."""


class Ledger(Protocol):
    """One transaction over all persistent state."""

    held_back: frozenset[str]
    """Jobs for which no server is requested: the cloud has one that is not the one they have. Set by the
    caller; ``next_queued``, ``least_doubtful`` and ``next_wishes`` leave them out."""
    is_cloud_known: bool
    """Whether the cloud's servers were listed since the daemon began: before that no server is requested. Set
    by the caller."""

    def prefetch(self, message_ids: Sequence[str], job_ids: Sequence[str]) -> None:
        """These messages and jobs will be read next; a store may read them all at once."""
        ...

    def job(self, job_id: str) -> Job | None:
        """The job's record."""
        ...

    def body(self, job_id: str) -> Mapping[str, Any]:
        """The body of the job's start_worker."""
        ...

    def job_of_server(self, name: str) -> Job | None:
        """The live job whose server has this name."""
        ...

    def insert_job(self, job: Job, body: Mapping[str, Any], submitted_by: str | None) -> None:
        """A new job, last in the order of its priority."""
        ...

    def save_job(self, job: Job) -> Job:
        """Replace the record that has this version. Returns it with the next version."""
        ...

    def hear(self, job: Job) -> Job:
        """The worker was heard, and nothing else of the record has changed: kept while this daemon lives, and
        written with the record's next change. Returns the record as it is read from now on."""
        ...

    def append_change(self, change: StateChange) -> None:
        """One more line of history."""
        ...

    def add_effect(self, job_id: str, kind: EffectKind, servers: tuple[str, ...], due_at: float) -> None:
        """One more row of the outbox."""
        ...

    def remove_effect(self, effect: Effect) -> None:
        """The effect was carried out, or there is nothing to carry out."""
        ...

    def postpone_effect(self, effect: Effect, due_at: float, tries: int, reason: str) -> None:
        """Carry it out later; ``reason`` says why."""
        ...

    def is_processed(self, message_id: str) -> bool:
        """The message had its effect before."""
        ...

    def mark_processed(self, message_id: str, at: float) -> None:
        """Record that the message has had its effect."""
        ...

    def remember_cancel(self, job_id: str, at: float) -> None:
        """A cancel came before its job."""
        ...

    def was_canceled(self, job_id: str) -> bool:
        """A cancel for this job came before it."""
        ...

    def forget(self, job: Job, at: float) -> None:
        """Remove a job that has ended, with its files, within seconds. From now on it is only known that it
        was there; its record may still be."""
        ...

    def is_forgotten(self, job_id: str) -> bool:
        """The job was removed, or will be within seconds."""
        ...

    def unseen_log(self, job_id: str, attempt: int, seqs: Sequence[int]) -> list[int]:
        """Those of a worker's sequence numbers whose piece of the log was not appended yet. Attempts of a job
        only rise, and the numbers of earlier ones are forgotten."""
        ...

    def append_log(self, job_id: str, attempt: int, seqs: Sequence[int], text: str) -> None:
        """One more piece of the workflow's log, from the reports with these numbers, all unseen, in order; ""
        if nothing of them is kept. How much is kept of a job's log is bounded, the newest is."""
        ...

    def save_console(self, job_id: str, attempt: int, text: str) -> None:
        """The console output of an attempt's server."""
        ...

    def live(self) -> dict[str, int]:
        """How many jobs may own a server, by their wishes."""
        ...

    def effects(self, kinds: Sequence[EffectKind], job_ids: Collection[str]) -> list[Effect]:
        """The effects of these kinds of some jobs, due or not."""
        ...

    def hasten_deletions(self, job_ids: Collection[str], now: float) -> None:
        """The deletions of these jobs' servers that wait, and have not failed, are due now."""
        ...

    def hasten_failed_deletions(self, now: float, latest: float) -> None:
        """The deletions that have failed, and are due by ``latest``, are due now."""
        ...

    def waiting_twins(self, now: float) -> list[Effect]:
        """The deletions of duplicates that are not due, and have not failed."""
        ...

    def is_any_queued(self) -> bool:
        """Whether a job is queued, ready or not."""
        ...

    def next_queued(
        self,
        now: float,
        skip: Collection[str] = (),
        small: Collection[str | None] = (),
        among: Collection[str] | None = None,
    ) -> Job | None:
        """The first in the admission order whose back-off has ended.

        Args:
            now: the daemon's clock.
            skip: not with these wishes.
            small: not of these flavors, for which the quota leaves too little.
            among: only with these wishes.
        """
        ...

    def least_doubtful(
        self,
        now: float,
        skip: Collection[str],
        small: Collection[str | None],
        among: Collection[str] | None = None,
    ) -> Job | None:
        """Of the jobs that ``next_queued`` chooses from, the first whose boots failed least often."""
        ...

    def next_wishes(
        self, now: float, skip: Collection[str], small: Collection[str | None], after: str | None
    ) -> str | None:
        """The first wishes, in the order of their text, of the jobs that ``next_queued`` chooses from.

        Args:
            now: the daemon's clock.
            skip: not these wishes.
            small: not of jobs of these flavors.
            after: only wishes that follow these; None: all.
        """
        ...

    def queued_wishes(self) -> Collection[str]:
        """The different wishes of all queued jobs."""
        ...

    def jobs_in(self, states: Sequence[State]) -> list[Job]:
        """All jobs in these states."""
        ...

    def owners(self, states: Sequence[State] = LIVE_STATES) -> list[Job]:
        """The jobs in these states, of those that may own a server, without their results: a store has them
        in memory. Not to be saved."""
        ...

    def boots(self) -> Sequence[float]:
        """How many seconds the last boots took, the oldest first."""
        ...

    def set_boots(self, seconds: Sequence[float]) -> None:
        """Replace what ``boots`` returns."""
        ...

    def holds(self) -> Holds:
        """Whom refused creates keep from being admitted."""
        ...

    def set_holds(self, holds: Holds) -> None:
        """Replace what ``holds`` returns."""
        ...

    def boot_failures(self) -> BootFailures:
        """The servers that did not boot since the last one that did."""
        ...

    def set_boot_failures(self, failures: BootFailures) -> None:
        """Replace what ``boot_failures`` returns."""
        ...

    def reservation(self) -> Reservation | None:
        """For which job the quota is kept free; None: for none."""
        ...

    def set_reservation(self, reservation: Reservation | None) -> None:
        """Replace what ``reservation`` returns."""
        ...

    def seen_at(self) -> float | None:
        """When the daemon last recorded that it lives, by its clock; see ``lando.engine.clock_changes``."""
        ...

    def set_seen_at(self, now: float) -> None:
        """Replace what ``seen_at`` returns."""
        ...

    def limit_due_times(self, effects: float, jobs: float) -> None:
        """No effect is due later than ``effects``, and no queued job waits for its back-off past ``jobs``."""
        ...

    def shift_message_times(self, step: float, now: float) -> None:
        """Processed messages and early cancels count as so many seconds newer, but none as newer than now."""
        ...


def make_due(ledger: Ledger, effects: Iterable[Effect], now: float) -> None:
    """Carry these effects out now instead of later."""
    for effect in effects:
        if effect.due_at > now:
            ledger.postpone_effect(effect, now, effect.tries, "")
