"""Messages: taken off the work queue in batches, each given its effect in one transaction, acked after the
commit.

If a batch fails, each of its messages is tried alone; one that fails alone is dead-lettered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from lando.daemon.clock import Clock
from lando.daemon.health import QueueHealth
from lando.daemon.ignored_reports import IgnoredReports
from lando.daemon.log import log, log_changes
from lando.daemon.log_rates import LogRates
from lando.daemon.lost_jobs import LostJobsRecord
from lando.daemon.meter import NO_METER, Meter
from lando.daemon.rejection import Rejection
from lando.daemon.versions import WorkerVersions
from lando.engine.engine import Engine
from lando.engine.ledger import StateChange
from lando.engine.taken import Taken
from lando.errors import DatabaseUnusable
from lando.failpoints import reach
from lando.messages import Malformed, Message, Origin, decode
from lando.store.conflicts import tried_again
from lando.store.database import StoreUnavailable
from lando.store.store import Store
from lando.store.transaction import Transaction
from lando.workqueue.interface import Delivery, QueueUnavailable, WorkQueue, describe_sender

BATCH = 500
"""Messages a transaction."""
UNAVAILABLE_WAIT = 0.1
"""Seconds to wait when the queue fails at once, so that the loop does not spin."""
REMEMBERED: tuple[tuple[Origin, float], ...] = (("client", 30 * 86400.0), ("worker", 86400.0))
"""Seconds for which processed messages are remembered; workers' were by lando-fsm 0.1 only."""
FORGET_EVERY = 60.0
"""Seconds."""
WARN_OF_REFUSALS_EVERY = 3600.0
"""Seconds."""
FORGET_AT_ONCE = 5000
"""Rows."""


