"""The daemon's end: receives, acks, buries; connects again for ever, with a jittered back-off."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lando import backoff
from lando.errors import LandoError, UsageError
from lando.workqueue.interface import Delivery, QueueUnavailable
from lando.workqueue.rabbitmq.alarm_probe import AlarmProbe
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import QueueTaken, no_answer
from lando.workqueue.rabbitmq.dead_letters import letter
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher
from lando.workqueue.rabbitmq.session import ANSWER_TIMEOUT, Session
from lando.workqueue.rabbitmq.topology import QueueType
from lando.workqueue.wakeup import Wakeup

log = logging.getLogger("lando")

FIRST_WAIT, LONGEST_WAIT = 0.25, 10.0
"""Seconds between two tries to connect."""
CONNECT_PATIENCE = 1.0
"""Seconds for which one ``receive`` waits for a connection to come about."""
STEADY = 5.0
"""Seconds after which a connection counts as a good one: the back-off begins anew."""
TAKEN_PATIENCE = 4
"""Heartbeats for which a new daemon waits for a queue that somebody holds."""
FIRST_PATIENCE = 0.2
"""Seconds for which the first sign that the broker takes messages is waited for."""
BURIAL_TIMEOUT = 3.0
BURIAL_RATE = 1024 * 1024
"""Bytes a second that a slow network carries, at least."""
BURIED_AT_ONCE = 8 * 1024 * 1024
MAX_UNBURIED = 64 * 1024 * 1024
"""Bytes of messages that could not be buried yet, above which nothing more is read."""
BURIAL_PAUSE = 10.0
"""Seconds until a burial is tried again; messages that can be understood do not wait for it."""


@dataclass(frozen=True)
class Burial:
    """A message that is to be moved to the dead letters, and the id it gets there."""

    id: str
    delivery: Delivery
    reason: str


class RabbitMQQueue:
    """See ``WorkQueue``. Declares what it needs, and holds the installation's lock while it is connected.

    Args:
        broker: where the queue is; the daemon's account.
        names: what it is called.
        queue_type: None for quorum, where the broker has it.
    """

    def __init__(self, broker: Broker, names: QueueNames, queue_type: QueueType | None = None) -> None:
        self._broker = broker
        self._names = names
        self._queue_type = queue_type
        self._wakeup = Wakeup()
        # On a connection of their own: a broker that is short of memory stops reading from publishers, and
        # the acks that would relieve it must get through.
        self._letters = RabbitMQPublisher(broker, names.dead_letters, names.queue, BURIAL_TIMEOUT)
        self._pulse = AlarmProbe(broker, names)
        self._burials: list[Burial] = []
        self._next_burial = 0.0
        self._session: Session | None = None
        self._sessions = 0
        self._taken_since: float | None = None
        self._was_connected = False
        self._trouble = QueueUnavailable(f"connecting to the broker at {broker}")
        self._failures = 0
        self._next_try = 0.0

    # connecting

    def _begin_session(self, patience: float) -> Session:
        wait = self._next_try - time.monotonic()
        if wait > 0:
            self._wakeup.wait(min(wait, patience))
        if time.monotonic() < self._next_try:
            raise self._trouble
        self._sessions += 1
        with self._losing():
            self._session = Session(
                self._broker, self._names, self._queue_type, self._wakeup, number=self._sessions
            )
        return self._session

    def _connect(self, session: Session, patience: float) -> None:
        with self._losing():
            ready = session.is_ready(patience)
            if not ready and session.age > ANSWER_TIMEOUT:
                raise no_answer(self._broker, ANSWER_TIMEOUT)
        if not ready:
            raise self._trouble
        self._was_connected = True

    @contextlib.contextmanager
    def _losing(self) -> Iterator[None]:
        """Any error is the end of the session; the next one begins after a back-off."""
        try:
            yield
        except LandoError as error:
            self._end_session()
            if isinstance(error, UsageError) and not self._was_connected:
                raise
            if isinstance(error, QueueTaken) and self._waits_in_vain():
                raise UsageError(
                    f"{error}; one daemon serves a queue: end that one, or choose another queue_name"
                ) from None
            self._trouble = QueueUnavailable(str(error))
            raise self._trouble from error

    def _waits_in_vain(self) -> bool:
        """Whether whoever holds the queue must be alive: a broker gives up a dead connection sooner."""
        self._taken_since = self._taken_since or time.monotonic()
        waited = time.monotonic() - self._taken_since
        return not self._was_connected and waited > TAKEN_PATIENCE * self._broker.heartbeat

    def _end_session(self) -> None:
        session, self._session = self._session, None
        self._burials.clear()  # they are delivered again
        self._pulse.stop()
        if session is not None:
            self._failures = 0 if session.age > STEADY else self._failures
            session.close()
        self._failures += 1
        self._next_try = time.monotonic() + backoff.jittered(self._failures, FIRST_WAIT, LONGEST_WAIT)

    @contextlib.contextmanager
    def _served(self) -> Iterator[Session]:
        if self._session is None:
            raise self._trouble
        with self._losing():
            yield self._session

    # the reader

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """See ``WorkQueue.receive``.

        Raises:
            UsageError: a setting is wrong, as the first connection shows.
        """
        deadline = time.monotonic() + timeout
        session = self._session or self._begin_session(max(timeout, CONNECT_PATIENCE))
        self._connect(session, max(timeout, CONNECT_PATIENCE))
        self._bury()
        with self._served():
            if sum(len(burial.delivery.raw) for burial in self._burials) > MAX_UNBURIED:
                session.idle(deadline - time.monotonic())
                return []
            return session.receive(limit, deadline - time.monotonic())

    def obstacle(self) -> str | None:
        """See ``WorkQueue.obstacle``: an alarm on the broker."""
        self._pulse.feel()
        return self._pulse.obstacle

    def is_read_up_to_date(self) -> bool:
        """See ``WorkQueue.is_read_up_to_date``."""
        with self._served() as session:
            self._pulse.feel(FIRST_PATIENCE)
            return self._pulse.is_fresh and session.is_read_up_to_date()

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See ``WorkQueue.ack``: one multiple-ack, wherever nothing older is still unacked."""
        if deliveries:
            with self._served() as session:
                session.ack(deliveries)

    def dead_letter(self, buried: Sequence[tuple[Delivery, str]]) -> None:
        """See ``WorkQueue.dead_letter``. What the broker does not take now is tried again later."""
        self._burials += [Burial(str(uuid.uuid4()), delivery, reason) for delivery, reason in buried]
        self._bury()

    def _bury(self) -> None:
        """Some at a time: neither memory nor a turn is to be filled by what nobody understands."""
        if not self._burials or time.monotonic() < self._next_burial:
            return
        deadline = time.monotonic() + BURIAL_TIMEOUT
        while self._burials and time.monotonic() < deadline:
            some = self._some_burials()
            size = sum(len(burial.delivery.raw) for burial in some)
            letters = [letter(burial.delivery, burial.reason, burial.id, self._names) for burial in some]
            try:
                self._letters.publish_all(letters, BURIAL_TIMEOUT + size / BURIAL_RATE)
            except LandoError as error:
                log.warning(
                    "%d messages cannot be moved to the dead letters yet: %s", len(self._burials), error
                )
                self._next_burial = time.monotonic() + BURIAL_PAUSE
                return
            del self._burials[: len(some)]
            self.ack([burial.delivery for burial in some])
        self._letters.close()  # it would not answer heartbeats until the next burial

    def _some_burials(self) -> list[Burial]:
        """The first ones, up to BURIED_AT_ONCE bytes, and one at least."""
        size = 0
        for count, burial in enumerate(self._burials):
            size += len(burial.delivery.raw)
            if size > BURIED_AT_ONCE:
                return self._burials[: max(1, count)]
        return list(self._burials)

    def rewind(self) -> None:
        """See ``WorkQueue.rewind``: nothing more is consumed until the next ``receive``."""
        self._end_session()
        self._next_try = 0.0

    def wake(self) -> None:
        """See ``WorkQueue.wake``."""
        self._wakeup.wake()

    def close(self) -> None:
        """See ``WorkQueue.close``."""
        self._end_session()
        self._letters.close()
        self._wakeup.close()
