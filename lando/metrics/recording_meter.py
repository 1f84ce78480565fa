"""Keeps what the daemon notes: counters, and the last of what comes and goes.

The loop's thread writes and those that answer HTTP read, each value at once: there is no lock between them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from lando.daemon.meter import FailureCause, Meter, Rejected
from lando.engine.ledger import StateChange
from lando.engine.operations import AnswerLost, CreateRejected, OperationResult, Trouble
from lando.engine.ownership import ResourceKind
from lando.engine.quota import QuotaHeadroom
from lando.engine.taken import Disposition
from lando.messages import Message
from lando.metrics import bounded_labels as labels
from lando.metrics.bounded_labels import known
from lando.metrics.instruments import Instruments
from lando.states.table import EffectKind

FAILED = (Trouble, CreateRejected, AnswerLost)


class RecordingMeter(Meter):
    """See ``Meter``. What is public is read by others.

    Args:
        instruments: what is counted.
        clock: monotonic seconds.
    """

    def __init__(self, instruments: Instruments, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = instruments
        self._clock = clock
        self.alive_at: float | None = None
        """When the loop was last seen to go on; None: it has not begun."""
        self.database_trouble = ""
        """Why iterations fail for the database; empty: they do not."""
        self.bug = ""
        """Why the last iteration failed otherwise; empty: it did not."""
        self.queue_obstacle: str | None = "it was not read yet"
        self.is_listening = False
        self.up_to_date_at: float | None = None
        self.cloud_trouble = "it was not asked yet"
        self.cloud_answered_at: float | None = None
        self.headroom: QuotaHeadroom | None = None
        self.leaked: Mapping[ResourceKind, int] = {}
        self.head_ages: Mapping[str, float] = {}
        """Of what was received last: by origin, how long ago the oldest message was sent."""

    def alive(self) -> None:
        """See ``Meter.alive``."""
        self.alive_at = self._clock()

    def turned(self, seconds: float) -> None:
        """See ``Meter.turned``."""
        self.alive_at = self._clock()
        self._count.turn_seconds.observe(max(0.0, seconds))
        if self.database_trouble:
            self._count.database_reconnects.inc()
        self.database_trouble = self.bug = ""

    def failed(self, cause: FailureCause, reason: str) -> None:
        """See ``Meter.failed``."""
        self.alive_at = self._clock()
        self._count.turns_failed.labels(known(cause, labels.CAUSES)).inc()
        if cause == "database":
            self.database_trouble = reason
        else:
            self.bug = reason

    def retried(self) -> None:
        """See ``Meter.retried``."""
        if self._count.database_retries is not None:
            self._count.database_retries.inc()

    def changed(self, changes: Sequence[StateChange]) -> None:
        """See ``Meter.changed``."""
        for change in changes:
            way = (change.source or labels.NEW, change.event, change.target)
            self._count.transitions.labels(*(way if way in labels.TRANSITIONS else (labels.OTHER,) * 3)).inc()
            self._time(change)

    def _time(self, change: StateChange) -> None:
        seconds = 0.0 if change.since is None else max(0.0, change.at - change.since)
        if change.source == "queued" and change.target == "booting":
            self._count.queued_seconds.observe(seconds)
        elif change.source == "booting":
            outcome = labels.BOOTS.get(change.event, labels.OTHER)
            self._count.boots.labels(outcome).inc()
            if outcome == "booted":
                self._count.boot_seconds.observe(seconds)
        elif change.source == "running":
            self._count.run_seconds.observe(seconds)
        elif change.source == "terminating":
            self._count.server_gone_seconds.observe(seconds)

    def received(self, messages: Sequence[Message]) -> None:
        """See ``Meter.received``. A sender's clock may be wrong: nothing was sent in the future."""
        now, ages = time.time(), dict(self.head_ages)
        for origin in labels.ORIGINS:
            sent = [message.sent_at for message in messages if message.origin == origin]
            if sent:
                ages[origin] = max(0.0, now - min(sent))
        self.head_ages = ages

    def took(self, message: Message, disposition: Disposition) -> None:
        """See ``Meter.took``. What is unknown is dead-lettered, and counted then."""
        if disposition != "unknown":
            became = {"ignored": "stale", "shutdown": "taken"}.get(disposition, disposition)
            type_ = known(message.type, labels.MESSAGES)
            self._count.messages.labels(type_, known(became, labels.DISPOSITIONS)).inc()

    def rejected(self, message_type: str | None, how: Rejected) -> None:
        """See ``Meter.rejected``."""
        self._count.messages.labels(known(message_type, labels.MESSAGES), how).inc()

    def carries_out(self, kind: EffectKind) -> None:
        """See ``Meter.carries_out``."""
        self._count.effect_tries.labels(known(kind, labels.EFFECTS)).inc()

    def carried_out(self, kind: EffectKind, result: OperationResult) -> None:
        """See ``Meter.carried_out``."""
        if isinstance(result, FAILED):
            self._count.effect_failures.labels(known(kind, labels.EFFECTS)).inc()

    def leaks(self, leaked: Mapping[ResourceKind, int]) -> None:
        """See ``Meter.leaks``."""
        self.leaked = leaked

    def swept(self, kind: ResourceKind) -> None:
        """See ``Meter.swept``."""
        self._count.swept.labels(known(kind, labels.RESOURCES)).inc()

    def queue(self, obstacle: str | None, is_listening: bool, up_to_date_at: float | None) -> None:
        """See ``Meter.queue``."""
        self.queue_obstacle, self.is_listening = obstacle, is_listening
        if up_to_date_at is not None:
            self.up_to_date_at = up_to_date_at

    def cloud(self, trouble: str) -> None:
        """See ``Meter.cloud``."""
        self.cloud_trouble = trouble
        if not trouble:
            self.cloud_answered_at = self._clock()

    def quota(self, headroom: QuotaHeadroom | None) -> None:
        """See ``Meter.quota``."""
        self.headroom = headroom
