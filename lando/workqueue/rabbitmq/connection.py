"""One connection to the broker, with one channel, served in turns by whoever waits for something.

Not pika's BlockingConnection: that one waits for a confirmation without any limit, as when a queue has lost
its majority. Here every wait has one, and heartbeats are answered in each.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

import pika
from pika.adapters.select_connection import IOLoop, SelectConnection
from pika.channel import Channel

from lando.errors import LandoError
from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import classify, no_answer
from lando.workqueue.wakeup import Wakeup

logging.getLogger("pika").setLevel(logging.CRITICAL)  # what it knows is in the errors raised here

_decode_table = pika.data.decode_table


def _decode_any_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """pika's, but headers that it cannot read count as none: they must not cost us the connection."""
    try:
        found: tuple[dict[str, Any], int] = _decode_table(encoded, offset)
    except Exception:
        (size,) = struct.unpack_from(">I", encoded, offset)
        return {}, offset + 4 + size
    return found


pika.data.decode_table = _decode_any_table

T = TypeVar("T")
Steps = Generator[None, None, T]
"""A conversation with the broker: yields while it waits for an answer."""

CLOSE_TIMEOUT = 2.0
"""Seconds for a polite good-bye."""


class Connection:
    """Begins to connect when it is made; is of no use any more once ``error`` is set.

    Args:
        broker: where to connect.
        wakeup: ends a wait for the broker early.

    Raises:
        UsageError: a setting is wrong.
    """

    def __init__(self, broker: Broker, wakeup: Wakeup | None = None) -> None:
        self.error: LandoError | None = None
        """Why the connection is lost."""
        self.blocked: str | None = None
        """Why the broker takes no messages just now, in its words."""
        self.woken = False
        """Whether ``wakeup`` was called; reset by whoever waits for it."""
        parameters = broker.parameters()
        self._broker = broker
        self._wakeup = wakeup
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._channel: Channel | None = None
        if wakeup is not None:
            self._loop.add_handler(wakeup.fileno(), self._on_wakeup, self._loop.READ)
        self._connection = SelectConnection(
            parameters,
            on_open_callback=lambda _: None,
            on_open_error_callback=lambda _, error: self._lose(error),
            on_close_callback=lambda _, error: self._lose(error),
            custom_ioloop=self._loop,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _lose(self, error: Any) -> None:
        if self.error is None:
            self.error = classify(self._broker, error if isinstance(error, BaseException) else None)

    def fail(self, error: LandoError) -> None:
        """Give the connection up: it can be of no more use."""
        self.error = self.error or error

    def _on_wakeup(self, *_: Any) -> None:
        if self._wakeup is not None and self._wakeup.clear():
            self.woken = True

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, *_: Any) -> None:
        self.blocked = None

    # conversations

    @property
    def channel(self) -> Channel:
        """The open channel."""
        assert self._channel is not None
        return self._channel

    @property
    def broker_version(self) -> tuple[int, ...]:
        """The broker's own version; empty where it tells none."""
        properties = self._connection.server_properties or {}
        version = str(properties.get("version", "")) if properties.get("product") == "RabbitMQ" else ""
        return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())

    def opened(self) -> Steps[Channel]:
        """Connect and open the channel."""
        while not self._connection.is_open:
            yield
        opened: list[Channel] = []
        channel = self._connection.channel(on_open_callback=opened.append)
        channel.add_on_close_callback(lambda _, error: self._lose(error))
        while not opened:
            yield
        self._channel = channel
        return channel

    def answer(self, ask: Callable[[Callable[[Any], None]], Any]) -> Steps[Any]:
        """Ask something of the broker (``ask`` gets the callback) and wait for the answer's method."""
        answers: list[Any] = []
        ask(answers.append)
        while not answers:
            yield
        return answers[0].method

    # waiting

    def wait(self, until: Callable[[], bool], timeout: float) -> bool:
        """Serve the connection until something is so; False if it is not so after ``timeout`` seconds.

        Raises:
            LandoError: the connection is lost, or was refused.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self.error is not None:
                raise self.error
            if until():
                return True
            remaining = deadline - time.monotonic()
            if remaining < 0:
                return False
            self._poll(remaining)

    def serve(self) -> None:
        """Read and write what can be read and written without waiting.

        Raises:
            LandoError: the connection is lost.
        """
        self._poll(0.0)
        if self.error is not None:
            raise self.error

    def _poll(self, seconds: float) -> None:
        timer = self._loop.call_later(seconds, lambda: None)
        try:
            self._loop.poll()
        finally:
            self._loop.remove_timeout(timer)
        self._loop.process_timeouts()

    def carry_out(self, steps: Steps[T], timeout: float) -> T:
        """Have a conversation to its end.

        Raises:
            LandoError: the connection is lost, or the broker does not answer in time.
        """
        conversation = Conversation(steps)
        if not self.wait(conversation.is_over, timeout):
            if self.blocked is not None:
                raise QueueUnavailable(f"the broker at {self._broker} takes no messages now: {self.blocked}")
            raise no_answer(self._broker, timeout)
        return conversation.result

    def close(self, patience: float = CLOSE_TIMEOUT) -> None:
        """Say good-bye, for at most ``patience`` seconds, and let go."""
        try:
            if not (self._connection.is_closed or self._connection.is_closing):
                self._connection.close()
            deadline = time.monotonic() + patience
            while not self._connection.is_closed and time.monotonic() < deadline:
                self._poll(deadline - time.monotonic())
            self._hang_up()
        except Exception as error:  # whatever state it is in, nothing may come of a good-bye
            logging.getLogger("lando").debug("closing a connection: %s", error)
        finally:
            self.error = self.error or QueueUnavailable("the connection was closed")
            self._let_go()

    def _hang_up(self) -> None:
        """Close the socket of a broker that does not answer, so that it gives up our lock once it can."""
        transport = getattr(self._connection, "_transport", None)  # pika has no public way
        if not self._connection.is_closed and transport is not None:
            transport.abort()
            self._poll(0.0)

    def _let_go(self) -> None:
        if self._wakeup is not None:
            self._loop.remove_handler(self._wakeup.fileno())
        self._loop.close()


class Conversation(Generic[T]):
    """A conversation under way; resumed whenever something has happened on the connection."""

    def __init__(self, steps: Steps[T]) -> None:
        self._steps = steps
        self._over = False
        self.result: T
        """Set once it is over."""

    def is_over(self) -> bool:
        """Resume it; whether it has come to its end."""
        if not self._over:
            try:
                next(self._steps)
            except StopIteration as end:
                self.result = end.value
                self._over = True
        return self._over
