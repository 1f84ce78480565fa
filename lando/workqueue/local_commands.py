"""Commands that are left on the daemon's own machine while the broker cannot be reached.

The daemon keeps a file with an embedded queue in its state directory. Who may write there is the daemon's
own account, or root. A command that the broker does not take is put there, and taken by the daemon as if the
broker had delivered it: with its message id, so that it counts once if the broker took it after all.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lando.errors import LandoError
from lando.sqlite.opening import DAEMON_BUSY_TIMEOUT
from lando.workqueue.embedded import EmbeddedPublisher, EmbeddedQueue, wakeup_fifo
from lando.workqueue.interface import CLOSE_TIMEOUT, Delivery, QueueFigures, QueueUnavailable, WorkQueue
from lando.workqueue.wakeup import Wakeup

log = logging.getLogger("lando")


def file_in(state_dir: Path) -> Path:
    """The file; a state directory without it belongs to no daemon of this machine that has a broker."""
    return state_dir / "commands.db"


def leave(state_dir: Path, raw: bytes, account: str) -> bool:
    """Leave a message for the daemon of this machine.

    Args:
        state_dir: the daemon's.
        raw: the message.
        account: of the operating system, in place of the one that a broker validates.

    Returns:
        Whether it is durably stored; False where no daemon of this machine would take it.

    Raises:
        QueueUnavailable: the file cannot be written.
    """
    file = file_in(state_dir)
    if not file.exists():
        return False
    publisher = EmbeddedPublisher(file, "client", account, create=False)
    try:
        publisher.publish(raw)
    finally:
        publisher.close()
    return True


def wakeup(state_dir: Path) -> Wakeup:
    """Ends the wait of the queue on the broker, also when a message is left."""
    return Wakeup(wakeup_fifo(file_in(state_dir)))


@dataclass(frozen=True)
class LeftDelivery(Delivery):
    """A message that was left here."""


class WithLocalCommands:
    """A ``WorkQueue`` that also returns what is left on this machine, and first.

    Args:
        queue: on the broker; ``wakeup`` ends its waits.
        state_dir: the daemon's.
    """

    def __init__(self, queue: WorkQueue, state_dir: Path) -> None:
        self._queue = queue
        self._unavailable: str | None = "connecting to the broker"
        self._left: EmbeddedQueue | None = None
        try:
            self._left = EmbeddedQueue(file_in(state_dir), DAEMON_BUSY_TIMEOUT, Wakeup())
        except LandoError as error:
            log.warning("without a broker no command will be taken, not even on this machine: %s", error)

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """See ``WorkQueue.receive``."""
        left = self._receive_left(limit)
        if left:
            return left
        try:
            received = self._queue.receive(limit, timeout)
        except QueueUnavailable as error:
            self._unavailable = str(error)
            raise
        self._unavailable = None
        return received

    def _receive_left(self, limit: int) -> list[Delivery]:
        if self._left is None:
            return []
        try:
            found = self._left.receive(limit, 0.0)
        except QueueUnavailable as error:
            # One that is removed, damaged or full must not keep the broker's messages waiting.
            log.debug("commands left on this machine cannot be read: %s", error)
            return []
        return [LeftDelivery(each.tag, each.raw, each.origin, each.sender) for each in found]

    def obstacle(self) -> str | None:
        """See ``WorkQueue.obstacle``; also that there is no connection while what was left is taken."""
        return self._unavailable or self._queue.obstacle()

    def request_fence(self) -> None:
        """See ``WorkQueue.request_fence``."""
        self._queue.request_fence()

    def passed_fence(self) -> float | None:
        """See ``WorkQueue.passed_fence``."""
        return self._queue.passed_fence()

    def refused_at(self) -> float | None:
        """See ``WorkQueue.refused_at``."""
        return self._queue.refused_at()

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """See ``WorkQueue.ack``."""
        left = [each for each in deliveries if isinstance(each, LeftDelivery)]
        if left and self._left is not None:
            with contextlib.suppress(QueueUnavailable):  # it comes again, and has no effect
                self._left.ack(left)
        others = [each for each in deliveries if not isinstance(each, LeftDelivery)]
        if others:
            self._queue.ack(others)

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """See ``WorkQueue.dead_letter``. What was left here is only logged, by whoever rejects it."""
        self.ack([each for each, _ in rejected if isinstance(each, LeftDelivery)])
        others = [(each, reason) for each, reason in rejected if not isinstance(each, LeftDelivery)]
        if others:
            self._queue.dead_letter(others)

    def rewind(self) -> None:
        """See ``WorkQueue.rewind``."""
        if self._left is not None:
            self._left.rewind()
        self._queue.rewind()

    def figures(self) -> QueueFigures:
        """See ``WorkQueue.figures``: those of the broker."""
        return self._queue.figures()

    def wake(self) -> None:
        """See ``WorkQueue.wake``."""
        self._queue.wake()

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """See ``WorkQueue.close``."""
        if self._left is not None:
            self._left.close()
        self._queue.close(timeout)
