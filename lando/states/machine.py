"""``fire``: answers an event with a job's new record and the effects to carry out, by the table of the state
files.

One ``transitions`` machine serves all jobs. It holds no model, so that firing costs microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from transitions import Machine, Transition

from lando.states import booting, done, failed, queued, running, terminating
from lando.states.events import Event, ServerCreated
from lando.states.job import Job, State
from lando.states.records import replace
from lando.states.table import Answer, EffectKind, Policy, Row, StateText

_MODULES = (queued, booting, running, terminating, done, failed)

STATES: dict[State, StateText] = {module.TEXT.name: module.TEXT for module in _MODULES}
TABLE: dict[State, tuple[Row, ...]] = {module.TEXT.name: module.ROWS for module in _MODULES}


@dataclass(frozen=True)
class NewEffect:
    """An effect for the outbox; ``servers`` are the ids that ``delete_twins`` deletes."""

    kind: EffectKind
    servers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fired:
    """The answer to an event. If it was ignored or refused, ``job`` is unchanged and there are no effects."""

    job: Job
    answer: Answer
    why: str
    effects: tuple[NewEffect, ...] = ()


class UnansweredEvent(AssertionError):
    """The table has no answer to an event: a bug in a state file."""


class _Firing:
    """The short-lived model that a transition is triggered on."""

    def __init__(self, job: Job, event: Event, policy: Policy) -> None:
        self.state = job.state
        self.job = job
        self.event = event
        self.policy = policy
        self.row: Row | None = None


class RowTransition(Transition):
    """A transition that keeps its row, for the diagrams."""

    def __init__(self, *args: Any, row: Row, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.row = row


class JobMachine(Machine):
    """A ``transitions`` machine whose transitions keep their rows."""

    transition_cls = RowTransition


def build(table: dict[State, tuple[Row, ...]]) -> JobMachine:
    """The machine of a table."""
    machine = JobMachine(model=None, states=list(table), initial="queued", auto_transitions=False)
    for source, rows in table.items():
        for row in rows:
            machine.add_transition(
                row.event,
                source,
                row.to,
                conditions=partial(_permits, row),
                before=partial(_record, row),
                row=row,
            )
    return machine


def _permits(row: Row, firing: _Firing) -> bool:
    return row.when is None or row.when(firing.job, firing.event)


def _record(row: Row, firing: _Firing) -> None:
    firing.row = row
    if row.action is not None:
        firing.job = row.action(firing.job, firing.event, firing.policy)


MACHINE = build(TABLE)


def fire(job: Job, event: Event, policy: Policy, machine: JobMachine = MACHINE) -> Fired:
    """Answer an event.

    Args:
        job: the record as it is persisted.
        event: what happened.
        policy: the site's time limits and back-offs.
        machine: the table to run; another one only in tests that break it on purpose.

    Raises:
        UnansweredEvent: no row of the job's state answers the event.
    """
    firing = _Firing(job, event, policy)
    answered = machine.events[event.name].trigger(firing, firing)
    row = firing.row
    if not answered or row is None:
        raise UnansweredEvent(f"{event.name} in {job.state}")
    if row.answer in ("ignored", "refused"):
        return Fired(job, row.answer, row.why)
    entered_at = event.at if firing.state != job.state else job.entered_at
    after = replace(firing.job, state=firing.state, entered_at=entered_at, updated_at=event.at)
    return Fired(after, row.answer, row.why, tuple(_order(kind, event) for kind in row.effects))


def _order(kind: EffectKind, event: Event) -> NewEffect:
    duplicates = event.duplicates if kind == "delete_twins" and isinstance(event, ServerCreated) else ()
    return NewEffect(kind, duplicates)
