"""One connection of the queue's reader: the messages it has received, and those not acked yet.

All of it ends with the connection: the broker delivers again what was not acked.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from lando.messages import Origin
from lando.workqueue.interface import Delivery, QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import no_answer
from lando.workqueue.rabbitmq.connection import Connection, Procedure, RunningProcedure
from lando.workqueue.rabbitmq.dead_letters import sender_of
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.settings import QueueType
from lando.workqueue.rabbitmq.topology import declare
from lando.workqueue.wakeup import Wakeup

log = logging.getLogger("lando")

PREFETCH = 1500
"""Messages that may be unacknowledged: enough for the next batch to arrive while one is committed."""
MAX_BUFFERED = 16 * 1024 * 1024
"""Bytes of messages kept in memory; more stay in the socket, which slows the broker down."""
ANSWER_TIMEOUT = 10.0
"""Seconds that the broker has to answer; then the connection counts as lost."""
TAGS = 2**40
"""More deliveries than a session has, so that no two sessions use the same tag."""


class Session:
    """Starts to connect when it is made.

    Args:
        broker: where to connect; the daemon's account.
        names: what there is on the broker.
        queue_type: None for quorum if the broker has quorum queues, else classic.
        wakeup: ends a wait early.
        number: differs from every other session's.

    Raises:
        UsageError: a setting is wrong.
    """

    def __init__(
        self, broker: Broker, names: QueueNames, queue_type: QueueType | None, wakeup: Wakeup, number: int
    ) -> None:
        self._broker = broker
        self._names = names
        self._first_tag = number * TAGS
        self._begun = time.monotonic()
        self._buffer: deque[Delivery] = deque()
        self._buffered = 0
        self._unacked: dict[int, None] = {}
        self._warned_of_consumers = False
        self._connection = Connection(broker, wakeup)
        self._set_up = RunningProcedure(self._begin_consuming(queue_type))

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._begun

    def is_ready(self, patience: float) -> bool:
        """Whether it is connected and consumes; waits at most ``patience`` seconds, or until ``wakeup``.

        Raises:
            LandoError: the connection failed.
        """
        self._connection.wait(lambda: self._set_up.advance() or self._connection.woken, patience)
        if self._set_up.advance():
            return True
        self._connection.woken = False
        return False

    def _begin_consuming(self, queue_type: QueueType | None) -> Procedure[None]:
        channel = yield from self._connection.open_channel()
        channel.add_on_cancel_callback(lambda _: self._connection.fail(self._canceled()))
        yield from self._connection.call(
            lambda callback: channel.queue_declare(self._names.lock, exclusive=True, callback=callback)
        )
        yield from declare(self._connection, self._names, queue_type)
        yield from self._connection.call(
            lambda callback: channel.basic_qos(prefetch_count=PREFETCH, callback=callback)
        )
        yield from self._connection.call(
            lambda callback: channel.basic_consume(self._names.queue, self._on_message, callback=callback)
        )

    def _canceled(self) -> QueueUnavailable:
        return QueueUnavailable(
            f"the broker at {self._broker} canceled the consumer of {self._names.queue!r} "
            "(was the queue deleted?)"
        )

    def _on_message(self, _: Any, method: Any, properties: Any, raw: bytes) -> None:
        tag = self._first_tag + method.delivery_tag
        self._unacked[tag] = None
        self._buffered += len(raw)
        sender = sender_of(properties, self._broker.username)
        self._buffer.append(Delivery(tag, raw, self._origin(method.exchange), sender))

    def _origin(self, exchange: str) -> Origin | None:
        """The sender's role, from the exchange; None for other exchanges, which need more permissions."""
        if exchange == self._names.commands:
            return "client"
        return "worker" if exchange == self._names.reports else None

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` messages; waits at most ``timeout`` seconds for the first, or until ``wakeup``.

        Raises:
            LandoError: the connection is lost.
        """
        if not self._buffer:
            self._connection.wait(lambda: bool(self._buffer) or self._connection.woken, timeout)
            self._connection.woken = False
        self._fill_buffer(limit)
        received = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
        self._buffered -= sum(len(delivery.raw) for delivery in received)
        return received

    def _fill_buffer(self, limit: int) -> None:
        """Read what has arrived, until there is a full batch."""
        before = -1
        while before < len(self._buffer) < limit and self._buffered < MAX_BUFFERED:
            before = len(self._buffer)
            self._connection.serve()

    def idle(self, timeout: float) -> None:
        """Only answer heartbeats, for ``timeout`` seconds but at most one, or until ``wakeup``.

        Raises:
            LandoError: the connection is lost.
        """
        self._connection.wait(lambda: self._connection.woken, min(timeout, 1.0))
        self._connection.woken = False

    def is_read_up_to_date(self) -> bool:
        """Whether every message that was queued before this call has been received.

        The broker is asked twice: messages that it has just delivered may arrive after its first answer.
        While there is another consumer the answer is False, since messages that it holds may come back.

        Raises:
            LandoError: the connection is lost.
        """
        return not self._buffer and self._is_empty() and self._is_empty() and not self._buffer

    def _is_empty(self) -> bool:
        answers: list[Any] = []
        self._connection.channel.queue_declare(self._names.queue, passive=True, callback=answers.append)
        if not self._connection.wait(lambda: bool(answers or self._buffer), ANSWER_TIMEOUT):
            raise no_answer(self._broker, ANSWER_TIMEOUT)
        if not answers:
            return False  # more messages come before the answer; do not read all of them into memory
        found = answers[0].method
        if found.consumer_count > 1 and not self._warned_of_consumers:
            self._warned_of_consumers = True
            log.warning(
                "the queue %r has another consumer: this daemon does not get the messages that it takes; as "
                "long as it is there, no worker is declared lost for missing reports",
                self._names.queue,
            )
        return bool(found.message_count == 0 and found.consumer_count == 1)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack these messages: together up to the oldest that stays unacked, the others one by one.

        Raises:
            LandoError: the connection that delivered them is lost; they are delivered again.
        """
        tags = [delivery.tag for delivery in deliveries]
        if any(tag not in self._unacked for tag in tags):
            raise QueueUnavailable("the connection that delivered these messages was lost")
        for tag in tags:
            del self._unacked[tag]
        oldest = next(iter(self._unacked), None)
        together = [tag for tag in tags if oldest is None or tag < oldest]
        if together:
            self._connection.channel.basic_ack(max(together) - self._first_tag, multiple=True)
        for tag in tags:
            if oldest is not None and tag > oldest:
                self._connection.channel.basic_ack(tag - self._first_tag)
        self._connection.serve()

    def close(self, timeout: float) -> None:
        """Close the connection, within ``timeout`` seconds; the broker puts back what was not acked."""
        self._connection.close(timeout)
