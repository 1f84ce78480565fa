"""The abstract world: everything that there is, as one value. Names are small and used again once free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from typing import Any, Literal, NamedTuple

from lando.engine.ledger import Effect
from lando.engine.operations import (
    AnswerLost,
    Attached,
    AttachFloatingIp,
    Console,
    Created,
    CreateRejected,
    DeleteServers,
    FetchConsole,
    FindServers,
    Gone,
    Listed,
    Operation,
    OperationResult,
    SendCreate,
    StillExists,
)
from lando.messages import Message
from lando.states.events import RefusalKind
from lando.states.job import Job, Outcome

from .ledger import Books
from .timed import Lived


class Letter(NamedTuple):
    """A message, as far as its content matters here; equal letters are the same message (same id)."""

    type: str
    job: str | None = None
    attempt: int | None = None
    mark: str | None = None
    """Of the create request whose worker wrote it."""
    outcome: Outcome | None = None
    vm_name: str | None = None
    copy: int = 0
    """Tells messages of the same content apart: those with different ids."""

    def __str__(self) -> str:
        reason = (self.type, self.job or self.vm_name, self.outcome, self.mark and f"(of {self.mark})")
        return " ".join(word for word in reason if word) + (f", asked again (#{self.copy})" * bool(self.copy))


@cache
def message(letter: Letter) -> Message:
    """The letter as it goes over the wire."""
    body: dict[str, object] = {}
    if letter.outcome is not None:
        body["outcome"] = letter.outcome
    if letter.vm_name is not None:
        body["vm_name"] = letter.vm_name
    return Message(
        letter.type,
        body,
        letter.job,
        letter.attempt,
        None if letter.mark is None else token(letter.mark),
        seq={"worker_started": 1, "worker_progress": 1, "workflow_finished": 2}.get(letter.type),
        id=repr(letter),
        sent_at=0.0,
    )


def token(mark: str) -> str:
    """The token that was committed with this mark."""
    return f"token-{mark}"


ServerPhase = Literal["BUILD", "up", "finished", "ERROR", "no room"]
"""``no room`` is an ERROR, too, and tells why."""


class Machine(NamedTuple):
    """A server that exists, and how far its worker is."""

    id: str
    mark: str
    job: str
    attempt: int
    phase: ServerPhase = "BUILD"
    listed: bool = True
    believed: bool = False
    """Its id was recorded, or its worker was the first that was heard."""
    stray: bool = False
    """Nobody could know of it in time: it surfaced after two looks had missed it (the cloud's promise, its
    settle time, broken), or the cloud had denied it."""
    twin: bool = False
    """The second server of one request; it carries the token of the first."""
    missed: int = 0
    """How many looks have missed it, at most two; ``MISSED_BEFORE``: one, a unit of time ago or longer."""


MISSED_BEFORE = 3


class Ghost(NamedTuple):
    """A create request of which nobody knows whether, or when, the cloud carries it out."""

    mark: str
    job: str
    attempt: int
    denied: bool = False
    """The cloud answered that nothing would exist."""
    missed: int = 0
    """How many looks have missed it, at most two."""

    def machine(self, server_id: str) -> Machine:
        """The server that the cloud makes of it after all."""
        return Machine(server_id, *self[:3], listed=False, stray=self.denied, missed=self.missed)


class Floating(NamedTuple):
    """A floating IP: allocated, or, while ``late``, asked for by a daemon that died."""

    mark: str
    job: str
    late: bool = False
    stray: bool = False
    """It was allocated late: nobody could know of it in time."""

    @property
    def id(self) -> str:
        """The cloud's name for it."""
        return f"floating-{self.mark}"


class InFlight(NamedTuple):
    """An effect begun and committed; carried out once it has a result."""

    effect: Effect
    operation: Operation
    result: OperationResult | None = None


