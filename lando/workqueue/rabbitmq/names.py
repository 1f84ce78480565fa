"""The names of queues and exchanges on the broker, which follow from the queue's name, and permissions."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class QueueNames:
    """The names of one installation.

    Args:
        queue: ``work_queue.queue_name``; also the routing key of every message.
    """

    queue: str

    @property
    def commands(self) -> str:
        """The exchange that clients publish to."""
        return f"{self.queue}.commands"

    @property
    def reports(self) -> str:
        """The exchange that workers publish to; from the exchange, the daemon knows who sent a message."""
        return f"{self.queue}.reports"

    @property
    def dead_letters(self) -> str:
        """The exchange and the queue of messages that cannot be understood."""
        return f"{self.queue}.dead-letters"

    @property
    def lock(self) -> str:
        """The exclusive queue that the daemon holds while it is connected, so that there is only one."""
        return f"{self.queue}.daemon"


@dataclass(frozen=True)
class Permissions:
    """An account's permissions, as the broker's three regular expressions.

    Source: https://www.rabbitmq.com/docs/access-control#authorisation
    """

    configure: str
    write: str
    read: str


def daemon_permissions(names: QueueNames) -> Permissions:
    """The daemon may do everything with the queues and exchanges above, and nothing else."""
    ours = _any_of(names.queue, names.commands, names.reports, names.dead_letters, names.lock)
    return Permissions(ours, ours, ours)


def client_permissions(names: QueueNames) -> Permissions:
    """Clients may publish commands."""
    return Permissions("^$", _any_of(names.commands), "^$")


def worker_permissions(names: QueueNames) -> Permissions:
    """Workers may publish reports."""
    return Permissions("^$", _any_of(names.reports), "^$")


def _any_of(*names: str) -> str:
    alternatives = "|".join(_escaped(name) for name in names)
    return f"^({alternatives})$" if len(names) > 1 else f"^{alternatives}$"


def _escaped(name: str) -> str:
    """A name as a regular expression that matches it, in Python as in Erlang."""
    return re.sub(r"([^A-Za-z0-9_-])", r"\\\1", name)
