"""How fast the log of a job may grow: a token bucket for each attempt, in characters.

The daemon writes what workers send, so a worker that sends without end would take the disk, and the time of
all others. An honest worker never notices: the burst is all that it sends of an attempt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lando.states.records import replace
from lando.store.logs import MAX_LOG

BURST = MAX_LOG + 1024
"""Characters: more than a worker sends at once, at the end of a workflow that writes without end (``WAITING``
in lando_worker/log_buffer.py, and its note of what it left out itself)."""
REFILL = 32 * 1024
"""Characters a second: more than a worker sends before."""
FLOWS_AGAIN = 64 * 1024
"""Characters: once text was left out, none is stored before so much may be, or the worker has finished."""
LAST = 64 * 1024
"""Characters that are stored when the worker has finished, at least: why is said at the end of a log."""
NOTE_KEPT = 3600.0
"""Seconds for which a worker that is silent may come back and get the note of what was left out."""
NOTE = "\n[lando: {:,} characters of log left out here: the worker sends more than is kept]\n"


@dataclass(frozen=True)
class Bucket:
    """What the worker of an attempt may still send."""

    attempt: int
    level: float
    """Characters."""
    at: float
    """When it had this level (monotonic seconds)."""
    left_out: int = 0
    """Characters that were left out since the last note."""


class LogRates:
    """The buckets of all jobs, in memory: see ``lando.engine.reports.LogBound``.

    What a transaction takes from them counts once it is committed.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._changed: dict[str, Bucket] = {}

    def begin(self) -> None:
        """A transaction begins; what an earlier one took and did not commit is given back."""
        self._changed = {}

    def commit(self) -> None:
        """The transaction was committed. Buckets that are full again are as good as new, and forgotten."""
        self._buckets.update(self._changed)
        self._changed = {}
        now = self._clock()
        for job_id, bucket in list(self._buckets.items()):
            if _level(bucket, now) >= BURST and (not bucket.left_out or now > bucket.at + NOTE_KEPT):
                del self._buckets[job_id]

    def is_behind(self, job_id: str) -> bool:
        """See ``LogBound``."""
        bucket = self._changed.get(job_id) or self._buckets.get(job_id)
        return bucket is not None and bucket.left_out > 0

    def bounded(self, job_id: str, attempt: int, text: str, is_last: bool) -> str:
        """See ``LogBound``."""
        bucket = self._bucket(job_id, attempt)
        room = int(bucket.level)
        if is_last:
            room = max(room, LAST)
        elif room < FLOWS_AGAIN and (bucket.left_out or len(text) > room):
            room = 0
        kept = text[max(0, len(text) - room) :]
        left_out = bucket.left_out + len(text) - len(kept)
        note = ""
        if left_out and room:
            note, left_out = NOTE.format(left_out), 0
        level = max(0.0, bucket.level - len(note) - len(kept))
        self._changed[job_id] = replace(bucket, level=level, left_out=left_out)
        return note + kept

    def _bucket(self, job_id: str, attempt: int) -> Bucket:
        now = self._clock()
        bucket = self._changed.get(job_id) or self._buckets.get(job_id)
        if bucket is None or bucket.attempt != attempt:
            return Bucket(attempt, BURST, now)
        return replace(bucket, level=_level(bucket, now), at=now)


def _level(bucket: Bucket, now: float) -> float:
    return min(float(BURST), bucket.level + (now - bucket.at) * REFILL)
