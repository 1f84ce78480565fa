"""Moves messages that cannot be understood to the dead letters."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lando.errors import LandoError
from lando.workqueue.interface import Delivery
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.dead_letters import as_dead_letter
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher

log = logging.getLogger("lando")

TIMEOUT = 3.0
"""Seconds for one call of ``move``, and for the broker to confirm a batch, beside the time to send it."""
SLOWEST_NETWORK = 1024 * 1024
"""Bytes a second that a slow network transports, at least."""
BATCH = 8 * 1024 * 1024
"""Bytes that are published together."""
PAUSE = 10.0
"""Seconds until the next try after a failure; messages that can be understood do not wait for it."""


@dataclass(frozen=True)
class _Pending:
    """A message that is still to be moved, and the id that its dead letter gets."""

    id: str
    delivery: Delivery
    reason: str


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

    @property
    def pending_bytes(self) -> int:
        """Size of the messages that are still to be moved."""
        return sum(len(pending.delivery.raw) for pending in self._pending)

    def add(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Add messages, each with its reason."""
        self._pending += [_Pending(str(uuid.uuid4()), delivery, reason) for delivery, reason in rejected]

    def move(self) -> None:
        """Move pending messages, batch by batch, for a few seconds at most; a failure is only logged.

        Raises:
            LandoError: from ``ack``.
        """
        if not self._pending or time.monotonic() < self._next_try:
            return
        deadline = time.monotonic() + TIMEOUT
        while self._pending and time.monotonic() < deadline:
            batch = self._batch()
            size = sum(len(pending.delivery.raw) for pending in batch)
            letters = [
                as_dead_letter(pending.delivery, pending.reason, pending.id, self._names) for pending in batch
            ]
            try:
                self._publisher.publish_all(letters, TIMEOUT + size / SLOWEST_NETWORK)
            except LandoError as error:
                log.warning(
                    "%d messages cannot be moved to the dead letters yet: %s", len(self._pending), error
                )
                self._next_try = time.monotonic() + PAUSE
                return
            del self._pending[: len(batch)]
            self._ack([pending.delivery for pending in batch])
        self._publisher.close()  # until the next call, nothing would answer its heartbeats

    def _batch(self) -> list[_Pending]:
        """The first ones, of at most BATCH bytes, and at least one."""
        size = 0
        for count, pending in enumerate(self._pending):
            size += len(pending.delivery.raw)
            if size > BATCH:
                return self._pending[: max(1, count)]
        return list(self._pending)

    def clear(self) -> None:
        """Forget the pending messages: their connection is lost, so they are delivered again."""
        self._pending.clear()

    def close(self, timeout: float) -> None:
        """Close the connection, within ``timeout`` seconds."""
        self._publisher.close(timeout)
