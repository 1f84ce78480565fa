"""Reports about jobs, or attempts, that the database does not have: told once, and recorded for ``status``.

Who restores a database learns so which jobs were submitted, or started, after the backup was made. Reports
are not proven, since every workflow on a VM has the account that sends them: they are shown, and change
nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from lando.daemon.log import log
from lando.daemon.recorded_fact import RecordedFact
from lando.messages import Message
from lando.store.facts import LOST_JOBS_FACT, LostJob, LostJobs, lost_jobs_value
from lando.store.transaction import Transaction

RECORDED = 100
"""How many jobs are recorded: the first that were reported. Of others only that there are some."""
KEPT = 7 * 86400.0
"""Seconds after the last report of a job for which it is shown."""
LOOK_EVERY = 60.0
"""Seconds between two looks at whether the database has such a job now, and between two reports of a job that
are noted."""


class LostJobsRecord:
    """What reports have named. One thread uses it.

    Args:
        clock: the daemon's, epoch seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: dict[str, LostJob] | None = None
        """By their ids; None until those were read that an earlier daemon has recorded."""
        self._new: list[LostJob] = []
        self._more = False
        self._next_look = 0.0
        self._fact = RecordedFact(LOST_JOBS_FACT)

    def note(self, reports: Iterable[Message]) -> None:
        """Take note of reports that were not taken, since the database does not have what they are about."""
        now = self._clock()
        for message in reports:
            if message.job is not None and message.attempt is not None:
                result = message.body.get("outcome") if message.type == "workflow_finished" else None
                self._new.append(LostJob(message.job, message.attempt, now, result))

    def write(self, transaction: Transaction) -> None:
        """Record it, if it has changed."""
        if self._jobs is None:
            before = transaction.lost_jobs()
            self._jobs, self._more = {each.job_id: each for each in before.jobs}, before.more
        if not self._new and time.monotonic() < self._next_look:
            return
        self._add(transaction)
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_EVERY
            self._forget(transaction)
        self._fact.write(transaction, lost_jobs_value(LostJobs(tuple(self._jobs.values()), self._more)))

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._jobs, self._new = None, []
        self._fact.write_again()

    def _add(self, transaction: Transaction) -> None:
        assert self._jobs is not None
        new, self._new = self._new, []
        unheard = {each.job_id for each in new}.difference(self._jobs)
        known = {job.id for job in transaction.jobs_with(sorted(unheard)[:RECORDED])} if unheard else set()
        for lost in new:
            before = self._jobs.get(lost.job_id)
            if before is None and len(self._jobs) >= RECORDED:
                self._more = True
            elif before is None:
                self._jobs[lost.job_id] = replace(lost, is_job_known=lost.job_id in known)
                log.warning("%s; see `lando-fsm status`", _told(self._jobs[lost.job_id]))
            elif before.attempt < lost.attempt or lost.outcome or lost.at >= before.at + LOOK_EVERY:
                outcome = lost.outcome or (before.outcome if before.attempt >= lost.attempt else None)
                attempt = max(before.attempt, lost.attempt)
                self._jobs[lost.job_id] = replace(before, at=lost.at, attempt=attempt, outcome=outcome)

    def _forget(self, transaction: Transaction) -> None:
        """What the database has by now, and what was not reported for long."""
        assert self._jobs is not None
        if not self._jobs:
            self._more = False
            return
        known = {job.id: job.attempt for job in transaction.jobs_with(list(self._jobs))}
        oldest = self._clock() - KEPT
        self._jobs = {
            job_id: lost
            for job_id, lost in self._jobs.items()
            if lost.at >= oldest and known.get(job_id, -1) < lost.attempt
        }


def _told(lost: LostJob) -> str:
    about = f"attempt {lost.attempt} of job {lost.job_id}" if lost.is_job_known else f"job {lost.job_id}"
    return f"a worker reports about {about}, which this database does not have"
