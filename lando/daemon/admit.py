"""Admission in the loop: no job starts while the work queue cannot be read, the cloud's VMs were not listed,
the quota is not known, or a service of the cloud does not answer."""

from __future__ import annotations

from lando.daemon.log import guarded
from lando.daemon.recorded_fact import RecordedFact
from lando.daemon.services_check import ServicesCheck
from lando.daemon.unknown import Unknown
from lando.engine.admission import Admission, AdmissionResult
from lando.engine.quota import QuotaView
from lando.store.facts import NO_START_FACT, OBSTACLE_FACT
from lando.store.transaction import Transaction


class Admitter:
    """Admits queued jobs, and records for ``status`` what the next one waits for.

    Args:
        admission: the rules.
        quota: what the quota leaves, as last seen.
        services: whether the cloud's services answer, where that is in doubt.
        unknown: what is in the cloud and unknown to the database, as last seen.
    """

    def __init__(
        self, admission: Admission, quota: QuotaView, services: ServicesCheck, unknown: Unknown
    ) -> None:
        self._admission = admission
        self._quota = quota
        self._services = services
        self._unknown = unknown
        self._fact = RecordedFact(OBSTACLE_FACT)
        self._no_start = NoStart()

    def admit(self, transaction: Transaction, now: float, free_creates: int, connected: bool) -> None:
        """Admit as many as can start now.

        Args:
            transaction: the iteration's.
            now: the daemon's clock.
            free_creates: how many creates can be sent now.
            connected: whether the work queue can be read.
        """
        result = AdmissionResult()
        if connected:
            with guarded(transaction, "admission"):
                result = self._admit(transaction, now, free_creates)
        self._fact.write(transaction, result.obstacle)
        self._no_start.write(transaction, self._services.trouble, now)

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._fact.write_again()
        self._no_start.write_again()

    def _admit(self, transaction: Transaction, now: float, free_creates: int) -> AdmissionResult:
        obstacle = self._quota.obstacle or self._services.obstacle or self._unknown.obstacle
        if obstacle is None:
            return self._admission.admit(transaction, now, free_creates, self._quota.headroom)
        return AdmissionResult(obstacle=obstacle if transaction.next_queued(now) is not None else None)


class NoStart:
    """Records since when everybody has been held while jobs wait, over restarts of the daemon."""

    def __init__(self) -> None:
        self._fact = RecordedFact(NO_START_FACT)

    def write(self, transaction: Transaction, trouble: str, now: float) -> None:
        """Record it, if it has changed.

        Args:
            transaction: the iteration's, after jobs were admitted.
            trouble: which service of the cloud does not answer, if that is known.
            now: the daemon's clock.
        """
        everybody = transaction.holds().everybody
        words = trouble or ("" if everybody is None else everybody.reason)
        if not words or not transaction.is_any_queued():
            self._fact.write(transaction, None)
            return
        before = transaction.fact(NO_START_FACT) or {"since": now}
        self._fact.write(transaction, {"since": min(now, before["since"]), "words": words})

    def write_again(self) -> None:
        """What was written last may have been rolled back."""
        self._fact.write_again()
