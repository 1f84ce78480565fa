"""A fence: a message that the daemon publishes to itself, to each of its queues.

Once it has received both, it has received everything that was queued before. An empty queue would say the
same, but a queue is never empty while somebody floods it.

Nobody can forge one: the broker verifies the account that has published it (``user_id``), and its nonce is
random. It is published only while the daemon is the one consumer of both queues, and counts only if it still
is once both were received: another one could hold messages that were queued earlier.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pika.channel import Channel

from lando.errors import LandoError
from lando.workqueue.rabbitmq.alarm_probe import AlarmProbe
from lando.workqueue.rabbitmq.connection import Connection, Procedure, RunningProcedure
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.queue_reader import FENCE, QueueReader
from lando.workqueue.rabbitmq.session import Session

log = logging.getLogger("lando")

PATIENCE = 0.1
"""Seconds to wait for the broker's answers before a fence is published; what comes later is read later."""
TRY_AGAIN = 1.0
"""Seconds between two tries while there is another consumer."""
TRY_FULL_QUEUE_AGAIN = 0.25
"""Seconds between two tries while the queue is full."""
PUBLISH_AGAIN = 15.0
"""Seconds after which a fence is published again: another consumer may have taken it."""


@dataclass
class _Part:
    """A fence in one of the queues."""

    reader: QueueReader
    exchange: str
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))
    publish_at: float = 0.0
    """When to publish it next (``time.monotonic``)."""
    position: float = math.inf
    """Where the queue has refused the fence: as soon as so many messages were taken, it is passed as well."""
    received_before: int | None = None
    """How much was received when it was last published; None if it was not, or was refused."""
    refused_at: float | None = None
    """When that was last (``time.monotonic``)."""

    @property
    def is_passed(self) -> bool:
        return self.nonce in self.reader.fences or self.reader.taken >= self.position

    @property
    def is_lost(self) -> bool:
        """Whether nothing has come since it was published, which is long ago, though nothing is unacked."""
        return not self.is_passed and self.reader.is_idle and self.reader.received == self.received_before

    def count(self, waiting: int) -> int:
        """The position of the newest message in the queue, or a later one, among all that were delivered.

        Args:
            waiting: messages in the queue that were not delivered. Those that were delivered, but have not
                arrived, are the prefetch at most.
        """
        return self.reader.received + self.reader.prefetch + waiting

    def refuse(self, position: int) -> None:
        """The queue is full, and has refused the fence; ``position`` was counted before."""
        self.refused_at = time.monotonic()
        self.received_before = None
        self.publish_at = self.refused_at + TRY_FULL_QUEUE_AGAIN
        self.position = min(self.position, position)  # the first count: no later one is needed


