"""What the commands show of jobs, as data: the objects of ``status --json`` and ``history --json``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lando import state_dir
from lando.engine.ledger import StateChange
from lando.errors import LandoError, UsageError
from lando.messages import Malformed, Message, decode
from lando.states.job import ENDED_STATES, Job
from lando.store.facts import CLOUD_FACT, QUEUE_FACT
from lando.store.queries import JobView, Queries
from lando.store.store import Store
from lando.store.transaction import display_name
from lando.times import rfc3339
from lando.views.daemon_status import Watching
from lando.views.queue_peek import QueuePeek
from lando.views.reasons import Places, is_leaking, why


@dataclass(frozen=True)
class Shown:
    """A job and what a person wants to know of it."""

    job: Job
    name: str
    submitted_by: str | None
    why: str
    """Why it is where it is, as a sentence."""
    labels: dict[str, Any]
    leaking: bool = False
    taken: bool = True
    """False while its start_worker is still in the queue."""

    @property
    def ended(self) -> bool:
        """Nothing more will happen by itself."""
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
            "reason": self.why,
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


def is_there(path: Path) -> bool:
    """Whether a file exists.

    Raises:
        LandoError: nobody but its owner may know.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LandoError(f"{path}: {error.strerror}; is it another account's?") from error
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
        self._opened: Store | None = None
        self._published: list[tuple[Message, str | None]] = []

    @property
    def _store(self) -> Store | None:
        """The database, once there is one."""
        if self._opened is None and (self._path is None or is_there(self._path)):
            self._opened = Store(self._url)
        return self._opened

    @contextlib.contextmanager
    def reading(self) -> Iterator[Queries | None]:
        """A snapshot of the database; None while there is none."""
        store = self._store
        if store is None:
            yield None
        else:
            with store.reading() as queries:
                yield queries

    def expect(self, message: Message, sender: str | None) -> None:
        """Show a job whose start_worker was published just now, although a broker shows no message."""
        self._published.append((message, sender))

    def daemon(self) -> Watching:
        """Whether a daemon serves this database, and hears what it is told."""
        pid = state_dir.running(self._daemon_lock)
        store = self._store
        if pid is None or store is None:
            return Watching(pid)
        with store.reading() as queries:
            queue, cloud = (queries.fact(name) or {} for name in (QUEUE_FACT, CLOUD_FACT))
        return Watching(
            pid,
            queue.get("disconnected_since"),
            queue.get("words", ""),
            cloud.get("unreachable_since"),
            cloud.get("words", ""),
        )

    def unread(self) -> int:
        """How many messages wait in the queue that are not shown as jobs."""
        return self._queue.count_unread()

    def jobs(self, states: Sequence[str] = (), ids: Sequence[str] = ()) -> list[Shown]:
        """All jobs in order of arrival; those in some states, or with some ids."""
        daemon = self.daemon()
        if ids and len(shown := self._stored(states, ids, daemon)[0]) == len(ids):
            return shown
        # The queue before the store: a message that is taken between the two is seen twice, not missed.
        pending = {message.job: (message, sender) for message, sender in reversed(self._pending())}
        shown, known = self._stored(states, ids, daemon, [job_id for job_id in pending if job_id is not None])
        for job_id, (message, sender) in reversed(pending.items()):
            wanted = (not states or "queued" in states) and (not ids or job_id in ids)
            if wanted and job_id not in known:
                shown.append(_untaken(message, sender, daemon))
        return shown

    def _stored(
        self, states: Sequence[str], ids: Sequence[str], daemon: Watching, pending: Sequence[str] = ()
    ) -> tuple[list[Shown], set[str]]:
        """What the store has of the jobs asked for, and which pending ones it knows, in one snapshot."""
        store = self._store
        if store is None:
            return [], set()
        with store.reading() as queries:
            places = Places.read(queries, self._max_workers)
            shown = [_shown(view, places, daemon) for view in queries.jobs(states, ids)]
            return shown, set(queries.jobs_known(pending))

    def job(self, job_id: str) -> Shown | None:
        """One job."""
        found = self.jobs(ids=[job_id])
        return found[0] if found else None

    def resolve(self, prefix: str) -> str:
        """The id of the job that ``prefix`` names.

        Raises:
            UsageError: none, or several, begin so.
        """
        prefix = prefix.lower()
        ids = {message.job for message, _ in self._pending() if (message.job or "").startswith(prefix)}
        store = self._store
        if store is not None:
            with store.reading() as queries:
                ids.update(queries.ids_like(prefix))
        if len(ids) == 1 and prefix:
            return str(ids.pop())
        if not ids or not prefix:
            raise UsageError(f"no job {prefix!r}; {self._where_else()}")
        several = ", ".join(sorted(str(id_) for id_ in ids)[:5])
        raise UsageError(f"job {prefix!r} is ambiguous: {several}; give more of its id")

    def _where_else(self) -> str:
        if self._queue.shows_messages:
            return "`lando-fsm status` lists them all"
        return "`lando-fsm status` lists all that a daemon has taken from the work queue"

    def history(self, job_id: str) -> list[StateChange]:
        """Every change of state of a job, oldest first."""
        store = self._store
        if store is None:
            return []
        with store.reading() as queries:
            return queries.history(job_id)

    def log(self, job_id: str, after: tuple[int, int] = (0, 0)) -> list[tuple[int, int, str]]:
        """Pieces of its log as (attempt, seq, text), those after (attempt, seq)."""
        store = self._store
        if store is None:
            return []
        with store.reading() as queries:
            return queries.log(job_id, after)

    def console(self, job_id: str) -> tuple[int, str] | None:
        """The console output of its last server that failed, as (attempt, text)."""
        store = self._store
        if store is None:
            return None
        with store.reading() as queries:
            return queries.console(job_id)

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


def _shown(view: JobView, places: Places, daemon: Watching) -> Shown:
    leaking = is_leaking(view)
    labels = view.body.get("labels")
    return Shown(
        view.job,
        view.name,
        view.submitted_by,
        why(view, places, daemon, leaking),
        labels if isinstance(labels, dict) else {},
        leaking,
    )


def _untaken(message: Message, sender: str | None, daemon: Watching) -> Shown:
    assert message.job is not None
    attempts = message.body.get("attempts")
    job = Job(
        message.job,
        attempts=attempts if isinstance(attempts, int) else 3,
        submitted_at=message.sent_at,
        entered_at=message.sent_at,
        updated_at=message.sent_at,
    )
    why = f"in the queue, not taken yet{daemon.absence}"
    labels = message.body.get("labels")
    return Shown(
        job, display_name(message.body), sender, why, labels if isinstance(labels, dict) else {}, taken=False
    )
