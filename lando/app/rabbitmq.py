"""RabbitMQ as the configuration describes it: for the daemon and the commands, and for the workers on VMs."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lando.config.work_queue import WorkQueueConfig
from lando.errors import LandoError, UsageError
from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.rabbitmq.names import QueueNames
from lando.workqueue.rabbitmq.settings import BrokerSettings, Tls

if TYPE_CHECKING:
    from lando.workqueue.rabbitmq.broker import Broker

log = logging.getLogger("lando")

MAX_AUTHORITIES = 12_000
"""Characters of certificates that fit into a start-up script beside the job."""
STAND_IN_SECRET = "0" * 32
"""As long as a real one, where only the size of a start-up script is measured."""


def connectable(settings: BrokerSettings) -> Broker:
    """The broker of these settings, which pika can connect to."""
    from lando.workqueue.rabbitmq.broker import Broker  # noqa: PLC0415 - loads pika

    return Broker(**vars(settings))


def worker_settings(queue: WorkQueueConfig) -> BrokerSettings:
    """The broker with the workers' account, and without a client certificate, which VMs do not get.

    The address is the daemon's, which tests the account; VMs may need another one, ``worker_host``.
    """
    assert queue.worker_username is not None and queue.worker_password is not None
    tls = queue.broker.tls
    return replace(
        queue.broker,
        username=queue.worker_username,
        password=queue.worker_password,
        tls=None if tls is None else Tls(tls.ca),
        account_prefix="worker_",
        from_url=False,
    )


def try_account(broker: Broker, queue_name: str) -> None:
    """Log in to the broker, unless it cannot be reached now.

    Raises:
        UsageError: the broker refuses the account.
    """
    from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415 - loads pika

    with contextlib.suppress(QueueUnavailable):  # the daemon waits for the broker
        inspect_queue(broker, queue_name)


def log_harmful_policies(broker: Broker, names: QueueNames) -> None:
    """Warn of each policy that could cost messages, where policies can be seen."""
    from lando.workqueue.rabbitmq.policies import harmful_policies  # noqa: PLC0415 - only where there is one

    try:
        for policy in harmful_policies(broker, names):
            log.warning(
                "%s: this can delete jobs, results or dead letters; exclude the queue from the pattern",
                policy,
            )
    except LandoError as error:
        log.debug("the policies of the broker cannot be seen: %s", error)  # `lando-fsm check` tells it
    except Exception:
        log.exception("looking for policies of the broker failed; this is a bug in lando-fsm")


def worker_queue(queue: WorkQueueConfig) -> dict[str, Any]:
    """How workers reach the queue, as the worker configuration file has it.

    Raises:
        UsageError: the certificates cannot be read, or are too large for a start-up script.
    """
    broker = queue.broker
    authorities = broker.authorities()
    if authorities is not None and len(authorities) > MAX_AUTHORITIES:
        raise UsageError(
            f"{broker.setting('tls.ca')}: {broker.tls.ca if broker.tls else ''} has {len(authorities):,} "
            "characters; VMs get it in their start-up script, so keep it to the certificates that signed the "
            f"broker's (at most {MAX_AUTHORITIES:,} characters)"
        )
    return {
        "kind": "rabbitmq",
        "host": queue.worker_host,
        "port": broker.port,
        "virtual_host": broker.virtual_host,
        # Missing only in a client's file; a client makes start-up scripts only to measure them.
        "username": queue.worker_username or STAND_IN_SECRET,
        "password": STAND_IN_SECRET if queue.worker_password is None else queue.worker_password.reveal(),
        "queue_name": queue.queue_name,
        "heartbeat": broker.heartbeat,
        "tls": None if broker.tls is None else {"authorities": authorities},
    }
