"""What the daemon declares on the broker whenever it connects. Declaring what exists changes nothing."""

from __future__ import annotations

from typing import Any

from lando.workqueue.rabbitmq.connection import Connection, Procedure
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.settings import QueueType

QUORUM_SINCE = (3, 8)
DELIVERY_LIMIT = 1_000_000_000
"""Deliveries after which a quorum queue dead-letters a message: more than any valid message ever has."""
DEAD_LETTERS_KEPT = 10_000
DEAD_LETTER_BYTES_KEPT = 512 * 1024 * 1024
"""Limits of the dead letters; beyond them the broker drops the oldest."""


def declare(connection: Connection, names: QueueNames, queue_type: QueueType | None) -> Procedure[None]:
    """Declare exchanges, queues and bindings.

    Args:
        connection: with an open channel.
        names: what the exchanges and queues are called.
        queue_type: None for quorum if the broker has quorum queues, else classic.
    """
    kind = queue_type or ("quorum" if connection.broker_version >= QUORUM_SINCE else "classic")
    for exchange in (names.commands, names.reports, names.dead_letters):
        yield from _declare_exchange(connection, exchange)
    yield from _declare_queue(connection, names.dead_letters, _dead_letter_arguments(kind))
    yield from _bind(connection, names.dead_letters, names.dead_letters, names)
    yield from _declare_queue(connection, names.queue, _queue_arguments(kind, names))
    for exchange in (names.commands, names.reports):
        yield from _bind(connection, names.queue, exchange, names)


def _declare_exchange(connection: Connection, exchange: str) -> Procedure[None]:
    yield from connection.call(
        lambda callback: connection.channel.exchange_declare(
            exchange, exchange_type="direct", durable=True, callback=callback
        )
    )


def _declare_queue(connection: Connection, queue: str, arguments: dict[str, Any]) -> Procedure[None]:
    yield from connection.call(
        lambda callback: connection.channel.queue_declare(
            queue, durable=True, arguments=arguments, callback=callback
        )
    )


def _bind(connection: Connection, queue: str, exchange: str, names: QueueNames) -> Procedure[None]:
    yield from connection.call(
        lambda callback: connection.channel.queue_bind(
            queue, exchange, routing_key=names.queue, callback=callback
        )
    )


def _queue_arguments(kind: QueueType, names: QueueNames) -> dict[str, Any]:
    arguments = {
        "x-queue-type": kind,
        "x-dead-letter-exchange": names.dead_letters,
        "x-dead-letter-routing-key": names.queue,
    }
    return {**arguments, "x-delivery-limit": DELIVERY_LIMIT} if kind == "quorum" else arguments


def _dead_letter_arguments(kind: QueueType) -> dict[str, Any]:
    arguments = {
        "x-queue-type": kind,
        "x-max-length": DEAD_LETTERS_KEPT,
        "x-max-length-bytes": DEAD_LETTER_BYTES_KEPT,
    }
    return {**arguments, "x-delivery-limit": DELIVERY_LIMIT} if kind == "quorum" else arguments
