"""The dead letters: messages that could not be understood, until somebody requeues or drops them."""

from __future__ import annotations

import contextlib
import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pika

from lando.errors import UsageError
from lando.messages import Origin
from lando.workqueue.interface import DeadLetter, Delivery, first_bytes, is_incomplete, kept_bytes
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.workqueue.rabbitmq.classify import no_answer
from lando.workqueue.rabbitmq.connection import Connection
from lando.workqueue.rabbitmq.inspection import inspect_queue
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.publisher import OutgoingMessage, RabbitMQPublisher

REASON, EXCHANGE, SENDER, AT, SIZE = "reason", "exchange", "sender", "at", "size"
"""Headers of a dead letter: why it is one, the exchange it was published to, the account that published it,
when it was dead-lettered, in microseconds since the epoch (listing them changes the queue's order), and the
bytes of the whole message."""
MAX_REASON = 1000
"""Characters of the reason: the broker takes no headers larger than a frame."""
DEFAULT_EXCHANGE = ""
"""Only accounts with more permissions than ours publish to it. What came through it is requeued to it."""
READ_TIMEOUT = 15.0
"""Seconds that the broker has to send one of them."""


def as_dead_letter(delivery: Delivery, reason: str, names: QueueNames) -> OutgoingMessage:
    """A delivered message as it is published to the dead letters: a worker's to a queue of their own.

    Args:
        delivery: the message.
        reason: why it could not be understood.
        names: what there is on the broker.
    """
    exchange = {"client": names.commands, "worker": names.reports, None: DEFAULT_EXCHANGE}[delivery.origin]
    headers = {
        REASON: reason[:MAX_REASON],
        EXCHANGE: exchange,
        SENDER: delivery.sender,
        AT: time.time_ns() // 1000,
        SIZE: len(delivery.raw),
    }
    return OutgoingMessage(
        kept_bytes(delivery),
        names.dead_letters,
        headers,
        str(uuid.uuid4()),
        "application/octet-stream",
        int(time.time()),
        names.reports if delivery.origin == "worker" else names.queue,
    )


def sender_of(properties: Any, daemon: str) -> str | None:
    """The account that published a message, verified by the broker; None if the message does not name it.

    Args:
        properties: the message's. The broker verifies ``user_id``.
        daemon: the daemon's account. What it has requeued names the original sender in a header.
    """
    user: str | None = properties.user_id
    if user == daemon and properties.headers and SENDER in properties.headers:
        original = properties.headers[SENDER]
        return original if isinstance(original, str) else None
    return user


@dataclass(frozen=True)
class _HeldLetter:
    """A dead letter that was received, and is not acked until it is requeued or dropped."""

    connection: Connection
    tag: int
    properties: Any
    raw: bytes
    is_ours: bool
    """Whether the daemon published it. Otherwise the broker moved it here, with its sender's headers."""

    @property
    def headers(self) -> dict[str, Any]:
        return (self.properties.headers or {}) if self.is_ours else {}

    @property
    def id(self) -> str:
        if self.is_ours and self.properties.message_id:
            return str(self.properties.message_id)
        return f"broker-{hashlib.sha256(self.raw).hexdigest()[:16]}"

    @property
    def size(self) -> int:
        """Bytes of the whole message."""
        size = self.headers.get(SIZE)
        return size if isinstance(size, int) else len(self.raw)

    @property
    def at(self) -> float | None:
        """When it was dead-lettered, in epoch seconds; of what the broker moved here, when it did."""
        if AT in self.headers:
            return float(self.headers[AT] / 1e6)
        deaths = (self.properties.headers or {}).get("x-death")
        time = deaths[0].get("time") if isinstance(deaths, list) and deaths else None
        return time.replace(tzinfo=timezone.utc).timestamp() if isinstance(time, datetime) else None

    def ack(self) -> None:
        """Delete it."""
        self.connection.channel.basic_ack(self.tag)
        self.connection.serve()

    def as_letter(self, names: QueueNames) -> DeadLetter:
        origins: dict[str, Origin] = {names.commands: "client", names.reports: "worker"}
        reason = self.headers.get(REASON) or "moved here by the broker"
        return DeadLetter(
            self.id,
            str(reason),
            first_bytes(self.raw),
            self.size,
            self.at,
            origins.get(self.headers.get(EXCHANGE, "")),
            self.headers.get(SENDER),
        )


