"""What must be caught where the database is restored: the rules about that, each broken on purpose."""

from __future__ import annotations

from lando.cloud.interface import Server
from lando.engine.leaks import Unowned
from lando.engine.ledger import Effect, Ledger
from lando.engine.operations import Operation
from lando.engine.outbox import Outbox

from .breakages import BelievesTheBooks, Breakage
from .rules import Variant
from .scenarios import RESTORED, RESTORED_DEEP


class RequestsUnlisted(Outbox):
    def begin(self, ledger: Ledger, effect: Effect, now: float) -> Operation | None:
        ledger.is_cloud_known = True
        return super().begin(ledger, effect, now)


class SendsWhatIsHeldBack(Outbox):
    def begin(self, ledger: Ledger, effect: Effect, now: float) -> Operation | None:
        ledger.held_back = frozenset()
        return super().begin(ledger, effect, now)


def by_orphans_only(servers: Unowned[Server], deployment: str) -> frozenset[str]:
    return frozenset(each.job_id for each in servers.orphans if each.job_id is not None)


def by_unknown_ones_only(servers: Unowned[Server], deployment: str) -> frozenset[str]:
    return frozenset(each.job_id for each in servers.unknown if each.job_id is not None)


HELD_BACK = "lando.engine.leaks.held_back"

RESTORE_BREAKAGES = (
    Breakage(
        "unknown servers hold no job back",
        "one server a job",
        RESTORED,
        patches={HELD_BACK: by_orphans_only},
    ),
    Breakage(
        "an unsent create is sent by the next daemon",
        "one server a job",
        RESTORED,
        Variant(outbox=BelievesTheBooks),
    ),
)
RESTORE_BREAKAGES_DEEP = (
    Breakage(
        "orphans hold no job back",
        "one server a job",
        RESTORED_DEEP,
        patches={HELD_BACK: by_unknown_ones_only},
    ),
    Breakage(
        "a create is sent before the servers were listed",
        "one server a job",
        RESTORED_DEEP,
        Variant(outbox=RequestsUnlisted),
    ),
    Breakage(
        "a create of a job that is held back is sent",
        "one server a job",
        RESTORED_DEEP,
        Variant(outbox=SendsWhatIsHeldBack),
    ),
)
"""A quarter of a minute each."""
