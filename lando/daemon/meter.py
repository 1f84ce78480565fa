"""What the daemon notes of its work, for metrics. Where none are configured, nothing is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from lando.engine.ledger import StateChange
from lando.engine.operations import OperationResult
from lando.engine.ownership import ResourceKind
from lando.engine.quota import QuotaHeadroom
from lando.engine.taken import Disposition
from lando.messages import Message
from lando.states.table import EffectKind

FailureCause = Literal["database", "bug"]
Rejected = Literal["dead_lettered", "removed"]


class Meter:
    """Keeps nothing; ``lando.metrics.recording_meter`` has the one that does.

    Only the loop's thread calls it, and what is counted was committed, unless a method says otherwise.
    """

    def alive(self) -> None:
        """The loop goes on, also while it waits after a failure."""

    def turned(self, seconds: float) -> None:
        """An iteration has succeeded; it has worked for so many seconds, its wait for messages left out."""

    def failed(self, cause: FailureCause, reason: str) -> None:
        """An iteration has failed, and is tried again."""

    def retried(self) -> None:
        """A transaction that could not be serialized, or deadlocked, is tried again whole."""

    def changed(self, changes: Sequence[StateChange]) -> None:
        """Jobs went to other states."""

    def received(self, messages: Sequence[Message]) -> None:
        """These were received together; their effect is not committed yet."""

    def took(self, message: Message, disposition: Disposition) -> None:
        """A message had its effect."""

    def rejected(self, message_type: str | None, how: Rejected) -> None:
        """A message has none, and leaves the queue; the type is None if it could not be decoded."""

    def carries_out(self, kind: EffectKind) -> None:
        """An operation of such an effect is handed to the pool."""

    def carried_out(self, kind: EffectKind, result: OperationResult) -> None:
        """It has this result, which is not committed yet."""

    def leaks(self, leaked: Mapping[ResourceKind, int]) -> None:
        """How much belongs to no job, and is being deleted."""

    def swept(self, kind: ResourceKind) -> None:
        """A leaked resource is gone."""

    def queue(self, obstacle: str | None, is_listening: bool, up_to_date_at: float | None) -> None:
        """The work queue was read, or could not be.

        Args:
            obstacle: why it cannot be used; None: it can.
            is_listening: every message that was queued is heard in time.
            up_to_date_at: when all was taken that was queued then (``time.monotonic``); None: not known.
        """

    def cloud(self, trouble: str) -> None:
        """The cloud was looked at; ``trouble`` says why it did not answer, and is empty if it did."""

    def quota(self, headroom: QuotaHeadroom | None) -> None:
        """What the project's quota leaves, as it was last seen; None: there is none."""


NO_METER = Meter()
