"""What the commands show of jobs, as data: the objects of ``status --json`` and ``history --json``."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lando import state_dir
from lando.credentials import job_secrets, looks_secret, scrub
from lando.engine.ledger import StateChange
from lando.errors import LandoError, UsageError
from lando.messages import Malformed, Message, decode
from lando.redaction import MASK, mask
from lando.states.job import ENDED_STATES, Job
from lando.store.facts import CLOUD_FACT, DAEMON_FACT, NO_START_FACT, QUEUE_FACT, SEEN_FACT
from lando.store.queries import JobView, Queries
from lando.store.store import Store
from lando.store.transaction import display_name
from lando.times import rfc3339
from lando.views.attempts import Attempt, attempts
from lando.views.daemon_status import DaemonStatus
from lando.views.queue_peek import QueuePeek
from lando.views.reasons import AdmissionOrder, is_leaking, reason, remark

SILENT_AFTER = 20.0
"""Seconds without a record of the daemon, which writes one every five, after which that is told."""


@dataclass(frozen=True)
class JobStatus:
    """A job as ``status`` shows it."""

    job: Job
    name: str
    submitted_by: str | None
    reason: str
    """Why it is where it is, as a sentence."""
    labels: dict[str, Any]
    leaking: bool = False

    @property
    def ended(self) -> bool:
        """Whether it is done or failed."""
        return self.job.state in ENDED_STATES

    @property
    def state_text(self) -> str:
        """The state as people read it."""
        return "failed (canceled)" if self.job.outcome == "canceled" else self.job.state

    @property
    def step_text(self) -> str:
        """Step k of n, as far as known."""
        if self.job.step is None:
            return ""
        return f"{self.job.step}/{self.job.steps}" if self.job.steps else str(self.job.step)

    def as_json(self) -> dict[str, Any]:
        """The stable object of ``status --json``; unknown values are null, times RFC 3339."""
        job = self.job
        return {
            "id": job.id,
            "name": self.name,
            "state": job.state,
            "outcome": job.outcome,
            "reason": self.reason,
            "attempt": job.attempt,
            "attempts": job.attempts,
            "failures": job.failures,
            "priority": job.priority,
            "phase": None if self.ended else job.phase,
            "step": job.step,
            "steps": job.steps,
            "step_name": job.step_name,
            "vm": {"name": job.server_name, "id": job.server_id, "ip": job.server_ip},
            "leaking": self.leaking,
            "submitted_by": self.submitted_by,
            "submitted_at": rfc3339(job.submitted_at),
            "entered_at": rfc3339(job.entered_at),
            "updated_at": rfc3339(job.updated_at),
            "deadline_at": rfc3339(job.deadline_at),
            "not_before": rfc3339(job.not_before if job.state == "queued" and job.not_before else None),
            "git_commit": job.git_commit,
            "worker_version": job.worker_version,
            "exit_code": job.exit_code,
            "labels": self.labels,
        }


def change_as_json(change: StateChange) -> dict[str, Any]:
    """The stable object of ``history --json``."""
    return {
        "at": rfc3339(change.at),
        "event": change.event,
        "from": change.source,
        "to": change.target,
        "reason": change.reason,
        "attempt": change.attempt,
    }


def exists(path: Path) -> bool:
    """Whether a file exists.

    Raises:
        LandoError: this account may not look into its directory.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LandoError(f"{path}: {error.strerror}; does it belong to another account?") from error
    return True


