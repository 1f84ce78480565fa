"""Rows that a transaction writes later, together: one statement for each table.

Most of the cost of a row is its statement. So the rows of a batch of messages are written at the end of its
transaction, or before the first query whose result may depend on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.engine.ledger import StateChange
from lando.states.job import ENDED_STATES, Job
from lando.states.records import replace
from lando.store import effect_rows
from lando.store.logs import PendingLogs
from lando.store.tables import HISTORY, JOB_LABELS, JOBS, PROCESSED

JOB_FIELDS = tuple(field.name for field in fields(Job))
JOB_COLUMNS = tuple(JOBS.c[name] for name in JOB_FIELDS)

_UPDATE = (
    sa.update(JOBS)
    .where(JOBS.c.id == sa.bindparam("key_id"), JOBS.c.version == sa.bindparam("key_version"))
    .values({JOBS.c[name]: sa.bindparam(name) for name in (*JOB_FIELDS, "waiting", "doubt") if name != "id"})
)
_KEPT_AGAIN = (
    sa.update(JOBS)
    .where(JOBS.c.id.in_(sa.bindparam("ids", expanding=True)))
    .values(secrets_dropped_at=None, logs_removed_at=None, results_removed_at=None)
)
"""What a job that is retried has from now on was not removed."""
_INSERTS = {table.name: sa.insert(table) for table in (JOBS, JOB_LABELS, HISTORY, PROCESSED)}


class StaleRecord(Exception):
    """The record was changed by another transaction: load it again, and fire again."""


def job_values(job: Job) -> dict[str, Any]:
    """The columns of a record."""
    values = {name: getattr(job, name) for name in JOB_FIELDS}
    values["requests"] = json.dumps([asdict(request) for request in job.requests]) if job.requests else "[]"
    is_queued = job.state == "queued"
    values["waiting"] = int(job.not_before > 0) if is_queued else None
    values["doubt"] = job.doubtful + job.unanswered if is_queued else None
    return values


class Pending:
    """Rows to write, and the records as they will be stored."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._new: dict[str, dict[str, Any]] = {}
        self._labels: list[dict[str, Any]] = []
        self._based_on: dict[str, int] = {}
        self._history: list[dict[str, Any]] = []
        self._effects: list[dict[str, Any]] = []
        self._processed: dict[str, float] = {}
        self._retried: list[str] = []
        self.logs = PendingLogs()

    def job(self, job_id: str) -> Job | None:
        """The record, if it will be written."""
        return self._jobs.get(job_id)

    def is_new(self, job_id: str) -> bool:
        """Whether the job will be inserted."""
        return job_id in self._new

    def is_processed(self, message_id: str) -> bool:
        """Whether the message will be marked as processed."""
        return message_id in self._processed

    def insert(self, job: Job, more: Mapping[str, Any], labels: Iterable[Mapping[str, Any]]) -> None:
        """A new job; ``more`` is what its row has besides the record."""
        self._jobs[job.id] = job
        self._new[job.id] = dict(more)
        self._labels += [{"job_id": job.id, **label} for label in labels]

    def save(self, job: Job) -> Job:
        """A changed job. Returns it with the next version.

        Raises:
            StaleRecord: a later version is to be written already.
        """
        written = self._jobs.get(job.id)
        if written is not None and written.version != job.version:
            raise StaleRecord(f"job {job.id}, version {job.version}")
        saved = self._jobs[job.id] = replace(job, version=job.version + 1)
        self._based_on.setdefault(job.id, job.version)
        return saved

    def add_change(self, change: StateChange) -> None:
        """A line of history."""
        self._history.append({**change.__dict__})
        if change.source in ENDED_STATES:
            self._retried.append(change.job_id)

    def add_effect(self, values: dict[str, Any]) -> None:
        """A row of the outbox."""
        self._effects.append(values)

    def mark_processed(self, message_id: str, at: float) -> None:
        """A message that has had its effect."""
        self._processed[message_id] = at

    def write(self, connection: Connection) -> None:
        """Write it all, once.

        Raises:
            StaleRecord: somebody else has changed a record.
        """
        new = [{**job_values(self._jobs[job_id]), **more} for job_id, more in self._new.items()]
        changed = [
            {**job_values(self._jobs[job_id]), "key_id": job_id, "key_version": version}
            for job_id, version in self._based_on.items()
            if job_id not in self._new
        ]
        _insert(connection, JOBS, new)
        _insert(connection, JOB_LABELS, [self._of_its_job(label) for label in self._labels])
        if changed and connection.execute(_UPDATE, changed).rowcount != len(changed):
            raise StaleRecord(f"job {' or '.join(row['key_id'] for row in changed)}")
        if self._retried:
            connection.execute(_KEPT_AGAIN, {"ids": self._retried})
        _insert(connection, HISTORY, self._history)
        effect_rows.insert(connection, self._effects)
        self.logs.write(connection)
        _insert(connection, PROCESSED, [{"id": key, "at": at} for key, at in self._processed.items()])

    def _of_its_job(self, label: dict[str, Any]) -> dict[str, Any]:
        job = self._jobs[label["job_id"]]
        return {**label, "state": job.state, "entered_at": job.entered_at}


def _insert(connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_INSERTS[table.name], rows)
