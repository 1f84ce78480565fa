"""What the database and the embedded queue tell of themselves, read by a thread of its own when somebody
asks: a database that is away, or slow, delays no answer, and many who ask cost as much as one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lando.errors import LandoError
from lando.metrics.admission_held import held
from lando.sqlite.checkpoint import log_size
from lando.store import measurements
from lando.store.database import StoreUnavailable
from lando.store.measurements import EffectCounts
from lando.store.store import Store
from lando.workqueue.interface import QueueFigures, WorkQueue

EVERY = 3.0
"""Seconds for which a sample is used, at least."""
SHARE = 20
"""And so many times as long as it took: to read costs at most one in so many seconds."""
PATIENCE = 1.0
"""Seconds for which whoever asks waits for a new one."""
STALE = 60.0
"""Seconds after which a sample is not shown any more."""
OVERDUE = 5.0
"""Seconds of reading after which the database counts as away."""


@dataclass(frozen=True)
class Sample:
    """What was read together."""

    now: float
    """Epoch seconds."""
    jobs: Mapping[str, int] = field(default_factory=dict)
    """How many are stored, by state."""
    effects: Mapping[str, EffectCounts] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    """See ``admission_held``."""
    unknown_servers: int = 0
    size: int | None = None
    """Bytes of the database."""
    queue: QueueFigures | None = None
    """None: it could not be read."""


def read_sample(store: Store, path: Path | None, queue: WorkQueue) -> Sample:
    """Read it.

    Args:
        store: the daemon's; only read.
        path: of SQLite's file; None: the database is PostgreSQL's.
        queue: the daemon's.

    Raises:
        LandoError: the database cannot be read.
    """
    now = time.time()
    if store.is_left:
        raise StoreUnavailable("the database is not touched any more")
    with store.reading() as queries:
        unknown = queries.unknown()
        sample = Sample(
            now,
            measurements.jobs_by_state(queries),
            measurements.effects_by_kind(queries, now),
            held(queries, now),
            sum(server.ours for server in unknown.servers) + unknown.more,
            _size(path) if path is not None else measurements.postgresql_size(queries),
        )
    try:
        return Sample(**{**vars(sample), "queue": queue.figures()})
    except LandoError:
        return sample


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size + log_size(path)
    except OSError:
        return None


class Sampler:
    """Keeps the last sample.

    Args:
        read: takes one; a LandoError says why it cannot.
        clock: monotonic seconds.
    """

    def __init__(self, read: Callable[[], Sample], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._changed = threading.Condition()
        self._is_wanted = False
        self._is_closed = False
        self._reading_since: float | None = None
        self._latest: Sample | None = None
        self._taken_at = 0.0
        self._next = 0.0
        self.trouble = ""
        """Why the last one could not be taken; empty if it could."""
        self._thread = threading.Thread(target=self._run, name="metrics: database", daemon=True)
        self._thread.start()

    @property
    def is_overdue(self) -> bool:
        """Whether one has been read for too long."""
        since = self._reading_since
        return since is not None and self._clock() - since > OVERDUE

    def latest(self) -> Sample | None:
        """The last sample; a new one, if that is old and a new one is there within PATIENCE. None if there is
        none that is not STALE."""
        with self._changed:
            if self._clock() >= self._next and not self._is_closed:
                self._is_wanted = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._is_wanted or self._is_closed, PATIENCE)
            is_stale = self._clock() - self._taken_at > STALE
            return None if is_stale else self._latest

    def close(self, timeout: float) -> None:
        """Read nothing more; wait for so many seconds at most."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_wanted or self._is_closed)
                if self._is_closed:
                    return
                begun = self._reading_since = self._clock()
            sample, trouble = None, ""
            try:
                sample = self._read()
            except Exception as error:  # of the driver, too: metrics end no thread
                trouble = f"{type(error).__name__}: {error}"
            with self._changed:
                now = self._clock()
                if sample is not None:
                    self._latest, self._taken_at = sample, now
                self.trouble, self._reading_since = trouble, None
                self._next = now + max(EVERY, SHARE * (now - begun))
                self._is_wanted = False
                self._changed.notify_all()
