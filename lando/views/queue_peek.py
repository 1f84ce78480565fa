"""Looks at the work queue without taking anything from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from lando.errors import LandoError
from lando.workqueue.embedded import waiting
from lando.workqueue.interface import Delivery

if TYPE_CHECKING:
    from lando.workqueue.rabbitmq.broker import Broker


class QueuePeek(Protocol):
    """What can be seen of the messages that no daemon has taken yet."""

    shows_messages: ClassVar[bool]
    """Whether the messages themselves can be read."""

    def messages(self) -> Sequence[Delivery]:
        """The messages, oldest first; none where they cannot be read."""
        ...

    def count_unread(self) -> int:
        """How many messages wait that ``messages`` cannot show; 0 where they cannot be counted."""
        ...


class EmbeddedPeek:
    """Reads the table of the embedded queue.

    Args:
        database: the SQLite file that holds it; need not exist.
    """

    shows_messages: ClassVar[bool] = True

    def __init__(self, database: Path) -> None:
        self._database = database

    def messages(self) -> Sequence[Delivery]:
        """See ``QueuePeek.messages``."""
        return waiting(self._database)

    def count_unread(self) -> int:
        """See ``QueuePeek.count_unread``."""
        return 0


class RabbitMQPeek:
    """Counts the messages on a broker, which shows them to nobody but the daemon.

    Args:
        broker: called for the connection's settings; a setting that is wrong counts as a broker that is down.
        queue: the queue's name.
    """

    shows_messages: ClassVar[bool] = False

    def __init__(self, broker: Callable[[], Broker], queue: str) -> None:
        self._broker = broker
        self._queue = queue

    def messages(self) -> Sequence[Delivery]:
        """See ``QueuePeek.messages``."""
        return ()

    def count_unread(self) -> int:
        """See ``QueuePeek.count_unread``."""
        from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415 - only where there is a broker

        try:
            found = inspect_queue(self._broker(), self._queue)
        except LandoError:
            return 0
        return 0 if found is None else found.waiting
