"""What the daemon declares on the broker at each connection; what is there already stays as it is."""

from __future__ import annotations

from typing import Any, Literal

from lando.workqueue.rabbitmq.connection import Connection, Steps
from lando.workqueue.rabbitmq.names import QueueNames

QueueType = Literal["quorum", "classic"]

QUORUM_SINCE = (3, 8)
DELIVERY_LIMIT = 1_000_000_000
"""Deliveries after which a broker dead-letters a message: no valid one ever gets there."""
DEAD_LETTERS_KEPT = 10_000
DEAD_LETTER_BYTES_KEPT = 512 * 1024 * 1024
"""What a flood of rubbish may fill; the newest are kept."""


def declared(connection: Connection, names: QueueNames, queue_type: QueueType | None) -> Steps[None]:
    """Declare exchanges, queues and bindings.

    Args:
        queue_type: None for quorum, where the broker has it.
    """
    kind = queue_type or ("quorum" if connection.broker_version >= QUORUM_SINCE else "classic")
    for exchange in (names.commands, names.reports, names.dead_letters):
        yield from _exchange(connection, exchange)
    yield from _queue(connection, names.dead_letters, _dead_letter_arguments(kind))
    yield from _binding(connection, names.dead_letters, names.dead_letters, names)
    yield from _queue(connection, names.queue, _arguments(kind, names))
    for exchange in (names.commands, names.reports):
        yield from _binding(connection, names.queue, exchange, names)


def _exchange(connection: Connection, exchange: str) -> Steps[None]:
    yield from connection.answer(
        lambda callback: connection.channel.exchange_declare(
            exchange, exchange_type="direct", durable=True, callback=callback
        )
    )


def _queue(connection: Connection, queue: str, arguments: dict[str, Any]) -> Steps[None]:
    yield from connection.answer(
        lambda callback: connection.channel.queue_declare(
            queue, durable=True, arguments=arguments, callback=callback
        )
    )


def _binding(connection: Connection, queue: str, exchange: str, names: QueueNames) -> Steps[None]:
    yield from connection.answer(
        lambda callback: connection.channel.queue_bind(
            queue, exchange, routing_key=names.queue, callback=callback
        )
    )


def _arguments(kind: QueueType, names: QueueNames) -> dict[str, Any]:
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
