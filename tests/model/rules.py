"""The shipped rules over books in memory: each run once for the same books and input, and remembered.

Engine, machine, sweeper and observer are lando's own. What is checked here is what can be told from one
step alone; what must hold of a whole world is in ``invariants``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, NamedTuple, TypeVar

from lando.cloud.interface import FloatingIp, Server, ServerStatus
from lando.cloud.snapshot import CloudSnapshot
from lando.engine import clock_changes, deadlines
from lando.engine.admission import Admission
from lando.engine.boot_failures import NONE, BootFailures
from lando.engine.engine import Engine
from lando.engine.leaks import Sweeper
from lando.engine.ledger import Effect, Ledger
from lando.engine.observation import events
from lando.engine.operations import CreateRejected, Operation, OperationResult, SendCreate
from lando.engine.outbox import Outbox
from lando.engine.ownership import CloudResource
from lando.engine.pace import Pace
from lando.errors import UsageError
from lando.states.events import BootTimeout, Event, RunTimeout, WorkerLost
from lando.states.job import Job, JobSpec, Outcome
from lando.states.machine import MACHINE, Fired, JobMachine
from lando.states.table import Policy

from . import timed
from .ledger import NO_HOLDS, Books, MemoryLedger
from .timed import NOW
from .world import Floating, Letter, Machine, Scenario, Seen, in_order, message, token

OURS = "ours"
STRANGER = "mark-0"
"""A mark that no request ever has."""
OUTCOMES: tuple[Outcome, ...] = ("succeeded", "workflow_failed", "system_failed")
POLICY = Policy(boot_timeout=1.0, run_timeout=1.0, retry_first=0.0, retry_longest=0.0, hold=0.0)
PACE = Pace(poll=0.0, first=0.0, longest=0.0, settle=0.0, silence=0.0, heartbeat=0.0)

TIMERS: dict[str, tuple[Event, ...]] = {
    "booting": (BootTimeout(NOW),),
    "running": (RunTimeout(NOW), WorkerLost(NOW, 0.0)),
}
"""What a deadline may say in each state, at any moment: more than ``lando.engine.deadlines`` ever does."""


class Broken(NamedTuple):
    """An invariant that does not hold: its name, and what is wrong."""

    invariant: str
    reason: str


class Step(NamedTuple):
    """What a rule did to the books."""

    books: Books
    answer: Any = None
    processed: bool = True
    """The message is among the processed ones now."""
    effects: Mapping[int, Effect] = {}
    """The rows of the outbox as they are now, by the ids they had before."""
    broken: Broken | None = None


class WatchedEngine(Engine):
    """The shipped engine; remembers what it fired."""

    fired: list[tuple[Job, Event, Fired]]

    def fire(self, ledger: Ledger, job: Job, event: Event) -> Fired:
        fired = super().fire(ledger, job, event)
        self.fired.append((job, event, fired))
        return fired


@dataclass(frozen=True)
class Variant:
    """The parts that run: the shipped ones, unless something is broken on purpose."""

    machine: JobMachine = MACHINE
    engine: type[WatchedEngine] = WatchedEngine
    outbox: type[Outbox] = Outbox
    ledger: type[MemoryLedger] = MemoryLedger
    sweeper: type[Sweeper] = Sweeper
    acks_first: bool = False
    """The daemon acks before it commits."""
    sends_first: bool = False
    """The daemon carries an effect out before it commits that it began it."""


T = TypeVar("T")


class Rules:
    """What the daemon does in one transaction, as functions of the books.

    Args:
        scenario: what start_worker messages say.
        variant: the parts that run.
    """

    def __init__(self, scenario: Scenario, variant: Variant) -> None:
        self.scenario = scenario
        self.variant = variant
        policy, pace = (timed.POLICY, timed.PACE) if scenario.within else (POLICY, PACE)
        self.policy = policy = replace(policy, floating_ip=scenario.floating_ips)
        if scenario.within:
            self.policy = policy = replace(policy, run_timeout=scenario.run_timeout)
        self.rows: set[tuple[str, str, str]] = set()
        """The rows of the table that were fired: state, event, why."""
        self._engine = variant.engine(
            policy, pace, self._accept, self._new_secret, variant.machine, needs=lambda body: scenario.needs
        )
        self._outbox = variant.outbox(self._engine)
        self._admission = Admission(self._engine, scenario.places)
        self._secrets: list[str] = []
        self._flavor: str | None = None
        """Of the job whose message is taken."""
        self._shelf: dict[tuple[object, ...], Books] = {}
        self._remembered: dict[tuple[object, ...], Any] = {}
        self.empty = self._one_of_a_kind(Books())

    def take(self, books: Books, letter: Letter, processed: bool) -> Step:
        """Give a message its effect."""

        def run() -> Step:
            ledger = self._ledger(books, letter if processed else None)
            self._flavor = None if letter.job is None else self.scenario.flavor(letter.job)
            taken = self._engine.take(ledger, message(letter), NOW)
            known = ledger.is_processed(_key(letter))
            return self._step(books, ledger, taken)._replace(processed=known)

        return self._once(("take", books, letter, processed), run)

    def take_together(self, books: Books, letters: tuple[Letter, ...]) -> Step:
        """Give the reports of one batch their effect."""

        def run() -> Step:
            ledger = self._ledger(books)
            taken = self._engine.take_reports(ledger, [message(letter) for letter in letters], NOW)
            return self._step(books, ledger, taken)._replace(processed=False)

        return self._once(("take together", books, letters), run)

    def batches(self, books: Books, reports: frozenset[Letter]) -> Broken | None:
        """Two reports in one batch must do what they do one by one, and forged ones in between nothing."""

        def run() -> Broken | None:
            forged = {letter._replace(mark=STRANGER) for letter in reports}
            for pair in permutations(in_order(reports | forged), 2):
                alone = books
                for letter in pair:
                    alone = self.take(alone, letter, processed=False).books
                step = self.take_together(books, pair)
                if step.broken is not None or step.books is not alone:
                    return step.broken or Broken("a batch is as one by one", f"{pair[0]}, then {pair[1]}")
            return None

        return self._once(("batches", books, reports), run)

    def void_letters(self, books: Books) -> Broken | None:
        """Every report with a void token must change nothing, whenever it comes.

        Since this is tried on all books, such reports need not be kept in the queues of worlds. Where there
        are many holds, it is tried on each job alone.
        """

        if self.scenario.refuses and (len(books.jobs) > 1 or books.holds != NO_HOLDS):
            alone = (Books((job,), _of(job, books.effects), seen_at=books.seen_at) for job in books.jobs)
            return next(filter(None, (self.void_letters(self._one_of_a_kind(each)) for each in alone)), None)

        def run() -> Broken | None:
            for letter in _void_letters(books):
                step = self.take(books, letter, processed=False)
                if step.books is not books:
                    return Broken(
                        "void tokens change nothing", f"{letter}, which comes late, changes something"
                    )
            return None

        return self._once(("void letters", books), run)

    def live_marks(self, books: Books) -> frozenset[str]:
        """The marks of requests that are not void."""
        return self._once(
            ("live marks", books),
            lambda: frozenset(
                request.mark for job in books.jobs for request in job.requests if request.status != "void"
            ),
        )

    def admit(self, books: Books, free: tuple[str, ...], held_back: frozenset[str] = frozenset()) -> Step:
        """Admit what may be admitted."""

        def run() -> Step:
            ledger = self._ledger(books)
            ledger.held_back = held_back
            self._secrets = _secrets(free)
            return self._step(books, ledger, self._admission.admit(ledger, NOW, 8).jobs)

        return self._once(("admit", books, free, held_back), run)

    def turns(self, books: Books) -> tuple[Effect, ...]:
        """The effects whose turn it is."""
        return self._once(("turns", books), lambda: tuple(self._ledger(books).next_effects()))

    def begin(self, books: Books, effect: Effect, held_back: frozenset[str] | None = frozenset()) -> Step:
        """Turn an effect into a task."""

        def run() -> Step:
            ledger = self._ledger(books)
            ledger.held_back, ledger.is_cloud_known = held_back or frozenset(), held_back is not None
            operation = self._outbox.begin(ledger, effect, NOW)
            if isinstance(operation, SendCreate):
                operation = replace(operation, job=Job(operation.job.id, attempt=operation.job.attempt))
            return self._step(books, ledger, operation)

        return self._once(("begin", books, effect, held_back), run)

    def conclude(
        self,
        books: Books,
        effect: Effect,
        operation: Operation,
        result: OperationResult,
        free: tuple[str, ...],
    ) -> Step:
        """Take the result of a task."""

        def run() -> Step:
            ledger = self._ledger(books)
            self._secrets = _secrets(free)
            self._outbox.conclude(ledger, effect, operation, result, NOW)
            step, job = self._step(books, ledger), ledger.job(effect.job_id)
            if step.broken is None and job is not None and isinstance(result, CreateRejected):
                step = step._replace(broken=_failed_wrongly(job, result))
            return step

        return self._once(("conclude", books, effect, operation, result, free), run)

    def renumbered(self, books: Books, job_ids: frozenset[str]) -> Books:
        """The books, in which these jobs, which are queued, have had one attempt."""

        def run() -> Books:
            jobs = (replace(job, attempt=1) if job.id in job_ids else job for job in books.jobs)
            return self._one_of_a_kind(replace(books, jobs=tuple(jobs)))

        return self._once(("renumbered", books, job_ids), run)

    def time_out(self, books: Books, job: Job, event: Event) -> Step:
        """A deadline has passed."""

        def run() -> Step:
            ledger = self._ledger(books)
            self._engine.fire(ledger, job, event)
            return self._step(books, ledger)

        return self._once(("time out", books, job.id, event), run)

    def overdue(self, books: Books, listening: int) -> list[tuple[Job, Event]]:
        """The deadlines that have passed, for a daemon that has listened for so many units."""

        def run() -> list[tuple[Job, Event]]:
            jobs = self._ledger(books).jobs_in(("booting", "running"))
            return deadlines.overdue(
                jobs, NOW, NOW - listening, NOW - listening, self.policy, self._engine.pace
            )

        return self._once(("overdue", books, listening), run)

    def pass_time(self, books: Books, records: bool) -> Step:
        """A unit of time passes while the daemon lives, which it records, or has not yet."""

        def run() -> Step:
            ledger = self._ledger(timed.earlier(books, 1.0))
            if records:
                clock_changes.record(ledger, NOW)
            return self._step(books, ledger)

        return self._once(("pass time", books, records), run)

    def set_clock(self, books: Books, step: float) -> Step:
        """The daemon's clock jumps by so many units."""

        def run() -> Step:
            ledger = self._ledger(timed.earlier(books, step))
            clock_changes.adjust(ledger, step, NOW, self.policy, self._engine.pace)
            return self._step(books, ledger)

        return self._once(("set clock", books, step), run)

    def resume(self, books: Books) -> Step:
        """Another daemon starts."""

        def run() -> Step:
            ledger = self._ledger(books)
            self._outbox.resume(ledger, NOW)
            return self._step(books, ledger)

        return self._once(("resume", books), run)

    def restart(self, books: Books, step: float) -> Step:
        """Another daemon starts, so many units later by its clock."""

        def run() -> Step:
            ledger = self._ledger(timed.earlier(books, step))
            clock_changes.resume(ledger, NOW, self.policy, self._engine.pace)
            return self._step(books, ledger)

        return self._once(("restart", books, step), run)

    def observe(self, books: Books, seen: Seen, suspected: frozenset[str]) -> Step:
        """Apply a sighting; the answer is what the sweeper wants deleted, and what it suspects now."""

        def run() -> Step:
            ledger = self._ledger(books)
            snapshot = CloudSnapshot(
                tuple(server(machine) for machine in seen.machines),
                seen.gone,
                tuple(_floating_ip(each) for each in seen.floating),
            )
            jobs = list(books.jobs)
            sweeper = self.variant.sweeper(OURS, grace=0.0)
            servers = tuple(server for server in snapshot.servers if server.id in suspected)
            floating = tuple(each for each in snapshot.floating_ips or () if each.id in suspected)
            ended = [replace(job, state="failed") for job in jobs]
            sweeper.leaked(CloudSnapshot(servers, floating_ips=floating), ended, NOW)
            leaked = frozenset(thing.id for thing in sweeper.leaked(snapshot, jobs, NOW))
            unowned = frozenset(thing.id for thing in self._unowned(snapshot, jobs))
            # What was heard is never forgotten here, so it counts from the beginning.
            for job, event in events(snapshot, jobs, NOW, self._engine.pace.heartbeat, 0.0):
                self._engine.fire(ledger, job, event)
            return self._step(books, ledger, (leaked, unowned))

        return self._once(("observe", books, seen, suspected), run)

    def _unowned(self, snapshot: CloudSnapshot, jobs: list[Job]) -> list[CloudResource]:
        """What the sweeper suspects after this sighting: what it would delete at once on a second."""
        sweeper = self.variant.sweeper(OURS, grace=0.0)
        sweeper.leaked(snapshot, jobs, NOW)
        return sweeper.leaked(snapshot, jobs, NOW)

    # how a rule is run

    def _once(self, key: tuple[object, ...], run: Callable[[], T]) -> T:
        if key not in self._remembered:
            self._remembered[key] = run()
        return self._remembered[key]  # type: ignore[no-any-return]

    def _ledger(self, books: Books, processed: Letter | None = None) -> MemoryLedger:
        self._engine.fired = []
        return self.variant.ledger(books, frozenset(() if processed is None else (_key(processed),)))

    def _step(self, before: Books, ledger: MemoryLedger, answer: object = None) -> Step:
        raw = ledger.books()
        if self.scenario.within:
            effects = _numbered(raw.effects, timed.canonical_effect)
            books = Books(
                tuple(timed.canonical_job(job) for job in raw.jobs),
                tuple(effects.values()),
                raw.early_cancels,
                raw.forgotten,
                timed.canonical_holds(raw.holds),
                self._boot_failures(raw.boot_failures),
                timed.canonical_record(raw.seen_at),
            )
        else:
            effects = _numbered(raw.effects, _canonical_effect)
            books = Books(
                tuple(_canonical(job) for job in raw.jobs), tuple(effects.values()), raw.early_cancels
            )
        fired = self._engine.fired
        self.rows.update((job.state, event.name, answered.why) for job, event, answered in fired)
        broken = _misfired(fired) or _undone(before, books) or self._unsuitable(before, books)
        return Step(self._one_of_a_kind(books), answer, effects=effects, broken=broken)

    def _boot_failures(self, failures: BootFailures) -> BootFailures:
        """Of a job that is alone they decide nothing."""
        return NONE if len(self.scenario.jobs) == 1 else timed.canonical_boot_failures(failures)

    def _unsuitable(self, before: Books, after: Books) -> Broken | None:
        """A worker that cannot do what its job needs does not run it, and no other VM is booted for it."""
        for job, later in zip(before.jobs, after.jobs, strict=False):
            if self.scenario.needs and later.state == "running":
                return Broken("the unsuitable run nothing", f"job {job.id} is running")
            if job.verdict == "unsuitable" and later.state == "queued":
                return Broken("the unsuitable run nothing", f"job {job.id} is queued again")
        return None

    def _one_of_a_kind(self, books: Books) -> Books:
        content = (
            books.jobs,
            books.effects,
            books.early_cancels,
            books.holds,
            books.boot_failures,
            books.seen_at,
        )
        return self._shelf.setdefault(content, books)

    def _accept(self, body: Mapping[str, Any]) -> JobSpec:
        if not self.scenario.runnable:
            raise UsageError("cd: missing")
        attempts, flavor = self.scenario.attempts, self._flavor
        return JobSpec("https://example.org/a.git", ".", {}, "a.cwl", attempts=attempts, flavor=flavor)

    def _new_secret(self) -> str:
        return self._secrets.pop()


