"""The names of queues and exchanges on the broker, which follow from the queue's name, and permissions."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class QueueNames:
    """The names of one installation.

    Args:
        queue: ``work_queue.queue_name``; also the routing key of every message. Commands are in this queue.
    """

    queue: str

    @property
    def commands(self) -> str:
        """The exchange that clients publish to."""
        return f"{self.queue}.commands"

    @property
    def reports(self) -> str:
        """The exchange that workers publish to, and the queue of their reports.

        From the exchange, the daemon knows who sent a message. Accounts that were made before there was such
        a queue may use it, since it has the exchange's name.
        """
        return f"{self.queue}.reports"

    @property
    def dead_letters(self) -> str:
        """The exchange of messages that cannot be understood, and the queue of those that clients sent."""
        return f"{self.queue}.dead-letters"

    @property
    def report_letters(self) -> str:
        """The queue of messages that cannot be understood and that workers sent; routing key: ``reports``."""
        return f"{self.queue}.dead-letters.reports"

    @property
    def lock(self) -> str:
        """The exclusive queue that the daemon holds while it is connected, so that there is only one."""
        return f"{self.queue}.daemon"

    @property
    def exchanges(self) -> tuple[str, ...]:
        """All exchanges."""
        return (self.commands, self.reports, self.dead_letters)

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues."""
        return (self.queue, self.reports, self.dead_letters, self.report_letters, self.lock)


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
    ours = _any_of(*names.queues, names.commands)
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
