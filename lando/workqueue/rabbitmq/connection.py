"""One connection to the broker, with its channels. Every wait also processes I/O and heartbeats.

pika's BlockingConnection is not used: it waits for a publisher confirm without a time limit, and a quorum
queue that has lost its majority sends none. Here every wait is limited.
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
from lando.workqueue.interface import CLOSE_TIMEOUT, QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import blocked_message, classify, is_access_refused, no_answer
from lando.workqueue.wakeup import Wakeup

logging.getLogger("pika").setLevel(logging.CRITICAL)  # the errors raised here say the same

_decode_table = pika.data.decode_table


def _decode_any_table(encoded: bytes, offset: int) -> tuple[dict[str, Any], int]:
    """As pika's, but headers that it cannot decode are taken for none: they must not end the connection."""
    try:
        found: tuple[dict[str, Any], int] = _decode_table(encoded, offset)
    except Exception:
        (size,) = struct.unpack_from(">I", encoded, offset)
        return {}, offset + 4 + size
    return found


pika.data.decode_table = _decode_any_table

T = TypeVar("T")
Procedure = Generator[None, None, T]
"""Sends AMQP methods to the broker, one after the other, and yields while it waits for an answer."""


class Connection:
    """Starts to connect when it is made, and cannot be used again once ``error`` is set.

    Args:
        broker: where to connect.
        wakeup: ends a ``wait`` early, if its condition asks for ``woken``.

    Raises:
        UsageError: a setting is wrong.
    """

    def __init__(self, broker: Broker, wakeup: Wakeup | None = None) -> None:
        self.error: LandoError | None = None
        """Why the connection was lost."""
        self.blocked: str | None = None
        """Why the broker accepts no messages at present (connection.blocked), as it says itself."""
        self.woken = False
        """Whether ``wakeup`` was called; reset by the caller that waits for it."""
        parameters = broker.parameters()
        self._broker = broker
        self._wakeup = wakeup
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._channel: Channel | None = None
        self._spare: _Spare | None = None
        if wakeup is not None:
            self._loop.add_handler(wakeup.fileno(), self._on_wakeup, self._loop.READ)
        self._connection = SelectConnection(
            parameters,
            on_open_callback=lambda _: None,
            on_open_error_callback=lambda _, error: self._on_closed(error),
            on_close_callback=lambda _, error: self._on_closed(error),
            custom_ioloop=self._loop,
        )
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    def _on_wakeup(self, *_: Any) -> None:
        if self._wakeup is not None and self._wakeup.clear():
            self.woken = True

    def _on_closed(self, error: Any) -> None:
        if self.error is None:
            self.error = classify(self._broker, error if isinstance(error, BaseException) else None)

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = str(frame.method.reason)

    def _on_unblocked(self, *_: Any) -> None:
        self.blocked = None

    def fail(self, error: LandoError) -> None:
        """Treat the connection as lost."""
        self.error = self.error or error

    @property
    def channel(self) -> Channel:
        """The open channel."""
        assert self._channel is not None
        return self._channel

    @property
    def broker_version(self) -> tuple[int, ...]:
        """The broker's major and minor version; empty if it is unknown."""
        properties = self._connection.server_properties or {}
        version = str(properties.get("version", "")) if properties.get("product") == "RabbitMQ" else ""
        return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())

    def open_channel(self) -> Procedure[Channel]:
        """Wait for the connection, and open the channel."""
        while not self._connection.is_open:
            yield
        self._channel = yield from self.open_another_channel()
        return self._channel

    def open_another_channel(self) -> Procedure[Channel]:
        """Open one more channel; the connection counts as lost if the broker closes any of them."""
        opened: list[Channel] = []
        channel = self._connection.channel(on_open_callback=opened.append)
        channel.add_on_close_callback(lambda _, error: self._on_closed(error))
        while not opened:
            yield
        return channel

    def open_spare_channel(self) -> Procedure[_Spare]:
        """Open the channel of ``attempt``, if it is not open.

        At a limit of channels the broker ends the connection that opens one more. A connection that has all
        its channels from the beginning opens no more.
        """
        spare = self._spare
        if spare is None or spare.refusals:
            opened: list[Channel] = []
            self._spare = spare = _Spare(self._connection.channel(on_open_callback=opened.append))
            while not (opened or spare.refusals):
                yield
        return spare

    def attempt(
        self, send: Callable[[Channel, Callable[[Any], None]], Any]
    ) -> Procedure[BaseException | Any]:
        """Call a synchronous AMQP method on a channel of its own, which the broker closes when it refuses.

        Without a refusal the channel stays open for the next call: see ``open_spare_channel``.

        Args:
            send: sends it; is given the channel and the callback.

        Returns:
            The answer's method, or pika's exception with the refusal.
        """
        answers: list[Any] = []
        spare = yield from self.open_spare_channel()
        self._spare = None
        if not spare.refusals:
            send(spare.channel, answers.append)
        while not (answers or spare.refusals):
            yield
        if not answers:
            return spare.refusals[0]
        self._spare = spare
        return answers[0].method

    def is_permitted(self, send: Callable[[Channel, Callable[[Any], None]], Any]) -> Procedure[bool]:
        """The same of a method that the account may lack the permission for.

        Returns:
            Whether the broker did it. The connection counts as lost if it refused for another reason.
        """
        answer = yield from self.attempt(send)
        if isinstance(answer, BaseException) and not is_access_refused(answer):
            self._on_closed(answer)
            yield
        return not isinstance(answer, BaseException)

    def open_confirming_channel(self, on_confirm: Callable[[Any], None]) -> Procedure[Channel]:
        """The same, with publisher confirms; ``on_confirm`` gets the frame of each ack and nack."""
        channel = yield from self.open_channel()
        yield from self.call(lambda callback: channel.confirm_delivery(on_confirm, callback=callback))
        return channel

    def call(self, send: Callable[[Callable[[Any], None]], Any]) -> Procedure[Any]:
        """Call a synchronous AMQP method, and wait for the answer's.

        Args:
            send: sends it; is given the callback.
        """
        answers: list[Any] = []
        send(answers.append)
        while not answers:
            yield
        return answers[0].method

    def run(self, procedure: Procedure[T], timeout: float) -> T:
        """Run a procedure to its end.

        Args:
            timeout: seconds.

        Raises:
            LandoError: the connection is lost, or the broker does not answer in time.
        """
        running = RunningProcedure(procedure)
        if not self.wait(running.advance, timeout):
            if self.blocked is not None:
                raise QueueUnavailable(blocked_message(self._broker, self.blocked))
            raise no_answer(self._broker, timeout)
        return running.result

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Process I/O until ``condition`` holds. Returns False if it does not within ``timeout`` seconds.

        Raises:
            LandoError: the connection is lost, or was refused.
        """
        deadline = time.monotonic() + timeout
        while True:
            if self.error is not None:
                raise self.error
            if condition():
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

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close the connection, within ``timeout`` seconds, whatever state it is in."""
        try:
            if not (self._connection.is_closed or self._connection.is_closing):
                self._connection.close()
            deadline = time.monotonic() + timeout
            while not self._connection.is_closed and time.monotonic() < deadline:
                self._poll(deadline - time.monotonic())
            self._abort()
        except Exception as error:  # the connection is of no further use, and its errors of no interest
            logging.getLogger("lando").debug("closing a connection: %s", error)
        finally:
            self.error = self.error or QueueUnavailable("the connection was closed")
            if self._wakeup is not None:
                self._loop.remove_handler(self._wakeup.fileno())
            self._loop.close()

    def _abort(self) -> None:
        """Close the socket if the broker did not answer: it then releases our exclusive queue once it can."""
        transport = getattr(self._connection, "_transport", None)  # pika has no public way
        if not self._connection.is_closed and transport is not None:
            transport.abort()
            self._poll(0.0)


class _Spare:
    """A channel for calls that the broker may refuse, and why it has closed it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.refusals: list[BaseException] = []
        channel.add_on_close_callback(lambda _, error: self.refusals.append(error))


class RunningProcedure(Generic[T]):
    """A procedure that has begun; ``advance`` is called whenever something has happened on the connection."""

    def __init__(self, procedure: Procedure[T]) -> None:
        self._procedure = procedure
        self._ended = False
        self.result: T
        """Set once it has ended."""

    def advance(self) -> bool:
        """Resume the procedure. Returns whether it has ended."""
        if not self._ended:
            try:
                next(self._procedure)
            except StopIteration as end:
                self.result = end.value
                self._ended = True
        return self._ended
