"""What must be caught where the cloud refuses what some jobs ask for: the rules about that, each broken on
purpose in one place."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from lando.engine import admission
from lando.engine.boot_failures import BootFailures
from lando.engine.engine import Engine
from lando.engine.holds import Hold, Holds, Refusal
from lando.engine.ledger import Ledger
from lando.engine.operations import CreateRejected
from lando.states.job import Job

from .breakages import Breakage
from .rules import Variant
from .scenarios import DEFAULT_REFUSED, ONE_OF_THREE_REFUSED, ONE_REFUSED, TWO_REFUSED
from .timed_breakages import HoldsForEver

DELAYS, ENDLESS = "a refused job delays no other", "what waiting cannot help fails in time"

_refuse = admission.refuse


def holding_everybody(holds: Holds, wishes: str, refusal: Refusal, now: float) -> Holds:
    return replace(holds, everybody=refusal.hold(holds.everybody, now))


def holding_nobody(holds: Holds, wishes: str, refusal: Refusal, now: float) -> Holds:
    return holds


def always_the_first(
    ledger: Ledger,
    holds: Holds,
    failures: BootFailures,
    now: float,
    small: Collection[str | None],
    *_: object,
) -> tuple[Job | None, Holds]:
    return ledger.next_queued(now, (), small), holds


def never_another_turn(
    ledger: Ledger, holds: Holds, times: int, now: float, small: Collection[str | None]
) -> tuple[Job | None, Holds]:
    return ledger.next_queued(now, (), small), holds


def without_proof(hold: Hold) -> Hold:
    return replace(hold, own=True)


def failing(
    whom: Callable[[Holds, Job, float], bool],
) -> Callable[[Ledger, Engine, Job, CreateRejected, float], CreateRejected]:
    """As shipped, but a refusal of what landoconfig.yml may name fails others, too."""

    def refuse(
        ledger: Ledger, engine: Engine, job: Job, refusal: CreateRejected, now: float
    ) -> CreateRejected:
        fails = refusal.kind == "site" and whom(ledger.holds().at(now), job, now)
        refused = _refuse(ledger, engine, job, refusal, now)
        return replace(refused, kind="job") if fails else refused

    return refuse


def without_words(*given: Any) -> CreateRejected:
    return replace(_refuse(*given), reason="")


REFUSAL_BREAKAGES = (
    Breakage(
        "a refusal holds everybody, and the first job tries again",
        DELAYS,
        ONE_REFUSED,
        patches={
            "lando.engine.holds.Holds.after_refusal": holding_everybody,
            "lando.engine.admission._next_probe": always_the_first,
        },
    ),
    Breakage(
        "a refusal holds nobody",
        DELAYS,
        ONE_REFUSED,
        patches={"lando.engine.holds.Holds.after_refusal": holding_nobody},
    ),
    Breakage(
        "the job that was refused finds out itself",
        DELAYS,
        ONE_REFUSED,
        patches={"lando.engine.admission._next_probe": always_the_first},
    ),
    Breakage(
        "those who find out do not take turns",
        DELAYS,
        TWO_REFUSED,
        patches={"lando.engine.admission._next_turn": never_another_turn},
    ),
    Breakage(
        "only what was accepted before has a turn",
        DELAYS,
        TWO_REFUSED,
        patches={"lando.engine.admission._after": lambda *_: None},
    ),
    Breakage(
        "who has found out is waited for",
        DELAYS,
        TWO_REFUSED,
        patches={
            "lando.engine.admission._is_trying": lambda ledger, probe: probe is not None,
            "lando.engine.holds.Holds.answered": lambda holds, job_id: holds,
        },
    ),
    Breakage("a hold after refusals never ends", DELAYS, TWO_REFUSED, Variant(ledger=HoldsForEver)),
    Breakage(
        "a default that is refused fails its job",
        "a default is not the job's fault",
        DEFAULT_REFUSED,
        patches={"lando.engine.admission.refuse": failing(lambda holds, job, now: job.wishes in holds.own)},
    ),
    Breakage(
        "a refusal fails its job before another was accepted",
        "what may be the site's fails nobody",
        ONE_REFUSED,
        patches={"lando.engine.admission.refuse": failing(lambda holds, job, now: bool(job.wishes))},
    ),
    Breakage(
        "a refusal that is proven to be a job's own does not fail it",
        ENDLESS,
        ONE_OF_THREE_REFUSED,
        patches={"lando.engine.holds.Holds.is_own": lambda *_: False},
    ),
    Breakage(
        "a create that is accepted proves nothing",
        ENDLESS,
        ONE_OF_THREE_REFUSED,
        patches={"lando.engine.holds._proven": without_proof},
    ),
    Breakage(
        "the cloud's words are lost",
        "a refusal is told",
        ONE_OF_THREE_REFUSED,
        patches={"lando.engine.admission.refuse": without_words},
    ),
)
