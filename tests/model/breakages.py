"""What must be caught: the table, the rules and the order of things, each broken on purpose in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from lando.cloud.snapshot import CloudSnapshot
from lando.engine.leaks import Sweeper
from lando.engine.ledger import Effect, Ledger
from lando.engine.operations import AnswerLost, DeleteServers, Operation, OperationResult, SendCreate, Trouble
from lando.engine.outbox import Outbox
from lando.engine.ownership import CloudResource
from lando.engine.taken import Taken
from lando.messages import Message
from lando.states import actions, create_requests, terminating
from lando.states.events import CreateAbsent, CreateRefused, Event, Report
from lando.states.job import CreateRequest, Job, State
from lando.states.machine import TABLE, build
from lando.states.table import Policy, Row, ignored, moves

from .explore import SHIPPED, Exploration, explore
from .ledger import MemoryLedger
from .rules import Variant, WatchedEngine
from .world import Scenario

FAULT = Scenario("one fault", faults=1, asks=0)
FLOATING = Scenario("a floating IP and a fault", faults=1, asks=0, floating_ips=True)
ASK = Scenario("a fault and an ask", faults=1, asks=1)
ASKS = Scenario("a fault and two asks", faults=1, asks=2)
OLD_IMAGE = Scenario("an image that is too old, and a fault", faults=1, asks=0, needs=("archive",))
TWO_JOBS = Scenario("two jobs, one place", jobs=("A", "B"), faults=0, asks=0)


@dataclass(frozen=True)
class Breakage:
    """One thing broken, the invariant that tells, and where to look for it."""

    name: str
    invariant: str
    scenario: Scenario = FAULT
    variant: Variant = SHIPPED
    patches: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Functions of lando to replace, by their names."""


def table(state: State, event: str, change: Callable[[list[Row]], Iterable[Row]]) -> Variant:
    """The shipped table but for the rows of one event in one state."""
    rows = [row for row in TABLE[state] if row.event == event]
    others = tuple(row for row in TABLE[state] if row.event != event)
    return Variant(machine=build({**TABLE, state: (*change(rows), *others)}))


def always_ignored(rows: list[Row]) -> list[Row]:
    return [ignored(rows[0].event, why="broken")]


def without_orders(rows: list[Row]) -> list[Row]:
    return [replace(row, effects=()) for row in rows]


def to_queued(rows: list[Row]) -> list[Row]:
    return [
        moves(row.event, "queued", action=lambda job, event, policy: job, why="broken") for row in rows[:1]
    ]


def to_done(rows: list[Row]) -> list[Row]:
    return [moves(rows[0].event, "done", action=terminating.end, why="broken")]


def finished_at_once(rows: list[Row]) -> list[Row]:
    def action(job: Job, event: Any, policy: Any) -> Job:
        return terminating.end(actions.finish(job, event, policy), event, policy)

    return [replace(rows[0], to="done", action=action, effects=()), *rows[1:]]


def heeded_whoever_spoke(rows: list[Row]) -> list[Row]:
    (heeds,) = (row for row in rows if row.answer == "stays")
    return [replace(heeds, when=create_requests.is_open), rows[-1]]


def again_whatever_failed(rows: list[Row]) -> list[Row]:
    def may_run_again(job: Job, event: Any) -> bool:
        return (
            job.verdict in ("system_failed", "not_booted", "unsuitable") and job.failures + 1 < job.attempts
        )

    return [
        replace(row, when=may_run_again) if row.when is terminating.may_run_again else row for row in rows
    ]


class RunsWhatItCannot(WatchedEngine):
    def _judged(self, ledger: Ledger, job: Job, event: Report, body: Mapping[str, Any]) -> Report:
        return event


class ForgetsMessages(MemoryLedger):
    def is_processed(self, message_id: str) -> bool:
        return False


class ForgetsCancels(MemoryLedger):
    def was_canceled(self, job_id: str) -> bool:
        return False


class CountsNobody(MemoryLedger):
    def live(self) -> dict[str | None, int]:
        return {}


class TakesOneReportOfABatch(WatchedEngine):
    """Coalesces too much: what follows the first report of a job is taken for the same."""

    def take_reports(self, ledger: Ledger, messages: Sequence[Message], *more: Any) -> list[Taken]:
        results = super().take_reports(ledger, messages[:1], *more)
        return results * len(messages)


class InOrderOfIds(MemoryLedger):
    @staticmethod
    def place(effect: Effect) -> tuple[int, int]:
        return (0, effect.id)


