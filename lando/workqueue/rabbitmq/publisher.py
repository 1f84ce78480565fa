"""Publishing: persistent, mandatory, and done only when the broker has confirmed it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pika

from lando.errors import LandoError
from lando.workqueue.interface import QueueAbsent, QueueUnavailable
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.workqueue.rabbitmq.connection import Connection, Steps

CONFIRM_TIMEOUT = 20.0
"""Seconds for which a confirmation is waited for."""
CONTENT_TYPE = "application/json"


@dataclass(frozen=True)
class Outgoing:
    """One message to publish."""

    raw: bytes
    exchange: str
    headers: Mapping[str, Any] = field(default_factory=dict)
    message_id: str | None = None
    content_type: str = CONTENT_TYPE
    timestamp: int | None = None
    """Epoch seconds."""


class RabbitMQPublisher:
    """Connects at the first message, and again when the connection was lost.

    Args:
        broker: where to publish, and as whom.
        exchange: where messages go.
        routing_key: the queue's name.
        patience: seconds that connecting, and confirming, may take each.
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
        self._outstanding: set[int] = set()
        self._returned: list[str] = []
        self._refused = 0

    def publish(self, raw: bytes) -> None:
        """See ``Publisher.publish``.

        Raises:
            UsageError: a setting is wrong; nothing was queued.
        """
        self.publish_all([Outgoing(raw, self._exchange)])

    def publish_all(self, messages: Sequence[Outgoing], patience: float | None = None) -> None:
        """Return once all are confirmed; some may be queued when it fails.

        Args:
            patience: seconds that confirming may take, where that differs from the publisher's.

        Raises:
            QueueUnavailable: not all were confirmed; repeating is harmless.
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
        """Whether the broker reads nothing from the connection for now.

        It would not notice that it was closed, either: one for each try would pile up there, each with a copy
        of the messages, and it takes all of them when it is well again. So the connection is kept.
        """
        connection = self._connection
        return connection is not None and connection.error is None and connection.blocked is not None

    def _connect(self) -> Connection:
        connection = self._connection = Connection(self._broker)
        connection.carry_out(self._confirming(connection), min(CONNECT_TIMEOUT, self._patience))
        return connection

    def _confirming(self, connection: Connection) -> Steps[None]:
        channel = yield from connection.opened()
        self._published = 0
        self._outstanding.clear()
        channel.add_on_return_callback(lambda _, method, *__: self._returned.append(method.reply_text))
        yield from connection.answer(
            lambda callback: channel.confirm_delivery(self._on_confirm, callback=callback)
        )

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        answered = {
            tag
            for tag in self._outstanding
            if tag == method.delivery_tag or (method.multiple and tag < method.delivery_tag)
        }
        self._outstanding -= answered
        if isinstance(method, pika.spec.Basic.Nack):
            self._refused += len(answered)

    def _publish_all(self, connection: Connection, messages: Sequence[Outgoing], patience: float) -> None:
        if self._is_blocked():
            raise QueueUnavailable(self._why_not_confirmed(connection))
        self._returned.clear()
        self._refused = 0
        for message in messages:
            self._published += 1
            self._outstanding.add(self._published)
            connection.channel.basic_publish(
                message.exchange,
                self._routing_key,
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
        if not connection.wait(lambda: not self._outstanding, patience):
            raise QueueUnavailable(self._why_not_confirmed(connection))
        if self._returned:
            raise QueueAbsent(
                f"no queue is bound to {messages[0].exchange!r} on the broker at {self._broker} "
                f"({self._returned[0]}): has a daemon been started, and is "
                f"{self._broker.setting('queue_name')} right?"
            )
        if self._refused:
            raise QueueUnavailable(f"the broker at {self._broker} has refused the message for now")

    def _why_not_confirmed(self, connection: Connection) -> str:
        if connection.blocked is not None:
            return f"the broker at {self._broker} takes no messages just now: {connection.blocked}"
        return f"the broker at {self._broker} did not confirm within {self._patience:g} s"

    def close(self) -> None:
        """See ``Publisher.close``."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(LandoError):
                connection.close()
