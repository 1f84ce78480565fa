"""Inspects a queue, and an account's permissions, without receiving or queueing any message."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pika

from lando.errors import UsageError
from lando.workqueue.interface import QueueAbsent
from lando.workqueue.rabbitmq.broker import CONNECT_TIMEOUT, Broker
from lando.workqueue.rabbitmq.classify import QueueTaken
from lando.workqueue.rabbitmq.connection import Connection, Procedure
from lando.workqueue.rabbitmq.names import QueueNames


@dataclass(frozen=True)
class QueueInfo:
    """What the broker says of a queue."""

    waiting: int
    """Messages that no consumer has received."""
    version: str
    """The broker's."""


def inspect_queue(broker: Broker, queue: str) -> QueueInfo | None:
    """Ask the broker about a queue. Returns None if it does not exist. Needs no permission.

    Raises:
        QueueUnavailable: the broker cannot be reached.
        UsageError: a setting is wrong.
    """
    connection = Connection(broker)
    try:
        return connection.run(_inspect(connection, queue), CONNECT_TIMEOUT)
    except QueueAbsent:
        return None
    finally:
        connection.close()


def is_daemon_connected(broker: Broker, names: QueueNames) -> bool:
    """Whether a daemon holds the lock, which it takes before it declares any queue. Needs no permission.

    Raises:
        QueueUnavailable: the broker cannot be reached.
        UsageError: a setting is wrong.
    """
    try:
        inspect_queue(broker, names.lock)
    except QueueTaken:
        return True
    return False


def _inspect(connection: Connection, queue: str) -> Procedure[QueueInfo]:
    channel = yield from connection.open_channel()
    found = yield from connection.call(
        lambda callback: channel.queue_declare(queue, passive=True, callback=callback)
    )
    version = ".".join(map(str, connection.broker_version))
    return QueueInfo(found.message_count, version)


@dataclass(frozen=True)
class ProbedPermissions:
    """What the workers' account may not do and should, and what it may do and should not."""

    missing: str | None
    excessive: tuple[str, ...]


def probe_permissions(broker: Broker, names: QueueNames) -> ProbedPermissions | None:
    """Try what a worker's account may do, with messages that no queue gets; None while there is no queue.

    Args:
        broker: with the workers' account.
        names: what there is on the broker.

    Raises:
        QueueUnavailable: the broker cannot be reached.
        UsageError: the account cannot log in.
    """
    if inspect_queue(broker, names.queue) is None:
        return None
    reports = _is_permitted(broker, lambda channel: _publish_unroutable(channel, names.reports))
    commands = _is_permitted(broker, lambda channel: _publish_unroutable(channel, names.commands))
    anywhere = _is_permitted(broker, lambda channel: _publish_unroutable(channel, ""))
    reads = _is_permitted(broker, lambda channel: _consume_absent(channel, names))
    undesired = {"send commands": commands, "publish to any queue": anywhere, "read queues": reads}
    return ProbedPermissions(
        None if reports else "may not report", tuple(what for what, may in undesired.items() if may)
    )


def _is_permitted(broker: Broker, attempt: Callable[[Any], None]) -> bool:
    """Whether the broker permits it; it checks permissions before anything else."""
    connection = Connection(broker)
    try:
        connection.run(_attempt(connection, attempt), CONNECT_TIMEOUT)
    except UsageError:
        return False
    except QueueAbsent:
        return True
    finally:
        connection.close()
    return True


def _attempt(connection: Connection, attempt: Callable[[Any], None]) -> Procedure[None]:
    channel = yield from connection.open_channel()
    attempt(channel)
    # The answer to this comes after a refusal of the attempt.
    yield from connection.call(lambda callback: channel.basic_qos(prefetch_count=1, callback=callback))


def _publish_unroutable(channel: Any, exchange: str) -> None:
    """Publish to a routing key that nothing is bound to: the broker drops the message."""
    channel.basic_publish(exchange, f"nowhere-{uuid.uuid4()}", b"", pika.BasicProperties())


def _consume_absent(channel: Any, names: QueueNames) -> None:
    """Consume an absent queue, whose name only an account with too many permissions may read."""
    channel.basic_consume(f"{names.queue}.{uuid.uuid4()}", lambda *_: None)
