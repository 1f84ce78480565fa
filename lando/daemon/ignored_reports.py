"""Reports that had no effect, for the daemon's log: counted, so that a flood of them does not flood it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from lando.daemon.log import log

EVERY = 30.0
"""Seconds between two lines about one job, and between two about all jobs that got no line of their own."""
LINES = 10
"""Lines about single jobs in ``EVERY`` seconds."""
MAX_JOBS = 1000
"""Jobs that are counted one by one."""


class IgnoredReports:
    """Counts ignored reports by job and reason. The first of a job is logged at once.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[str, Counter[str]] = {}
        self._senders: dict[str, str] = {}
        self._logged_at: dict[str, float] = {}
        self._others_logged_at = float("-inf")
        self._uncounted = 0

    def add(self, job_id: str, reason: str, sender: str) -> None:
        """One more report.

        Args:
            job_id: the job that it is about; it exists.
            reason: why the report was ignored, one of the few that the state machine gives.
            sender: who sent it, for people.
        """
        if job_id not in self._counts and len(self._counts) >= MAX_JOBS:
            self._uncounted += 1
            return
        self._counts.setdefault(job_id, Counter())[reason] += 1
        self._senders[job_id] = sender

    def write(self) -> None:
        """Log what is due. Called often."""
        if not self._counts:
            return
        now = self._clock()
        self._logged_at = {job_id: at for job_id, at in self._logged_at.items() if now < at + EVERY}
        due = [job_id for job_id in self._counts if job_id not in self._logged_at]
        free = LINES - len(self._logged_at)
        for job_id in due[:free]:
            log.info("%s", self._line(job_id))
            self._logged_at[job_id] = now
            self._forget(job_id)
        if due[free:] and now >= self._others_logged_at + EVERY:
            self._others_logged_at = now
            ignored = sum(self._counts[job_id].total() for job_id in due[free:]) + self._uncounted
            log.info("%d reports about other jobs were ignored, too", ignored)
            self._uncounted = 0
            for job_id in due[free:]:
                self._forget(job_id)

    def _forget(self, job_id: str) -> None:
        del self._counts[job_id], self._senders[job_id]

    def _line(self, job_id: str) -> str:
        counts = self._counts[job_id]
        reasons = "; ".join(f"{count} of them: {reason}" for reason, count in counts.most_common())
        if len(counts) == 1:
            (reasons,) = counts
        reports = "1 report was" if counts.total() == 1 else f"{counts.total()} reports were"
        return f"job {job_id}: {reports} ignored, from {self._senders[job_id]}: {reasons}"