class DeletesFirst(MemoryLedger):
    @staticmethod
    def place(effect: Effect) -> tuple[int, int]:
        return (0 if effect.kind == "delete_server" else 1, effect.id)


class BelievesTheBooks(Outbox):
    def resume(self, ledger: Ledger, now: float) -> None:
        """What is unsent in the books is believed to be unsent."""


class SendsUnrecorded(Outbox):
    def _operation(self, ledger: Ledger, job: Job, effect: Effect, now: float) -> Operation | None:
        request = create_requests.open_request(job)
        if effect.kind == "create_server" and request is not None and request.status == "ordered":
            return SendCreate(job, request.mark, request.token)
        return super()._operation(ledger, job, effect, now)


class TakesSilenceForRefusal(Outbox):
    def _create_event(
        self, ledger: Ledger, job: Job, effect: Effect, mark: str, result: OperationResult, now: float
    ) -> Event | None:
        if isinstance(result, AnswerLost):
            return CreateRefused(now, mark, "capacity", result.reason)
        return super()._create_event(ledger, job, effect, mark, result, now)


class GivesUp(Outbox):
    def _try_again(self, ledger: Ledger, job: Job, effect: Effect, trouble: Trouble, now: float) -> None:
        ledger.remove_effect(effect)


class SweepsTheUnresolved(Sweeper):
    def leaked(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[CloudResource]:
        known = [job if job.server_id is not None else replace(job, state="failed") for job in jobs]
        return super().leaked(snapshot, known, now)


class SweepsFloatingIps(Sweeper):
    def leaked(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[CloudResource]:
        return super().leaked(snapshot, [replace(job, floating_ip=None) for job in jobs], now)


class ForgetsFloatingIps(Outbox):
    def _operation(self, ledger: Ledger, job: Job, effect: Effect, now: float) -> Operation | None:
        operation = super()._operation(ledger, job, effect, now)
        return replace(operation, floating_ip=None) if isinstance(operation, DeleteServers) else operation


class SweepsServersOnly(Sweeper):
    def leaked(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[CloudResource]:
        return super().leaked(replace(snapshot, floating_ips=None), jobs, now)


class SweepsNothing(Sweeper):
    def leaked(self, snapshot: CloudSnapshot, jobs: Iterable[Job], now: float) -> list[CloudResource]:
        return []


def reporting_whatever_status(job: Job, event: Any) -> Any:
    return next((request for request in job.requests if request.token == event.token), None)


def without_voiding(rows: list[Row]) -> list[Row]:
    def ask_again(job: Job, event: CreateAbsent, policy: Policy) -> Job:
        new = CreateRequest(event.new_mark, event.new_token)
        old = tuple(replace(request, absent_since=None) for request in job.requests)
        return replace(job, requests=(new, *old))

    return [replace(rows[0], action=ask_again), *rows[1:]]


def adopt_without_voiding(job: Job, mark: str) -> Job:
    adopted = (replace(r, status="adopted", absent_since=None) if r.mark == mark else r for r in job.requests)
    return replace(job, requests=tuple(adopted))


def adopt_remembering_absence(job: Job, mark: str) -> Job:
    return create_requests.set_status(withdraw_everything(job), mark, "adopted")


def withdraw_everything(job: Job) -> Job:
    return replace(job, requests=tuple(replace(request, status="void") for request in job.requests))


def _no_conclusion() -> Variant:
    return table(
        "terminating",
        "create_absent",
        lambda rows: [row for row in rows if row.action is not actions.nothing_exists],
    )


def _one_look() -> Variant:
    def once(rows: list[Row]) -> list[Row]:
        return [replace(rows[0], when=create_requests.is_open), *rows[1:]]

    return table("booting", "create_absent", once)


BREAKAGES = (
    # the order of commit, ack and sending
    Breakage("acks before it commits", "no job is lost", variant=Variant(acks_first=True)),
    Breakage(
        "sends a create before it commits that, and the next daemon believes the books",
        "one server a job",
        FAULT,
        Variant(sends_first=True, outbox=BelievesTheBooks),
    ),
    Breakage(
        "a create is not recorded as sent",
        "the daemon is never refused",
        FAULT,
        Variant(outbox=SendsUnrecorded),
    ),
    # messages
    Breakage(
        "messages are not remembered", "a message has its effect once", ASKS, Variant(ledger=ForgetsMessages)
    ),
    Breakage("early cancels are not remembered", "a cancel wins", ASK, Variant(ledger=ForgetsCancels)),
    Breakage(
        "void tokens count",
        "void tokens change nothing",
        patches={"lando.states.create_requests.reporting_request": reporting_whatever_status},
    ),
    Breakage(
        "of reports that arrive together one counts",
        "a batch is as one by one",
        FAULT,
        Variant(engine=TakesOneReportOfABatch),
    ),
    Breakage(
        "reports are put together before their tokens are checked",
        "a batch is as one by one",
        patches={"lando.engine.reports._ReportsOfJob._is_valid": lambda self, event: True},
    ),
    Breakage(
        "the cancel of a pending retry is ignored",
        "a cancel wins",
        ASK,
        table("terminating", "cancel", always_ignored),
    ),
    Breakage(
        "late results are ignored",
        "finished work stands",
        FAULT,
        table("terminating", "workflow_finished", always_ignored),
    ),
    # leaving a server
    Breakage(
        "boot_timeout goes to the queue",
        "nothing is stuck",
        FAULT,
        table("booting", "boot_timeout", to_queued),
    ),
    Breakage(
        "worker_lost goes to the queue",
        "no server is left behind",
        FAULT,
        table("running", "worker_lost", to_queued),
    ),
    Breakage(
        "cancel orders no deletion", "nothing is stuck", ASK, table("booting", "cancel", without_orders)
    ),
    Breakage(
        "done before the server is gone",
        "no server is left behind",
        FAULT,
        table("running", "workflow_finished", finished_at_once),
    ),
    Breakage(
        "what is gone is done", "done needs a result", ASK, table("terminating", "server_gone", to_done)
    ),
    Breakage(
        "creates that were sent are withdrawn",
        "the daemon is never refused",
        ASK,
        patches={"lando.states.create_requests.withdraw_unsent": withdraw_everything},
    ),
    Breakage(
        "a refusal outweighs the worker's word",
        "no server is left behind",
        FAULT,
        table("terminating", "create_refused", heeded_whoever_spoke),
    ),
    Breakage(
        "an absence of before the worker's word counts",
        "no server is left behind",
        FAULT,
        patches={"lando.states.create_requests.adopt": adopt_remembering_absence},
    ),
    # workers that are too old
    Breakage(
        "a worker that is too old runs the job",
        "the unsuitable run nothing",
        OLD_IMAGE,
        Variant(engine=RunsWhatItCannot),
    ),
    Breakage(
        "another VM is booted from an image that is too old",
        "the unsuitable run nothing",
        OLD_IMAGE,
        table("terminating", "server_gone", again_whatever_failed),
    ),
    # creates
    Breakage("one look concludes absence", "one server a job", FAULT, _one_look()),
    Breakage("a lost answer is a refusal", "one server a job", FAULT, Variant(outbox=TakesSilenceForRefusal)),
    Breakage(
        "requests that were given up stay open",
        "one request is adopted",
        FAULT,
        table("booting", "create_absent", without_voiding),
        {"lando.states.create_requests.adopt": adopt_without_voiding},
    ),
    Breakage("absence concludes nothing", "every job can end", ASK, _no_conclusion()),
    # the outbox, admission, the sweeper
    Breakage("twins are deleted too late", "no server is left behind", ASK, Variant(ledger=InOrderOfIds)),
    Breakage("the deletion goes first", "nothing is stuck", ASK, Variant(ledger=DeletesFirst)),
    Breakage("what failed is not tried again", "nothing is stuck", FAULT, Variant(outbox=GivesUp)),
    Breakage("places are not counted", "places", TWO_JOBS, Variant(ledger=CountsNobody)),
    Breakage(
        "the sweeper takes unresolved creates",
        "the sweeper spares what lives",
        FAULT,
        Variant(sweeper=SweepsTheUnresolved),
    ),
    Breakage("the sweeper sweeps nothing", "every job can end", FAULT, Variant(sweeper=SweepsNothing)),
    # floating IPs
    Breakage(
        "floating IPs are not released",
        "no floating IP is left behind",
        FLOATING,
        Variant(outbox=ForgetsFloatingIps),
    ),
    Breakage(
        "the sweeper takes floating IPs in use",
        "the sweeper spares what lives",
        FLOATING,
        Variant(sweeper=SweepsFloatingIps),
    ),
    Breakage(
        "lost floating IPs are not swept", "every job can end", FLOATING, Variant(sweeper=SweepsServersOnly)
    ),
)


def explored(breakage: Breakage) -> Exploration:
    """What comes of it."""
    with contextlib.ExitStack() as patched:
        for name, function in breakage.patches.items():
            patched.enter_context(patch(name, function))
        return explore(breakage.scenario, breakage.variant)
