"""Whether the broker takes messages at all.

Short of memory or disk, a broker stops reading from publishers, and tells a connection that only consumes
nothing of it: the queue looks empty while nobody's reports can get in. So a second connection publishes a
message to nowhere now and then, which the broker confirms and keeps nothing of, or does not confirm.

Source: https://www.rabbitmq.com/docs/alarms
"""

from __future__ import annotations

import time
from typing import Any

import pika

from lando.errors import LandoError
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.connection import Connection, Conversation, Steps
from lando.workqueue.rabbitmq.names import QueueNames

PERIOD = 1.0
"""Seconds between two beats."""
STALE = 3 * PERIOD
"""Seconds after which a confirmation proves nothing any more."""
GOOD_BYE = 0.3
"""Seconds."""
NOWHERE = "nowhere"
"""A routing key that nothing is bound to."""


class AlarmProbe:
    """Felt by whoever wants to know.

    Args:
        broker: the daemon's account.
        names: what there is on the broker.
    """

    def __init__(self, broker: Broker, names: QueueNames) -> None:
        self._broker = broker
        self._names = names
        self._connection: Connection | None = None
        self._set_up: Conversation[None] | None = None
        self._begun = 0.0
        self._sent_at: float | None = None
        self._confirmed_at: float | None = None
        self._next_beat = 0.0
        self._words = ""

    def feel(self, patience: float = 0.0) -> None:
        """Take confirmations, and send the next beat when it is due.

        Args:
            patience: seconds for which the connection, and then the first confirmation, are waited for; the
                connection is made by who is willing to wait.
        """
        now = time.monotonic()
        if self._connection is None and not patience and not self._begun:
            return
        try:
            self._serve(now, patience)
        except LandoError as error:
            begun = self._begun
            self.stop()
            self._begun, self._next_beat = begun, now + PERIOD
            self._words = str(error)

    def _serve(self, now: float, patience: float) -> None:
        if self._connection is None:
            if now < self._next_beat:
                return
            self._begun = self._begun or now
            self._connection = Connection(self._broker)
            self._set_up = Conversation(self._confirming(self._connection))
        self._connection.serve()
        assert self._set_up is not None
        if not self._connection.wait(self._set_up.is_over, patience):
            return
        if self._sent_at is None and now >= self._next_beat:
            self._sent_at, self._next_beat = now, now + PERIOD
            self._connection.channel.basic_publish(
                self._names.commands, NOWHERE, b"", pika.BasicProperties(user_id=self._broker.username)
            )
            self._connection.serve()
        if self._confirmed_at is None:
            self._connection.wait(lambda: self._confirmed_at is not None, patience)

    def _confirming(self, connection: Connection) -> Steps[None]:
        channel = yield from connection.opened()
        yield from connection.answer(
            lambda callback: channel.confirm_delivery(self._on_confirm, callback=callback)
        )

    def _on_confirm(self, _: Any) -> None:
        # As of when it was sent: what was published before is in the queue by now, or on its way.
        self._confirmed_at, self._sent_at = self._sent_at, None

    @property
    def is_fresh(self) -> bool:
        """Whether the broker took messages just now."""
        return self._confirmed_at is not None and time.monotonic() - self._confirmed_at < STALE

    @property
    def obstacle(self) -> str | None:
        """Why publishers cannot get their messages into the queue, once that is known."""
        if self.is_fresh or not self._begun or time.monotonic() - self._begun < STALE:
            return None
        blocked = self._connection.blocked if self._connection is not None else None
        why = blocked or self._words or "it confirms nothing"
        return f"the broker at {self._broker} takes no messages just now: {why}"

    def stop(self) -> None:
        """Let go of the connection; the next time it is felt, it begins anew."""
        connection, self._connection = self._connection, None
        self._set_up = self._sent_at = self._confirmed_at = None
        self._begun = self._next_beat = 0.0
        if connection is not None:
            connection.close(GOOD_BYE)
