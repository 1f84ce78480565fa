"""Dead letters: what could not be understood, with the reason, until somebody requeues or drops it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pika

from lando.errors import UsageError
from lando.queue import FIRST_BYTES, DeadLetter, Delivery, QueueAbsent, QueueUnavailable
from lando.queue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.queue.rabbitmq.connection import Connection
from lando.queue.rabbitmq.names import Names
from lando.queue.rabbitmq.publisher import Outgoing, RabbitMQPublisher

REASON, EXCHANGE, SENDER = "reason", "exchange", "sender"
"""Headers of a dead letter: why it is one, where it was published, and the account, as the broker vouched."""
READ_TIMEOUT = 15.0
"""Seconds that reading one of them may take."""


def letter(delivery: Delivery, reason: str, letter_id: str, names: Names) -> Outgoing:
    """The dead letter of a message."""
    exchange = {"client": names.commands, "worker": names.reports, None: ""}[delivery.origin]
    headers = {REASON: reason, EXCHANGE: exchange, SENDER: delivery.sender}
    return Outgoing(
        delivery.raw, names.dead_letters, headers, letter_id, "application/octet-stream", int(time.time())
    )


def sender(properties: Any, daemon: str) -> str | None:
    """The account that published a message, vouched for by the broker; of a requeued one, the first.

    Args:
        properties: the message's.
        daemon: the account that may say on whose behalf it publishes.
    """
    user: str | None = properties.user_id
    if user == daemon and properties.headers and SENDER in properties.headers:
        said = properties.headers[SENDER]
        return said if isinstance(said, str) else None
    return user


@dataclass(frozen=True)
class _Read:
    """A dead letter that is held, by its delivery tag, until it is let go or the connection ends."""

    tag: int
    properties: Any
    raw: bytes

    @property
    def headers(self) -> dict[str, Any]:
        return self.properties.headers or {}

    @property
    def id(self) -> str:
        return str(self.properties.message_id or f"broker-{self.tag}")

    def as_letter(self) -> DeadLetter:
        broker = self.headers.get("x-first-death-reason", "no reason is known")
        reason = self.headers.get(REASON) or f"the broker: {broker}"
        at = float(self.properties.timestamp or 0)
        return DeadLetter(self.id, str(reason), self.raw[:FIRST_BYTES], len(self.raw), at)


class RabbitMQLetters:
    """See ``DeadLetters``.

    Args:
        broker: where they are; the daemon's account.
        names: what the queue is called.
    """

    def __init__(self, broker: Broker, names: Names) -> None:
        self._broker = broker
        self._names = names

    def all(self) -> list[DeadLetter]:
        """See ``DeadLetters.all``."""
        with self._connected() as connection:
            try:
                return [read.as_letter() for read in self._each(connection)]
            except QueueAbsent:
                return []  # no daemon has made it yet

    def requeue(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.requeue``."""
        self._let_go(ids, self._publish_again)

    def drop(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.drop``."""
        self._let_go(ids, lambda _: None)

    def _publish_again(self, read: _Read) -> None:
        """To where it came from: a worker's message does not become a client's."""
        exchange = read.headers.get(EXCHANGE) or self._names.commands
        publisher = RabbitMQPublisher(self._broker, exchange, self._names.queue)
        try:
            publisher.publish_all([Outgoing(read.raw, exchange, {SENDER: read.headers.get(SENDER)})])
        finally:
            publisher.close()

    def _let_go(self, ids: Sequence[str], before: Callable[[_Read], None]) -> None:
        wanted = set(ids)
        with self._connected() as connection:
            chosen = [read for read in self._each(connection) if read.id in wanted]
            missing = wanted - {read.id for read in chosen}
            if missing:
                raise UsageError(f"no dead letter {sorted(missing)[0]}; `lando-fsm dead-letters` lists them")
            for read in chosen:
                before(read)
                connection.channel.basic_ack(read.tag)
                connection.serve()

    @contextlib.contextmanager
    def _connected(self) -> Iterator[Connection]:
        """What was read and not acked goes back into the queue at the end."""
        connection = Connection(self._broker)
        try:
            connection.carry_out(connection.opened(), CONNECT_TIMEOUT)
            yield connection
        finally:
            connection.close()

    def _each(self, connection: Connection) -> Iterator[_Read]:
        empty: list[Any] = []
        got: list[_Read] = []

        def take(_: Any, method: Any, properties: Any, raw: bytes) -> None:
            got.append(_Read(method.delivery_tag, properties, raw))

        connection.channel.add_callback(empty.append, [pika.spec.Basic.GetEmpty])
        while True:
            connection.channel.basic_get(self._names.dead_letters, take)
            if not connection.wait(lambda: bool(got or empty), READ_TIMEOUT):
                raise QueueUnavailable(f"the broker at {self._broker} did not answer")
            if not got:
                return
            yield got.pop()
