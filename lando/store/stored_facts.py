"""Facts by what they mean: what a transaction writes of them, and the commands read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lando.engine.boot_failures import BootFailures
from lando.engine.holds import Holds
from lando.engine.reservation import Reservation
from lando.store.copying.mark import CopyMark, to_mark
from lando.store.facts import (
    BOOT_FAILURES_FACT,
    BOOTS_FACT,
    COPY_FACT,
    HOLD_FACT,
    LOST_JOBS_FACT,
    RESERVATION_FACT,
    SEEN_FACT,
    STAYING_FACT,
    SWEPT_FACT,
    UNKNOWN_FACT,
    LostJobs,
    Staying,
    UnknownResources,
    boot_failures_value,
    holds_value,
    reservation_value,
    to_boot_failures,
    to_holds,
    to_lost_jobs,
    to_reservation,
    to_staying,
    to_unknown,
)

if TYPE_CHECKING:
    from lando.engine.ownership import ResourceKind


class StoredFacts(ABC):
    """What can be read."""

    @abstractmethod
    def fact(self, name: str) -> Any:
        """The value of a fact, or None."""

    def boot_failures(self) -> BootFailures:
        """See ``Ledger.boot_failures``."""
        return to_boot_failures(self.fact(BOOT_FAILURES_FACT))

    def holds(self) -> Holds:
        """See ``Ledger.holds``."""
        return to_holds(self.fact(HOLD_FACT))

    def reservation(self) -> Reservation | None:
        """See ``Ledger.reservation``."""
        return to_reservation(self.fact(RESERVATION_FACT))

    def boots(self) -> list[float]:
        """See ``Ledger.boots``."""
        return [float(seconds) for seconds in self.fact(BOOTS_FACT) or ()]

    def swept(self) -> dict[ResourceKind, int]:
        """How many leaked resources were deleted, by kind."""
        return {"servers": 0, "floating_ips": 0, **(self.fact(SWEPT_FACT) or {})}

    def unknown(self) -> UnknownResources:
        """What the daemon last saw in the cloud that the database does not know."""
        return to_unknown(self.fact(UNKNOWN_FACT))

    def lost_jobs(self) -> LostJobs:
        """Which jobs reports have named that the database does not have."""
        return to_lost_jobs(self.fact(LOST_JOBS_FACT))

    def staying(self) -> tuple[Staying, ...]:
        """What the sweep has asked to be deleted several times, and still exists."""
        return to_staying(self.fact(STAYING_FACT))

    def copy_mark(self) -> CopyMark | None:
        """What the database says about its being copied, or a copy."""
        return to_mark(self.fact(COPY_FACT))


class WrittenFacts(StoredFacts):
    """What can be written, too."""

    @abstractmethod
    def set_fact(self, name: str, value: Any) -> None:
        """Set a fact to a JSON value."""

    def set_boot_failures(self, failures: BootFailures) -> None:
        """See ``Ledger.set_boot_failures``."""
        self.set_fact(BOOT_FAILURES_FACT, boot_failures_value(failures))

    def set_holds(self, holds: Holds) -> None:
        """See ``Ledger.set_holds``."""
        self.set_fact(HOLD_FACT, holds_value(holds))

    def set_reservation(self, reservation: Reservation | None) -> None:
        """See ``Ledger.set_reservation``."""
        self.set_fact(RESERVATION_FACT, reservation_value(reservation))

    def set_boots(self, seconds: Sequence[float]) -> None:
        """See ``Ledger.set_boots``."""
        self.set_fact(BOOTS_FACT, list(seconds))

    def seen_at(self) -> float | None:
        """See ``Ledger.seen_at``."""
        value: float | None = self.fact(SEEN_FACT)
        return value

    def set_seen_at(self, now: float) -> None:
        """See ``Ledger.set_seen_at``."""
        self.set_fact(SEEN_FACT, now)

    def count_swept(self, kind: ResourceKind) -> None:
        """Count a leaked resource that was deleted."""
        counts = self.swept()
        self.set_fact(SWEPT_FACT, {**counts, kind: counts[kind] + 1})
