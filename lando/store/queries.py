"""What the commands read: jobs with all that is shown of them, history, logs, facts."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.engine.ledger import StateChange
from lando.engine.retention import Retention
from lando.states.job import ENDED_STATES, LIVE_STATES, Job, State
from lando.store.facts import LostJobs
from lando.store.job_rows import to_job
from lando.store.pending import JOB_COLUMNS
from lando.store.retention import (
    DueCounts,
    Forgotten,
    Removed,
    count_ended,
    due_counts,
    forgotten,
    forgotten_like,
    removed,
)
from lando.store.selection import Selection, count_in_state, in_order_of_arrival, in_state, places_in_queue
from lando.store.stored_facts import StoredFacts
from lando.store.tables import CONSOLES, EFFECTS, FACTS, HISTORY, JOB_COUNTS, JOB_LABELS, JOBS, LOGS
from lando.yaml_json import read_json

ALL = Selection()
HEAVY = ("outputs", "log_tail")
"""Columns of up to 3 MiB that no list shows."""
LISTED = tuple(column for column in JOB_COLUMNS if column.name not in HEAVY)
_MORE = (JOBS.c.number, JOBS.c.name, JOBS.c.submitted_by)
FORM_OF_AN_ID = "00000000-0000-0000-0000-000000000000"
END_OF_LOG = 50
"""Pieces of a log at most that are read for its last lines."""
PAGE = 500
"""Jobs that are read by one statement: SQLite and psycopg bound the parameters of one."""


@dataclass(frozen=True)
class JobView:
    """A job as the commands show it. Unless the whole job was asked for, its record lacks ``HEAVY``."""

    number: int
    job: Job
    name: str
    submitted_by: str | None
    labels: dict[str, str]
    effect: EffectView | None
    """The job's next effect."""


@dataclass(frozen=True)
class EffectView:
    """An effect as the commands show it; ``reason`` says why the last try failed."""

    kind: str
    due_at: float
    tries: int
    reason: str


