"""What must be caught where time passes: the rules about time, each broken on purpose in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lando.engine import clock_changes
from lando.engine.holds import Holds
from lando.engine.ledger import Effect, Ledger
from lando.engine.operations import Operation, Trouble
from lando.engine.outbox import Outbox
from lando.engine.pace import Pace
from lando.states.events import Event
from lando.states.job import LIVE_STATES, Job
from lando.states.machine import Fired
from lando.states.table import EffectKind, Policy

from .breakages import Breakage
from .ledger import MemoryLedger
from .rules import Variant, WatchedEngine
from .scenarios import TIMED, TIMED_DEEP
from .timed import NOW

FAULT, CLOCK, RUN, UNRECORDED = TIMED
_, CLOCK_AND_FAULT, FAULTS, _ = TIMED_DEEP

TOO_LONG, TOO_EARLY, UNNOTICED = "nothing waits too long", "only lived time counts", "what is late is noticed"

_shifted = clock_changes._shifted
_adjust = clock_changes.adjust


def without_bounds(ledger: Ledger, step: float, now: float, policy: Policy, pace: Pace) -> None:
    """As shipped, but due times are as late as they were."""
    for job in ledger.jobs_in(LIVE_STATES):
        ledger.save_job(_shifted(job, step, now))
    ledger.set_seen_at(now)


def shifting_what_is_due(ledger: Ledger, step: float, now: float, policy: Policy, pace: Pace) -> None:
    """As it was before: everything is shifted."""
    without_bounds(ledger, step, now, policy, pace)
    kinds: tuple[EffectKind, ...] = ("create_server", "delete_server", "delete_twins", "save_console_log")
    for effect in ledger.effects(kinds, [job.id for job in ledger.jobs_in(LIVE_STATES)]):
        ledger.postpone_effect(effect, effect.due_at + step, effect.tries, "")


def starting_as_before(ledger: Ledger, now: float, policy: Policy, pace: Pace) -> None:
    """As it was before: a start changes nothing."""


def starting_without_shift(ledger: Ledger, now: float, policy: Policy, pace: Pace) -> None:
    _adjust(ledger, 0.0, now, policy, pace)


def step_without_shift(ledger: Ledger, step: float, now: float, policy: Policy, pace: Pace) -> None:
    """As shipped, but for lived times, where the step is one of the clock."""
    _adjust(ledger, 0.0 if abs(step) == 10.0 else step, now, policy, pace)


def heard_in_the_future(job: Job, step: float, now: float) -> Job:
    heard_at = None if job.heard_at is None else job.heard_at + step
    return replace(_shifted(job, step, now), heard_at=heard_at)


def without_absence(job: Job, step: float, now: float) -> Job:
    shifted = _shifted(job, step, now)
    return replace(shifted, requests=job.requests) if step > 0 else shifted


def recording_nothing(ledger: Ledger, now: float) -> None:
    pass


def without_end(failures: int, first: float, longest: float) -> float:
    return first * 4.0 ** (failures - 1)


class RecordsNoFirstJob(WatchedEngine):
    def fire(self, ledger: Ledger, job: Job, event: Event) -> Fired:
        seen_at = ledger.seen_at()
        fired = super().fire(ledger, job, event)
        if job.state == "queued" and seen_at is not None:
            ledger.set_seen_at(seen_at)
        return fired


class TriesInTheYear3000(Outbox):
    def _try_again(self, ledger: Ledger, job: Job, effect: Effect, trouble: Trouble, now: float) -> None:
        ledger.postpone_effect(effect, 32_503_680_000.0, effect.tries + 1, trouble.reason)


class LooksWhenDue(Outbox):
    def begin(self, ledger: Ledger, effect: Effect, now: float) -> Operation | None:
        job = ledger.job(effect.job_id)
        assert job is not None
        operation = self._operation(ledger, job, effect, now)
        if operation is None:
            ledger.remove_effect(effect)
        return operation


class HoldsForEver(MemoryLedger):
    def holds(self) -> Holds:
        holds = super().holds()
        refused = tuple((wishes, replace(hold, until=NOW + 1.0)) for wishes, hold in holds.refused)
        everybody = None if holds.everybody is None else replace(holds.everybody, until=NOW + 1.0)
        return replace(holds, refused=refused, everybody=everybody)


def _patched(**functions: Any) -> dict[str, Any]:
    return {f"lando.engine.clock_changes.{name}": function for name, function in functions.items()}


TIMED_BREAKAGES = (
    Breakage(
        "steps shift what is due, and starts bound nothing",
        TOO_LONG,
        CLOCK,
        patches=_patched(adjust=shifting_what_is_due, resume=starting_as_before),
    ),
    Breakage("due times are not bounded", TOO_LONG, CLOCK, patches=_patched(adjust=without_bounds)),
    Breakage(
        "deadlines are not shifted at a start",
        UNNOTICED,
        CLOCK,
        patches=_patched(resume=starting_without_shift),
    ),
    Breakage(
        "deadlines are not shifted by a step", UNNOTICED, CLOCK, patches=_patched(adjust=step_without_shift)
    ),
    Breakage("run deadlines are not shifted", TOO_EARLY, RUN, patches=_patched(adjust=step_without_shift)),
    Breakage(
        "a worker may be heard in the future",
        UNNOTICED,
        UNRECORDED,
        patches=_patched(_shifted=heard_in_the_future),
    ),
    Breakage(
        "the settle time passes by a step",
        "one server a job",
        CLOCK_AND_FAULT,
        patches=_patched(_shifted=without_absence),
    ),
    Breakage(
        "the second look begins too early after a step",
        TOO_EARLY,
        CLOCK_AND_FAULT,
        Variant(outbox=LooksWhenDue),
    ),
    Breakage("a daemon does not record its life", UNNOTICED, RUN, patches=_patched(record=recording_nothing)),
    Breakage(
        "a life is not recorded with the first live job",
        UNNOTICED,
        CLOCK_AND_FAULT,
        Variant(engine=RecordsNoFirstJob),
    ),
    Breakage("an effect is due in the year 3000", TOO_LONG, FAULT, Variant(outbox=TriesInTheYear3000)),
    Breakage(
        "a back-off grows without bound", TOO_LONG, FAULTS, patches={"lando.backoff.delay": without_end}
    ),
    Breakage(
        "a hold never ends",
        "every job can end in time",
        replace(FAULT, attempts=1),
        Variant(ledger=HoldsForEver),
    ),
)
