"""The daemon's side of the queue: receives, acks and dead-letters; reconnects with a jittered back-off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from lando import backoff
from lando.errors import LandoError, UsageError
from lando.messages import Origin
from lando.workqueue.interface import CLOSE_TIMEOUT, Delivery, QueueFigures, QueueUnavailable
from lando.workqueue.rabbitmq.alarm_probe import AlarmProbe
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.classify import QueueTaken, no_answer
from lando.workqueue.rabbitmq.dead_letter_mover import DeadLetterMover
from lando.workqueue.rabbitmq.fence import Fence
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.session import ANSWER_TIMEOUT, PREFETCH, Session
from lando.workqueue.rabbitmq.settings import QueueType
from lando.workqueue.wakeup import Wakeup

FIRST_WAIT, LONGEST_WAIT = 0.25, 10.0
"""Seconds between two tries to connect."""
CONNECT_PATIENCE = 1.0
"""Seconds that one ``receive`` waits for a connection, at least."""
STEADY = 5.0
"""Seconds after which a lost connection counts as having worked: the back-off starts again at FIRST_WAIT."""
TAKEN_PATIENCE = 4
"""Heartbeats that a new daemon waits for a queue that another connection holds."""
PROBE_PATIENCE = 0.2
"""Seconds to wait for the connection that publishes, when the first fence is asked for."""
LAST_FENCE = 0.3
"""Seconds for which a fence is waited for when the queue is closed."""
SAMPLE_EVERY = 1.0
SAMPLE_MESSAGES, SAMPLE_BYTES = 200, 8 * 1024 * 1024
"""Seconds since the last fence, and messages or bytes received since, after which another is set unasked: it
finds out whether the queue is full. A queue does not fill up without as much being received."""
LONGEST_WITHOUT_FENCE = 25.0
"""Seconds after which another is set unasked: it finds out whether the broker still delivers the queues."""
MAX_PENDING = 64 * 1024 * 1024
"""Bytes of messages still to be dead-lettered above which no more are received."""


class RabbitMQQueue:
    """See ``WorkQueue``. While it is connected, it holds the daemon's exclusive queue.

    Args:
        broker: where the queue is; the daemon's account.
        names: what there is on the broker.
        queue_type: None for quorum if the broker has quorum queues, else classic.
        wakeup: ends the wait; None: only ``wake`` does.
    """

    def __init__(
        self,
        broker: Broker,
        names: QueueNames,
        queue_type: QueueType | None = None,
        wakeup: Wakeup | None = None,
    ) -> None:
        self._broker = broker
        self._names = names
        self._queue_type = queue_type
        self._wakeup = wakeup or Wakeup()
        self._probe = AlarmProbe(broker, names)
        self._dead_letters = DeadLetterMover(broker, names, self.ack)
        self._session: Session | None = None
        self._sessions = 0
        self._fence: Fence | None = None
        self._is_fence_requested = False
        self._passed_fence: float | None = None
        self._refused_at: float | None = None
        self._fence_asked_at = 0.0
        self._messages_since_fence = self._bytes_since_fence = 0
        self._warn_of = {names.queue, names.reports}
        self._taken_since: float | None = None
        self._was_connected = False
        self._error = QueueUnavailable(f"connecting to the broker at {broker}")
        self._failures = 0
        self._next_try = 0.0

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """See ``WorkQueue.receive``.

        Raises:
            QueueUnavailable: there is no connection; the next call tries again once the back-off has ended.
            UsageError: a setting is wrong, as the first connection shows.
        """
        deadline = time.monotonic() + timeout
        session = self._session or self._begin_session(max(timeout, CONNECT_PATIENCE))
        self._connect(session, max(timeout, CONNECT_PATIENCE))
        self._dead_letters.move(session.has_report_letters)
        self._advance_fence(session)
        with self._in_session():
            if self._dead_letters.pending_bytes > MAX_PENDING:
                session.idle(deadline - time.monotonic())
                return []
            received = session.receive(limit, deadline - time.monotonic())
        self._messages_since_fence += len(received)
        self._bytes_since_fence += sum(len(delivery.raw) for delivery in received)
        if self._fence is not None:
            self._refused_at = self._fence.refused_at or self._refused_at
            if self._fence.is_met:
                self._fence.advance(self._warn_of)
            if self._fence.is_passed:
                self._passed_fence, self._fence = self._fence.asked_at, None
        return received

    def _advance_fence(self, session: Session) -> None:
        if self._is_fence_requested or self._is_sample_due():
            self._is_fence_requested = False
            if self._fence is None:
                self._fence = Fence(self._names, session, self._probe)
                self._fence_asked_at = self._fence.asked_at
                self._messages_since_fence = self._bytes_since_fence = 0
            self._probe.probe(PROBE_PATIENCE)
        if self._fence is not None:
            self._fence.advance(self._warn_of)
        if self._probe.is_exchange_absent:
            self._probe.is_exchange_absent = False
            session.verify_now()

    def _is_sample_due(self) -> bool:
        is_much = self._messages_since_fence >= SAMPLE_MESSAGES or self._bytes_since_fence >= SAMPLE_BYTES
        wait = SAMPLE_EVERY if is_much else LONGEST_WITHOUT_FENCE
        return self._fence is None and time.monotonic() >= self._fence_asked_at + wait

    def _begin_session(self, patience: float) -> Session:
        wait = self._next_try - time.monotonic()
        if wait > 0:
            self._wakeup.wait(min(wait, patience))
        if time.monotonic() < self._next_try:
            raise self._error
        self._sessions += 1
        self._fence_asked_at = time.monotonic()
        with self._ending_session_on_error(was_readable=self._sessions > 1):
            self._session = Session(
                self._broker, self._names, self._queue_type, self._wakeup, number=self._sessions
            )
        return self._session

    def _connect(self, session: Session, patience: float) -> None:
        with self._ending_session_on_error():
            ready = session.is_ready(patience)
            if not ready and session.age > ANSWER_TIMEOUT:
                raise no_answer(self._broker, ANSWER_TIMEOUT)
        if not ready:
            raise self._error
        self._was_connected = True

    @contextlib.contextmanager
    def _in_session(self) -> Iterator[Session]:
        if self._session is None:
            raise self._error
        with self._ending_session_on_error():
            yield self._session

    @contextlib.contextmanager
    def _ending_session_on_error(self, was_readable: bool = False) -> Iterator[None]:
        """A wrong setting is fatal on the first connection only: later it may be corrected on the broker.

        Args:
            was_readable: the files of certificates could be read before, so somebody is replacing them.
        """
        try:
            yield
        except LandoError as error:
            self._end_session()
            if isinstance(error, UsageError) and not (self._was_connected or was_readable):
                raise
            if isinstance(error, QueueTaken) and self._is_taken_by_live_daemon():
                raise UsageError(
                    f"{error}; only one daemon may read a queue: stop the other, or choose another queue_name"
                ) from None
            self._error = QueueUnavailable(str(error))
            raise self._error from error

    def _is_taken_by_live_daemon(self) -> bool:
        """Whether the queue's holder must be alive: the broker closes a dead connection sooner than this."""
        self._taken_since = self._taken_since or time.monotonic()
        waited = time.monotonic() - self._taken_since
        return not self._was_connected and waited > TAKEN_PATIENCE * self._broker.heartbeat

    def _end_session(self, timeout: float = CLOSE_TIMEOUT) -> None:
        session, self._session = self._session, None
        self._fence = self._passed_fence = None
        self._is_fence_requested = False
        self._dead_letters.clear()
        self._probe.stop()
        if session is not None:
            self._failures = 0 if session.age > STEADY else self._failures
            session.close(timeout)
        self._failures += 1
        self._next_try = time.monotonic() + backoff.jittered(self._failures, FIRST_WAIT, LONGEST_WAIT)

    def obstacle(self) -> str | None:
        """See ``WorkQueue.obstacle``: an alarm on the broker, or another consumer."""
        self._probe.probe()
        return self._probe.obstacle or (self._fence.obstacle if self._fence is not None else None)

    def request_fence(self) -> None:
        """See ``WorkQueue.request_fence``."""
        self._is_fence_requested = True

    def passed_fence(self) -> float | None:
        """See ``WorkQueue.passed_fence``."""
        return self._passed_fence

    def refused_at(self) -> float | None:
        """See ``WorkQueue.refused_at``: when the queue of reports last refused a fence."""
        return self._refused_at

    def _meet_fence(self, patience: float) -> None:
        """Leave no fence in the queues, if that takes no time: people are told how many messages wait."""
        session, fence = self._session, self._fence
        deadline = time.monotonic() + patience
        with contextlib.suppress(LandoError):
            while session and fence and not fence.is_met and time.monotonic() < deadline:
                session.receive(PREFETCH, deadline - time.monotonic())

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See ``WorkQueue.ack``."""
        if deliveries:
            with self._in_session() as session:
                session.ack(deliveries)

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """See ``WorkQueue.dead_letter``. ``receive`` tries again what the broker does not accept now."""
        self._dead_letters.add(rejected)
        if self._session is not None:
            self._dead_letters.move(self._session.has_report_letters)

    def rewind(self) -> None:
        """See ``WorkQueue.rewind``: closes the connection; the next ``receive`` makes a new one at once."""
        self._end_session()
        self._next_try = 0.0

    def figures(self) -> QueueFigures:
        """See ``WorkQueue.figures``: as the broker told the last ``Upkeep``."""
        session, names = self._session, self._names
        there = {} if session is None else session.waiting

        def by_origin(client: str, worker: str) -> dict[Origin, int]:
            queues: dict[Origin, str] = {"client": client, "worker": worker}
            return {origin: there[queue] for origin, queue in queues.items() if queue in there}

        return QueueFigures(
            waiting=by_origin(names.queue, names.reports),
            letters=by_origin(names.dead_letters, names.report_letters),
            dead_lettered=dict(self._dead_letters.moved),
        )

    def wake(self) -> None:
        """See ``WorkQueue.wake``."""
        self._wakeup.wake()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """See ``WorkQueue.close``: a broker that does not answer is waited for by one connection, then by
        none."""
        deadline = time.monotonic() + timeout
        self._meet_fence(min(LAST_FENCE, timeout / 4))
        self._end_session((deadline - time.monotonic()) / 2)
        self._dead_letters.close(max(0.0, deadline - time.monotonic()))
        self._wakeup.close()
