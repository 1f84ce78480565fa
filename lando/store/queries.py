"""What the commands read: jobs with all that is shown of them, history, logs, facts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.engine.ledger import StateChange
from lando.states.job import LIVE_STATES, Job
from lando.store.pending import JOB_COLUMNS
from lando.store.stored_facts import StoredFacts
from lando.store.tables import CONSOLES, EFFECTS, FACTS, HISTORY, JOBS, LOGS
from lando.store.transaction import to_job
from lando.yaml_json import read_json


@dataclass(frozen=True)
class JobView:
    """A job as the commands show it."""

    number: int
    job: Job
    name: str
    submitted_by: str | None
    body: dict[str, Any]
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

    def jobs(self, states: Sequence[str] = (), ids: Sequence[str] = ()) -> list[JobView]:
        """All jobs in order of arrival, or those in some states, or those with these ids."""
        query = sa.select(JOBS.c.number, JOBS.c.name, JOBS.c.submitted_by, JOBS.c.body, *JOB_COLUMNS)
        if states:
            query = query.where(JOBS.c.state.in_(states))
        if ids:
            query = query.where(JOBS.c.id.in_(ids))
        effects = self._effects(ids)
        return [
            JobView(
                row.number,
                to_job(row),
                row.name,
                row.submitted_by,
                read_json(row.body),
                effects.get(row.id),
            )
            for row in self._connection.execute(query.order_by(JOBS.c.number))
        ]

    def _effects(self, ids: Sequence[str]) -> dict[str, EffectView]:
        query = sa.select(EFFECTS).order_by(EFFECTS.c.rank.desc(), EFFECTS.c.id.desc())
        if ids:
            query = query.where(EFFECTS.c.job_id.in_(ids))
        return {
            row.job_id: EffectView(row.kind, row.due_at, row.tries, row.words)
            for row in self._connection.execute(query)
        }

    def ids_like(self, prefix: str) -> list[str]:
        """The ids that begin with ``prefix``, at most ten."""
        query = sa.select(JOBS.c.id).where(JOBS.c.id.startswith(prefix, autoescape=True)).limit(10)
        return list(self._connection.execute(query.order_by(JOBS.c.number)).scalars())

    def jobs_known(self, ids: Sequence[str]) -> list[str]:
        """Those of the ids that are jobs in this database."""
        return list(self._connection.execute(sa.select(JOBS.c.id).where(JOBS.c.id.in_(ids))).scalars())

    def queue_positions(self) -> dict[str, int]:
        """The place of each queued job in the admission order, from 1."""
        query = sa.select(JOBS.c.id).where(JOBS.c.state == "queued")
        ids = self._connection.execute(query.order_by(JOBS.c.priority.desc(), JOBS.c.number)).scalars()
        return {job_id: position for position, job_id in enumerate(ids, 1)}

    def count_live(self) -> int:
        """How many jobs may own a server."""
        query = sa.select(sa.func.count()).select_from(JOBS).where(JOBS.c.state.in_(LIVE_STATES))
        return int(self._connection.execute(query).scalar_one())

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

    def console(self, job_id: str) -> tuple[int, str] | None:
        """The console output of the last server whose output was saved, as (attempt, text)."""
        query = sa.select(CONSOLES.c.attempt, CONSOLES.c.text).where(CONSOLES.c.job_id == job_id)
        row = self._connection.execute(query.order_by(CONSOLES.c.attempt.desc())).first()
        return None if row is None else (row.attempt, row.text)

    def fact(self, name: str) -> Any:
        """The value of a fact, or None."""
        text = self._connection.execute(sa.select(FACTS.c.value).where(FACTS.c.name == name)).scalar()
        return None if text is None else json.loads(text)