class Seen(NamedTuple):
    """What one look at the cloud showed."""

    machines: tuple[Machine, ...]
    gone: frozenset[str]
    floating: tuple[Floating, ...] = ()


class World(NamedTuple):
    """Everything."""

    books: Books
    """All that is persisted, but for the processed messages."""
    queue: frozenset[Letter] = frozenset()
    """Not acked."""
    processed: frozenset[Letter] = frozenset()
    """Of those in the queue: which the books know as processed."""
    taken: frozenset[Letter] = frozenset()
    """Of those in the queue: which had their effect."""
    machines: tuple[Machine, ...] = ()
    ghosts: frozenset[Ghost] = frozenset()
    floating: frozenset[Floating] = frozenset()
    operations: tuple[InFlight, ...] = ()
    snapshot: Seen | None = None
    """Taken earlier, not yet applied."""
    suspected: frozenset[str] = frozenset()
    """Servers that the sweeper has seen once."""
    promises: tuple[Outcome | None, ...] = ()
    """How each job has to end, because a cancel or a result was taken."""
    faults: int = 0
    """How many more there may be."""
    asks: int = 0
    """How many more things clients may ask for."""
    jumps: int = 0
    """How often the daemon's clock may still be set, or differ from the last daemon's."""
    listening: int | None = None
    """For how many units the daemon has listened, where time passes; None: it has not read the queue yet."""
    lived: tuple[Lived, ...] = ()
    """What each job's deadlines truly count from, where time passes."""
    refused: frozenset[str | None] = frozenset()
    """The flavors that were refused, and no other accepted since, where the cloud always refuses some."""
    proven_once: frozenset[str | None] = frozenset()
    """Those that were refused before another was accepted."""
    outage: bool = False
    """No server boots."""
    proven: frozenset[str | None] = frozenset()
    """Of these: they were refused again, and another was accepted since."""
    restores: int = 0
    """How often a backup of the books may still be restored."""
    backup: Any = None
    """See ``restores.Backup``."""
    held_back: frozenset[str] | None = frozenset()
    """The jobs for which no server is requested; None: the cloud was not looked at since the daemon began.
    Always empty where nothing is restored."""


@dataclass(frozen=True)
class Scenario:
    """Where an exploration begins and how much may happen."""

    name: str
    jobs: tuple[str, ...] = ("A",)
    places: int = 1
    faults: int = 2
    asks: int = 1
    attempts: int = 2
    reports: tuple[str, ...] = ("worker_started",)
    """What a worker's first word may be."""
    runnable: bool = True
    floating_ips: bool = False
    """Servers get one."""
    needs: tuple[str, ...] = ()
    """Settings that jobs need, and that no worker here knows."""
    within: int = 0
    """Time passes, and from every world an end can be reached within so many units without another fault. 0:
    time stands still, and deadlines pass at any moment."""
    jumps: int = 0
    """How often the daemon's clock may be set, or differ from the last daemon's."""
    run_timeout: float | None = None
    """Of the jobs, where time passes."""
    recorded: bool = True
    """The daemon records its life at every unit of time; else, perhaps, at every second one."""
    flavors: tuple[str | None, ...] = ()
    """What each job asks for; empty: all ask for the site's default."""
    refuses: tuple[tuple[str | None, RefusalKind], ...] = ()
    """The flavors of which the cloud refuses every create, and how: that is its rule, and no fault."""
    outage: bool = False
    """At first no server boots, until the outage ends, at any moment."""
    unbootable: tuple[str | None, ...] = ()
    """The flavors whose servers never boot."""
    ended_within: int = 0
    """Units of time within which a job whose servers never boot ends, whatever happens."""
    accepted_within: int = 0
    """Units of time within which every other job has its server, whatever happens."""
    restores: int = 0
    """How often a backup of the books, made at any moment, is restored."""
    failed_within: int = 0
    """Units of time within which a refusal that is proven to be a job's own fails it, whatever happens."""

    def flavor(self, job_id: str) -> str | None:
        """What the job asks for."""
        return self.flavors[self.jobs.index(job_id)] if self.flavors else None

    def refusal(self, job_id: str) -> RefusalKind | None:
        """How the cloud refuses every create of the job; None: it accepts them."""
        return dict(self.refuses).get(self.flavor(job_id))

    @property
    def boots_quickly(self) -> bool:
        """A server that boots at all does so in time."""
        return bool(self.refuses or self.outage or self.unbootable)

    def first(self, books: Books) -> World:
        """The jobs are submitted: their messages are durably queued, and nothing else is anywhere."""
        return World(
            books,
            queue=frozenset(Letter("start_worker", job) for job in self.jobs),
            promises=(None,) * len(self.jobs),
            faults=self.faults,
            asks=self.asks,
            jumps=self.jumps,
            restores=self.restores,
            outage=self.outage,
            lived=(Lived(),) * len(self.jobs) if self.within else (),
        )