class Queries(StoredFacts):
    """Reads over one consistent snapshot."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> Connection:
        """For what ``measurements`` reads in the same snapshot."""
        return self._connection

    def jobs(
        self, states: Sequence[State] = (), ids: Sequence[str] = (), whole: bool = False
    ) -> list[JobView]:
        """All jobs in order of arrival, or those in some states, or those with these ids.

        Args:
            states: of which; none: any.
            ids: of which; none: any.
            whole: with ``HEAVY``.
        """
        query = sa.select(*_MORE, *(JOB_COLUMNS if whole else LISTED)).order_by(JOBS.c.number)
        if states:
            query = query.where(JOBS.c.state.in_(states))
        if not ids:
            return self._views(query)
        pages = (ids[begin : begin + PAGE] for begin in range(0, len(ids), PAGE))
        found = [view for page in pages for view in self._views(query.where(JOBS.c.id.in_(page)))]
        return sorted(found, key=lambda view: view.number)

    def listed(self, numbers: Sequence[int]) -> list[JobView]:
        """The jobs with these numbers, in their order, without ``HEAVY``."""
        found = {}
        for begin in range(0, len(numbers), PAGE):
            page = [*numbers[begin : begin + PAGE]]
            for view in self._views(sa.select(*_MORE, *LISTED).where(JOBS.c.number.in_(page))):
                found[view.number] = view
        return [found[number] for number in numbers if number in found]

    def _views(self, query: sa.Select[Any]) -> list[JobView]:
        rows = self._connection.execute(query).all()
        effects: dict[str, EffectView] = {}
        labels: dict[str, dict[str, str]] = {}
        for begin in range(0, len(rows), PAGE):
            ids = [row.id for row in rows[begin : begin + PAGE]]
            effects.update(self._effects(ids))
            labels.update(self._labels(ids))
        return [
            JobView(
                row.number,
                to_job(row),
                row.name,
                row.submitted_by,
                labels.get(row.id, {}),
                effects.get(row.id),
            )
            for row in rows
        ]

    def _effects(self, ids: Sequence[str]) -> dict[str, EffectView]:
        query = sa.select(EFFECTS).order_by(EFFECTS.c.rank.desc(), EFFECTS.c.id.desc())
        return {
            row.job_id: EffectView(row.kind, row.due_at, row.tries, row.words)
            for row in self._connection.execute(query.where(EFFECTS.c.job_id.in_(ids)))
        }

    def _labels(self, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        query = sa.select(JOB_LABELS.c.job_id, JOB_LABELS.c.key, JOB_LABELS.c.value)
        query = query.where(JOB_LABELS.c.job_id.in_(ids)).order_by(JOB_LABELS.c.job_id, JOB_LABELS.c.place)
        found: dict[str, dict[str, str]] = {}
        for row in self._connection.execute(query):
            found.setdefault(row.job_id, {})[row.key] = row.value
        return found

    def numbers(self, selection: Selection) -> array[int]:
        """The numbers of all that match, in order of arrival: 8 bytes each."""
        return array("q", self._connection.execute(in_order_of_arrival(selection)).scalars())

    def first_numbers(self, selection: Selection, live: int | None, ended: int | None) -> list[int]:
        """The numbers of those that match, in the order in which they are shown.

        Args:
            selection: what is asked for.
            live: how many at most of those that have not ended; None: all.
            ended: how many at most of those that have.
        """
        of_live: list[int] = []
        of_ended: list[tuple[float, int]] = []
        for state in selection.in_states:
            if state in ENDED_STATES:
                rows = self._connection.execute(in_state(selection, state, ended))
                of_ended += [(row.entered_at, row.number) for row in rows]
            else:
                of_live += self._connection.execute(in_state(selection, state, live)).scalars()
        newest = [number for _, number in sorted(of_ended, reverse=True)]
        return of_live[:live] + newest[:ended]

    def counts(self, selection: Selection = ALL) -> dict[State, int]:
        """How many jobs match, by state, in the order of ``selection.in_states``."""
        if selection.is_by_state_only:
            stored = self._connection.execute(sa.select(JOB_COUNTS.c.state, JOB_COUNTS.c.jobs))
            found = {row.state: row.jobs for row in stored}
            return {state: found.get(state, 0) for state in selection.in_states}
        ask = self._connection.execute
        return {state: ask(count_in_state(selection, state)).scalar_one() for state in selection.in_states}

    def places_in_queue(self, numbers: Sequence[int] | None = None) -> dict[int, int]:
        """The places in the queue, from 1, of those of these jobs that are queued, by number.

        Args:
            numbers: of the jobs; None: of all.
        """
        query = places_in_queue(numbers)
        return {row.number: row.place for row in self._connection.execute(query)}

    def body(self, job_id: str) -> dict[str, Any] | None:
        """The body of a job's start_worker message; None: there is no such job."""
        text = self._connection.execute(sa.select(JOBS.c.body).where(JOBS.c.id == job_id)).scalar()
        return None if text is None else read_json(text)

    def ids_like(self, prefix: str) -> list[str]:
        """The ids that begin with ``prefix``, at most ten."""
        if not FORM_OF_AN_ID.startswith(re.sub("[0-9a-f]", "0", prefix)):
            return []
        # As a range, which an index answers however the database compares texts.
        first, last = (prefix + FORM_OF_AN_ID[len(prefix) :].replace("0", digit) for digit in "0f")
        query = sa.select(JOBS.c.id).where(JOBS.c.id.between(first, last)).order_by(JOBS.c.id).limit(10)
        return list(self._connection.execute(query).scalars())

    def jobs_known(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that are jobs in this database."""
        pages = (ids[begin : begin + PAGE] for begin in range(0, len(ids), PAGE))
        queries = (sa.select(JOBS.c.id).where(JOBS.c.id.in_(page)) for page in pages)
        return [job_id for query in queries for job_id in self._connection.execute(query).scalars()]

    def lost_jobs(self) -> LostJobs:
        """See ``StoredFacts.lost_jobs``; without those that the database has by now."""
        reported = super().lost_jobs()
        ids = [each.job_id for each in reported.jobs]
        query = sa.select(JOBS.c.id, JOBS.c.attempt).where(JOBS.c.id.in_(ids))
        known = {row.id: row.attempt for row in self._connection.execute(query)} if ids else {}
        lost = tuple(each for each in reported.jobs if known.get(each.job_id, -1) < each.attempt)
        return LostJobs(lost, reported.more and bool(lost))

    def count_live(self) -> int:
        """How many jobs may own a server."""
        return sum(self.counts(Selection(LIVE_STATES)).values())

    def history(self, job_id: str) -> list[StateChange]:
        """Every change of state, oldest first."""
        query = sa.select(HISTORY).where(HISTORY.c.job_id == job_id).order_by(HISTORY.c.id)
        return [
            StateChange(row.job_id, row.at, row.event, row.source, row.target, row.reason, row.attempt)
            for row in self._connection.execute(query)
        ]

    def log(self, job_id: str, after: tuple[int, int] = (0, 0)) -> list[tuple[int, int, str]]:
        """Pieces of the workflow's log as (attempt, seq, text), those after (attempt, seq)."""
        attempt, seq = after
        later = sa.or_(LOGS.c.attempt > attempt, sa.and_(LOGS.c.attempt == attempt, LOGS.c.seq > seq))
        query = sa.select(LOGS.c.attempt, LOGS.c.seq, LOGS.c.text).where(LOGS.c.job_id == job_id, later)
        rows = self._connection.execute(query.order_by(LOGS.c.attempt, LOGS.c.seq))
        return [(row.attempt, row.seq, row.text) for row in rows]

    def end_of_log(self, job_id: str, lines: int) -> tuple[int, str]:
        """The attempt that has logged last, and its last lines; 0 and nothing if none has logged.

        Args:
            job_id: the job.
            lines: how many, if there are as many; there may be more.
        """
        query = sa.select(LOGS.c.attempt, LOGS.c.text).where(LOGS.c.job_id == job_id)
        newest = query.order_by(LOGS.c.attempt.desc(), LOGS.c.seq.desc()).limit(END_OF_LOG)
        attempt, pieces = 0, list[str]()
        for row in self._connection.execute(newest):
            if attempt not in (0, row.attempt) or sum(piece.count("\n") for piece in pieces) > lines:
                break
            attempt = row.attempt
            pieces.append(row.text)
        return attempt, "".join(reversed(pieces))

    def console(self, job_id: str) -> tuple[int, str] | None:
        """The console output of the last server whose output was saved, as (attempt, text)."""
        query = sa.select(CONSOLES.c.attempt, CONSOLES.c.text).where(CONSOLES.c.job_id == job_id)
        row = self._connection.execute(query.order_by(CONSOLES.c.attempt.desc())).first()
        return None if row is None else (row.attempt, row.text)

    def count_ended(self) -> int:
        """How many jobs have ended."""
        return count_ended(self._connection)

    def database_size(self) -> int:
        """Bytes of the database, with what is free in it."""
        if self._connection.dialect.name == "postgresql":
            query = "SELECT pg_database_size(current_database())"
            return int(self._connection.execute(sa.text(query)).scalar_one())
        pages, size = (
            self._connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_count", "page_size")
        )
        return int(pages * size)

    def removed(self, job_id: str) -> Removed | None:
        """When what was removed of a job that stays; None: there is no such job."""
        return removed(self._connection, job_id)

    def forgotten(self, job_ids: Sequence[str]) -> list[Forgotten]:
        """Those of these jobs that were removed, or will be within seconds."""
        return forgotten(self._connection, job_ids)

    def forgotten_like(self, prefix: str) -> Forgotten | None:
        """A job that was removed, and whose id begins with ``prefix``."""
        return forgotten_like(self._connection, prefix)

    def retention_due(self, retention: Retention, now: float) -> DueCounts:
        """What retention would remove now; see ``due_counts``."""
        return due_counts(self._connection, retention, now)

    def fact(self, name: str) -> Any:
        """The value of a fact, or None."""
        text = self._connection.execute(sa.select(FACTS.c.value).where(FACTS.c.name == name)).scalar()
        return None if text is None else json.loads(text)