class Views:
    """Reads jobs: those in the store, and those whose start_worker is still in the queue.

    Args:
        database_url: the database, in SQLAlchemy's form; need not exist.
        database_path: its file; None where it has none.
        queue: looks at the work queue.
        daemon_lock: the file that the daemon locks.
        max_workers: how many VMs there may be at the same time; None: as many as the quota allows.
    """

    def __init__(
        self,
        database_url: str,
        database_path: Path | None,
        queue: QueuePeek,
        daemon_lock: Path,
        max_workers: int | None,
    ) -> None:
        self._url = database_url
        self._path = database_path
        self._queue = queue
        self._daemon_lock = daemon_lock
        self._max_workers = max_workers
        self._store: Store | None = None
        self._published: list[tuple[Message, str | None]] = []

    @contextlib.contextmanager
    def reading(self) -> Iterator[Queries | None]:
        """A snapshot of the database; None while there is none."""
        if self._store is None and (self._path is None or exists(self._path)):
            self._store = Store(self._url)
        if self._store is None:
            yield None
        else:
            with self._store.reading() as queries:
                yield queries

    def is_new(self) -> bool:
        """Whether there is no database, or no daemon has used it yet."""
        with self.reading() as queries:
            return queries is None or queries.fact(DAEMON_FACT) is None

    def close(self) -> None:
        """Close the database; it is opened again when it is needed."""
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def add_published(self, message: Message, sender: str | None) -> None:
        """Show the job of a start_worker that was published just now, which a broker would not show."""
        self._published.append((message, sender))

    def daemon(self) -> DaemonStatus:
        """Whether a daemon runs for this database, and what it cannot reach."""
        pid = state_dir.running(self._daemon_lock)
        if pid is None:
            return DaemonStatus(pid)
        with self.reading() as queries:
            if queries is None:
                return DaemonStatus(pid)
            queue, cloud = (queries.fact(name) or {} for name in (QUEUE_FACT, CLOUD_FACT))
            start = queries.fact(NO_START_FACT) or {}
            failures = queries.boot_failures().at(time.time())
            unknown, staying = queries.unknown(), queries.staying()
            seen_at = queries.fact(SEEN_FACT) if queries.count_live() else None
            recorded = queries.fact(DAEMON_FACT) or {}
        return DaemonStatus(
            pid,
            queue.get("disconnected_since"),
            queue.get("words", ""),
            cloud.get("unreachable_since"),
            cloud.get("words", ""),
            failures.since if failures.are_the_sites else None,
            failures.reason,
            start.get("since"),
            start.get("words", ""),
            self._unrecorded_since(pid, recorded.get("pid"), seen_at),
            unknown,
            staying,
        )

    def _unrecorded_since(self, pid: int, recorded: int | None, seen_at: float | None) -> float | None:
        """Since when the daemon has not recorded its start, or that it lives, if it should have."""
        try:
            started_at = self._daemon_lock.stat().st_mtime
        except OSError:
            return None
        has_begun = recorded == pid or not pid
        since = started_at if not has_begun else max(started_at, seen_at or math.inf)
        return since if time.time() - since > SILENT_AFTER else None

    def unread(self) -> int:
        """How many messages wait in the queue that are not shown as jobs; 0 where that cannot be seen."""
        return self._queue.count_unread()

    def jobs(self, states: Sequence[str] = (), ids: Sequence[str] = ()) -> list[JobStatus]:
        """All jobs in order of arrival; those in some states, or with some ids."""
        daemon = self.daemon()
        if ids and len(found := self._stored(states, ids, daemon)[0]) == len(ids):
            return found
        # The queue before the store: a message that is taken between the two is seen twice, not missed.
        pending = {message.job: (message, sender) for message, sender in reversed(self._pending())}
        found, known = self._stored(states, ids, daemon, [job_id for job_id in pending if job_id is not None])
        for job_id, (message, sender) in reversed(pending.items()):
            wanted = (not states or "queued" in states) and (not ids or job_id in ids)
            if wanted and job_id not in known:
                found.append(_status_of_message(message, sender, daemon))
        return found

    def _stored(
        self, states: Sequence[str], ids: Sequence[str], daemon: DaemonStatus, pending: Sequence[str] = ()
    ) -> tuple[list[JobStatus], set[str]]:
        """What the store has of the jobs asked for, and which pending ones it knows, in one snapshot."""
        with self.reading() as queries:
            if queries is None:
                return [], set()
            order = AdmissionOrder.read(queries, self._max_workers)
            found = [_status(view, order, daemon) for view in queries.jobs(states, ids)]
            return found, set(queries.jobs_known(pending))

    def job(self, job_id: str) -> JobStatus | None:
        """One job."""
        found = self.jobs(ids=[job_id])
        return found[0] if found else None

    def body(self, job_id: str) -> dict[str, Any] | None:
        """The body of its start_worker message; None: the store does not know the job."""
        with self.reading() as queries:
            found = [] if queries is None else queries.jobs(ids=[job_id])
        return found[0].body if found else None

    def resolve(self, prefix: str) -> str:
        """The id of the job that ``prefix`` names.

        Raises:
            UsageError: none, or several, begin so.
        """
        prefix = prefix.lower()
        ids = {message.job for message, _ in self._pending() if (message.job or "").startswith(prefix)}
        with self.reading() as queries:
            if queries is not None:
                ids.update(queries.ids_like(prefix))
        if len(ids) == 1 and prefix:
            return str(ids.pop())
        if not ids or not prefix:
            raise UsageError(f"no job {prefix!r}; {self._hint()}")
        several = ", ".join(sorted(str(id_) for id_ in ids)[:5])
        raise UsageError(f"job {prefix!r} is ambiguous: {several}; give more of its id")

    def _hint(self) -> str:
        if self._queue.shows_messages:
            return "`lando-fsm status` lists them all"
        return "`lando-fsm status` lists the jobs that a daemon has taken from the work queue"

    def history(self, job_id: str) -> list[StateChange]:
        """Every change of state of a job, oldest first."""
        with self.reading() as queries:
            return [] if queries is None else queries.history(job_id)

    def attempts(self, job_id: str) -> list[Attempt]:
        """The attempts of a job, in order."""
        return attempts(self.history(job_id))

    def log(self, job_id: str, after: tuple[int, int] = (0, 0)) -> list[tuple[int, int, str]]:
        """Pieces of its log as (attempt, seq, text), those after (attempt, seq)."""
        with self.reading() as queries:
            return [] if queries is None else queries.log(job_id, after)

    def console(self, job_id: str) -> tuple[int, str] | None:
        """The console output of its last server that failed, as (attempt, text)."""
        with self.reading() as queries:
            return None if queries is None else queries.console(job_id)

    def _pending(self) -> list[tuple[Message, str | None]]:
        found: dict[str | None, tuple[Message, str | None]] = {}
        for message, sender in self._published:
            found.setdefault(message.job, (message, sender))
        for delivery in self._queue.messages():
            try:
                message = decode(delivery.raw, delivery.origin)
            except Malformed:
                continue
            if message.type == "start_worker":
                found.setdefault(message.job, (message, delivery.sender))
        return list(found.values())