def _key(letter: Letter) -> str:
    """By what the engine remembers the message."""
    return f"{message(letter).origin}:{message(letter).id}"


def _secrets(marks: tuple[str, ...]) -> list[str]:
    """Each mark and then its token, the first at the end."""
    return [secret for mark in reversed(marks) for secret in (token(mark), mark)]


def _canonical(job: Job) -> Job:
    """The record without what no rule that is explored reads: versions, times, words for people."""
    return replace(
        job,
        version=0,
        reason="",
        not_before=0.0,
        heard_at=None,
        seq=0,
        exit_code=None,
        misses=min(1, job.misses),
        doubtful=min(job.attempts, job.doubtful),
        excused=0,
    )


def _canonical_effect(effect: Effect) -> Effect:
    """The row without what no rule reads that is explored: when it is due; tries only where they count."""
    tries = effect.tries if effect.kind == "save_console_log" else 0
    lost = "lost" if effect.kind == "create_server" and effect.reason else ""
    return replace(effect, due_at=0.0, tries=tries, reason=lost)


def _numbered(effects: tuple[Effect, ...], canonical: Callable[[Effect], Effect]) -> dict[int, Effect]:
    """The rows of the outbox by their ids, renumbered in their order."""
    in_order = sorted(effects, key=lambda effect: (effect.job_id, effect.id))
    return {effect.id: replace(canonical(effect), id=number) for number, effect in enumerate(in_order, 1)}


