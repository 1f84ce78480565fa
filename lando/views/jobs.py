"""What the commands show of jobs, as data: the objects of ``status --json`` and ``history --json``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lando import state_dir
from lando.app.app import App
from lando.engine.ledger import Hold, StateChange
from lando.errors import LandoError, UsageError
from lando.messages import Malformed, Message, decode
from lando.states.job import ENDED_STATES, Job
from lando.store.facts import CLOUD_FACT, QUEUE_FACT, ROOM_FACT
from lando.store.queries import JobView, Queries
from lando.store.store import Store
from lando.store.transaction import display_name
from lando.workqueue.embedded import waiting

LEAKING_TRIES = 5
"""After so many failed deletions a server is shown as leaking."""
LEAKING_AFTER = 300.0
"""Seconds of deleting after which a server is shown as leaking."""


@dataclass(frozen=True)
class Watching:
    """The daemon, as the commands see it."""

    pid: int | None
    """None where none is running."""
    disconnected_since: float | None = None
    """Epoch seconds since which it cannot hear the work queue."""
    reason: str = ""
    """Why it cannot."""
    blind_since: float | None = None
    """Epoch seconds since which it cannot ask the cloud."""
    cloud_reason: str = ""
    """Why it cannot."""

    @property
    def troubles(self) -> list[tuple[str, str]]:
        """What keeps it from working as it should, each with the reason."""
        found = []
        if self.disconnected_since is not None:
            since = rfc3339(self.disconnected_since)
            found.append((f"disconnected from the work queue since {since}", self.reason))
        if self.blind_since is not None:
            found.append(
                (f"without an answer of the cloud since {rfc3339(self.blind_since)}", self.cloud_reason)
            )
        return found

    @property
    def absence(self) -> str:
        """What keeps all jobs in progress from going on as they should, in brackets; else empty."""
        if self.pid is None:
            return " (no daemon is running)"
        if self.disconnected_since is not None:
            since = rfc3339(self.disconnected_since)
            return f" (the daemon is disconnected from the work queue since {since})"
        return ""

    @property
    def blindness(self) -> str:
        """What keeps servers from being made, seen and deleted, in brackets; else empty."""
        if self.blind_since is None:
            return ""
        return f" (the cloud does not answer since {rfc3339(self.blind_since)})"


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


def rfc3339(at: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC, to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


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
    """Reads a site's jobs: those in the store, and those whose start_worker is still in the queue.

    Args:
        site: whose jobs; its state directory need not exist.
    """

    def __init__(self, site: App) -> None:
        self._site = site
        self._opened: Store | None = None
        self._published: list[tuple[Message, str | None]] = []

    @property
    def _store(self) -> Store | None:
        """The database, once there is one."""
        path = self._site.config.database_path
        if self._opened is None and (path is None or is_there(path)):
            self._opened = Store(self._site.config.database_url)
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
        """Whether somebody serves this site, and hears what it is told."""
        pid = state_dir.running(self._site.daemon_lock)
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
        """How many messages wait in a broker's queue; the embedded one shows the jobs themselves."""
        if self._site.embedded_queue is not None:
            return 0
        from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415 - only where there is a broker

        try:
            found = inspect_queue(self._site.broker, self._site.names.queue)
        except LandoError:
            return 0
        return 0 if found is None else found.waiting

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
            places = _Places.read(queries, self._site.config.max_workers)
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
        if self._site.embedded_queue is not None:
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
        queue = self._site.embedded_queue
        for delivery in waiting(queue) if queue is not None else ():
            try:
                message = decode(delivery.raw, delivery.origin)
            except Malformed:
                continue
            if message.type == "start_worker":
                found.setdefault(message.job, (message, delivery.sender))
        return list(found.values())


@dataclass(frozen=True)
class _Places:
    """What decides whose turn it is: read once, for all jobs that are shown."""

    positions: dict[str, int]
    live: int
    limit: int | None
    hold: Hold | None
    obstacle: str | None
    """What the next one waits for that is the cloud's to give."""

    @classmethod
    def read(cls, queries: Queries, limit: int | None) -> _Places:
        return cls(
            queries.queue_positions(),
            queries.count_live(),
            limit,
            queries.hold(),
            queries.fact(ROOM_FACT),
        )


def _shown(view: JobView, places: _Places, daemon: Watching) -> Shown:
    leaking = _is_leaking(view)
    labels = view.body.get("labels")
    return Shown(
        view.job,
        view.name,
        view.submitted_by,
        _why(view, places, daemon, leaking),
        labels if isinstance(labels, dict) else {},
        leaking,
    )


def _is_leaking(view: JobView) -> bool:
    effect = view.effect
    deleting = effect is not None and effect.kind in ("delete_server", "delete_twins")
    if view.job.state != "terminating" or effect is None or not deleting:
        return False
    return effect.tries >= LEAKING_TRIES or time.time() - view.job.entered_at > LEAKING_AFTER


def _why(view: JobView, places: _Places, daemon: Watching, leaking: bool) -> str:
    job = view.job
    if job.state == "queued":
        why = _why_queued(job, places)
    elif job.state == "running":
        why = _why_running(job)
    elif leaking and view.effect is not None:
        tries = f"{view.effect.tries} failed tries"
        why = f"LEAKING: what it has in the cloud cannot be deleted: {view.effect.reason} ({tries})"
    elif job.state == "terminating":
        why = f"{job.reason}; its server is being deleted"
    else:
        why = job.reason
    if job.state in ENDED_STATES:
        return why
    if view.effect is not None and view.effect.kind == "attach_floating_ip" and view.effect.reason:
        why = f"{why}; it has no floating IP yet: {view.effect.reason}"
    return f"{why}{daemon.absence}{daemon.blindness if job.state in ('booting', 'terminating') else ''}"


def _why_queued(job: Job, places: _Places) -> str:
    position, wait = places.positions.get(job.id, 0), job.not_before - time.time()
    if wait > 0:
        return f"{job.reason}; not before {wait:.0f} s from now, position {position}"
    return f"{_why_nobody(places)}; position {position}"


def _why_nobody(places: _Places) -> str:
    """Why the next one in the order is not admitted."""
    hold, held = places.hold, 0.0 if places.hold is None else places.hold.until - time.time()
    if hold is not None and held > 0:
        sooner = ", or when a server of ours is gone" if hold.kind == "quota" else ""
        again = f"tried again in {max(1.0, held):.0f} s{sooner}"
        return f"nobody is admitted just now: {hold.reason}; {again}"
    if places.limit is not None and places.live >= places.limit:
        return f"waits for a free place ({places.live} of {places.limit} taken)"
    if places.obstacle is not None:
        return places.obstacle
    if hold is not None:
        return f"nobody is admitted just now: {hold.reason}; being tried again, with one job"
    return "waits for its turn"


def _why_running(job: Job) -> str:
    if job.phase == "running":
        return f"running {job.step_name}" if job.step_name else job.reason
    return job.phase or job.reason


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
