"""What retention removes, in SQL: a piece at a time, found through indexes that have only what is left.

A job that is removed leaves a row in ``forgotten_jobs``, by which its messages and servers are still known: a
start_worker that is delivered again does not run it again, and a server that surfaces late is deleted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.engine.retention import Retention, without_secrets
from lando.states.job import ENDED_STATES, Job
from lando.store.tables import CONSOLES, EFFECTS, ENDED, FORGOTTEN, HISTORY, JOBS, LOG_TOTALS, LOGS
from lando.times import rfc3339
from lando.yaml_json import read_json, write_json

MAX_BODIES = 256 * 1024
"""Characters of the bodies from which secrets are removed together, and one more."""

REMOVED = "removed"
"""The reason of what stands for a job that was removed."""

_FORGOTTEN = sa.select(FORGOTTEN).where(FORGOTTEN.c.id.in_(sa.bindparam("ids", expanding=True)))
HAS_ENDED = sa.text(ENDED)
_HAS_EFFECT = sa.exists().where(EFFECTS.c.job_id == JOBS.c.id)
WITH_SECRETS = sa.and_(HAS_ENDED, JOBS.c.secrets_dropped_at.is_(None))
WITH_LOGS = sa.and_(HAS_ENDED, JOBS.c.logs_removed_at.is_(None))


@dataclass(frozen=True)
class Forgotten:
    """A job that was removed, or will be within seconds."""

    id: str
    attempt: int
    ended_at: float
    at: float
    """When that was decided."""
    with_results: bool
    """Its files, too."""

    @property
    def sentence(self) -> str:
        """What became of it, for people."""
        how = "by `lando-fsm forget`" if self.with_results else "after its time (retention.ended)"
        return f"job {self.id} ended {rfc3339(self.ended_at)}, and was removed {rfc3339(self.at)} {how}"

    def as_job(self) -> Job:
        """What the rules about servers ask of a job."""
        return Job(self.id, state="done", attempt=self.attempt, reason=REMOVED, entered_at=self.ended_at)


@dataclass(frozen=True)
class DueCounts:
    """How many jobs retention would remove something of at a time; None: for ever kept."""

    ended: int | None
    """Jobs that would be removed."""
    logs: int | None
    """Jobs whose log would be."""
    secrets: int | None
    """Jobs whose secrets would be, if they have some."""


def due_counts(connection: Connection, retention: Retention, now: float) -> DueCounts:
    """What retention would remove.

    Args:
        connection: to the database, with an up-to-date schema; nothing is written.
        retention: how long what is kept.
        now: epoch seconds.
    """

    def count(which: Any, seconds: float | None) -> int | None:
        if seconds is None:
            return None
        query = sa.select(sa.func.count()).select_from(JOBS).where(which, JOBS.c.entered_at < now - seconds)
        return int(connection.execute(query).scalar_one())

    return DueCounts(
        count(HAS_ENDED, retention.ended),
        count(WITH_LOGS, retention.logs),
        count(WITH_SECRETS, retention.secrets),
    )


def count_ended(connection: Connection) -> int:
    """How many jobs have ended."""
    # With a bound for the index's column, without which PostgreSQL reads the table.
    query = sa.select(sa.func.count()).select_from(JOBS).where(HAS_ENDED, JOBS.c.entered_at > 0)
    return int(connection.execute(query).scalar_one())


@dataclass(frozen=True)
class Removed:
    """When what was removed of a job that stays; None: it was not."""

    secrets_at: float | None
    logs_at: float | None
    results_at: float | None


def removed(connection: Connection, job_id: str) -> Removed | None:
    """What was removed of a job; None: there is no such job."""
    columns = JOBS.c.secrets_dropped_at, JOBS.c.logs_removed_at, JOBS.c.results_removed_at
    row = connection.execute(sa.select(*columns).where(JOBS.c.id == job_id)).first()
    return None if row is None else Removed(*row)


def forgotten(connection: Connection, job_ids: Collection[str]) -> list[Forgotten]:
    """Those of these jobs that were removed, or will be."""
    return [to_forgotten(row) for row in connection.execute(_FORGOTTEN, {"ids": [*job_ids]})]


def forgotten_like(connection: Connection, prefix: str) -> Forgotten | None:
    """A job that was removed, and whose id begins with ``prefix``."""
    query = sa.select(FORGOTTEN).where(FORGOTTEN.c.id.startswith(prefix, autoescape=True)).limit(1)
    row = connection.execute(query).first()
    return None if row is None else to_forgotten(row)


def oldest(which: Any, *columns: Any, before: float, limit: int) -> sa.Select[Any]:
    """Of jobs that ended before a time, the first ones."""
    query = sa.select(*columns).where(which, JOBS.c.entered_at < before)
    return query.order_by(JOBS.c.entered_at).limit(limit)


def some_of(table: sa.Table, job_ids: Sequence[str], limit: int) -> sa.Select[Any]:
    """Ids of some rows of these jobs."""
    return sa.select(table.c.id).where(table.c.job_id.in_(job_ids)).limit(limit)


def with_rows(limit: int) -> sa.Select[Any]:
    """Ids of removed jobs that still have rows, the first ones first."""
    return sa.select(FORGOTTEN.c.id).where(sa.text("has_rows")).order_by(FORGOTTEN.c.at).limit(limit)


def files_after(after: tuple[float, str], limit: int) -> sa.Select[Any]:
    """See ``Removals.with_files``."""
    place = sa.tuple_(FORGOTTEN.c.at, FORGOTTEN.c.id)
    query = sa.select(FORGOTTEN).where(sa.text("has_files"), place > sa.tuple_(*after))
    return query.order_by(FORGOTTEN.c.at, FORGOTTEN.c.id).limit(limit)


def known_before(before: float, limit: int) -> sa.Select[Any]:
    """Ids of jobs that were removed before a time, and have neither rows nor files."""
    is_gone = sa.and_(~FORGOTTEN.c.has_rows, ~FORGOTTEN.c.has_files)
    query = sa.select(FORGOTTEN.c.id).where(FORGOTTEN.c.at < before, is_gone)
    return query.order_by(FORGOTTEN.c.at).limit(limit)


class Removals(ABC):
    """The part of a transaction that removes what has ended.

    Args:
        connection: the transaction's.
    """

    def __init__(self, connection: Connection) -> None:
        self._open = connection
        self._prefetched_forgotten: dict[str, bool] = {}

    @property
    @abstractmethod
    def _connection(self) -> Connection:
        """For a statement that must see all that this transaction has done."""

    # whole jobs

    def forget(self, job: Job, at: float) -> None:
        """See ``Ledger.forget``."""
        if not self.is_forgotten(job.id):
            row = Forgotten(job.id, job.attempt, job.entered_at, at, with_results=True)
            values = {**vars(row), "has_rows": True, "has_files": True}
            self._open.execute(sa.insert(FORGOTTEN).values(values))
            self._prefetched_forgotten[job.id] = True

    def prefetch_forgotten(self, job_ids: Collection[str]) -> None:
        """``is_forgotten`` will be asked of these jobs."""
        if job_ids:
            found = {each.id for each in self.forgotten(job_ids)}
            self._prefetched_forgotten = {job_id: job_id in found for job_id in job_ids}

    def is_forgotten(self, job_id: str) -> bool:
        """See ``Ledger.is_forgotten``."""
        known = self._prefetched_forgotten.get(job_id)
        if known is None:
            return bool(self.forgotten((job_id,)))
        return known

    def forgotten(self, job_ids: Collection[str]) -> list[Forgotten]:
        """Those of these jobs that were removed, or will be."""
        # None is ever pending, so that to ask writes nothing of what is gathered.
        return forgotten(self._open, job_ids)

    def forget_ended(self, before: float, at: float, limit: int) -> int:
        """Decide that the jobs that ended first are removed, without their files.

        Args:
            before: only those that ended before this time (epoch seconds).
            at: now.
            limit: jobs.

        Returns:
            How many.
        """
        is_forgotten = sa.exists().where(FORGOTTEN.c.id == JOBS.c.id)
        query = oldest(HAS_ENDED, JOBS.c.id, JOBS.c.attempt, JOBS.c.entered_at, before=before, limit=limit)
        chosen = [
            {
                **vars(Forgotten(row.id, row.attempt, row.entered_at, at, with_results=False)),
                "has_rows": True,
                "has_files": True,
            }
            for row in self._connection.execute(query.where(~is_forgotten, ~_HAS_EFFECT))
        ]
        if chosen:
            self._connection.execute(sa.insert(FORGOTTEN), chosen)
        return len(chosen)

    def remove_rows(self, jobs: int, rows: int) -> int:
        """Remove rows of jobs of which that was decided: first of their logs, last of the jobs themselves.

        Args:
            jobs: at most of so many at once.
            rows: at most so many of logs and histories.

        Returns:
            How many rows were removed; 0 if there are no more.
        """
        ids = [*self._connection.execute(with_rows(jobs)).scalars()]
        if not ids:
            return 0
        removed = self._delete_some(LOGS, ids, rows)
        removed += self._delete_some(HISTORY, ids, rows - removed)
        if removed >= rows:
            return removed
        for table in (CONSOLES, LOG_TOTALS):
            removed += self._connection.execute(sa.delete(table).where(table.c.job_id.in_(ids))).rowcount
        is_over = sa.and_(JOBS.c.id.in_(ids), JOBS.c.state.in_(ENDED_STATES), ~_HAS_EFFECT)
        removed += self._connection.execute(sa.delete(JOBS).where(is_over)).rowcount
        is_gone = ~sa.exists().where(JOBS.c.id == FORGOTTEN.c.id)
        gone = sa.update(FORGOTTEN).where(FORGOTTEN.c.id.in_(ids), is_gone).values(has_rows=False)
        return removed + self._connection.execute(gone).rowcount

    def _delete_some(self, table: sa.Table, job_ids: Sequence[str], limit: int) -> int:
        if limit <= 0:
            return 0
        some = sa.delete(table).where(table.c.id.in_(some_of(table, job_ids, limit)))
        return self._connection.execute(some).rowcount

    def with_files(self, after: tuple[float, str], limit: int) -> list[Forgotten]:
        """Removed jobs whose directories were not looked at yet, in their order.

        Args:
            after: the time and the id of the one before.
            limit: jobs.
        """
        return [to_forgotten(row) for row in self._connection.execute(files_after(after, limit))]

    def note_without_files(self, job_ids: Collection[str]) -> None:
        """The directories of these jobs are gone, or were looked at."""
        chosen = sa.update(FORGOTTEN).where(FORGOTTEN.c.id.in_([*job_ids]))
        self._connection.execute(chosen.values(has_files=False))

    def remove_forgotten(self, before: float, limit: int) -> int:
        """Remove what is known of jobs that were removed before this time (epoch seconds).

        Returns:
            How many.
        """
        old = sa.delete(FORGOTTEN).where(FORGOTTEN.c.id.in_(known_before(before, limit)))
        return self._connection.execute(old).rowcount

    # what a job has

    def remove_logs(self, before: float, at: float, jobs: int, rows: int) -> int:
        """Remove rows of the logs of jobs that ended before this time, the first ones first.

        Args:
            before: epoch seconds.
            at: now.
            jobs: at most of so many at once.
            rows: at most so many.

        Returns:
            How many rows were removed or changed; 0 if there are no more.
        """
        ids = [*self._connection.execute(oldest(WITH_LOGS, JOBS.c.id, before=before, limit=jobs)).scalars()]
        removed = self._delete_some(LOGS, ids, rows) if ids else 0
        if not ids or removed >= rows:
            return removed
        self._connection.execute(sa.delete(CONSOLES).where(CONSOLES.c.job_id.in_(ids)))
        # The sequence numbers stay: what they count was received.
        empty = sa.update(LOG_TOTALS).where(LOG_TOTALS.c.job_id.in_(ids)).values(rows=0, characters=0)
        self._connection.execute(empty)
        self._change(ids, log_tail="", logs_removed_at=at)
        return removed + len(ids)

    def drop_secrets(self, before: float, at: float, jobs: int) -> tuple[int, int]:
        """Drop the secrets of jobs that ended before this time, the first ones first.

        Args:
            before: epoch seconds.
            at: now.
            jobs: at most of so many at once.

        Returns:
            How many jobs were looked at, 0 if there are no more; and how many of them had secrets.
        """
        found: dict[str, str] = {}
        with self._connection.execute(
            oldest(WITH_SECRETS, JOBS.c.id, JOBS.c.body, before=before, limit=jobs)
        ) as rows:
            size = 0
            for row in rows:
                found[row.id] = row.body
                size += len(row.body)
                if size >= MAX_BODIES:
                    break
        dropped = 0
        for job_id, body in found.items():
            masked = without_secrets(read_json(body))
            if masked is not None:
                dropped += 1
                self._change([job_id], body=write_json(masked), lost_secrets=True)
        if found:
            # Tokens of create requests are void once a job has ended.
            self._change(found, requests="[]", secrets_dropped_at=at)
        return len(found), dropped

    def ended_at(self, job_ids: Collection[str]) -> dict[str, float]:
        """When each of these jobs has ended, whether it was removed or not; of others nothing."""
        jobs = sa.select(JOBS.c.id, JOBS.c.entered_at).where(HAS_ENDED, JOBS.c.id.in_([*job_ids]))
        forgotten = {each.id: each.ended_at for each in self.forgotten(job_ids)}
        return {**forgotten, **{row.id: row.entered_at for row in self._connection.execute(jobs)}}

    def note_results_removed(self, job_ids: Collection[str], at: float) -> None:
        """The files of these jobs were removed."""
        self._change(job_ids, results_removed_at=at)

    def _change(self, job_ids: Collection[str], **values: Any) -> None:
        # With another version: a record that was read before can no longer be written.
        change = sa.update(JOBS).where(JOBS.c.id.in_([*job_ids]), JOBS.c.state.in_(ENDED_STATES))
        self._connection.execute(change.values(**values, version=JOBS.c.version + 1))


def to_forgotten(row: sa.Row[Any]) -> Forgotten:
    """A row of ``forgotten_jobs``."""
    return Forgotten(row.id, row.attempt, row.ended_at, row.at, row.with_results)
