"""The work queue as its users see it: publish, receive, ack, dead-letter. It knows nothing of jobs' states.

Delivery is at least once: a message that was received and not acked is delivered again to the next reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lando.errors import LandoError, UsageError
from lando.messages import Origin


class QueueUnavailable(LandoError):
    """The queue cannot be reached at present, and trying again can help. Nothing was acked."""


class QueueAbsent(QueueUnavailable):
    """The queue or its exchange does not exist: a daemon creates them when it first starts."""


class QueueFull(QueueUnavailable):
    """Too many messages wait already. The daemon takes some soon: trying again within seconds helps."""


@dataclass(frozen=True)
class Delivery:
    """One message as received."""

    tag: int
    """The queue's handle for ack."""
    raw: bytes
    origin: Origin | None
    """Who may publish where the message came from; None if that could be anybody."""
    sender: str | None = None
    """The account that published it, verified by the queue; None if unknown."""
    decoded_as: str | None = None
    """The type of a valid message, which is kept whole; None if it was not decoded."""


CLOSE_TIMEOUT = 2.0
"""Seconds that a queue has to be closed, unless its caller says otherwise."""
MAX_BATCH = 8 * 1024 * 1024
"""Bytes of the messages that are received together, so that no turn of the daemon takes long."""
RESERVED = 4
"""Of each batch, one in so many messages and bytes is for reports while some wait: neither kind keeps the
other from being received."""
FIRST_BYTES = 60
"""Bytes of a dead letter that are listed."""
SCRUBBED_BYTES = 2000
"""Bytes of a dead letter in which credentials are looked for."""
REPORT_BYTES_KEPT = 64 * 1024
"""Bytes that the dead letter of a worker's message keeps, if the message could not be decoded."""


def kept_bytes(delivery: Delivery) -> bytes:
    """What a message's dead letter keeps of it."""
    is_cut = delivery.origin == "worker" and delivery.decoded_as is None
    return delivery.raw[:REPORT_BYTES_KEPT] if is_cut else delivery.raw


def first_bytes(raw: bytes) -> bytes:
    """The bytes of a dead letter that are listed, credentials masked.

    Args:
        raw: the first SCRUBBED_BYTES of it, or more: within fewer, a credential might not be seen as one.
    """
    from lando.credentials import scrub  # noqa: PLC0415 - for a list of dead letters only

    text = raw[:SCRUBBED_BYTES].decode(errors="surrogateescape")
    return scrub(text).encode(errors="surrogateescape")[:FIRST_BYTES]


def is_incomplete(letter_id: str, kept: int) -> UsageError:
    """Raised for a dead letter that cannot be requeued, since only so many bytes of it are kept."""
    return UsageError(f"dead letter {letter_id} cannot be requeued: only its first {kept:,} bytes were kept")


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be understood, kept with the reason."""

    id: str
    reason: str
    first_bytes: bytes
    size: int
    """Bytes of the whole message; ``kept_bytes`` are kept."""
    at: float | None
    """When it was dead-lettered, in epoch seconds; None if unknown."""
    origin: Origin | None = None
    sender: str | None = None


def describe_sender(message: Delivery | DeadLetter) -> str:
    """Origin and account of a message, for people to read, such as ``client alice``."""
    return " ".join(filter(None, (message.origin, message.sender))) or "an unknown sender"


class DeadLetters(Protocol):
    """The messages that could not be understood, until somebody requeues or drops them."""

    def all(self) -> list[DeadLetter]:
        """All of them, oldest first."""
        ...

    def requeue(self, ids: Sequence[str]) -> None:
        """Put them back into the queue, with their origin and sender.

        Raises:
            UsageError: there is none with one of the ids, or one was not kept whole; nothing was done.
        """
        ...

    def drop(self, ids: Sequence[str]) -> None:
        """Delete them.

        Raises:
            UsageError: there is none with one of the ids; nothing was done.
        """
        ...

    def drop_before(self, at: float) -> int:
        """Delete those that were dead-lettered before this time (epoch seconds).

        Returns:
            How many.
        """
        ...


class Publisher(Protocol):
    """The sending side."""

    def publish(self, raw: bytes) -> None:
        """Return once the message is durably queued.

        Raises:
            QueueUnavailable: it may or may not be queued; publishing the same bytes again is harmless.
        """
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


@dataclass(frozen=True)
class QueueFigures:
    """How much waits, by who may send it; without those of which that is not known."""

    waiting: Mapping[Origin, int] = field(default_factory=dict)
    """Messages in the queue, those that were received and not acked as far as the queue counts them."""
    oldest_at: Mapping[Origin, float] = field(default_factory=dict)
    """When the first of them was queued, in epoch seconds, where the queue tells."""
    letters: Mapping[Origin, int] = field(default_factory=dict)
    """Dead letters that are kept."""
    dead_lettered: Mapping[Origin, int] = field(default_factory=dict)
    """Messages that were moved to the dead letters, durably, since the queue was opened."""


class WorkQueue(Protocol):
    """The daemon's side. There is one reader; only ``wake`` and ``figures`` may be called from other
    threads."""

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` messages, commands before reports, each oldest first.

        Commands leave room for some reports (RESERVED). Waits at most ``timeout`` seconds for the first, or
        until ``wake``, or until a fence is met.

        Raises:
            QueueUnavailable: call it again, also to reconnect.
        """
        ...

    def obstacle(self) -> str | None:
        """Why publishers cannot get messages into the queue at present, such as a full disk of the broker.

        None if they can, or if it is not known. While there is an obstacle, an empty queue does not mean that
        workers are silent.
        """
        ...

    def request_fence(self) -> None:
        """Ask for a fence, unless one is on its way: a mark behind everything that is queued now.

        Costs nothing here; ``receive`` sets the fence, and meets it. Until then it may take as long as
        publishers are blocked, or another reader may hold messages. It is lost with the connection.
        """
        ...

    def passed_fence(self) -> float | None:
        """The last fence that was met: when it was asked for (``time.monotonic``); None if none was.

        Everything that was queued before that time was returned by ``receive`` up to and including its last
        call. Only what that call returned after the fence's own position may have been queued later.
        """
        ...

    def refused_at(self) -> float | None:
        """When reports were last seen to be refused, or may have been, since too many waited.

        On the clock of ``time.monotonic``; None if they never were. Until then a worker may have reported in
        vain, whatever fence was met.
        """
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Remove these messages. Called after the commit that holds their effect.

        Raises:
            QueueUnavailable: they are received again, and a fence that was passed counts no more.
        """
        ...

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        """Move messages that cannot be understood to the dead letters, each with its reason, durably.

        Raises:
            QueueUnavailable: see ``ack``.
        """
        ...

    def rewind(self) -> None:
        """Receive again what was received and not acked: called after a transaction that failed."""
        ...

    def figures(self) -> QueueFigures:
        """How much waits, as far as it is known.

        Raises:
            QueueUnavailable: it cannot be read.
        """
        ...

    def wake(self) -> None:
        """End a waiting ``receive`` now."""
        ...

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close the connection; unacked messages stay in the queue.

        Args:
            timeout: seconds that this may take.
        """
        ...
