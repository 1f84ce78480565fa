"""One publisher per kind of work queue, imported only when it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lando.redaction import Secret
from lando.workqueue.interface import Publisher


def open_publisher(queue: Mapping[str, Any]) -> Publisher:
    """Connect to the queue.

    Args:
        queue: from the worker configuration file.

    Raises:
        LandoError: the queue cannot be reached at present.
        ValueError: this version of the worker does not support this kind of queue.
    """
    if queue.get("kind") == "embedded":
        from lando.workqueue.embedded import EmbeddedPublisher  # noqa: PLC0415

        return EmbeddedPublisher(Path(queue["database"]), origin="worker", create=False)
    if queue.get("kind") == "rabbitmq":
        return _rabbitmq(queue)
    raise ValueError(f"this worker does not support a work queue of kind {queue.get('kind')!r}: update it")


def _rabbitmq(queue: Mapping[str, Any]) -> Publisher:
    from lando.workqueue.rabbitmq.broker import Broker  # noqa: PLC0415
    from lando.workqueue.rabbitmq.names import QueueNames  # noqa: PLC0415
    from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher  # noqa: PLC0415
    from lando.workqueue.rabbitmq.settings import Tls  # noqa: PLC0415

    names = QueueNames(queue["queue_name"])
    broker = Broker(
        host=queue["host"],
        port=queue["port"],
        virtual_host=queue["virtual_host"],
        username=queue["username"],
        password=Secret(queue["password"]),
        heartbeat=queue["heartbeat"],
        tls=None if queue["tls"] is None else Tls(authorities=queue["tls"]["authorities"]),
    )
    return RabbitMQPublisher(broker, names.reports, names.queue)
