"""Which jobs a command shows, in SQL: each statement reads an index, in its order, as far as it is shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from lando.states.job import ENDED_STATES, LIVE_STATES, Job, State
from lando.store.shown import digest
from lando.store.tables import JOB_LABELS, JOBS

IN_ORDER: tuple[State, ...] = ("terminating", "running", "booting", "queued", *ENDED_STATES)
"""The states, those of the jobs that are furthest first."""


@dataclass(frozen=True)
class Selection:
    """Jobs that meet all of these conditions."""

    states: tuple[State, ...] = ()
    """Empty: any."""
    ids: tuple[str, ...] = ()
    """Empty: any."""
    since: float | None = None
    """Of jobs that have ended: those that did so at this time (epoch seconds) or later."""
    labels: tuple[tuple[str, str], ...] = ()
    """Keys with values, as they are shown."""
    submitter: str | None = None

    @property
    def in_states(self) -> tuple[State, ...]:
        """The states asked for, in the order of ``IN_ORDER``."""
        return tuple(state for state in IN_ORDER if not self.states or state in self.states)

    @property
    def is_by_state_only(self) -> bool:
        """Whether nothing but the state is asked for."""
        return replace(self, states=()) == Selection()

    def admits(self, job: Job, submitter: str | None, labels: Mapping[str, str]) -> bool:
        """Whether a job matches.

        Args:
            job: its record.
            submitter: who submitted it.
            labels: as they are shown.
        """
        is_old = self.since is not None and job.state in ENDED_STATES and job.entered_at < self.since
        return (
            job.state in self.in_states
            and (not self.ids or job.id in self.ids)
            and not is_old
            and all(labels.get(key) == value for key, value in self.labels)
            and self.submitter in (None, submitter)
        )


def in_state(selection: Selection, state: State, limit: int | None) -> sa.Select[Any]:
    """The jobs in one state as ``number`` and ``entered_at``, in the order in which they are shown: those
    that wait by their place in the queue, others by how long they have been in it, ended ones the newest
    first.

    Args:
        selection: its ids are not looked at.
        state: one of its states.
        limit: how many at most; None: all.
    """
    source, at, number, conditions = _source(selection, state)
    if source is JOB_LABELS:
        source = JOB_LABELS.join(JOBS, JOBS.c.id == JOB_LABELS.c.job_id)
    query = sa.select(JOBS.c.number, at.label("entered_at")).select_from(source).where(*conditions)
    if state == "queued":
        query = query.order_by(JOBS.c.priority.desc(), JOBS.c.number)
    elif state in ENDED_STATES:
        query = query.order_by(at.desc(), number.desc())
    else:
        query = query.order_by(at, number)
    return query if limit is None else query.limit(limit)


def count_in_state(selection: Selection, state: State) -> sa.Select[Any]:
    """How many those are."""
    source, _, _, conditions = _source(selection, state)
    return sa.select(sa.func.count()).select_from(source).where(*conditions)


def _source(
    selection: Selection, state: State
) -> tuple[sa.FromClause, sa.ColumnElement[float], sa.ColumnElement[Any], list[sa.ColumnElement[bool]]]:
    """Where to read, the time, what orders jobs of the same time, and the conditions."""
    source: sa.FromClause = JOBS
    at, number = JOBS.c.entered_at, JOBS.c.number
    if selection.labels:
        (key, value), *others = selection.labels
        source = JOB_LABELS
        at, number = JOB_LABELS.c.entered_at, JOB_LABELS.c.job_id
        conditions = [JOB_LABELS.c.digest == digest(key, value), JOB_LABELS.c.state == state]
        conditions += [_has_label(*label) for label in others]
    else:
        conditions = [_kind(JOBS, state)] + ([JOBS.c.state == state] if state != "queued" else [])
    if selection.submitter is not None:
        if selection.labels:
            source = JOB_LABELS.join(JOBS, JOBS.c.id == JOB_LABELS.c.job_id)
        conditions.append(JOBS.c.submitted_by == selection.submitter)
    if selection.since is not None and state in ENDED_STATES:
        conditions.append(at >= selection.since)
    return source, at, number, conditions


def _kind(jobs: sa.FromClause, state: State) -> sa.ColumnElement[bool]:
    """What the index of a job in this state has as its condition."""
    if state == "queued":
        return jobs.c.state == sa.literal_column("'queued'")
    states = sorted(LIVE_STATES if state in LIVE_STATES else ENDED_STATES)
    return jobs.c.state.in_([sa.literal_column(f"'{each}'") for each in states])


def _has_label(key: str, value: str) -> sa.ColumnElement[bool]:
    also = JOB_LABELS.alias("also")
    # With all columns of the index. Without the state and the time, which are those of the job in each of its
    # rows, SQLite would read all rows with this label for each job that has the first one.
    columns = also.c.job_id, also.c.state, also.c.entered_at
    same = [column == JOB_LABELS.c[column.name] for column in columns]
    return sa.exists().where(also.c.digest == digest(key, value), *same)


def in_order_of_arrival(selection: Selection) -> sa.Select[Any]:
    """The numbers of all that match; its ids are not looked at."""
    each = [in_state(selection, state, None).order_by(None) for state in selection.in_states]
    found = sa.union_all(*each).subquery()
    return sa.select(found.c.number).order_by(found.c.number)


FEW = 20
"""Queued jobs of which each place is counted; of more, all places are, once."""


def places_in_queue(numbers: Collection[int] | None) -> sa.Select[Any]:
    """The queued ones of these jobs (None: of all) as ``number`` and their place in the queue, from 1."""
    queued = _kind(JOBS, "queued")
    if numbers is not None and len(numbers) <= FEW:
        before = JOBS.alias("before")
        waiting = sa.select(sa.func.count()).select_from(before).where(_kind(before, "queued"))
        higher = waiting.where(before.c.priority > JOBS.c.priority).scalar_subquery()
        same = waiting.where(before.c.priority == JOBS.c.priority, before.c.number <= JOBS.c.number)
        place = higher + same.scalar_subquery()
        return sa.select(JOBS.c.number, place.label("place")).where(JOBS.c.number.in_(numbers), queued)
    place = sa.func.row_number().over(order_by=(JOBS.c.priority.desc(), JOBS.c.number))
    places = sa.select(JOBS.c.number, place.label("place")).where(queued)
    if numbers is None:
        return places
    every = places.subquery()
    return sa.select(every.c.number, every.c.place).where(every.c.number.in_(numbers))
