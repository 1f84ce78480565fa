"""One connection of the daemon, which reads both queues: commands first, then reports.

All of it ends with the connection: the broker delivers again what was not acked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from lando.workqueue.interface import MAX_BATCH, RESERVED, Delivery, QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import classify
from lando.workqueue.rabbitmq.connection import Connection, Procedure, RunningProcedure
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.queue_reader import QueueReader
from lando.workqueue.rabbitmq.settings import QueueType
from lando.workqueue.rabbitmq.topology import declare
from lando.workqueue.rabbitmq.upkeep import Upkeep, consumer_lost, find_queue, lock_is_shared, lock_lost
from lando.workqueue.wakeup import Wakeup

PREFETCH = 1500
"""Commands that may be unacknowledged: enough for the next batch to arrive while one is committed."""
REPORTS_PREFETCH = 1000
"""The same of reports; fewer, since commands that arrive later are behind them in the socket."""
MAX_BUFFERED = 16 * 1024 * 1024
"""Bytes of messages kept in memory; more stay in the socket, which slows the broker down."""
ANSWER_TIMEOUT = 10.0
"""Seconds that the broker has to answer; then the connection counts as lost."""
TAGS = 2**40
"""More deliveries than a session has from one queue, so that no two of them use the same tag."""


class Session:
    """Starts to connect when it is made.

    Args:
        broker: where to connect; the daemon's account.
        names: what there is on the broker.
        queue_type: None for quorum if the broker has quorum queues, else classic.
        wakeup: ends a wait early.
        number: differs from every other session's.

    Raises:
        UsageError: a setting is wrong.
    """

    def __init__(
        self, broker: Broker, names: QueueNames, queue_type: QueueType | None, wakeup: Wakeup, number: int
    ) -> None:
        self._broker = broker
        self._names = names
        self._begun = time.monotonic()
        first_tag = 2 * number * TAGS
        self.commands = QueueReader(names.queue, names, broker.username, PREFETCH, first_tag)
        self.reports = QueueReader(names.reports, names, broker.username, REPORTS_PREFETCH, first_tag + TAGS)
        self._upkeep: Upkeep | None = None
        self.has_report_letters = False
        """Whether the workers' dead letters have a queue of their own."""
        self._connection = Connection(broker, wakeup)
        self._set_up = RunningProcedure(self._begin_consuming(queue_type))

    @property
    def age(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._begun

    def is_ready(self, patience: float) -> bool:
        """Whether it is connected and consumes; waits at most ``patience`` seconds, or until ``wakeup``.

        Raises:
            LandoError: the connection failed.
        """
        self._connection.wait(lambda: self._set_up.advance() or self._connection.woken, patience)
        if self._set_up.advance():
            return True
        self._connection.woken = False
        return False

    def _begin_consuming(self, queue_type: QueueType | None) -> Procedure[None]:
        channel = yield from self._connection.open_channel()
        yield from self._take_lock()
        self.has_report_letters = yield from declare(self._connection, self._names, queue_type)
        second = yield from self._connection.open_another_channel()
        yield from self._connection.open_spare_channel()  # if the account may not declare all, it was closed
        for reader, own in ((self.commands, channel), (self.reports, second)):
            yield from reader.begin(self._connection, own, partial(self._on_cancel, reader.queue))
        self._upkeep = Upkeep(
            self._connection, self._broker, self._names, queue_type, self.has_report_letters
        )

    def _take_lock(self) -> Procedure[None]:
        """Declare the exclusive queue, and consume it: so the broker tells at once when it is deleted, and no
        policy lets it expire."""
        connection, lock = self._connection, self._names.lock
        declared = yield from connection.attempt(
            lambda channel, callback: channel.queue_declare(lock, exclusive=True, callback=callback)
        )
        if isinstance(declared, BaseException):
            found = yield from connection.attempt(partial(find_queue, lock))
            connection.fail(
                classify(self._broker, declared)
                if isinstance(found, BaseException)
                else lock_is_shared(self._broker, self._names)
            )
            yield
        channel = yield from connection.open_another_channel()
        channel.add_on_cancel_callback(lambda _: connection.fail(lock_lost(self._broker, self._names)))
        yield from connection.call(
            lambda callback: channel.basic_consume(
                lock, lambda *_: None, auto_ack=True, exclusive=True, callback=callback
            )
        )

    @property
    def waiting(self) -> dict[str, int]:
        """How many messages each queue has, as far as that is known; may be asked by any thread."""
        if self._upkeep is None:
            return {}
        waiting = dict(self._upkeep.waiting)
        for reader in (self.commands, self.reports):
            if reader.queue in waiting:
                waiting[reader.queue] += reader.unacked
        return waiting

    def verify_now(self) -> None:
        """Something is missing on the broker: declare it again soon."""
        if self._upkeep is not None:
            self._upkeep.begin_now()

    def lose_consumer(self, queue: str) -> None:
        """The broker was found to deliver nothing of a queue: treat the connection as lost."""
        self._connection.fail(consumer_lost(self._broker, queue))

    def read(self) -> None:
        """Read what has arrived into memory, as much as may be there.

        Raises:
            LandoError: the connection is lost.
        """
        self._fill_buffer(PREFETCH + REPORTS_PREFETCH)

    def _on_cancel(self, queue: str) -> None:
        canceled = f"the broker at {self._broker} canceled the consumer of {queue!r} (was the queue deleted?)"
        self._connection.fail(QueueUnavailable(canceled))

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` messages; waits at most ``timeout`` seconds for the first, or until ``wakeup``.

        A fence ends the wait, too.

        Raises:
            LandoError: the connection is lost.
        """
        assert self._upkeep is not None
        self._upkeep.advance()
        if not self._waiting():
            timeout = min(timeout, self._upkeep.until_due)
            self._connection.wait(self._has_something_to_do, timeout)
            self._connection.woken = False
        self._fill_buffer(limit)
        of_reports = (limit // RESERVED, MAX_BATCH // RESERVED) if len(self.reports) else (0, 0)
        commands = self.commands.take(limit - of_reports[0], MAX_BATCH - of_reports[1])
        left = MAX_BATCH - sum(len(command.raw) for command in commands)
        return commands + self.reports.take(limit - len(commands), left)

    def _has_something_to_do(self) -> bool:
        assert self._upkeep is not None
        self._upkeep.advance()
        return self._waiting() > 0 or self._connection.woken

    def _waiting(self) -> int:
        return len(self.commands) + len(self.reports)

    def _fill_buffer(self, limit: int) -> None:
        """Read what has arrived, until there is a full batch."""
        before = -1
        while before < self._waiting() < limit and not self._is_memory_full():
            before = self._waiting()
            self._connection.serve()

    def _buffered(self) -> int:
        return self.commands.buffered + self.reports.buffered

    def idle(self, timeout: float) -> None:
        """Only answer heartbeats, for ``timeout`` seconds but at most one, or until ``wakeup``.

        With MAX_BUFFERED in memory nothing more is read; the broker then ends a connection that stays so.

        Raises:
            LandoError: the connection is lost.
        """
        if self._upkeep is not None and not self._is_memory_full():
            self._upkeep.advance()
        until = time.monotonic() + min(timeout, 1.0)
        self._connection.wait(lambda: self._connection.woken or self._is_memory_full(), min(timeout, 1.0))
        self._connection.woken = False
        if self._is_memory_full():
            time.sleep(max(0.0, until - time.monotonic()))

    def _is_memory_full(self) -> bool:
        return self._buffered() >= MAX_BUFFERED

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Ack these messages.

        Raises:
            LandoError: the connection that delivered them is lost; they are delivered again.
        """
        tags = [delivery.tag for delivery in deliveries]
        of_each = [
            (reader, [tag for tag in tags if reader.has_unacked(tag)])
            for reader in (self.commands, self.reports)
        ]
        if sum(len(its) for _, its in of_each) < len(tags):
            raise QueueUnavailable("the connection that delivered these messages was lost")
        for reader, its in of_each:
            reader.ack(its)
        self._connection.serve()

    def close(self, timeout: float) -> None:
        """Close the connection, within ``timeout`` seconds; the broker puts back what was not acked."""
        self._connection.close(timeout)