class Fence:
    """One fence, asked for when it is made.

    Args:
        names: what there is on the broker.
        session: reads the queues.
        probe: has the connection on which it is published: a broker with an alarm reads nothing more from a
            connection that has published, and acks must still reach it.
    """

    def __init__(self, names: QueueNames, session: Session, probe: AlarmProbe) -> None:
        self.asked_at = time.monotonic()
        self._names = names
        self._session = session
        self._probe = probe
        self._parts = (_Part(session.commands, names.commands), _Part(session.reports, names.reports))
        self._connection: Connection | None = None
        self._publishing: RunningProcedure[None] | None = None
        self._patient_until = 0.0
        self._is_alone = False
        self.obstacle: str | None = None
        """That there is another consumer."""

    @property
    def is_met(self) -> bool:
        """Whether it was received from both queues."""
        return all(part.is_passed for part in self._parts)

    @property
    def is_passed(self) -> bool:
        """Whether everything that was queued before it was asked for has been received."""
        return self.is_met and self._is_alone

    @property
    def refused_at(self) -> float | None:
        """When a queue that was full has last refused it (``time.monotonic``); None if none has."""
        return max((part.refused_at for part in self._parts if part.refused_at is not None), default=None)

    def advance(self, warn_of: set[str]) -> None:
        """Publish what is due, if the broker can be reached; waits for its answers for a moment only.

        Args:
            warn_of: the queues for which another consumer was not logged yet; those that are, are removed.
        """
        connection = self._probe.connection
        if connection is None:
            return
        if connection is not self._connection:  # what an earlier one has published may be lost
            self._connection = connection
            self._publishing = None
            for part in self._parts:
                part.publish_at, part.received_before = 0.0, None
        now = time.monotonic()
        if self._publishing is None:
            due = [part for part in self._parts if not part.is_passed and now >= part.publish_at]
            if due:
                procedure = self._publish(connection, due, warn_of)
            elif self.is_met and not self._is_alone:
                procedure = self._verify(connection, warn_of)
            else:
                return
            self._publishing = RunningProcedure(procedure)
            self._patient_until = now + PATIENCE
        try:
            if connection.wait(self._publishing.advance, max(0.0, self._patient_until - now)):
                self._publishing = None
        except LandoError as error:
            self._probe.lose(error)

    def _publish(self, connection: Connection, parts: list[_Part], warn_of: set[str]) -> Procedure[None]:
        positions = []
        for part in self._parts:
            found = yield from connection.call(partial(_ask, connection.channel, part.reader.queue))
            if found.consumer_count != 1:
                if found.consumer_count > 1:
                    self._note_other(part.reader.queue, warn_of)
                for each in parts:
                    each.publish_at = time.monotonic() + TRY_AGAIN
                return
            positions.append(part.count(found.message_count))
            # Seen with quorum queues of RabbitMQ 3.10: one that is deleted and at once declared by somebody
            # keeps a consumer, whose messages never arrive, and of which the broker tells nothing.
            if part in parts and part.is_lost:
                self._session.read()  # what has come while nobody has read, as during a long commit
                if part.is_lost:
                    self._session.lose_consumer(part.reader.queue)
                    return
        self.obstacle = None
        for part, position in zip(self._parts, positions, strict=True):
            if part in parts:
                part.publish_at = time.monotonic() + PUBLISH_AGAIN
                part.received_before = part.reader.received
                self._probe.publish(
                    part.exchange,
                    self._names.queue,
                    {FENCE: part.nonce},
                    on_refused=partial(part.refuse, position),
                    on_unroutable=partial(self._note_unroutable, part),
                )

    def _note_unroutable(self, part: _Part) -> None:
        log.warning("no queue is bound to the exchange %r any more; it is bound again", part.exchange)
        part.publish_at = time.monotonic() + TRY_AGAIN
        part.received_before = None
        self._session.verify_now()

    def _verify(self, connection: Connection, warn_of: set[str]) -> Procedure[None]:
        """Ask once more for other consumers; if there is one, begin again."""
        for part in self._parts:
            found = yield from connection.call(partial(_ask, connection.channel, part.reader.queue))
            if found.consumer_count > 1:
                self._note_other(part.reader.queue, warn_of)
                again = time.monotonic() + TRY_AGAIN
                commands, reports = self._parts
                self._parts = (
                    _Part(commands.reader, commands.exchange, publish_at=again),
                    _Part(reports.reader, reports.exchange, publish_at=again),
                )
                return
        self._is_alone = True

    def _note_other(self, queue: str, warn_of: set[str]) -> None:
        self.obstacle = f"the queue {queue!r} has another consumer, which takes messages of this daemon"
        _warn(queue, warn_of)


def _ask(channel: Channel, queue: str, callback: Callable[[Any], None]) -> None:
    channel.queue_declare(queue, passive=True, callback=callback)


def _warn(queue: str, warn_of: set[str]) -> None:
    if queue in warn_of:
        warn_of.remove(queue)
        log.warning(
            "the queue %r has another consumer: this daemon does not get the messages that it takes; as "
            "long as it is there, no worker is declared lost for missing reports",
            queue,
        )
