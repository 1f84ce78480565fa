"""Whether the broker accepts messages at all.

A broker that is short of memory or disk stops reading from publishers, and tells a connection that only
consumes nothing of it: the queue looks empty while no report can get in. So a second connection publishes an
unroutable message once a second. A healthy broker confirms it and drops it; one with an alarm does not
confirm it.

Source: https://www.rabbitmq.com/docs/alarms
"""

from __future__ import annotations

import time
from typing import Any

import pika

from lando.errors import LandoError
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import blocked_message
from lando.workqueue.rabbitmq.connection import Connection, RunningProcedure
from lando.workqueue.rabbitmq.names import QueueNames

PERIOD = 1.0
"""Seconds between two probe messages."""
STALE = 3 * PERIOD
"""Seconds after which a confirmation no longer counts."""
CLOSE_TIMEOUT = 0.3
"""Seconds that the broker has to answer connection.close."""
UNBOUND_KEY = "nowhere"
"""A routing key to which no queue is bound."""


class AlarmProbe:
    """Probes the broker whenever ``probe`` is called, at most once per PERIOD.

    Args:
        broker: the daemon's account.
        names: what there is on the broker.
    """

    def __init__(self, broker: Broker, names: QueueNames) -> None:
        self._broker = broker
        self._names = names
        self._connection: Connection | None = None
        self._opening: RunningProcedure[Any] | None = None
        self._begun = 0.0
        self._sent_at: float | None = None
        self._confirmed_at: float | None = None
        self._next_message = 0.0
        self._reason = ""

    def probe(self, patience: float = 0.0) -> None:
        """Take confirmations, and send the next message when it is due.

        Args:
            patience: seconds to wait for the connection, and then for the first confirmation. Only a call
                with a patience makes the first connection.
        """
        now = time.monotonic()
        if self._connection is None and not patience and not self._begun:
            return
        try:
            self._serve(now, patience)
        except LandoError as error:
            begun = self._begun
            self.stop()
            self._begun, self._next_message = begun, now + PERIOD
            self._reason = str(error)

    def _serve(self, now: float, patience: float) -> None:
        if self._connection is None:
            if now < self._next_message:
                return
            self._begun = self._begun or now
            self._connection = Connection(self._broker)
            self._opening = RunningProcedure(self._connection.open_confirming_channel(self._on_confirm))
        self._connection.serve()
        assert self._opening is not None
        if not self._connection.wait(self._opening.advance, patience):
            return
        if self._sent_at is None and now >= self._next_message:
            self._sent_at, self._next_message = now, now + PERIOD
            self._connection.channel.basic_publish(
                self._names.commands, UNBOUND_KEY, b"", pika.BasicProperties(user_id=self._broker.username)
            )
            self._connection.serve()
        if self._confirmed_at is None:
            self._connection.wait(lambda: self._confirmed_at is not None, patience)

    def _on_confirm(self, _: Any) -> None:
        # The time of sending: what others published before it is in the queue by now, or being delivered.
        self._confirmed_at, self._sent_at = self._sent_at, None

    @property
    def is_fresh(self) -> bool:
        """Whether the broker has confirmed a message within the last seconds (STALE)."""
        return self._confirmed_at is not None and time.monotonic() - self._confirmed_at < STALE

    @property
    def obstacle(self) -> str | None:
        """Why the broker accepts no messages; None if it does, or if the probe has only just begun."""
        if self.is_fresh or not self._begun or time.monotonic() - self._begun < STALE:
            return None
        reason = self._connection.blocked if self._connection is not None else None
        return blocked_message(self._broker, reason or self._reason or "it does not confirm messages")

    def stop(self) -> None:
        """Close the connection. The next ``probe`` with a patience starts again."""
        connection, self._connection = self._connection, None
        self._opening = self._sent_at = self._confirmed_at = None
        self._begun = self._next_message = 0.0
        if connection is not None:
            connection.close(CLOSE_TIMEOUT)
