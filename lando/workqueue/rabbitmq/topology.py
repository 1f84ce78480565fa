"""What the daemon declares on the broker whenever it connects. Declaring what exists changes nothing."""

from __future__ import annotations

from typing import Any

from lando.workqueue.rabbitmq.connection import Connection, Procedure
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.settings import QueueType

QUORUM_SINCE = (3, 8)
DELIVERY_LIMIT = 1_000_000_000
"""Deliveries after which a quorum queue dead-letters a message: more than any valid message ever has."""
REPORTS_WAITING = 3_000
REPORT_BYTES_WAITING = 64 * 1024 * 1024
"""Limits of the reports that wait: as many as are read within about a second. Beyond them the broker refuses
reports, and the workers keep them."""
DEAD_LETTERS_KEPT = 10_000
DEAD_LETTER_BYTES_KEPT = 512 * 1024 * 1024
"""Limits of the clients' dead letters; beyond them the broker drops the oldest."""
REPORT_LETTERS_KEPT = 2_000
REPORT_LETTER_BYTES_KEPT = 64 * 1024 * 1024
"""The same of the workers' dead letters."""


def declare(
    connection: Connection,
    names: QueueNames,
    queue_type: QueueType | None,
    with_report_letters: bool = True,
) -> Procedure[bool]:
    """Declare exchanges, queues and bindings.

    Args:
        connection: with an open channel.
        names: what the exchanges and queues are called.
        queue_type: None for quorum if the broker has quorum queues, else classic.
        with_report_letters: False if the account is known not to be permitted what is told below.

    Returns:
        Whether the workers' dead letters have a queue of their own. An account that was made before there was
        one may not declare it; they then go to the queue of the clients' dead letters.
    """
    kind = queue_type or ("quorum" if connection.broker_version >= QUORUM_SINCE else "classic")
    for exchange in names.exchanges:
        yield from _declare_exchange(connection, exchange)
    of_queue = arguments(kind, names)
    yield from _declare_queue(connection, names.dead_letters, of_queue[names.dead_letters])
    yield from _bind(connection, names.dead_letters, names.dead_letters, names.queue)
    has_report_letters = with_report_letters and (
        yield from _declare_report_letters(connection, names, of_queue[names.report_letters])
    )
    yield from _bind_report_letters(connection, names, has_report_letters)
    yield from _declare_queue(connection, names.queue, of_queue[names.queue])
    yield from _bind(connection, names.queue, names.commands, names.queue)
    yield from _declare_queue(connection, names.reports, of_queue[names.reports])
    yield from _bind(connection, names.reports, names.reports, names.queue)
    # Earlier versions bound the queue of commands. Only now, so that at no time a report is unroutable: one
    # that is in both queues is a duplicate.
    yield from _unbind(connection, names.queue, names.reports, names.queue)
    return has_report_letters


def arguments(kind: QueueType, names: QueueNames) -> dict[str, dict[str, Any]]:
    """The arguments of each durable queue, by its name.

    Args:
        kind: their type.
        names: what they are called.
    """
    return {
        names.queue: _queue_arguments(kind, names, names.queue),
        names.reports: _reports_arguments(kind, names),
        names.dead_letters: _dead_letter_arguments(kind, DEAD_LETTERS_KEPT, DEAD_LETTER_BYTES_KEPT),
        names.report_letters: _dead_letter_arguments(kind, REPORT_LETTERS_KEPT, REPORT_LETTER_BYTES_KEPT),
    }


def _declare_report_letters(
    connection: Connection, names: QueueNames, arguments: dict[str, Any]
) -> Procedure[bool]:
    is_declared = yield from connection.is_permitted(
        lambda channel, callback: channel.queue_declare(
            names.report_letters, durable=True, arguments=arguments, callback=callback
        )
    )
    return is_declared


def _bind_report_letters(connection: Connection, names: QueueNames, is_declared: bool) -> Procedure[None]:
    """Bind the queue of the workers' dead letters, or else that of the clients'."""
    chosen = names.report_letters if is_declared else names.dead_letters
    yield from _bind(connection, chosen, names.dead_letters, names.reports)
    if is_declared:
        yield from _unbind(connection, names.dead_letters, names.dead_letters, names.reports)


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


def _bind(connection: Connection, queue: str, exchange: str, key: str) -> Procedure[None]:
    yield from connection.call(
        lambda callback: connection.channel.queue_bind(queue, exchange, routing_key=key, callback=callback)
    )


def _unbind(connection: Connection, queue: str, exchange: str, key: str) -> Procedure[None]:
    yield from connection.call(
        lambda callback: connection.channel.queue_unbind(queue, exchange, routing_key=key, callback=callback)
    )


def _queue_arguments(kind: QueueType, names: QueueNames, dead_letter_key: str) -> dict[str, Any]:
    arguments = {
        "x-queue-type": kind,
        "x-dead-letter-exchange": names.dead_letters,
        "x-dead-letter-routing-key": dead_letter_key,
    }
    return {**arguments, "x-delivery-limit": DELIVERY_LIMIT} if kind == "quorum" else arguments


def _reports_arguments(kind: QueueType, names: QueueNames) -> dict[str, Any]:
    return {
        **_queue_arguments(kind, names, names.reports),
        "x-overflow": "reject-publish",
        "x-max-length": REPORTS_WAITING,
        "x-max-length-bytes": REPORT_BYTES_WAITING,
    }


def _dead_letter_arguments(kind: QueueType, letters: int, size: int) -> dict[str, Any]:
    arguments = {"x-queue-type": kind, "x-max-length": letters, "x-max-length-bytes": size}
    return {**arguments, "x-delivery-limit": DELIVERY_LIMIT} if kind == "quorum" else arguments
