"""What there is on the broker, by name; all names follow from the queue's."""

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
        """The exchange that workers publish to: by it the broker tells whose a message is."""
        return f"{self.queue}.reports"

    @property
    def dead_letters(self) -> str:
        """The exchange and the queue for what cannot be understood."""
        return f"{self.queue}.dead-letters"

    @property
    def lock(self) -> str:
        """The exclusive queue that the one daemon holds for as long as it is connected."""
        return f"{self.queue}.daemon"


@dataclass(frozen=True)
class Permissions:
    """What an account may do, as the broker's three regular expressions.

    Source: https://www.rabbitmq.com/docs/access-control#authorisation
    """

    configure: str
    write: str
    read: str


def daemon_permissions(names: QueueNames) -> Permissions:
    """Everything that begins with the queue's name and belongs to us, and nothing else."""
    ours = _any_of(names.queue, names.commands, names.reports, names.dead_letters, names.lock)
    return Permissions(ours, ours, ours)


def client_permissions(names: QueueNames) -> Permissions:
    """Publish commands."""
    return Permissions("^$", _any_of(names.commands), "^$")


def worker_permissions(names: QueueNames) -> Permissions:
    """Publish reports."""
    return Permissions("^$", _any_of(names.reports), "^$")


def _any_of(*names: str) -> str:
    alternatives = "|".join(_escaped(name) for name in names)
    return f"^({alternatives})$" if len(names) > 1 else f"^{alternatives}$"


def _escaped(name: str) -> str:
    """Literally, in Python's regular expressions as in Erlang's."""
    return re.sub(r"([^A-Za-z0-9_-])", r"\\\1", name)