def server(machine: Machine) -> Server:
    """What a list of the cloud shows of it."""
    status: ServerStatus = "BUILD"
    if machine.phase != "BUILD":
        status = "ERROR" if machine.phase in ("ERROR", "no room") else "ACTIVE"
    return Server(
        machine.id,
        machine.id,
        status,
        machine.mark,
        OURS,
        machine.job,
        machine.attempt,
        address="192.0.2.1",
        no_capacity=machine.phase == "no room",
    )


def _floating_ip(floating: Floating) -> FloatingIp:
    return FloatingIp(floating.id, "192.0.2.9", floating.mark, OURS)


def is_valid(books: Books, letter: Letter) -> bool:
    """The letter's token is that of a request of the job's present attempt, sent and not void."""
    job = next((job for job in books.jobs if job.id == letter.job), None)
    return job is not None and any(
        request.mark == letter.mark
        and request.status in ("sent", "adopted")
        and letter.attempt == job.attempt
        for request in job.requests
    )


def _of(job: Job, effects: tuple[Effect, ...]) -> tuple[Effect, ...]:
    """The rows of one job, numbered as if there were no other."""
    rows = (effect for effect in effects if effect.job_id == job.id)
    return tuple(replace(effect, id=number) for number, effect in enumerate(rows, 1))


