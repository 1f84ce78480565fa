"""RabbitMQ as the configuration describes it: for the daemon and the commands, and for the workers on VMs."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lando.config.work_queue import WorkQueueConfig
from lando.errors import UsageError
from lando.workqueue.interface import QueueUnavailable

if TYPE_CHECKING:
    from lando.workqueue.rabbitmq.broker import Broker

MAX_AUTHORITIES = 12_000
"""Characters of certificates that fit into a start-up script beside the job."""
STAND_IN_SECRET = "0" * 32


def broker(queue: WorkQueueConfig, source: str) -> Broker:
    """The broker of ``work_queue``, as the daemon and the commands use it.

    Args:
        source: the configuration file, as messages name it.

    Raises:
        UsageError: a certificate cannot be read.
    """
    from lando.workqueue.rabbitmq.broker import Broker, Tls  # noqa: PLC0415 - loads pika

    files = queue.tls
    return Broker(
        host=queue.host,
        port=queue.port,
        virtual_host=queue.virtual_host,
        username=queue.username,
        password=queue.password,
        heartbeat=queue.heartbeat,
        tls=None
        if files is None
        else Tls(
            _authorities(queue, source),
            None if files.certificate is None else str(files.certificate),
            None if files.key is None else str(files.key),
        ),
        settings=f"{source}: work_queue.",
        from_url=queue.from_url,
    )


def worker_broker(queue: WorkQueueConfig, broker: Broker) -> Broker:
    """The same broker with the workers' account, and without a client certificate, which VMs do not get."""
    from lando.workqueue.rabbitmq.broker import Tls  # noqa: PLC0415 - loads pika

    assert queue.worker_username is not None and queue.worker_password is not None
    return replace(
        broker,
        username=queue.worker_username,
        password=queue.worker_password,
        tls=None if broker.tls is None else Tls(broker.tls.authorities),
        from_url=False,
        account="worker_",
    )


def try_worker_account(worker_broker: Broker, queue_name: str) -> None:
    """Log in with the workers' account, unless the broker cannot be reached now.

    Raises:
        UsageError: the broker refuses the account.
    """
    from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415 - loads pika

    with contextlib.suppress(QueueUnavailable):  # the daemon waits for the broker
        inspect_queue(worker_broker, queue_name)


def worker_queue(queue: WorkQueueConfig, source: str) -> dict[str, Any]:
    """How workers reach the queue: with their own account, at the address that VMs see.

    Raises:
        UsageError: the certificates cannot be read, or are too large for a start-up script.
    """
    authorities = None if queue.tls is None else _authorities(queue, source)
    if authorities is not None and len(authorities) > MAX_AUTHORITIES:
        raise UsageError(
            f"{source}: work_queue.tls.ca: {queue.tls.ca if queue.tls else ''} has "
            f"{len(authorities):,} characters; VMs get it in their start-up script, so keep it to the "
            f"certificates that signed the broker's (at most {MAX_AUTHORITIES:,} characters)"
        )
    return {
        "kind": "rabbitmq",
        "host": queue.worker_host,
        "port": queue.port,
        "virtual_host": queue.virtual_host,
        # A client's file has no workers' account; a client only measures the start-up script.
        "username": queue.worker_username or STAND_IN_SECRET,
        "password": STAND_IN_SECRET if queue.worker_password is None else queue.worker_password.reveal(),
        "queue_name": queue.queue_name,
        "heartbeat": queue.heartbeat,
        "tls": None if queue.tls is None else {"authorities": authorities},
    }


def _authorities(queue: WorkQueueConfig, source: str) -> str | None:
    assert queue.tls is not None
    file = queue.tls.ca
    if file is None:
        return None
    try:
        return file.read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{source}: work_queue.tls.ca: {file}: {error}") from error
