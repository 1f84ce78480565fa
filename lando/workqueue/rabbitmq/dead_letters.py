"""Dead letters: what could not be understood, with the reason, until somebody requeues or drops it."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pika

from lando.errors import UsageError
from lando.messages import Origin
from lando.workqueue.interface import FIRST_BYTES, DeadLetter, Delivery, QueueAbsent, QueueUnavailable
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.workqueue.rabbitmq.connection import Connection
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.publisher import Outgoing, RabbitMQPublisher

REASON, EXCHANGE, SENDER, AT = "reason", "exchange", "sender", "at"
"""Headers of a dead letter: why it is one, where it was published, the account, as the broker vouched, and
when it was buried, in microseconds since the epoch: the broker keeps no order once they were listed."""
MAX_REASON = 1000
"""Characters: a header may not be larger than a frame."""
DEFAULT_EXCHANGE = ""
"""Where accounts with more rights than ours need can publish; so what came from there can go back there."""
READ_TIMEOUT = 15.0
"""Seconds that reading one of them may take."""


def letter(delivery: Delivery, reason: str, letter_id: str, names: QueueNames) -> Outgoing:
    """The dead letter of a message."""
    exchange = {"client": names.commands, "worker": names.reports, None: DEFAULT_EXCHANGE}[delivery.origin]
    headers = {
        REASON: reason[:MAX_REASON],
        EXCHANGE: exchange,
        SENDER: delivery.sender,
        AT: time.time_ns() // 1000,
    }
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
    is_ours: bool
    """Whether the daemon buried it; else the broker did, and its headers are whatever somebody wrote."""

    @property
    def headers(self) -> dict[str, Any]:
        return (self.properties.headers or {}) if self.is_ours else {}

    @property
    def id(self) -> str:
        if self.is_ours and self.properties.message_id:
            return str(self.properties.message_id)
        return f"broker-{hashlib.sha256(self.raw).hexdigest()[:16]}"

    def as_letter(self, names: QueueNames) -> DeadLetter:
        origins: dict[str, Origin] = {names.commands: "client", names.reports: "worker"}
        reason = self.headers.get(REASON) or "moved here by the broker"
        at = self.headers[AT] / 1e6 if AT in self.headers else None
        return DeadLetter(
            self.id,
            str(reason),
            self.raw[:FIRST_BYTES],
            len(self.raw),
            at,
            origins.get(self.headers.get(EXCHANGE, "")),
            self.headers.get(SENDER),
        )


class RabbitMQDeadLetters:
    """See ``DeadLetters``.

    Args:
        broker: where they are; the daemon's account.
        names: what the queue is called.
    """

    def __init__(self, broker: Broker, names: QueueNames) -> None:
        self._broker = broker
        self._names = names

    def all(self) -> list[DeadLetter]:
        """See ``DeadLetters.all``."""
        with self._connected() as connection:
            try:
                found = [read.as_letter(self._names) for read in self._each(connection)]
            except QueueAbsent:
                return []  # no daemon has made it yet
        # Twice with one id: the broker was slow to confirm it, so it was buried again.
        return sorted({each.id: each for each in found}.values(), key=lambda each: each.at or 0.0)

    def requeue(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.requeue``.

        Raises:
            UsageError: or it is not known whose one of them was; nothing was done.
        """
        with self._connected() as connection:
            chosen = [(read, self._exchange(read)) for read in self._chosen(connection, ids)]
            for read, exchange in chosen:
                self._publish_again(read, exchange)
                self._forget(connection, read)

    def drop(self, ids: Sequence[str]) -> None:
        """See ``DeadLetters.drop``."""
        with self._connected() as connection:
            for read in self._chosen(connection, ids):
                self._forget(connection, read)

    def _exchange(self, read: _Read) -> str:
        """Where it came from: a worker's message does not become a client's."""
        exchange = read.headers.get(EXCHANGE)
        if exchange not in (self._names.commands, self._names.reports, DEFAULT_EXCHANGE):
            raise UsageError(
                f"dead letter {read.id}: it is not known who sent it, so it cannot be requeued; drop it, and "
                "send the command again if it was yours"
            )
        return str(exchange)

    def _publish_again(self, read: _Read, exchange: str) -> None:
        publisher = RabbitMQPublisher(self._broker, exchange, self._names.queue)
        try:
            publisher.publish_all([Outgoing(read.raw, exchange, {SENDER: read.headers.get(SENDER)})])
        except UsageError:
            if exchange != DEFAULT_EXCHANGE:
                raise
            raise UsageError(
                f"dead letter {read.id}: it came through the default exchange, where "
                f"{self._broker.username!r} may not publish; drop it, and send it again if it was yours"
            ) from None
        finally:
            publisher.close()

    def _chosen(self, connection: Connection, ids: Sequence[str]) -> list[_Read]:
        wanted = set(ids)
        chosen = [read for read in self._each(connection) if read.id in wanted]
        missing = wanted - {read.id for read in chosen}
        if missing:
            raise UsageError(f"no dead letter {min(missing)}; `lando-fsm dead-letters` lists them")
        return chosen

    def _forget(self, connection: Connection, read: _Read) -> None:
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
            is_ours = properties.user_id == self._broker.username
            got.append(_Read(method.delivery_tag, properties, raw, is_ours))

        connection.channel.add_callback(empty.append, [pika.spec.Basic.GetEmpty])
        while True:
            connection.channel.basic_get(self._names.dead_letters, take)
            if not connection.wait(lambda: bool(got or empty), READ_TIMEOUT):
                raise QueueUnavailable(f"the broker at {self._broker} did not answer")
            if not got:
                return
            yield got.pop()
