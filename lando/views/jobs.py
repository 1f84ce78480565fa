"""What the commands show of jobs, as data; of many jobs, no more is read than is shown."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lando import outage_record, state_dir
from lando.engine.ledger import StateChange
from lando.errors import LandoError, UsageError
from lando.messages import Message
from lando.outage_record import OutageRecord
from lando.states.job import ENDED_STATES, State
from lando.store.database import StoreOutage
from lando.store.facts import CLOUD_FACT, DAEMON_FACT, NO_START_FACT, QUEUE_FACT, SEEN_FACT
from lando.store.queries import PAGE, JobView, Queries
from lando.store.retention import Forgotten, Removed
from lando.store.selection import IN_ORDER, Selection
from lando.store.store import Store
from lando.times import rfc3339
from lando.views import lost_jobs
from lando.views.attempts import Attempt, attempts
from lando.views.daemon_status import DaemonStatus
from lando.views.job_status import JobStatus
from lando.views.queue_peek import QueuePeek
from lando.views.reasons import AdmissionOrder, is_leaking, reason
from lando.views.untaken import Untaken, of_message, untaken

SILENT_AFTER = 20.0
"""Seconds without a record of the daemon, which writes one every five, after which that is told."""
WAITING: tuple[State, ...] = tuple(state for state in IN_ORDER if state not in ENDED_STATES)


@dataclass(frozen=True)
class Listing:
    """The jobs of a table: those that have not ended, the furthest first, then those that have, the newest
    first."""

    jobs: list[JobStatus]
    counts: Mapping[State, int]
    """How many match, by state; there may be more than are shown."""

    @property
    def left_out(self) -> dict[State, int]:
        """How many are not shown, by state."""
        shown = Counter(status.job.state for status in self.jobs)
        more = {state: number - shown[state] for state, number in self.counts.items()}
        return {state: number for state, number in more.items() if number > 0}


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
        self._published: list[Untaken] = []

    @contextlib.contextmanager
    def reading(self) -> Iterator[Queries | None]:
        """A snapshot of the database; None while there is none."""
        if self._store is None and (self._path is None or exists(self._path)):
            self._store = self._opened()
        if self._store is None:
            yield None
        else:
            with self._store.reading() as queries:
                yield queries

    def _opened(self) -> Store:
        try:
            return Store(self._url, state_dir=self._daemon_lock.parent)
        except StoreOutage as error:
            outage = self._outage(state_dir.running(self._daemon_lock))
            if outage is None:
                raise
            since = rfc3339(outage.since)
            raise StoreOutage(f"{error}; the daemon has not been able to use it since {since}") from error

    def _outage(self, pid: int | None) -> OutageRecord | None:
        return outage_record.read(self._daemon_lock.parent, pid)

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
        self._published.append(of_message(message, sender))

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
            reported = queries.lost_jobs()
            seen_at = queries.fact(SEEN_FACT) if queries.count_live() else None
            recorded = queries.fact(DAEMON_FACT) or {}
        outage = self._outage(pid)
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
            self._unrecorded_since(pid, recorded.get("pid"), seen_at) if outage is None else outage.since,
            "" if outage is None else outage.reason,
            unknown,
            staying,
            reported,
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

    def listing(self, selection: Selection, live: int | None = None, ended: int | None = None) -> Listing:
        """The jobs of a table.

        Args:
            selection: which.
            live: how many at most of those that have not ended; None: all.
            ended: how many at most of those that have, the newest; None: all.
        """
        if selection.ids:
            named = sorted(self._named(selection), key=lambda each: IN_ORDER.index(each.job.state))
            return Listing(named, Counter(each.job.state for each in named))
        daemon = self.daemon()
        # The queue before the store: a message that is taken between the two is seen twice, not missed.
        waiting, unread = self._untaken(selection, live)
        stored, counts, known = [], dict.fromkeys(selection.in_states, 0), set[str]()
        with self.reading() as queries:
            if queries is not None:
                counts = queries.counts(selection)
                views = queries.listed(queries.first_numbers(selection, live, ended))
                queued = [view.number for view in views if view.job.state == "queued"]
                in_order = {number: place for place, number in enumerate(queued, 1)}
                places = in_order if selection.is_by_state_only else _places(queries, views)
                order = AdmissionOrder.read(queries, self._max_workers)
                stored = _statuses(views, order, places, daemon)
                known = {*queries.jobs_known([each.job_id for each in waiting])}
        new = [each.status(daemon) for each in waiting if each.job_id not in known]
        if new or unread:
            counts["queued"] += len(new) + unread
        begun = [status for status in stored if not status.ended]
        return Listing([*begun, *new][:live] + stored[len(begun) :], counts)

    def each(
        self, selection: Selection, live: int | None = None, ended: int | None = None
    ) -> Generator[JobStatus]:
        """The same jobs in order of arrival: one snapshot, read page by page as it is asked for.

        Args:
            selection: which.
            live: how many at most of those that have not ended; None: all.
            ended: how many at most of those that have, the newest; None: all.
        """
        if selection.ids:
            yield from self._named(selection)
            return
        daemon = self.daemon()
        waiting, _ = self._untaken(selection, live)
        known: set[str] = set()
        with self.reading() as queries:
            if queries is not None:
                known.update(queries.jobs_known([each.job_id for each in waiting]))
                if live is None and ended is None:
                    numbers: Sequence[int] = queries.numbers(selection)
                else:
                    numbers = sorted(queries.first_numbers(selection, live, ended))
                order = AdmissionOrder.read(queries, self._max_workers)
                needs_all = live is None and "queued" in selection.in_states
                all_places = queries.places_in_queue() if needs_all else None
                for begin in range(0, len(numbers), PAGE):
                    views = queries.listed(numbers[begin : begin + PAGE])
                    places = _places(queries, views) if all_places is None else all_places
                    yield from _statuses(views, order, places, daemon)
        yield from (each.status(daemon) for each in waiting if each.job_id not in known)

    def jobs(self, states: Sequence[State] = (), ids: Sequence[str] = ()) -> list[JobStatus]:
        """All jobs in order of arrival; those in some states, or with some ids. Without ids their records
        lack what no list shows; see ``JobView``."""
        return list(self.each(Selection(tuple(states), tuple(ids))))

    def _named(self, selection: Selection) -> list[JobStatus]:
        """Those of the jobs with these ids that match, in order of arrival."""
        daemon = self.daemon()
        found = self._stored(selection.ids, daemon)
        if len(found) < len({*selection.ids}):
            waiting = [each for job_id in selection.ids for each in self._naming(job_id)]
            found = self._stored(selection.ids, daemon)
            known = {status.job.id for status in found}
            new = {each.job_id: each.status(daemon) for each in waiting if each.job_id not in known}
            found += [status for job_id, status in new.items() if job_id in selection.ids]
        return [each for each in found if selection.admits(each.job, each.submitted_by, each.labels)]

    def _stored(self, ids: Sequence[str], daemon: DaemonStatus) -> list[JobStatus]:
        with self.reading() as queries:
            if queries is None:
                return []
            views = queries.jobs(ids=ids, whole=True)
            order = AdmissionOrder.read(queries, self._max_workers)
            return _statuses(views, order, _places(queries, views), daemon)

    def job(self, job_id: str) -> JobStatus | None:
        """One job, with its whole record."""
        found = self.jobs(ids=[job_id])
        return found[0] if found else None

    def count_unfinished(self) -> int:
        """How many jobs have not ended, with those that can be seen in the queue."""
        with self.reading() as queries:
            stored = 0 if queries is None else sum(queries.counts(Selection(WAITING)).values())
        return stored + self._queue.count_starts()

    def ids_like(self, prefix: str) -> list[str]:
        """The ids that begin with ``prefix``, at most ten of those that are stored."""
        found = {each.job_id for each in self._naming(prefix) if each.job_id.startswith(prefix)}
        with self.reading() as queries:
            if queries is not None:
                found.update(queries.ids_like(prefix))
        return sorted(found)

    def body(self, job_id: str) -> dict[str, Any] | None:
        """The body of its start_worker message; None: the store does not know the job."""
        with self.reading() as queries:
            return None if queries is None else queries.body(job_id)

    def resolve(self, prefix: str) -> str:
        """The id of the job that ``prefix`` names.

        Raises:
            UsageError: none, or several, begin so.
        """
        prefix = prefix.lower()
        # No id has others; and bytes that are no text (surrogates) cannot be asked for.
        asked = prefix if prefix.isascii() else ""
        ids = self.ids_like(asked) if asked else []
        if len(ids) == 1:
            return ids[0]
        if not ids:
            raise UsageError(f"no job {prefix!r}; {self._lost(asked) or self._hint()}")
        several = ", ".join(ids[:5])
        raise UsageError(f"job {prefix!r} is ambiguous: {several}; give more of its id")

    def _lost(self, prefix: str) -> str | None:
        """What is known of such a job that VMs or reports name, and the database does not have (any more)."""
        with self.reading() as queries:
            gone = queries.forgotten_like(prefix) if queries and prefix else None
            if gone is not None:
                return gone.sentence
            found = lost_jobs.of(prefix, queries.unknown(), queries.lost_jobs()) if queries and prefix else []
        return "; ".join(": ".join(each) for each in found) or None

    def _hint(self) -> str:
        if self._queue.shows_messages:
            return "`lando-fsm status` lists them all"
        return "`lando-fsm status` lists the jobs that a daemon has taken from the work queue"

    def removed(self, job_id: str) -> Removed:
        """When what was removed of a job that has ended."""
        with self.reading() as queries:
            found = None if queries is None else queries.removed(job_id)
        return found or Removed(None, None, None)

    def forgotten(self, job_id: str) -> Forgotten | None:
        """What is still known of a job that was removed; None: it was not, or nothing is known."""
        with self.reading() as queries:
            found = [] if queries is None else queries.forgotten([job_id])
        return found[0] if found else None

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

    def end_of_log(self, job_id: str, lines: int) -> tuple[int, str]:
        """See ``Queries.end_of_log``."""
        with self.reading() as queries:
            return (0, "") if queries is None else queries.end_of_log(job_id, lines)

    def console(self, job_id: str) -> tuple[int, str] | None:
        """The console output of its last server that failed, as (attempt, text)."""
        with self.reading() as queries:
            return None if queries is None else queries.console(job_id)

    def _naming(self, text: str) -> list[Untaken]:
        """Jobs in the queue whose messages contain this text."""
        with contextlib.closing(self._queue.starts(text)) as messages:
            return self._published + [each for each in map(untaken, messages) if each is not None]

    def _untaken(self, selection: Selection, limit: int | None) -> tuple[list[Untaken], int]:
        """Jobs in the queue, each once, and how many more there are."""
        if "queued" not in selection.in_states:
            return [], 0
        found = {each.job_id: each for each in self._published if each.matches(selection)}
        read = more = 0
        with contextlib.closing(self._queue.starts()) as messages:
            for message in messages:
                if selection.is_by_state_only and limit is not None and len(found) >= limit:
                    return [*found.values()], max(0, self._queue.count_starts() - read)
                read += 1
                each = untaken(message)
                if each is None or each.job_id in found or not each.matches(selection):
                    continue
                if limit is None or len(found) < limit:
                    found[each.job_id] = each
                else:
                    more += 1
        return [*found.values()], more


def _places(queries: Queries, views: Sequence[JobView]) -> dict[int, int]:
    return queries.places_in_queue([view.number for view in views if view.job.state == "queued"])


def _statuses(
    views: Sequence[JobView], order: AdmissionOrder, places: Mapping[int, int], daemon: DaemonStatus
) -> list[JobStatus]:
    of_these = {view.job.id: places[view.number] for view in views if view.number in places}
    order = replace(order, positions=of_these)
    return [
        JobStatus(
            view.job,
            view.name,
            view.submitted_by,
            reason(view, order, daemon),
            view.labels,
            is_leaking(view),
        )
        for view in views
    ]
