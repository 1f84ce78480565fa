"""Moves messages that cannot be understood to the dead letters."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lando.errors import LandoError
from lando.messages import Origin
from lando.token_bucket import TokenBucket
from lando.workqueue.interface import Delivery
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.dead_letters import as_dead_letter
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.publisher import OutgoingMessage, RabbitMQPublisher

log = logging.getLogger("lando")

TIMEOUT = 3.0
"""Seconds for one call of ``move``, and for the broker to confirm a batch, beside the time to send it."""
SLOWEST_NETWORK = 1024 * 1024
"""Bytes a second that a slow network transports, at least."""
BATCH = 8 * 1024 * 1024
"""Bytes that are published together."""
PAUSE = 10.0
"""Seconds until the next try after a failure; messages that can be understood do not wait for it."""
SHARED_BURST, SHARED_A_DAY = 10, 10
"""Workers' messages that go to the clients' dead letters, where there is no queue of their own: too few to
ever displace those."""


@dataclass(frozen=True)
class _Pending:
    """A message that is still to be moved."""

    delivery: Delivery
    """Without its bytes."""
    letter: OutgoingMessage
    may_be_moved: bool = False
    """Set once it was counted, where the workers' dead letters share the clients' queue."""

    @property
    def size(self) -> int:
        return len(self.letter.raw)


class DeadLetterMover:
    """Keeps the messages to be moved until the broker has confirmed their dead letters, then acks them.

    Publishes on a connection of its own: a broker that is short of memory stops reading from connections
    that publish, and the acks, which would relieve it, must still reach it.

    Args:
        broker: the daemon's account.
        names: what there is on the broker.
        ack: acks messages in the queue.
    """

    def __init__(self, broker: Broker, names: QueueNames, ack: Callable[[Sequence[Delivery]], None]) -> None:
        self._names = names
        self._ack = ack
        self._publisher = RabbitMQPublisher(broker, names.dead_letters, names.queue, TIMEOUT)
        self._pending: list[_Pending] = []
        self._next_try = 0.0
        self.moved: Counter[Origin] = Counter({"client": 0, "worker": 0})
        """How many were moved, by origin."""
        self._shared = TokenBucket(SHARED_BURST, SHARED_A_DAY / 86400)
        self._has_warned = False

    @property
    def pending_bytes(self) -> int:
        """Size of the messages that are still to be moved."""
        return sum(pending.size for pending in self._pending)

    def add(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Add messages, each with its reason."""
        self._pending += [
            _Pending(replace(delivery, raw=b""), as_dead_letter(delivery, reason, self._names))
            for delivery, reason in rejected
        ]

    def move(self, has_report_letters: bool) -> None:
        """Move pending messages, batch by batch, for a few seconds at most; a failure is only logged.

        Args:
            has_report_letters: whether the workers' dead letters have a queue of their own. If not, few of
                them are moved, and the others are acked only.

        Raises:
            LandoError: from ``ack``.
        """
        if self._pending and not has_report_letters:
            self._drop_most_reports()
        if not self._pending or time.monotonic() < self._next_try:
            return
        deadline = time.monotonic() + TIMEOUT
        while self._pending and time.monotonic() < deadline:
            batch = self._batch()
            size = sum(pending.size for pending in batch)
            try:
                self._publisher.publish_all(
                    [pending.letter for pending in batch], TIMEOUT + size / SLOWEST_NETWORK
                )
            except LandoError as error:
                log.warning(
                    "%d messages cannot be moved to the dead letters yet: %s", len(self._pending), error
                )
                self._next_try = time.monotonic() + PAUSE
                return
            del self._pending[: len(batch)]
            self.moved.update(pending.delivery.origin or "client" for pending in batch)
            self._ack([pending.delivery for pending in batch])
        self._publisher.close()  # until the next call, nothing would answer its heartbeats

    def _drop_most_reports(self) -> None:
        kept: list[_Pending] = []
        dropped: list[_Pending] = []
        for pending in self._pending:
            is_kept = pending.may_be_moved or pending.delivery.origin != "worker" or self._shared.take()
            (kept if is_kept else dropped).append(replace(pending, may_be_moved=True))
        self._pending = kept
        if dropped:
            self._warn(len(dropped))
            self._ack([pending.delivery for pending in dropped])

    def _warn(self, dropped: int) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "%d messages of workers that cannot be understood are removed, as more will be: the daemon's "
                "account may not declare the queue %r, and only %d a day go to %r; run the script that "
                "`lando-fsm rabbitmq-setup` prints, and restart the daemon",
                dropped,
                self._names.report_letters,
                SHARED_A_DAY,
                self._names.dead_letters,
            )

    def _batch(self) -> list[_Pending]:
        """The first ones, of at most BATCH bytes, and at least one."""
        size = 0
        for count, pending in enumerate(self._pending):
            size += pending.size
            if size > BATCH:
                return self._pending[: max(1, count)]
        return list(self._pending)

    def clear(self) -> None:
        """Forget the pending messages: their connection is lost, so they are delivered again."""
        self._pending.clear()

    def close(self, timeout: float) -> None:
        """Close the connection, within ``timeout`` seconds."""
        self._publisher.close(timeout)
