"""What has ended is removed after its time, and what a person wants to be forgotten at once.

The database's rows go a piece a transaction, each of a few milliseconds, with pauses in between, so that no
turn of the loop is held up. Files and dead letters go in threads of their own, after the commit that says so.
"""

from __future__ import annotations

import collections
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from lando.cloud.local import job_files
from lando.daemon.log import log
from lando.daemon.pool import Pool
from lando.engine.retention import KNOWN, BelievedClock, Retention
from lando.errors import LandoError
from lando.failpoints import reach
from lando.store.facts import RETENTION_CLOCK_FACT
from lando.store.retention import Forgotten
from lando.store.store import Store
from lando.store.transaction import Transaction
from lando.times import duration
from lando.workqueue.interface import DeadLetters

JOBS = 20
"""Of which something is removed in one piece, at most; and ten times as many rows of their logs."""
ROWS_OF_A_JOB = 10
LONGEST_PIECE = 0.025
"""Seconds; the piece after one that took longer is half as large, the one after a fast one is larger."""
PAUSE, WORK_TO_PAUSE = 0.05, 9.0
"""Seconds between two pieces at least, and how many times as long as the last piece took."""
DEFERRED = 5.0
"""Seconds for which a piece waits at most while the loop has something else to do."""
LOOKED_AT = 200
"""Directories about which the database is asked at once."""
SELDOM, OFTEN = 60.0, 1.0
"""Seconds between two looks for what is due, by the shortest time for which something is kept."""
LISTED_EVERY = 3600.0
"""Seconds between two looks at the directories, at most."""
LETTERS_EVERY = 86400.0
"""Seconds between two looks at the dead letters, at most: RabbitMQ shows them only to whoever takes them."""
FIRST = (0.0, "")
"""Before the time and the id of every job that was removed."""
RECORD_EVERY = 3600.0
"""Seconds between two records of the time that is believed."""


@dataclass(frozen=True)
class _FilesRemoved:
    """The directories of jobs that were removed were looked at."""

    jobs: list[str]
    """But for those that could not be moved away."""


@dataclass(frozen=True)
class _Listed:
    """The jobs that have a directory."""

    jobs: list[str]


@dataclass(frozen=True)
class _ResultsRemoved:
    """The files of jobs that stay were removed."""

    jobs: list[str]


@dataclass(frozen=True)
class _LettersRemoved:
    count: int


_Done = _FilesRemoved | _Listed | _ResultsRemoved | _LettersRemoved
_Call = Callable[[], _Done]


@dataclass
class _Piece:
    """One transaction's part."""

    transaction: Transaction
    now: float
    """The time that is believed."""
    at: float
    """The daemon's clock."""
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    has_call: bool = False
    """The thread for files will be busy after the commit."""


