"""Whether database, work queue and cloud answer, and servers boot: one line of the log when that changes, and
facts for ``status``."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lando import outage_record
from lando.daemon.log import log
from lando.daemon.recorded_fact import RecordedFact
from lando.engine.boot_failures import BootFailures
from lando.message_limits import REASON, shorten
from lando.outage_record import OutageRecord
from lando.store.facts import CLOUD_FACT, QUEUE_FACT
from lando.store.transaction import Transaction
from lando.times import rfc3339

LOG_AGAIN = 300.0
"""Seconds between two lines of the log about a cloud that does not answer."""


class DatabaseHealth:
    """The database, of which nothing can be recorded in it while it cannot be used.

    Args:
        state_dir: where it is recorded instead; None: nowhere.
    """

    def __init__(self, state_dir: Path | None = None) -> None:
        self.failing_since: float | None = None
        self._state_dir = state_dir
        if state_dir is not None:
            outage_record.write(state_dir, None)  # of a daemon that was killed

    def failed(self, reason: str) -> None:
        """It could not be used."""
        self.failing_since = self.failing_since or time.time()
        if self._state_dir is not None:
            record = OutageRecord(os.getpid(), self.failing_since, shorten(reason, REASON))
            outage_record.write(self._state_dir, record)

    def works(self) -> None:
        """It could be used."""
        if self.failing_since is None:
            return
        log.info("the database can be used again after %.1f s", time.time() - self.failing_since)
        self.failing_since = None
        if self._state_dir is not None:
            outage_record.write(self._state_dir, None)


class QueueHealth:
    """The connection to the work queue."""

    def __init__(self) -> None:
        self.disconnected_since: float | None = None
        self._reason = ""
        self._fact = RecordedFact(QUEUE_FACT)

    def disconnected(self, reason: str) -> None:
        """The queue cannot be used."""
        reason = shorten(reason, REASON)
        if self.disconnected_since is None:
            self.disconnected_since = time.time()
        if reason != self._reason:
            self._reason = reason
            since = rfc3339(self.disconnected_since)
            log.error("disconnected from the work queue since %s: %s; retrying", since, reason)

    def connected(self) -> None:
        """The queue can be used."""
        if self.disconnected_since is None:
            return
        log.info("connected to the work queue after %.1f s", time.time() - self.disconnected_since)
        self.disconnected_since = None
        self._reason = ""

    def write(self, transaction: Transaction) -> None:
        """Record it, if it has changed."""
        value = {"disconnected_since": self.disconnected_since, "words": self._reason}
        self._fact.write(transaction, value)

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._fact.write_again()


class BootHealth:
    """Whether servers boot, as the boot failures tell that are recorded."""

    def __init__(self) -> None:
        self._reason = ""

    def note(self, failures: BootFailures) -> None:
        """The failures since the last server that booted."""
        if not failures.are_the_sites:
            if self._reason:
                log.info("servers boot again, or those that did not were their jobs' fault")
            self._reason = ""
        elif failures.reason != self._reason:
            self._reason = failures.reason
            log.error(
                "servers have failed to boot since %s, of %d jobs: %s; one job at a time is tried, and none "
                "of that is counted as a failure of theirs",
                rfc3339(failures.since),
                len(failures.jobs),
                failures.reason,
            )


class CloudHealth:
    """Whether the cloud answers."""

    def __init__(self) -> None:
        self.silent_since: float | None = None
        self._reason = ""
        self._log_again_at = 0.0
        self._fact = RecordedFact(CLOUD_FACT)

    def note(self, reason: str) -> None:
        """The cloud was asked.

        Args:
            reason: why it did not answer, or not all that was asked; empty if it did.
        """
        reason = shorten(reason, REASON)
        if reason == self._reason:
            return
        now = time.time()
        if not reason and self.silent_since is not None:
            log.info("the cloud answers again after %.1f s", now - self.silent_since)
        # A reason may hold the id of a request and so differ each time: that is not worth a line each.
        if reason and (self.silent_since is None or now >= self._log_again_at):
            self._log_again_at = now + LOG_AGAIN
            log.error("the cloud does not answer: %s; retrying", reason)
        self.silent_since = (self.silent_since or now) if reason else None
        self._reason = reason

    def write(self, transaction: Transaction) -> None:
        """Record it, if it has changed."""
        self._fact.write(transaction, {"unreachable_since": self.silent_since, "words": self._reason})

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._fact.write_again()