def _status(view: JobView, order: AdmissionOrder, daemon: DaemonStatus) -> JobStatus:
    return JobStatus(
        view.job,
        view.name,
        view.submitted_by,
        reason(view, order, daemon),
        _labels(view.body),
        is_leaking(view),
    )


def _status_of_message(message: Message, sender: str | None, daemon: DaemonStatus) -> JobStatus:
    """The job of a start_worker that no daemon has taken yet."""
    assert message.job is not None
    attempts = message.body.get("attempts")
    job = Job(
        message.job,
        attempts=attempts if isinstance(attempts, int) else 3,
        submitted_at=message.sent_at,
        entered_at=message.sent_at,
        updated_at=message.sent_at,
    )
    why = f"in the queue, not taken yet{remark(daemon)}"
    return JobStatus(job, display_name(message.body), sender, why, _labels(message.body))


def _labels(body: Mapping[str, Any]) -> dict[str, Any]:
    """The labels without the job's secrets."""
    labels = body.get("labels")
    if not labels or not isinstance(labels, dict):
        return {}
    secrets = job_secrets(body)
    return {
        mask(scrub(key), secrets): MASK if looks_secret(key) else _masked(value, secrets)
        for key, value in labels.items()
    }


def _masked(value: Any, secrets: Sequence[str]) -> Any:
    return mask(scrub(value), secrets) if isinstance(value, str) else value