class Receiver:
    """Reads the work queue.

    Args:
        store: where messages have their effect.
        queue: where they come from.
        engine: the rules.
        health: told whether the queue can be used.
        clock: the daemon's.
        stop: called when a shutdown_server has arrived.
        forget: called when a job is to be forgotten.
        meter: told what is received, and taken.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        engine: Engine,
        health: QueueHealth,
        clock: Clock,
        stop: Callable[[], None],
        forget: Callable[[], None] = lambda: None,
        meter: Meter = NO_METER,
    ) -> None:
        self._store = store
        self._queue = queue
        self._engine = engine
        self._health = health
        self._clock = clock
        self._stop = stop
        self._forget = forget
        self._meter = meter
        self._worker_versions = WorkerVersions()
        self._log_rates = LogRates()
        self._ignored = IgnoredReports()
        self._rejection = Rejection(queue, meter)
        self.lost_jobs = LostJobsRecord(clock.now)
        self._has_read_backlog = False
        self._deaf_until = 0.0
        self._next_forgetting = 0.0
        self._next_refusal_warning = 0.0
        self.waited = 0.0
        """Seconds for which the last ``receive`` waited for messages."""
        self.listening_since: float | None = None
        """Since when, without interruption, every message that was queued was heard in time."""

    @property
    def hearing_since(self) -> float | None:
        """Since when, as well, no worker's report was refused since too many waited: silence counts from then
        on. None while the daemon does not listen."""
        refused = self._queue.refused_at()
        if self.listening_since is None or refused is None:
            return self.listening_since
        return max(self.listening_since, self._clock.now() - (time.monotonic() - refused))

    def receive(self, wait: float) -> None:
        """Take one batch of messages.

        Args:
            wait: seconds to wait for the first one at most.

        Raises:
            StoreUnavailable: nothing was taken; ``rewind`` before the next call.
            DatabaseUnusable: the database, or the file of the embedded queue, cannot be used any more.
        """
        begun = time.monotonic()
        try:
            deliveries = self._queue.receive(BATCH, wait)
            self.waited = time.monotonic() - begun
            obstacle = self._queue.obstacle()
            self._note_connection(obstacle)
            self.check_clock()
            if deliveries:
                self._take_all(deliveries)
            self._rejection.log_summary()
            self._warn_of_refusals()
            if obstacle is None:
                self._note_fence()
            self._meter.queue(obstacle, self.listening_since is not None, self._queue.passed_fence())
        except DatabaseUnusable:
            raise
        except QueueUnavailable as error:
            self._unavailable(error)
            self.waited = time.monotonic() - begun
        self._ignored.write()

    def _note_fence(self) -> None:
        """Everything that was queued before the last fence was asked for has been taken."""
        passed = self._queue.passed_fence()
        if passed is None:
            return
        self._has_read_backlog = True
        if self.listening_since is None and passed > self._deaf_until:
            self.listening_since = self._clock.now()

    def _warn_of_refusals(self) -> None:
        refused = self._queue.refused_at()
        if refused is not None and refused >= self._next_refusal_warning:
            self._next_refusal_warning = time.monotonic() + WARN_OF_REFUSALS_EVERY
            log.warning(
                "more reports arrive than are taken, and workers cannot report; as long as that lasts, no "
                "worker is declared lost for missing reports, and no boot times out"
            )

    def request_fence(self) -> None:
        """Find out when all is taken that is queued now; see ``was_read_since``."""
        try:
            self._queue.request_fence()
        except DatabaseUnusable:
            raise
        except QueueUnavailable as error:
            self._unavailable(error)

    def was_read_since(self, moment: float) -> bool:
        """Whether everything that was queued before a moment has been taken, and nothing was missed since.

        Args:
            moment: on the clock of ``time.monotonic``.
        """
        passed = self._queue.passed_fence()
        return self.listening_since is not None and passed is not None and passed >= moment

    def check_clock(self) -> None:
        """After a pause of the daemon silence counts from now: nothing was heard meanwhile. A step of the
        clock changes nothing about the time for which it has listened."""
        step, pause = self._clock.check()
        if self.listening_since is not None:
            self.listening_since += step
        if pause and self.listening_since is not None:
            log.warning("the daemon was paused for %.0f s; the silence of workers counts from now", pause)
            self._stop_listening()

    def rewind(self) -> None:
        """Messages that were received and not acked are received again."""
        self._stop_listening()
        self._queue.rewind()

    def forget(self, transaction: Transaction, now: float) -> None:
        """Forget messages that were processed so long ago that they cannot come again."""
        if time.monotonic() < self._next_forgetting:
            return
        self._next_forgetting = time.monotonic() + FORGET_EVERY
        for origin, seconds in REMEMBERED:
            if transaction.forget_processed(origin, now - seconds, FORGET_AT_ONCE) == FORGET_AT_ONCE:
                self._next_forgetting = 0.0  # there is more

    def _note_connection(self, obstacle: str | None) -> None:
        if obstacle is None:
            self._health.connected()
        else:
            self._stop_listening()
            self._health.disconnected(obstacle)

    def _stop_listening(self) -> None:
        self.listening_since = None
        self._deaf_until = time.monotonic()

    def _unavailable(self, error: QueueUnavailable) -> None:
        self._note_connection(str(error))
        self._meter.queue(str(error), False, None)
        time.sleep(UNAVAILABLE_WAIT)

    def _take_all(self, deliveries: Sequence[Delivery]) -> None:
        messages = self._decode(deliveries)
        try:
            self._take_together(messages)
        except (QueueUnavailable, StoreUnavailable):
            raise
        except Exception:
            log.exception("a batch of %d messages failed; each is tried alone", len(messages))
            for delivery, message in messages:
                self._take_alone(delivery, message)

    def _decode(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Message]]:
        messages, malformed = [], []
        for delivery in deliveries:
            try:
                message = decode(delivery.raw, delivery.origin)
                messages.append((delivery, self._engine.examine(message)))
            except Malformed as error:
                malformed.append((delivery, str(error)))
            except Exception as error:
                log.exception("a message could not be examined; this is a bug in lando-fsm")
                malformed.append((delivery, f"{type(error).__name__}: {error}"))
        self._meter.received([message for _, message in messages])
        if malformed:
            self._dead_letter(malformed)
        return messages

    def _take_together(self, messages: Sequence[tuple[Delivery, Message]]) -> None:
        """Commands in their order, then reports in theirs, as if they had arrived so: who sends a command
        knows of a report only once it was committed."""
        commands = [each for each in messages if each[1].origin == "client"]
        reports = [each for each in messages if each[1].origin == "worker"]
        taken, changes = tried_again(lambda: self._commit(commands, reports))
        self._log_rates.commit()
        # Before the ack, which may fail: when the messages come again, they are duplicates.
        log_changes(changes)
        self._meter.changed(changes)
        results = list(zip((*commands, *reports), taken, strict=True))
        for (delivery, message), what in results:
            self._log_taken(delivery, message, what)
            self._meter.took(message, what.disposition)
            if message.origin == "worker" and what.disposition == "taken":
                self._worker_versions.note(message)
        reach("before-ack")
        self._queue.ack([delivery for (delivery, _), what in results if what.disposition != "unknown"])
        reach("after-ack")
        unknown = [
            (_as_decoded(delivery, message), what.detail)
            for (delivery, message), what in results
            if what.disposition == "unknown"
        ]
        if unknown:
            self.lost_jobs.note(message for (_, message), what in results if what.disposition == "unknown")
            self._dead_letter(unknown)  # perhaps another daemon's: they can be requeued

    def _commit(
        self, commands: Sequence[tuple[Delivery, Message]], reports: Sequence[tuple[Delivery, Message]]
    ) -> tuple[list[Taken], list[StateChange]]:
        self._log_rates.begin()
        with self._store.transaction() as transaction:
            self._engine.prefetch(transaction, [message for _, message in (*commands, *reports)])
            taken = [
                self._engine.take(transaction, message, self._clock.now(), delivery.sender)
                for delivery, message in commands
            ]
            taken += self._engine.take_reports(
                transaction, [message for _, message in reports], self._clock.now(), self._log_rates
            )
            reach("before-take-commit")
        return taken, transaction.changes

    def _take_alone(self, delivery: Delivery, message: Message) -> None:
        try:
            self._take_together([(delivery, message)])
        except (QueueUnavailable, StoreUnavailable):
            raise
        except Exception as error:
            log.exception("message %s could not be taken", message.id)
            self._dead_letter([(_as_decoded(delivery, message), f"{type(error).__name__}: {error}")])

    def _log_taken(self, delivery: Delivery, message: Message, taken: Taken) -> None:
        if taken.disposition == "shutdown":
            if not self._has_read_backlog:
                log.info("shutdown_server ignored: it was sent before this daemon started")
            else:
                log.info("shutdown_server received; stopping")
                self._stop()
        elif taken.disposition == "taken" and message.type == "forget_job":
            log.info("forget_job %s from %s: it is removed", taken.job_id, describe_sender(delivery))
            self._forget()
        elif taken.disposition == "ignored" and message.origin == "worker":
            self._ignored.add(taken.job_id or "", taken.detail, describe_sender(delivery))
        elif taken.disposition not in ("taken", "unknown"):
            about = f"{message.type} {taken.job_id or ''}".strip()
            detail = f": {taken.detail}" if taken.detail else ""
            log.info("%s from %s %s%s", about, describe_sender(delivery), taken.disposition, detail)

    def _dead_letter(self, letters: Sequence[tuple[Delivery, str]]) -> None:
        self._rejection.reject(letters)


def _as_decoded(delivery: Delivery, message: Message) -> Delivery:
    return replace(delivery, decoded_as=message.type)
