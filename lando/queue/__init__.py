"""The work queue as its users see it: publish, receive, ack, dead-letter. Knows nothing of jobs' states.

Delivery is at least once: what was received and not acked is received again by the next reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lando.errors import LandoError
from lando.messages import Origin


class QueueUnavailable(LandoError):
    """The queue cannot be reached just now; trying again can help. Nothing was published or acked."""


@dataclass(frozen=True)
class Delivery:
    """One message as received. ``tag`` is the queue's handle for ack; ``sender`` the vouched-for account."""

    tag: int
    raw: bytes
    origin: Origin | None
    sender: str | None = None


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be understood, kept with the reason. ``at`` is epoch seconds."""

    id: int
    reason: str
    raw: bytes
    at: float


class Publisher(Protocol):
    """The sending side."""

    def publish(self, raw: bytes) -> None:
        """Return once the message is durably queued.

        Raises:
            QueueUnavailable: it may or may not be queued; repeating the same bytes is harmless.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class WorkQueue(Protocol):
    """The daemon's side. One reader; ``wake`` alone may be called from other threads."""

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` messages, oldest first; waits at most ``timeout`` seconds, less when woken.

        An empty answer means that the queue was read up to date.
        """
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forget these for ever. Called after the commit that holds their effect."""
        ...

    def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Move a message that cannot be understood to the dead letters, durably, and forget it here."""
        ...

    def rewind(self) -> None:
        """Receive again what was received and not acked: after a transaction that failed."""
        ...

    def wake(self) -> None:
        """End a waiting ``receive`` now."""
        ...

    def close(self) -> None:
        """Let go of the queue; unacked messages stay in it."""
        ...
