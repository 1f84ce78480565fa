"""Verifies, while a session lives, that it holds the lock, and that what it needs is on the broker.

Somebody may delete an exchange, a queue or a binding, or a policy may let a queue expire. The broker tells a
connection of the queues that it consumes, and of nothing else. So all of it is looked for now and then, and
declared again: declaring what exists changes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pika import exceptions, spec
from pika.channel import Channel

from lando.errors import LandoError
from lando.workqueue.interface import QueueAbsent, QueueUnavailable
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import QueueTaken, classify, no_answer
from lando.workqueue.rabbitmq.connection import Connection, Procedure, RunningProcedure
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.settings import QueueType
from lando.workqueue.rabbitmq.topology import declare

log = logging.getLogger("lando")

PERIOD = 15.0
"""Seconds between two verifications: a client waits for 30 s for a queue that is missing."""
PATIENCE = 30.0
"""Seconds that the broker has for all answers of one; deliveries may be before them in the socket."""
LONGEST_TURN = 1.0
"""Seconds between two calls of ``advance`` that count: a call that is late is not an answer that is late."""
LOST = 2
"""Verifications in a row that found no consumer, after which ours counts as lost: a quorum queue that elects
a leader shows none for a moment."""


def lock_lost(broker: Broker, names: QueueNames) -> QueueUnavailable:
    """What to tell when the lock was believed to be held, and is not."""
    return QueueUnavailable(
        f"the queue {names.lock!r} on the broker at {broker}, by which this daemon was the only one, was "
        "deleted by somebody; another daemon may have it now"
    )


def lock_is_shared(broker: Broker, names: QueueNames) -> QueueUnavailable:
    """What to tell when somebody else has declared the lock's queue, and not as an exclusive one."""
    return QueueUnavailable(
        f"somebody has declared the queue {names.lock!r} on the broker at {broker}, which only a daemon may: "
        f"delete it (`rabbitmqctl delete_queue {names.lock}`)"
    )


def consumer_lost(broker: Broker, queue: str) -> QueueUnavailable:
    """What to tell when the broker does not deliver a queue to us, though we consume it."""
    return QueueUnavailable(f"the broker at {broker} has lost the consumer of {queue!r}")


class Upkeep:
    """The verification of one session.

    Args:
        connection: of the session, which holds the lock and consumes both queues.
        broker: where it is connected to.
        names: what there has to be.
        queue_type: as it was declared.
        has_report_letters: see ``declare``.
    """

    def __init__(
        self,
        connection: Connection,
        broker: Broker,
        names: QueueNames,
        queue_type: QueueType | None,
        has_report_letters: bool,
    ) -> None:
        self._connection = connection
        self._broker = broker
        self._names = names
        self._queue_type = queue_type
        self._has_report_letters = has_report_letters
        self._running: RunningProcedure[None] | None = None
        self._due = time.monotonic() + PERIOD
        self._called_at = 0.0
        self._waited = 0.0
        self._obstacle: str | None = None
        self.waiting: dict[str, int] = {}
        """How many messages each queue has, but for those that are delivered, as was last seen."""
        self._without_consumer = dict.fromkeys((names.queue, names.reports), 0)

    @property
    def until_due(self) -> float:
        """Seconds until ``advance`` has something to do."""
        return LONGEST_TURN if self._running is not None else max(0.0, self._due - time.monotonic())

    def begin_now(self) -> None:
        """Verify at the next ``advance``, since something is missing."""
        self._due = 0.0

    def advance(self) -> None:
        """Ask the broker, and take its answers; what is wrong fails the connection."""
        now = time.monotonic()
        if self._connection.error is not None:  # whoever waits next raises it
            return
        if self._running is None:
            if now < self._due:
                return
            self._running, self._called_at, self._waited = RunningProcedure(self._verify()), now, 0.0
        self._waited += min(now - self._called_at, LONGEST_TURN)
        self._called_at = now
        if self._running.advance():
            self._running, self._due = None, now + PERIOD
        elif self._waited > PATIENCE:
            self._connection.fail(no_answer(self._broker, PATIENCE))

    def _verify(self) -> Procedure[None]:
        if not (yield from self._holds_lock()):
            return
        obstacle: str | None = None
        for described, find in self._needed():
            found = yield from self._connection.attempt(find)
            self._note_waiting(found)
            if not isinstance(found, BaseException):
                continue
            error = classify(self._broker, found)
            if isinstance(error, QueueAbsent):
                log.warning("%s was deleted on the broker, or has expired; it is declared again", described)
            elif isinstance(error, QueueUnavailable) and isinstance(found, exceptions.ChannelClosedByBroker):
                obstacle = str(error)
            else:
                self._connection.fail(error)
                return
        for queue in self._without_consumer:
            found = yield from self._connection.attempt(partial(find_queue, queue))
            if isinstance(found, BaseException):
                self._connection.fail(classify(self._broker, found))
                return
            self._note_waiting(found)
            missed = 0 if found.consumer_count else self._without_consumer[queue] + 1
            self._without_consumer[queue] = missed
            if missed >= LOST:
                self._connection.fail(consumer_lost(self._broker, queue))
                return
        self._tell(obstacle)
        if obstacle is not None:  # to declare would end the connection, which still receives
            return
        yield from declare(self._connection, self._names, self._queue_type, self._has_report_letters)

    def _note_waiting(self, found: Any) -> None:
        if isinstance(found, spec.Queue.DeclareOk):
            self.waiting[found.queue] = found.message_count

    def _holds_lock(self) -> Procedure[bool]:
        """Whether the lock is ours and consumed; if not, the connection has failed."""
        found = yield from self._connection.attempt(partial(find_queue, self._names.lock))
        if not isinstance(found, BaseException) and found.consumer_count:
            return True
        error: LandoError = lock_lost(self._broker, self._names)
        if isinstance(found, BaseException):
            refusal = classify(self._broker, found)
            error = error if isinstance(refusal, (QueueAbsent, QueueTaken)) else refusal
        self._connection.fail(error)
        return False

    def _tell(self, obstacle: str | None) -> None:
        if obstacle is not None and obstacle != self._obstacle:
            log.warning("%s; until then, dead letters may wait", obstacle)
        self._obstacle = obstacle

    def _needed(self) -> Iterator[tuple[str, Callable[[Channel, Callable[[Any], None]], Any]]]:
        """What is looked for. Queues that are consumed are not among it: the broker tells of their end."""
        for exchange in self._names.exchanges:
            yield f"the exchange {exchange!r}", partial(_find_exchange, exchange)
        yield f"the queue {self._names.dead_letters!r}", partial(find_queue, self._names.dead_letters)
        if self._has_report_letters:
            yield (
                f"the queue {self._names.report_letters!r}",
                partial(find_queue, self._names.report_letters),
            )


def find_queue(queue: str, channel: Channel, callback: Callable[[Any], None]) -> None:
    """Ask whether a queue exists, and how many consumers it has; see ``Connection.attempt``."""
    channel.queue_declare(queue, passive=True, callback=callback)


def _find_exchange(exchange: str, channel: Channel, callback: Callable[[Any], None]) -> None:
    channel.exchange_declare(exchange, passive=True, callback=callback)
