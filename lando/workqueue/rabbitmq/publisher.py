"""Publishing: messages are persistent and mandatory, and count as published once the broker confirms them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pika

from lando.errors import LandoError
from lando.workqueue.interface import CLOSE_TIMEOUT, QueueAbsent, QueueFull, QueueUnavailable
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.workqueue.rabbitmq.classify import blocked_message
from lando.workqueue.rabbitmq.connection import Connection

CONFIRM_TIMEOUT = 20.0
"""Seconds that the broker has to confirm a message."""
CONTENT_TYPE = "application/json"


@dataclass(frozen=True)
class OutgoingMessage:
    """One message to publish."""

    raw: bytes
    exchange: str
    headers: Mapping[str, Any] = field(default_factory=dict)
    message_id: str | None = None
    content_type: str = CONTENT_TYPE
    timestamp: int | None = None
    """Epoch seconds."""
    routing_key: str | None = None
    """If it is not the publisher's."""


class RabbitMQPublisher:
    """Connects when it first publishes, and again when the connection was lost.

    Args:
        broker: where to publish, and with which account.
        exchange: where ``publish`` sends messages.
        routing_key: the queue's name.
        patience: seconds that connecting, and confirming, may each take.
    """

    def __init__(
        self, broker: Broker, exchange: str, routing_key: str, patience: float = CONFIRM_TIMEOUT
    ) -> None:
        self._broker = broker
        self._exchange = exchange
        self._routing_key = routing_key
        self._patience = patience
        self._connection: Connection | None = None
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._returned: list[str] = []
        self._refused = 0

    def publish(self, raw: bytes) -> None:
        """See ``Publisher.publish``.

        Raises:
            UsageError: a setting is wrong; nothing was queued.
        """
        self.publish_all([OutgoingMessage(raw, self._exchange)])

    def publish_all(self, messages: Sequence[OutgoingMessage], patience: float | None = None) -> None:
        """Return once all are confirmed. When it fails, some may be queued.

        Args:
            messages: what to publish, in this order.
            patience: seconds that confirming may take, if not the publisher's own.

        Raises:
            QueueUnavailable: not all were confirmed; publishing them again is harmless.
            UsageError: a setting is wrong.
        """
        if self._is_idle_connection_lost():
            self.close()
        try:
            self._publish_all(self._connection or self._connect(), messages, patience or self._patience)
        except LandoError:
            if not self._is_blocked():
                self.close()
            raise

    def _is_idle_connection_lost(self) -> bool:
        """Whether the broker has closed the connection since it was last used."""
        if self._connection is None:
            return False
        try:
            self._connection.serve()
        except LandoError:
            return True
        return False

    def _is_blocked(self) -> bool:
        """Whether the broker has blocked the connection.

        It then reads nothing from it, not even that it was closed. Such a connection is kept: with a new one
        for each try, they would pile up on the broker, each with a copy of the messages, and the broker would
        queue all of them once the alarm ends.
        """
        connection = self._connection
        return connection is not None and connection.error is None and connection.blocked is not None

    def _connect(self) -> Connection:
        self._published = 0
        self._unconfirmed.clear()
        connection = self._connection = Connection(self._broker)
        channel = connection.run(
            connection.open_confirming_channel(self._on_confirm), min(CONNECT_TIMEOUT, self._patience)
        )
        channel.add_on_return_callback(lambda _, method, *__: self._returned.append(method.reply_text))
        return connection

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        answered = {
            tag
            for tag in self._unconfirmed
            if tag == method.delivery_tag or (method.multiple and tag < method.delivery_tag)
        }
        self._unconfirmed -= answered
        if isinstance(method, pika.spec.Basic.Nack):
            self._refused += len(answered)

    def _publish_all(
        self, connection: Connection, messages: Sequence[OutgoingMessage], patience: float
    ) -> None:
        if self._is_blocked():
            raise QueueUnavailable(self._why_not_confirmed(connection, patience))
        self._returned.clear()
        self._refused = 0
        for message in messages:
            self._published += 1
            self._unconfirmed.add(self._published)
            connection.channel.basic_publish(
                message.exchange,
                message.routing_key or self._routing_key,
                message.raw,
                pika.BasicProperties(
                    delivery_mode=pika.DeliveryMode.Persistent.value,
                    content_type=message.content_type,
                    user_id=self._broker.username,
                    headers=dict(message.headers) or None,
                    message_id=message.message_id,
                    timestamp=message.timestamp,
                ),
                mandatory=True,
            )
        if not connection.wait(lambda: not self._unconfirmed, patience):
            raise QueueUnavailable(self._why_not_confirmed(connection, patience))
        if self._returned:
            raise QueueAbsent(
                f"no queue is bound to {messages[0].exchange!r} on the broker at {self._broker} "
                f"({self._returned[0]}): check that a daemon was started, and "
                f"{self._broker.setting('queue_name')}"
            )
        if self._refused:
            raise QueueFull(
                f"the broker at {self._broker} refused the message (basic.nack): the queue is full, or does "
                "not work at present"
            )

    def _why_not_confirmed(self, connection: Connection, patience: float) -> str:
        if connection.blocked is not None:
            return blocked_message(self._broker, connection.blocked)
        return f"the broker at {self._broker} did not confirm within {patience:.3g} s"

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """See ``Publisher.close``.

        Args:
            timeout: seconds that this may take.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(LandoError):
                connection.close(timeout)
