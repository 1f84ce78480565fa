"""Looking at a queue without taking anything: how much waits, and whether somebody reads it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pika

from lando.errors import UsageError
from lando.workqueue.interface import QueueAbsent
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.workqueue.rabbitmq.connection import Connection, Steps
from lando.workqueue.rabbitmq.names import QueueNames


@dataclass(frozen=True)
class Found:
    """A queue. ``waiting``: messages that nobody has received; ``readers``: consumers."""

    waiting: int
    readers: int
    version: str
    """The broker's."""


def look(broker: Broker, queue: str) -> Found | None:
    """Look at a queue; None where there is none. Any account may.

    Raises:
        QueueUnavailable: the broker cannot be reached.
        UsageError: a setting is wrong.
    """
    connection = Connection(broker)
    try:
        return connection.carry_out(_looking(connection, queue), CONNECT_TIMEOUT)
    except QueueAbsent:
        return None
    finally:
        connection.close()


@dataclass(frozen=True)
class Rights:
    """What an account of the workers lacks, and what it may do that it should not."""

    missing: str | None
    too_many: tuple[str, ...]


def rights(broker: Broker, names: QueueNames) -> Rights | None:
    """Try out what a worker's account may do; None while there is no queue. Publishes, takes, makes nothing.

    Args:
        broker: with the workers' account.

    Raises:
        QueueUnavailable: the broker cannot be reached.
        UsageError: the account cannot log in.
    """
    if look(broker, names.queue) is None:
        return None
    reports = _may(broker, lambda channel: _publish_nowhere(channel, names.reports))
    commands = _may(broker, lambda channel: _publish_nowhere(channel, names.commands))
    anything = _may(broker, lambda channel: _publish_nowhere(channel, ""))
    reads = _may(broker, lambda channel: _read_nothing(channel, names))
    too_many = {"send commands": commands, "publish to any queue": anything, "read queues": reads}
    return Rights(
        None if reports else "may not report", tuple(words for words, may in too_many.items() if may)
    )


def _may(broker: Broker, attempt: Callable[[Any], None]) -> bool:
    """Whether the broker refuses it by a permission; permissions are checked before anything else."""
    connection = Connection(broker)
    try:
        connection.carry_out(_attempting(connection, attempt), CONNECT_TIMEOUT)
    except UsageError:
        return False
    except QueueAbsent:
        return True
    finally:
        connection.close()
    return True


def _attempting(connection: Connection, attempt: Callable[[Any], None]) -> Steps[None]:
    channel = yield from connection.opened()
    attempt(channel)
    yield from connection.answer(lambda callback: channel.basic_qos(prefetch_count=1, callback=callback))


def _publish_nowhere(channel: Any, exchange: str) -> None:
    """To a routing key that nothing is bound to, and the broker drops it."""
    channel.basic_publish(exchange, f"nowhere-{uuid.uuid4()}", b"", pika.BasicProperties())


def _read_nothing(channel: Any, names: QueueNames) -> None:
    """From a queue that is not there, with a name that only an account with too many rights may read."""
    channel.basic_consume(f"{names.queue}.{uuid.uuid4()}", lambda *_: None)


def _looking(connection: Connection, queue: str) -> Steps[Found]:
    channel = yield from connection.opened()
    found = yield from connection.answer(
        lambda callback: channel.queue_declare(queue, passive=True, callback=callback)
    )
    version = ".".join(map(str, connection.broker_version))
    return Found(found.message_count, found.consumer_count, version)
