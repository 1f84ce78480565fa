"""Whether the broker accepts messages at all.

A broker that is short of memory or disk stops reading from publishers, and tells a connection that only
consumes nothing of it: the queues look empty while no report can get in. So a second connection publishes an
unroutable message once a second. A healthy broker confirms it and drops it; one with an alarm does not
confirm it. Whatever else the daemon has to publish while it reads goes through that connection, too.

Source: https://www.rabbitmq.com/docs/alarms
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pika

from lando.errors import LandoError
from lando.workqueue.interface import QueueAbsent
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import blocked_message
from lando.workqueue.rabbitmq.connection import Connection, Procedure, RunningProcedure
from lando.workqueue.rabbitmq.names import QueueNames

PERIOD = 1.0
"""Seconds between two probe messages."""
STALE = 3 * PERIOD
"""Seconds without a confirmation after which the broker counts as accepting nothing."""
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
        self._unconfirmed: dict[int, Callable[[], None]] = {}
        self._on_unroutable: dict[str, Callable[[], None]] = {}
        self.is_exchange_absent = False
        """Whether a message could not be published because its exchange was deleted; reset by the caller."""
        self._published = 0
        self._called_at: float | None = None
        self._unanswered = 0.0
        self._next_message = 0.0
        self._reason = ""

    @property
    def connection(self) -> Connection | None:
        """The connection, once it is open and has a channel with confirms."""
        is_open = self._opening is not None and self._opening.advance()
        return self._connection if is_open else None

    def probe(self, patience: float = 0.0) -> None:
        """Take confirmations, and send the next message when it is due.

        Args:
            patience: seconds to wait for the connection. Only a call with a patience makes the first one.
        """
        now = time.monotonic()
        if self._called_at is None and not patience:
            return
        # A call that comes late is not an answer that comes late: it counts as one period at most.
        elapsed = min(now - (self._called_at or now), PERIOD)
        self._called_at = now
        try:
            is_waiting = self._serve(now, patience)
        except LandoError as error:
            self.lose(error)
            is_waiting = True
        self._unanswered = self._unanswered + elapsed if is_waiting else 0.0

    def _serve(self, now: float, patience: float) -> bool:
        """Returns whether an answer of the broker is outstanding, after all were read that have come."""
        if self._connection is None:
            if now < self._next_message:
                return True
            self._connection = Connection(self._broker)
            self._opening = RunningProcedure(self._open(self._connection))
        self._connection.serve()
        assert self._opening is not None
        if not self._connection.wait(self._opening.advance, patience):
            return True
        is_waiting = bool(self._unconfirmed)
        if not is_waiting and now >= self._next_message:
            self._next_message = now + PERIOD
            self.publish(self._names.commands, UNBOUND_KEY)
        return is_waiting

    def _open(self, connection: Connection) -> Procedure[None]:
        channel = yield from connection.open_confirming_channel(self._on_confirm)
        channel.add_on_return_callback(self._on_return)

    def publish(
        self,
        exchange: str,
        routing_key: str,
        headers: Mapping[str, str] | None = None,
        on_refused: Callable[[], None] = lambda: None,
        on_unroutable: Callable[[], None] | None = None,
    ) -> None:
        """Publish an empty message; only while there is a ``connection``.

        Args:
            exchange: where to.
            routing_key: see ``exchange``.
            headers: the message's.
            on_refused: called if the broker does not accept it (basic.nack).
            on_unroutable: called if no queue is bound to the exchange; None: that is no error.

        Raises:
            LandoError: the connection is lost.
        """
        connection = self.connection
        assert connection is not None
        self._published += 1
        self._unconfirmed[self._published] = on_refused
        properties = pika.BasicProperties(
            user_id=self._broker.username,
            headers=None if headers is None else dict(headers),
            delivery_mode=pika.DeliveryMode.Transient.value,
        )
        if on_unroutable is not None:
            self._on_unroutable[exchange] = on_unroutable
        connection.channel.basic_publish(
            exchange, routing_key, b"", properties, mandatory=on_unroutable is not None
        )
        connection.serve()

    def _on_return(self, _: Any, method: Any, *__: Any) -> None:
        self._on_unroutable.pop(method.exchange, lambda: None)()

    def _on_confirm(self, frame: Any) -> None:
        self._reason = ""
        method = frame.method
        refused = isinstance(method, pika.spec.Basic.Nack)
        for tag in [
            tag
            for tag in self._unconfirmed
            if tag == method.delivery_tag or (method.multiple and tag < method.delivery_tag)
        ]:
            on_refused = self._unconfirmed.pop(tag)
            if refused:
                on_refused()

    @property
    def obstacle(self) -> str | None:
        """Why the broker accepts no messages; None if it does, or if the probe has only just begun."""
        blocked = self._connection.blocked if self._connection is not None else None
        if blocked is None and self._unanswered < STALE:
            return None
        return blocked_message(self._broker, blocked or self._reason or "it does not confirm messages")

    def lose(self, error: LandoError) -> None:
        """The connection has failed: after PERIOD, ``probe`` makes another."""
        self._close()
        self._next_message = time.monotonic() + PERIOD
        self._reason = str(error)
        self.is_exchange_absent = self.is_exchange_absent or isinstance(error, QueueAbsent)

    def stop(self) -> None:
        """Close the connection. The next ``probe`` with a patience starts again."""
        self._close()
        self._called_at = None
        self._unanswered = self._next_message = 0.0
        self._reason = ""

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._opening = None
        self._unconfirmed.clear()
        self._on_unroutable.clear()
        self._published = 0
        if connection is not None:
            connection.close(CLOSE_TIMEOUT)