class RetentionWork:
    """Removes what has ended.

    Args:
        retention: how long what is kept.
        store: the database.
        root: the state directory.
        dead_letters: those of the work queue.
        wake: makes the loop collect what a thread has done.
    """

    def __init__(
        self,
        retention: Retention,
        store: Store,
        root: Path,
        dead_letters: DeadLetters,
        wake: Callable[[], None],
    ) -> None:
        self._retention = retention
        self._store = store
        self._root = root
        self._dead_letters = dead_letters
        self._files: Pool[_Done] = Pool(1, wake)
        self._letters: Pool[_Done] = Pool(1, wake)
        self._tasks = collections.deque(
            (self._rows, self._looked_at, self._ended, self._logs, self._secrets, self._results, self._known)
        )
        self._every = SELDOM if retention.least is None else max(OFTEN, min(SELDOM, retention.least / 10))
        self._size = JOBS
        self._next = time.monotonic()
        self._has_files_call = False
        self._after = FIRST
        self._next_failed = time.monotonic() + LISTED_EVERY
        self._without_files: list[str] = []
        self._listed: list[str] = []
        self._next_listing = 0.0
        self._without_results: list[str] = []
        self._next_letters = 0.0
        self._removed: Counter[str] = Counter()

    @property
    def next_look(self) -> float:
        """Seconds until there may be something to do."""
        return max(0.0, self._next - time.monotonic())

    def hurry(self) -> None:
        """Somebody wants a job to be forgotten."""
        self._next = min(self._next, time.monotonic())

    def stop(self) -> None:
        """Begin nothing more."""
        self._files.stop()
        self._letters.stop()

    def work(self, at: float, is_idle: bool) -> None:
        """Remove a piece of what is due, if it is time.

        Args:
            at: the daemon's clock.
            is_idle: the loop has nothing else to do now.

        Raises:
            StoreUnavailable: nothing was removed.
        """
        self._collect()
        begun = time.monotonic()
        if begun < self._next or (not is_idle and begun < self._next + DEFERRED):
            return
        with self._store.transaction() as transaction:
            piece = _Piece(transaction, self._believed(transaction, at), at)
            has_removed = self._remove(piece)
            reach("before-retention-commit")
        for call in piece.after_commit:
            call()
        self._start_letters(piece.now)
        seconds = time.monotonic() - begun
        self._size = max(1, self._size // 2) if seconds > LONGEST_PIECE else min(JOBS, self._size + 1)
        pause = max(PAUSE, WORK_TO_PAUSE * seconds) if has_removed else self._every
        self._next = time.monotonic() + pause
        if not has_removed:
            self._tell()

    def _remove(self, piece: _Piece) -> bool:
        """The next task in turn that finds something; whether there may be more."""
        for _ in range(len(self._tasks)):
            if self._tasks[0](piece):
                return True
            self._tasks.rotate(-1)
        return False

    def _believed(self, transaction: Transaction, at: float) -> float:
        stored = transaction.fact(RETENTION_CLOCK_FACT)
        before = None if stored is None else BelievedClock(**stored)
        clock = BelievedClock(at) if before is None else before.next(at)
        if before is not None and clock.seen_at is not None and clock.seen_at != before.seen_at:
            gap = duration(at - clock.at)
            log.info("%s have passed since retention last looked; it believes that in a day", gap)
        is_old = before is None or not 0 <= clock.at - before.at < RECORD_EVERY
        if is_old or (before is not None and clock.seen_at != before.seen_at):
            transaction.set_fact(RETENTION_CLOCK_FACT, asdict(clock))
        return clock.at

    # the tasks: whether something was done, so that there may be more

    def _rows(self, piece: _Piece) -> bool:
        return piece.transaction.remove_rows(self._size, self._size * ROWS_OF_A_JOB) > 0

    def _ended(self, piece: _Piece) -> bool:
        if self._retention.ended is None:
            return False
        before = piece.now - self._retention.ended
        return self._count("jobs", piece, piece.transaction.forget_ended(before, piece.at, JOBS))

    def _logs(self, piece: _Piece) -> bool:
        if self._retention.logs is None:
            return False
        before, rows = piece.now - self._retention.logs, self._size * ROWS_OF_A_JOB
        return piece.transaction.remove_logs(before, piece.at, self._size, rows) > 0

    def _secrets(self, piece: _Piece) -> bool:
        if self._retention.secrets is None:
            return False
        before = piece.now - self._retention.secrets
        looked_at, dropped = piece.transaction.drop_secrets(before, piece.at, self._size)
        self._count("secrets of jobs", piece, dropped)
        return looked_at > 0

    def _known(self, piece: _Piece) -> bool:
        # As long as there may be results of theirs to remove.
        before = piece.now - max(KNOWN, 2 * (self._retention.results or 0.0))
        return piece.transaction.remove_forgotten(before, JOBS * ROWS_OF_A_JOB) > 0

    def _looked_at(self, piece: _Piece) -> bool:
        """The directories of jobs that were removed."""
        done = self._without_files
        if done:
            piece.transaction.note_without_files(done)
            piece.after_commit.append(done.clear)
            return True
        if self._has_files_call or piece.has_call:
            return False
        found = piece.transaction.with_files(self._after, LOOKED_AT)
        if found:
            self._after = found[-1].at, found[-1].id
            self._submit(piece, partial(_remove_files, self._root, found))
        elif time.monotonic() >= self._next_failed:  # those that could not be moved away are tried again
            self._next_failed = time.monotonic() + LISTED_EVERY
            self._after = FIRST
        return False

    def _results(self, piece: _Piece) -> bool:
        """The files of jobs that stay, and of jobs that were removed before their files."""
        seconds, done = self._retention.results, self._without_results
        if seconds is None or self._has_files_call or piece.has_call:
            return False
        if done:
            piece.transaction.note_results_removed(done, piece.at)
            piece.after_commit.append(done.clear)
            return self._count("results of jobs", piece, len(done))
        if self._listed:
            some, self._listed = self._listed[:LOOKED_AT], self._listed[LOOKED_AT:]
            ended_at = piece.transaction.ended_at(some)
            due = [job_id for job_id in some if ended_at.get(job_id, piece.now) < piece.now - seconds]
            if due:
                self._submit(piece, partial(_remove_results, self._root, due))
            return True
        if time.monotonic() >= self._next_listing:
            self._next_listing = time.monotonic() + min(LISTED_EVERY, self._every * 10)
            self._submit(piece, partial(_list, self._root))
        return False

    def _count(self, what: str, piece: _Piece, number: int) -> bool:
        if number:
            piece.after_commit.append(lambda: self._removed.update({what: number}))
        return number > 0

    # the threads

    def _submit(self, piece: _Piece, call: _Call) -> None:
        def submit() -> None:
            self._has_files_call = True
            self._files.submit(call)

        piece.has_call = True
        piece.after_commit.append(submit)

    def _start_letters(self, now: float) -> None:
        seconds = self._retention.dead_letters
        if seconds is not None and time.monotonic() >= self._next_letters:
            self._next_letters = float("inf")  # until that is done
            self._letters.submit(partial(_remove_letters, self._dead_letters, now - seconds))

    def _collect(self) -> None:
        for done in (*self._files.collect(), *self._letters.collect()):
            if isinstance(done, _LettersRemoved):
                if done.count:
                    self._removed["dead letters"] += done.count
                wait = max(OFTEN, min(LETTERS_EVERY, (self._retention.dead_letters or 0.0) / 10))
                self._next_letters = time.monotonic() + wait
                continue
            self._has_files_call = False
            self.hurry()
            if isinstance(done, _FilesRemoved):
                self._without_files += done.jobs
            elif isinstance(done, _Listed):
                self._listed = done.jobs
            else:
                self._without_results += done.jobs

    def _tell(self) -> None:
        removed = +self._removed  # not what nothing was found of
        if removed:
            what = ", ".join(f"{name} ({number:,})" for name, number in sorted(removed.items()))
            log.info("removed after their time: %s", what)
            self._removed.clear()


# in the threads


def _remove_files(root: Path, jobs: Sequence[Forgotten]) -> _FilesRemoved:
    failed = job_files.remove(root, [each.id for each in jobs if each.with_results])
    _warn(failed)
    job_files.remove_empty(root, [each.id for each in jobs if not each.with_results])
    return _FilesRemoved([each.id for each in jobs if each.id not in failed])


def _list(root: Path) -> _Listed:
    try:
        return _Listed(job_files.job_ids(root))
    except OSError as error:
        log.warning("results of jobs that have ended cannot be removed: %s", error)
        return _Listed([])


def _remove_results(root: Path, jobs: list[str]) -> _ResultsRemoved:
    failed = job_files.remove(root, jobs)
    _warn(failed)
    return _ResultsRemoved([job_id for job_id in jobs if job_id not in failed])


def _remove_letters(letters: DeadLetters, before: float) -> _LettersRemoved:
    try:
        return _LettersRemoved(letters.drop_before(before))
    except LandoError as error:
        log.info("old dead letters cannot be removed yet: %s", error)
    except Exception:
        log.exception("old dead letters cannot be removed; this is a bug in lando-fsm")
    return _LettersRemoved(0)


def _warn(failed: dict[str, str]) -> None:
    for job_id, why in failed.items():
        log.warning("the files of job %s cannot be removed yet: %s", job_id, why)