class RabbitMQDeadLetters:
    """See ``DeadLetters``.

    Args:
        broker: where they are; the daemon's account.
        names: what there is on the broker.
    """

    def __init__(self, broker: Broker, names: QueueNames) -> None:
        self._broker = broker
        self._names = names

    def all(self) -> list[DeadLetter]:
        """See ``DeadLetters.all``."""
        with self._received() as received:
            found = [held.as_letter(self._names) for held in received]
        # Two have the same id if the broker confirmed one so late that it was published again.
        return sorted({letter.id: letter for letter in found}.values(), key=lambda letter: letter.at or 0.0)

    def requeue(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.requeue``.

        Raises:
            UsageError: also if the origin of one of them is unknown; nothing was done.
        """
        with self._received() as received:
            chosen = [(held, self._exchange(held)) for held in _select(received, ids)]
            for held, exchange in chosen:
                self._publish_again(held, exchange)
                held.ack()

    def drop(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.drop``."""
        with self._received() as received:
            for held in _select(received, ids):
                held.ack()

    def drop_before(self, at: float) -> int:
        """See ``DeadLetters.drop_before``. All are looked at: taking one and not deleting it may change their
        order. One whose age is not known stays."""
        dropped = 0
        with self._received() as received:
            for held in received:
                age = held.at
                if age is not None and age < at:
                    held.ack()
                    dropped += 1
        return dropped

    def _exchange(self, held: _HeldLetter) -> str:
        """The exchange it was published to, so that a worker's message does not become a client's."""
        exchange = held.headers.get(EXCHANGE)
        if exchange not in (self._names.commands, self._names.reports, DEFAULT_EXCHANGE):
            raise UsageError(
                f"dead letter {held.id} cannot be requeued, since its origin is unknown: drop it, and send "
                "it again if it was yours"
            )
        if held.size > len(held.raw):
            raise is_incomplete(held.id, len(held.raw))
        return str(exchange)

    def _publish_again(self, held: _HeldLetter, exchange: str) -> None:
        publisher = RabbitMQPublisher(self._broker, exchange, self._names.queue)
        try:
            publisher.publish_all([OutgoingMessage(held.raw, exchange, {SENDER: held.headers.get(SENDER)})])
        except UsageError:
            if exchange != DEFAULT_EXCHANGE:
                raise
            raise UsageError(
                f"dead letter {held.id} cannot be requeued, since it came through the default exchange, "
                f"where {self._broker.username!r} may not publish: drop it, and send it again if it was yours"
            ) from None
        finally:
            publisher.close()

    @contextlib.contextmanager
    def _received(self) -> Iterator[Iterator[_HeldLetter]]:
        """Receive all; at the end the broker puts back what was not acked."""
        with contextlib.ExitStack() as connections:
            yield self._receive_all(connections)

    def _receive_all(self, connections: contextlib.ExitStack) -> Iterator[_HeldLetter]:
        """From each queue on a connection of its own, which ends if the broker has no such queue yet."""
        for queue in (self._names.dead_letters, self._names.report_letters):
            if inspect_queue(self._broker, queue) is None:
                continue
            connection = Connection(self._broker)
            connections.callback(connection.close)
            connection.run(connection.open_channel(), CONNECT_TIMEOUT)
            yield from self._receive(connection, queue)

    def _receive(self, connection: Connection, queue: str) -> Iterator[_HeldLetter]:
        empty: list[Any] = []
        received: list[_HeldLetter] = []

        def take(_: Any, method: Any, properties: Any, raw: bytes) -> None:
            is_ours = properties.user_id == self._broker.username
            received.append(_HeldLetter(connection, method.delivery_tag, properties, raw, is_ours))

        connection.channel.add_callback(empty.append, [pika.spec.Basic.GetEmpty])
        while True:
            connection.channel.basic_get(queue, take)
            if not connection.wait(lambda: bool(received or empty), READ_TIMEOUT):
                raise no_answer(self._broker, READ_TIMEOUT)
            if not received:
                return
            yield received.pop()


def _select(received: Iterable[_HeldLetter], ids: Sequence[str]) -> list[_HeldLetter]:
    wanted = set(ids)
    chosen = [held for held in received if held.id in wanted]
    missing = wanted - {held.id for held in chosen}
    if missing:
        raise UsageError(f"no dead letter {min(missing)}; `lando-fsm dead-letters` lists them")
    return chosen
