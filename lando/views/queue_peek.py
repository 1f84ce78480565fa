"""Looks at the work queue without taking anything from it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from lando.errors import LandoError
from lando.workqueue.embedded_peek import commands_waiting, count_commands_waiting
from lando.workqueue.interface import Delivery
from lando.workqueue.rabbitmq.names import QueueNames

if TYPE_CHECKING:
    from lando.workqueue.rabbitmq.broker import Broker


START = "start_worker"
"""What every message that starts a job contains."""


class QueuePeek(Protocol):
    """What can be seen of the messages that no daemon has taken yet."""

    shows_messages: ClassVar[bool]
    """Whether the messages themselves can be read."""

    def starts(self, naming: str = "") -> Generator[Delivery]:
        """The messages that may start a job, oldest first, read as they are asked for; none where they cannot
        be read.

        Args:
            naming: only those that contain this text.
        """
        ...

    def count_starts(self) -> int:
        """How many those are."""
        ...

    def count_unread(self) -> int:
        """How many messages wait that cannot be read; 0 where they cannot be counted."""
        ...


class EmbeddedPeek:
    """Reads the table of the embedded queue.

    Args:
        database: the SQLite file that holds it; need not exist.
    """

    shows_messages: ClassVar[bool] = True

    def __init__(self, database: Path) -> None:
        self._database = database

    def starts(self, naming: str = "") -> Generator[Delivery]:
        """See ``QueuePeek.starts``."""
        return commands_waiting(self._database, (START, naming))

    def count_starts(self) -> int:
        """See ``QueuePeek.count_starts``."""
        return count_commands_waiting(self._database, (START,))

    def count_unread(self) -> int:
        """See ``QueuePeek.count_unread``."""
        return 0


class RabbitMQPeek:
    """Counts the messages on a broker, which shows them to nobody but the daemon.

    Args:
        broker: called for the connection's settings; a setting that is wrong counts as a broker that is down.
        names: what there is on the broker.
    """

    shows_messages: ClassVar[bool] = False

    def __init__(self, broker: Callable[[], Broker], names: QueueNames) -> None:
        self._broker = broker
        self._names = names

    def starts(self, naming: str = "") -> Generator[Delivery]:
        """See ``QueuePeek.starts``."""
        yield from ()

    def count_starts(self) -> int:
        """See ``QueuePeek.count_starts``."""
        return 0

    def count_unread(self) -> int:
        """See ``QueuePeek.count_unread``."""
        from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415 - only where there is a broker

        try:
            broker = self._broker()
            found = [inspect_queue(broker, queue) for queue in (self._names.queue, self._names.reports)]
        except LandoError:
            return 0
        return sum(each.waiting for each in found if each is not None)