@cache
def in_order(letters: frozenset[Letter]) -> tuple[Letter, ...]:
    """The letters in an order that is the same in every run."""
    return tuple(sorted(letters, key=repr))


def free_marks(world: World) -> tuple[str, ...]:
    """The first marks that nothing in the world carries, one for each job."""
    jobs = (*world.books.jobs, *(() if world.backup is None else world.backup.books.jobs))
    used = {request.mark for job in jobs for request in job.requests}
    used.update(machine.mark for machine in world.machines)
    used.update(ghost.mark for ghost in world.ghosts)
    used.update(each.mark for each in world.floating)
    used.update(letter.mark for letter in world.queue if letter.mark is not None)
    used.update(
        flight.operation.mark
        for flight in world.operations
        if isinstance(flight.operation, SendCreate | FindServers | AttachFloatingIp)
    )
    if world.snapshot is not None:
        used.update(machine.mark for machine in world.snapshot.machines)
        used.update(each.mark for each in world.snapshot.floating)
    used.update(id_.removeprefix("floating-") for id_ in world.suspected)
    return tuple(islice(_free("mark", used), len(world.promises)))


def free_server(world: World) -> str:
    """The first server id that nothing in the world refers to."""
    used = {machine.id for machine in world.machines} | world.suspected
    books = (world.books,) if world.backup is None else (world.books, world.backup.books)
    used.update(job.server_id for each in books for job in each.jobs if job.server_id is not None)
    for effect in (effect for each in books for effect in each.effects):
        used.update(effect.servers)
    for flight in world.operations:
        used.update(_servers_of(flight.operation))
        used.update(_servers_of(flight.result))
    if world.snapshot is not None:
        used |= {machine.id for machine in world.snapshot.machines} | world.snapshot.gone
    return next(_free("server", used))


def _servers_of(thing: Operation | OperationResult | None) -> tuple[str, ...]:
    if isinstance(thing, DeleteServers | Listed):
        return thing.servers
    if isinstance(thing, FetchConsole | Created):
        return (thing.server_id,)
    return ()


def _free(kind: str, used: set[str]) -> Iterator[str]:
    return (name for number in count(1) if (name := f"{kind}-{number}") not in used)


def job_of(world: World, job_id: str) -> Job | None:
    """The record of a job, or None while its message is not taken."""
    return next((job for job in world.books.jobs if job.id == job_id), None)


def told(thing: OperationResult) -> str:
    """A result, in words."""
    if isinstance(thing, Created):
        return f"created {thing.server_id}"
    if isinstance(thing, CreateRejected):
        return f"refused ({thing.kind})"
    if isinstance(thing, Listed):
        return f"listed: {', '.join(thing.servers) or 'none'}"
    reason: dict[type, str] = {
        Attached: "attached",
        AnswerLost: "answer lost",
        Console: "console",
        Gone: "gone",
        StillExists: "still there",
    }
    return reason.get(type(thing), "trouble")
