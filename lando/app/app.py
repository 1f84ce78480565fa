"""Builds the parts that the configuration names: queue, cloud, and the views of the commands."""

from __future__ import annotations

import getpass
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lando import state_dir
from lando.app import openstack, rabbitmq
from lando.app.server_request import ServerRequests
from lando.cloud.interface import Cloud
from lando.config.site_config import Config
from lando.sqlite.opening import DAEMON_BUSY_TIMEOUT
from lando.workqueue import local_commands
from lando.workqueue.embedded import EmbeddedPublisher, EmbeddedQueue
from lando.workqueue.embedded_dead_letters import EmbeddedDeadLetters
from lando.workqueue.interface import DeadLetters, Publisher, WorkQueue
from lando.workqueue.local_commands import WithLocalCommands
from lando.workqueue.rabbitmq.names import QueueNames

if TYPE_CHECKING:
    from lando.cloud.nova.driver import NovaCloud
    from lando.views.inventory import Inventory
    from lando.views.jobs import Views
    from lando.views.queue_peek import QueuePeek
    from lando.workqueue.rabbitmq.broker import Broker

PATIENCE = 20.0
"""Seconds to wait for a broker's confirmation."""


class App:
    """The parts of one installation, each made when it is first used.

    Args:
        config: as ``lando.config.site_config`` read it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._views: list[Views] = []

    @property
    def unused_cloud(self) -> str | None:
        """What to say where an OpenStack account is configured, and workflows run here; else None."""
        if self.config.cloud != "local" or self.config.cloud_settings is None:
            return None
        return (
            f"{self.config.source}: `cloud: local` beside cloud_settings: workflows run on this machine, as "
            "the daemon's account and not isolated from it, and no VM of OpenStack is created; remove "
            "`cloud: local` to run them on VMs, or cloud_settings if this is meant"
        )

    @property
    def embedded_queue(self) -> Path | None:
        """The SQLite file that holds the embedded queue; None where the queue is RabbitMQ's."""
        return self.config.database_path if self.config.work_queue is None else None

    @cached_property
    def broker(self) -> Broker:
        """The broker of ``work_queue``; only where there is one."""
        assert self.config.work_queue is not None
        return rabbitmq.connectable(self.config.work_queue.broker)

    @property
    def worker_broker(self) -> Broker:
        """The same with the workers' account."""
        assert self.config.work_queue is not None
        return rabbitmq.connectable(rabbitmq.worker_settings(self.config.work_queue))

    @cached_property
    def names(self) -> QueueNames:
        """The names of this installation's queues and exchanges on the broker."""
        assert self.config.work_queue is not None
        return QueueNames(self.config.work_queue.queue_name)

    def try_worker_account(self) -> None:
        """Log in to the broker as workers do, unless it cannot be reached now.

        Raises:
            UsageError: the broker refuses their account.
        """
        if self.embedded_queue is None:
            rabbitmq.try_account(self.worker_broker, self.names.queue)

    @property
    def daemon_lock(self) -> Path:
        """The file that the daemon of this database locks."""
        return state_dir.daemon_lock(self.config.state_dir, self.config.database_path)

    def require_own_state_dir(self) -> None:
        """Refuse a state directory of another account, which root alone may read, or that others may write.

        Raises:
            UsageError: it is one.
        """
        state_dir.refuse_foreign(self.config.state_dir, writes=False)

    def prepare_state_dir(self) -> None:
        """Make the state directory where it is missing.

        Raises:
            UsageError: it cannot be made or written, belongs to another account, or others may write into it;
                or the database is on a network file system.
        """
        state_dir.prepare(self.config.state_dir, self.config.database_path)

    def publisher(self, patience: float = PATIENCE) -> Publisher:
        """Where commands are sent.

        Args:
            patience: seconds to wait for a broker's confirmation.
        """
        if self.embedded_queue is not None:
            self.prepare_state_dir()
            return EmbeddedPublisher(self.embedded_queue, "client", account())
        from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher  # noqa: PLC0415 - loads pika

        return RabbitMQPublisher(self.broker, self.names.commands, self.names.queue, patience)

    def queue(self) -> WorkQueue:
        """Where the daemon receives messages."""
        if self.embedded_queue is not None:
            return EmbeddedQueue(self.embedded_queue, DAEMON_BUSY_TIMEOUT)
        from lando.workqueue.rabbitmq.consumer import RabbitMQQueue  # noqa: PLC0415 - loads pika

        assert self.config.work_queue is not None
        here = self.config.state_dir
        queue_type, wakeup = self.config.work_queue.queue_type, local_commands.wakeup(here)
        return WithLocalCommands(RabbitMQQueue(self.broker, self.names, queue_type, wakeup), here)

    def leave(self, message: bytes) -> bool:
        """Leave a command for the daemon of this machine, which a broker does not take.

        Returns:
            Whether it is durably stored; False where there is no broker, or no daemon of it has run here.

        Raises:
            QueueUnavailable: it cannot be stored.
        """
        if self.embedded_queue is not None:
            return False
        return local_commands.leave(self.config.state_dir, message, account())

    def dead_letters(self) -> DeadLetters:
        """The messages that could not be understood."""
        if self.embedded_queue is not None:
            return EmbeddedDeadLetters(self.embedded_queue)
        from lando.workqueue.rabbitmq.dead_letters import RabbitMQDeadLetters  # noqa: PLC0415 - loads pika

        return RabbitMQDeadLetters(self.broker, self.names)

    def has_daemon(self) -> bool:
        """Whether a daemon is running; on a broker: whether one is connected to the queue.

        Raises:
            LandoError: the broker cannot be asked.
        """
        if self.embedded_queue is not None:
            return state_dir.running(self.daemon_lock) is not None
        from lando.workqueue.rabbitmq.inspection import is_daemon_connected  # noqa: PLC0415 - loads pika

        return is_daemon_connected(self.broker, self.names)

    def views(self) -> Views:
        """What people are shown of jobs; nothing of it need exist yet."""
        from lando.views.jobs import Views  # noqa: PLC0415 - loads the database library
        from lando.views.queue_peek import EmbeddedPeek, RabbitMQPeek  # noqa: PLC0415

        peek: QueuePeek
        if self.embedded_queue is not None:
            peek = EmbeddedPeek(self.embedded_queue)
        else:
            peek = RabbitMQPeek(lambda: self.broker, self.names)
        config = self.config
        self.require_own_state_dir()
        views = Views(config.database_url, config.database_path, peek, self.daemon_lock, config.max_workers)
        self._views.append(views)
        return views

    def close(self) -> None:
        """Close the database: SQLite's last connection makes its file whole."""
        for views in self._views:
            views.close()

    def inventory(self, views: Views) -> Inventory:
        """What this deployment has in the cloud, and what each of it belongs to.

        Args:
            views: reads the database.

        Raises:
            CloudError: the cloud cannot be asked.
        """
        from lando.views.inventory import take_inventory  # noqa: PLC0415 - loads the database library

        return take_inventory(self.cloud, views, self.config.deployment)

    @cached_property
    def cloud(self) -> Cloud:
        """Where servers are created.

        Raises:
            UsageError: the OpenStack account is incomplete.
        """
        if self.config.cloud == "openstack":
            return self.openstack
        from lando.cloud.local.driver import LocalCloud  # noqa: PLC0415 - only the daemon needs it

        self.require_own_state_dir()
        return LocalCloud(self.config.state_dir)

    @cached_property
    def openstack(self) -> NovaCloud:
        """The project on OpenStack, whichever cloud jobs run on; nothing is sent before its first call.

        Raises:
            UsageError: the account is incomplete.
        """
        return openstack.connect(self.config)

    @cached_property
    def server_requests(self) -> ServerRequests:
        """What the cloud is asked for, for each job."""
        return ServerRequests(self.config)


def account() -> str:
    """The operating system's name of the account that runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
