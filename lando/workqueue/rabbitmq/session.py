"""One connection's life as the reader of the queue: what was received, and what is not acked yet.

All of it is void with the connection: the broker delivers again what was not acked.
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
from lando.workqueue.rabbitmq.connection import Connection, Conversation, Steps
from lando.workqueue.rabbitmq.dead_letters import sender
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.topology import QueueType, declared
from lando.workqueue.wakeup import Wakeup

log = logging.getLogger("lando")

PREFETCH = 1500
"""Messages on their way to us: so many that the next batch is here while one is committed."""
MAX_BUFFERED = 16 * 1024 * 1024
"""Bytes of messages waiting in memory; what is more stays in the socket, which slows the broker down."""
ANSWER_TIMEOUT = 10.0
"""Seconds after which a broker that does not answer is taken for lost."""
TAGS = 2**40
"""More deliveries than a session has: no tag of one session is one of another."""


class Session:
    """Begins to connect when it is made.

    Args:
        broker, names, queue_type: see ``RabbitMQQueue``.
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
        self._base = number * TAGS
        self._begun = time.monotonic()
        self._buffer: deque[Delivery] = deque()
        self._buffered = 0
        self._unacked: dict[int, None] = {}
        self._told_of_others = False
        self._connection = Connection(broker, wakeup)
        self._set_up = Conversation(self._setting_up(queue_type))

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun

    def is_ready(self, patience: float) -> bool:
        """Whether it is connected and consumes, after at most ``patience`` seconds; ``wakeup`` ends the wait.

        Raises:
            LandoError: it will not be.
        """
        self._connection.wait(lambda: self._set_up.is_over() or self._connection.woken, patience)
        if self._set_up.is_over():
            return True
        self._connection.woken = False
        return False

    def _setting_up(self, queue_type: QueueType | None) -> Steps[None]:
        channel = yield from self._connection.opened()
        channel.add_on_cancel_callback(lambda _: self._connection.fail(self._canceled()))
        yield from self._connection.answer(
            lambda callback: channel.queue_declare(self._names.lock, exclusive=True, callback=callback)
        )
        yield from declared(self._connection, self._names, queue_type)
        yield from self._connection.answer(
            lambda callback: channel.basic_qos(prefetch_count=PREFETCH, callback=callback)
        )
        yield from self._connection.answer(
            lambda callback: channel.basic_consume(self._names.queue, self._on_message, callback=callback)
        )

    def _canceled(self) -> QueueUnavailable:
        return QueueUnavailable(
            f"the broker at {self._broker} ended our reading of {self._names.queue!r} (was it deleted?)"
        )

    def _on_message(self, _: Any, method: Any, properties: Any, raw: bytes) -> None:
        tag = self._base + method.delivery_tag
        self._unacked[tag] = None
        self._buffered += len(raw)
        self._buffer.append(
            Delivery(tag, raw, self._origin(method.exchange), sender(properties, self._broker.username))
        )

    def _origin(self, exchange: str) -> Origin | None:
        """Only accounts with more rights than ours need can publish elsewhere: they may be anybody."""
        if exchange == self._names.commands:
            return "client"
        return "worker" if exchange == self._names.reports else None

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` messages; waits for the first, or for ``wakeup``.

        Raises:
            LandoError: the connection is lost.
        """
        if not self._buffer:
            self._connection.wait(lambda: bool(self._buffer) or self._connection.woken, timeout)
            self._connection.woken = False
        self._read_more(limit)
        received = [self._buffer.popleft() for _ in range(min(limit, len(self._buffer)))]
        self._buffered -= sum(len(delivery.raw) for delivery in received)
        return received

    def idle(self, timeout: float) -> None:
        """Only answer heartbeats for at most ``timeout`` seconds, or until ``wakeup``.

        Raises:
            LandoError: the connection is lost.
        """
        self._connection.wait(lambda: self._connection.woken, min(timeout, 1.0))
        self._connection.woken = False

    def _read_more(self, limit: int) -> None:
        """Take what has arrived, for a full batch."""
        before = -1
        while before < len(self._buffer) < limit and self._buffered < MAX_BUFFERED:
            before = len(self._buffer)
            self._connection.serve()

    def is_read_up_to_date(self) -> bool:
        """Whether everything that was queued before has been received by now.

        The broker answers before it sends what it has delivered meanwhile: hence the second question. Another
        reader, such as one whose host has died, may hold messages that will come back.

        Raises:
            LandoError: the connection is lost.
        """
        return not self._buffer and self._is_empty() and self._is_empty() and not self._buffer

    def _is_empty(self) -> bool:
        answers: list[Any] = []
        self._connection.channel.queue_declare(self._names.queue, passive=True, callback=answers.append)
        if not self._connection.wait(lambda: bool(answers or self._buffer), ANSWER_TIMEOUT):
            raise QueueUnavailable(f"the broker at {self._broker} did not answer within {ANSWER_TIMEOUT:g} s")
        if not answers:
            return False  # the answer comes behind more messages, which are not to sit in memory all at once
        found = answers[0].method
        if found.consumer_count > 1 and not self._told_of_others:
            self._told_of_others = True
            log.warning(
                "somebody else reads the queue %r, too: what they take is lost to this daemon; nothing is "
                "concluded from anybody's silence meanwhile",
                self._names.queue,
            )
        return bool(found.message_count == 0 and found.consumer_count == 1)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forget these.

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
            self._connection.channel.basic_ack(max(together) - self._base, multiple=True)
        for tag in tags:
            if oldest is not None and tag > oldest:
                self._connection.channel.basic_ack(tag - self._base)
        self._connection.serve()

    def close(self) -> None:
        """Let go; the broker takes back what was not acked."""
        self._connection.close()