def _void_letters(books: Books) -> Iterator[Letter]:
    for job in books.jobs:
        void = [request.mark for request in job.requests if request.status == "void"]
        sources = [(job.attempt, mark) for mark in (*void, STRANGER)]
        sources += [(job.attempt - 1, mark) for mark in (STRANGER, *(r.mark for r in job.requests))]
        for attempt, mark in sources:
            yield Letter("worker_started", job.id, attempt, mark)
            yield Letter("worker_progress", job.id, attempt, mark)
            for outcome in OUTCOMES:
                yield Letter("workflow_finished", job.id, attempt, mark, outcome)


CLIENTS = ("cancel", "retry")


def _misfired(fired: list[tuple[Job, Event, Fired]]) -> Broken | None:
    for job, event, answered in fired:
        if answered.answer in ("ignored", "refused") and (answered.job is not job or answered.effects):
            return Broken("ignored and refused change nothing", f"{event.name} in {job.state}")
        if answered.answer == "refused" and event.name not in CLIENTS:
            return Broken("the daemon is never refused", f"{event.name} in {job.state}: {answered.why}")
    return None


def _failed_wrongly(job: Job, refusal: CreateRejected) -> Broken | None:
    """What is wrong where a job, whose create was refused now, has failed."""
    if job.state != "failed":
        return None
    if refusal.kind == "site" and not job.wishes:
        return Broken("a default is not the job's fault", f"job {job.id} has failed, and asks for nothing")
    if refusal.reason not in job.reason:
        return Broken("a refusal is told", f"job {job.id} has failed: {job.reason}")
    return None


def _undone(before: Books, after: Books) -> Broken | None:
    """What may never be taken back: a void request, the serial of an attempt."""
    for job, later in zip(before.jobs, after.jobs, strict=False):
        if later.attempt < job.attempt:
            return Broken("attempts are never reused", f"{job.attempt} became {later.attempt}")
        if later.attempt != job.attempt:
            continue
        void = {request.mark for request in job.requests if request.status == "void"}
        if any(request.mark in void and request.status != "void" for request in later.requests):
            return Broken("void tokens stay void", f"a request of job {job.id} came back")
    return None
