"""Messages that cannot be understood: to the dead letters, and into the log, within a bound for workers.

Publishing a dead letter costs more than reading the message. So of the messages of workers, whose account
every workflow on a VM can read, only so many are dead-lettered; the others are removed, counted and logged
together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from lando.daemon.log import log
from lando.daemon.meter import NO_METER, Meter
from lando.token_bucket import TokenBucket
from lando.workqueue.interface import Delivery, WorkQueue, describe_sender

REPORTS_AT_ONCE, REPORTS_A_SECOND = 500, 1.0
"""Messages of workers that are dead-lettered: a burst, and then so many a second."""
LOGGED_AT_ONCE = 10
"""At most this many dead letters of one iteration are logged one by one."""
SUMMARY_EVERY = 60.0
"""Seconds between two lines of the log about messages that were removed."""


class Rejection:
    """Rejects messages.

    Args:
        queue: where they come from.
        meter: told what becomes of them.
    """

    def __init__(self, queue: WorkQueue, meter: Meter = NO_METER) -> None:
        self._queue = queue
        self._meter = meter
        self._reports = TokenBucket(REPORTS_AT_ONCE, REPORTS_A_SECOND)
        # Of their own, so that rubbish costs no job its result.
        self._results = TokenBucket(REPORTS_AT_ONCE, REPORTS_A_SECOND)
        self._removed = 0
        self._last_reason = ""
        self._next_summary = 0.0

    def reject(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Move messages to the dead letters, each with its reason; remove what is beyond the workers' bound.

        Raises:
            QueueUnavailable: they come again.
        """
        letters: list[tuple[Delivery, str]] = []
        removed: list[tuple[Delivery, str]] = []
        for delivery, reason in rejected:
            bound = self._results if delivery.decoded_as == "workflow_finished" else self._reports
            is_kept = delivery.origin != "worker" or bound.take()
            (letters if is_kept else removed).append((delivery, reason))
        for delivery, reason in letters[:LOGGED_AT_ONCE]:
            log.warning("a message from %s was dead-lettered: %s", describe_sender(delivery), reason)
        if len(letters) > LOGGED_AT_ONCE:
            log.warning("%d more messages were dead-lettered", len(letters) - LOGGED_AT_ONCE)
        if letters:
            self._queue.dead_letter(letters)
        if removed:
            self._queue.ack([delivery for delivery, _ in removed])
            self._removed += len(removed)
            self._last_reason = removed[-1][1]
        for delivery, _ in letters:
            self._meter.rejected(delivery.decoded_as, "dead_lettered")
        for delivery, _ in removed:
            self._meter.rejected(delivery.decoded_as, "removed")

    def log_summary(self) -> None:
        """Log how many were removed, now and then."""
        if self._removed and time.monotonic() >= self._next_summary:
            log.warning(
                "%d messages of workers that cannot be understood were removed: there were too many for the "
                "dead letters; the last: %s",
                self._removed,
                self._last_reason,
            )
            self._removed = 0
            self._next_summary = time.monotonic() + SUMMARY_EVERY
