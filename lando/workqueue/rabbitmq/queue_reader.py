"""Consumes one queue, on a channel of its own: what was received, and what is not acked yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pika.channel import Channel

from lando.messages import Origin
from lando.workqueue.interface import Delivery
from lando.workqueue.rabbitmq.connection import Connection, Procedure
from lando.workqueue.rabbitmq.dead_letters import sender_of
from lando.workqueue.rabbitmq.names import QueueNames

FENCE = "fence"
"""Header of a message that the daemon has published to itself: its nonce, see ``fence.py``."""


class QueueReader:
    """One queue, within one connection.

    Args:
        queue: its name.
        names: what there is on the broker.
        username: the daemon's account.
        prefetch: messages that may be unacknowledged.
        first_tag: added to the broker's delivery tags, so that no two readers use the same tag.
    """

    def __init__(self, queue: str, names: QueueNames, username: str, prefetch: int, first_tag: int) -> None:
        self.queue = queue
        self.prefetch = prefetch
        self._names = names
        self._username = username
        self._first_tag = first_tag
        self._channel: Channel | None = None
        self._buffer: deque[tuple[Delivery, str | None]] = deque()
        self._unacked: dict[int, None] = {}
        self.buffered = 0
        """Bytes of the messages that were received and not taken."""
        self.received = 0
        """Messages that the broker has delivered."""
        self.taken = 0
        """Those of them that ``take`` has returned, or dropped as fences."""
        self.fences: set[str] = set()
        """The nonces of the fences that ``take`` has met."""

    def __len__(self) -> int:
        return len(self._buffer)

    def begin(
        self, connection: Connection, channel: Channel, on_cancel: Callable[[], None]
    ) -> Procedure[None]:
        """Consume the queue on ``channel``; ``on_cancel`` is called when the broker ends that."""
        self._channel = channel
        channel.add_on_cancel_callback(lambda _: on_cancel())
        yield from connection.call(
            lambda callback: channel.basic_qos(prefetch_count=self.prefetch, callback=callback)
        )
        yield from connection.call(
            lambda callback: channel.basic_consume(self.queue, self._on_message, callback=callback)
        )

    def _on_message(self, _: Any, method: Any, properties: Any, raw: bytes) -> None:
        tag = self._first_tag + method.delivery_tag
        self._unacked[tag] = None
        self.received += 1
        self.buffered += len(raw)
        sender = sender_of(properties, self._username)
        delivery = Delivery(tag, raw, self._origin(method.exchange), sender)
        self._buffer.append((delivery, self._nonce(properties)))

    def _origin(self, exchange: str) -> Origin | None:
        """The sender's role, from the exchange; None for other exchanges, which need more permissions."""
        if exchange == self._names.commands:
            return "client"
        return "worker" if exchange == self._names.reports else None

    def _nonce(self, properties: Any) -> str | None:
        """A fence's nonce; None if the message is none. The broker verifies ``user_id``."""
        if properties.user_id == self._username and properties.headers and FENCE in properties.headers:
            return str(properties.headers[FENCE])
        return None

    def take(self, limit: int, size: int) -> list[Delivery]:
        """Messages that were received, oldest first; at a fence they end.

        Args:
            limit: at most so many.
            size: bytes; what has more is the last.
        """
        taken: list[Delivery] = []
        while self._buffer and len(taken) < limit and size > 0:
            delivery, nonce = self._buffer.popleft()
            self.taken += 1
            self.buffered -= len(delivery.raw)
            if nonce is not None:
                self.ack([delivery.tag])
                self.fences.add(nonce)
                break
            taken.append(delivery)
            size -= len(delivery.raw)
        return taken

    @property
    def is_idle(self) -> bool:
        """Whether everything that was received is acked: the broker may deliver more."""
        return not self._unacked

    @property
    def unacked(self) -> int:
        """How many messages were received, and are not acked."""
        return len(self._unacked)

    def has_unacked(self, tag: int) -> bool:
        """Whether it has received this message, and not acked it."""
        return tag in self._unacked

    def ack(self, tags: Sequence[int]) -> None:
        """Ack these messages: together up to the oldest that stays unacked, the others one by one."""
        assert self._channel is not None
        for tag in tags:
            del self._unacked[tag]
        oldest = next(iter(self._unacked), None)
        together = [tag for tag in tags if oldest is None or tag < oldest]
        if together:
            self._channel.basic_ack(max(together) - self._first_tag, multiple=True)
        for tag in tags:
            if oldest is not None and tag > oldest:
                self._channel.basic_ack(tag - self._first_tag)
