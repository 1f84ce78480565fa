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


class QueueAbsent(QueueUnavailable):
    """The queue, or its exchange, is not there (yet): a daemon makes it at its first start."""


@dataclass(frozen=True)
class Delivery:
    """One message as received. ``tag`` is the queue's handle for ack; ``sender`` the vouched-for account."""

    tag: int
    raw: bytes
    origin: Origin | None
    sender: str | None = None


def whose(message: Delivery | DeadLetter) -> str:
    """Who sent it, as far as the queue can tell."""
    return " ".join(filter(None, (message.origin, message.sender))) or "somebody unknown"


FIRST_BYTES = 60
"""Of a dead letter, for people to look at."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be understood, kept with the reason.

    Its sender is as far known as the queue could tell; ``at`` is epoch seconds, None where it is not known.
    """

    id: str
    reason: str
    first_bytes: bytes
    size: int
    """Bytes of the whole message."""
    at: float | None
    origin: Origin | None = None
    sender: str | None = None


class DeadLetters(Protocol):
    """What could not be understood, until somebody requeues or drops it."""

    def all(self) -> list[DeadLetter]:
        """All of them, oldest first."""
        ...

    def requeue(self, ids: Sequence[str]) -> None:
        """Put them into the queue again, as they came.

        Raises:
            UsageError: there is none with such an id; nothing was done.
        """
        ...

    def drop(self, ids: Sequence[str]) -> None:
        """Forget them for ever.

        Raises:
            UsageError: there is none with such an id; nothing was done.
        """
        ...


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
        """Up to ``limit`` messages, oldest first; waits at most ``timeout`` seconds, less when woken."""
        ...

    def obstacle(self) -> str | None:
        """Why those who publish cannot get their messages into the queue just now, as far as is known."""
        ...

    def is_read_up_to_date(self) -> bool:
        """Whether everything that was queued before this call has been received, and nothing is held up."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Forget these for ever. Called after the commit that holds their effect."""
        ...

    def dead_letter(self, buried: Sequence[tuple[Delivery, str]]) -> None:
        """Move messages that cannot be understood to the dead letters, each with its reason, durably."""
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
