"""What can happen next in a world. Each action is one step; its words are what a story says.

Messages are taken in any order and as late as may be, so a message that is dropped and sent again (with its
id) is covered. A client's message arrives the moment it is sent, for the same reason. What is assumed of the
world: a server whose worker speaks is listed from then on, and ids are never used again while anything refers
to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple, TypeVar, get_args

from lando.engine.admission import server_name
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
    Trouble,
)
from lando.states.events import Event, RefusalKind
from lando.states.job import Job

from . import invariants, isolation, outages, restores, timed
from .rules import OUTCOMES, TIMERS, Broken, Rules, Step, is_valid
from .timed import COUNTED, JUMP, NOW
from .world import (
    MISSED_BEFORE,
    Floating,
    Ghost,
    InFlight,
    Letter,
    Machine,
    Scenario,
    Seen,
    World,
    free_marks,
    free_server,
    in_order,
    job_of,
    told,
)

REFUSALS: tuple[RefusalKind, ...] = get_args(RefusalKind)


class Action(NamedTuple):
    """One step: its words (formatted only when a story is told), the world after it, what it broke."""

    reason: tuple[object, ...]
    world: World
    broken: Broken | None = None
    passes: bool = False
    """A unit of time passes."""


class Actions:
    """Everything that can happen.

    Args:
        rules: what the daemon does.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.scenario: Scenario = rules.scenario

    def of(self, world: World) -> Iterator[Action]:
        """Every next step."""
        for action in self._of(world):
            world_after = self._listening(self._renumbered(self._tidy(action.world)))
            yield action if world_after is action.world else action._replace(world=world_after)

    def _of(self, world: World) -> Iterator[Action]:
        yield from self._deliveries(world)
        yield from self._admission(world)
        yield from self._effects(world)
        yield from self._timers(world)
        yield from self._servers(world)
        yield from self._looks(world)
        if world.faults and (world.operations or world.snapshot or world.suspected):
            yield Action(("the daemon dies and is started again",), self._restarted(_fault(world)))
        if self.scenario.restores:
            yield from self._restores(world)
        if self.scenario.within:
            yield from self._clock(world)
            yield from self._passing(world)

    def _tidy(self, world: World) -> World:
        """The world without differences that mean nothing: what servers of void requests do or send.

        Their reports change nothing (``Rules.void_letters``); that they exist is all that is left of them.
        """
        if not world.machines and not world.queue:
            return world
        live = self.rules.live_marks(world.books)
        void = {letter for letter in world.queue if letter.mark is not None and letter.mark not in live}
        if void:
            world = _forgotten(world, void)
        if all(machine.mark in live for machine in world.machines):
            return world
        listed = (machine for machine in world.machines if machine.listed or machine.mark in live)
        return world._replace(
            machines=tuple(m if m.mark in live else m._replace(phase="finished") for m in listed),
            ghosts=world.ghosts.union(
                Ghost(m.mark, m.job, m.attempt, m.stray, m.missed)
                for m in world.machines
                if not m.listed and m.mark not in live
            ),
        )

    def _renumbered(self, world: World) -> World:
        """The world without the numbers of attempts that nothing refers to: a job whose creates are all
        refused has no end of them. What may be done with the next number does not depend on it, and that it
        never falls was checked of each step."""
        if not self.scenario.boots_quickly:
            return world
        jobs = {job.id for job in world.books.jobs if job.state == "queued" and job.attempt > 1}
        if not jobs:
            return world
        shown = () if world.snapshot is None else world.snapshot.machines
        of_attempts: Iterator[Machine | Ghost | Letter] = chain(
            world.machines, world.ghosts, world.queue, shown
        )
        jobs -= {each.job for each in of_attempts if each.attempt is not None and each.job is not None}
        jobs -= {flight.effect.job_id for flight in world.operations}
        return world._replace(books=self.rules.renumbered(world.books, frozenset(jobs)))

    def _listening(self, world: World) -> World:
        """The world, in which a daemon that has read the whole queue listens from then on."""
        if self.scenario.within and world.listening is None and not world.queue - world.taken:
            return world._replace(listening=0)
        return world

    def _restores(self, world: World) -> Iterator[Action]:
        """A backup is made, and restored later; an operator deletes what the books do not know."""
        copied = restores.backed_up(world)
        if copied is not None:
            yield Action(("a backup is made",), copied)
        back = restores.restored(_died(world))
        if back is not None:
            yield Action(("the backup is restored",), self._restarted(back))
        if not world.restores:
            for machine in restores.unknown(world):
                yield Action(("an operator deletes", machine.id), _without(world, machine.id))

    # messages

    def _deliveries(self, world: World) -> Iterator[Action]:
        for letter in in_order(world.queue):
            yield from self._delivery(world, letter)
        if world.asks:
            for letter in self._asked(world):
                sent = world._replace(queue=world.queue | {letter}, asks=world.asks - 1)
                yield from self._delivery(sent, letter)

    def _asked(self, world: World) -> Iterator[Letter]:
        """What clients may ask for. It arrives at once: when it was sent makes no difference."""
        for job_id in self.scenario.jobs:
            job = job_of(world, job_id)
            yield Letter("cancel_job", job_id, copy=world.asks)
            yield Letter("start_worker", job_id, copy=world.asks)
            if job is not None:
                yield Letter("retry_job", job_id, copy=world.asks)
            if job is not None and job.attempt:
                name = server_name(job_id, job.attempt)
                yield Letter("terminate_worker", vm_name=name, copy=world.asks)

    def _delivery(self, world: World, letter: Letter) -> Iterator[Action]:
        step = self.rules.take(world.books, letter, letter in world.processed)
        taken, broken = self._taken(world, letter, step)
        yield Action(("taken and acked:", letter), _acked(taken, letter), broken)
        if not world.faults:
            return
        yield Action(("taken, and a duplicate arrives later:", letter), _fault(taken), broken)
        if self.rules.variant.acks_first:
            yield Action(
                ("acked, and the daemon dies before it commits:", letter),
                self._restarted(_fault(_acked(world, letter))),
            )
        else:
            reason = ("taken, and the daemon dies between commit and ack:", letter)
            yield Action(reason, self._restarted(_fault(taken)), broken)

    def _taken(self, world: World, letter: Letter, step: Step) -> tuple[World, Broken | None]:
        """The message has its effect, and is still in the queue."""
        again = letter in world.taken
        broken = step.broken or (invariants.taken_once(world.books, step.books, letter) if again else None)
        promises = world.promises
        if not again:
            promises = tuple(
                invariants.promised(world.books, letter, promise, job_id)
                for promise, job_id in zip(promises, self.scenario.jobs, strict=True)
            )
        taken = self._after(
            world._replace(
                taken=world.taken | {letter},
                processed=world.processed | {letter} if step.processed else world.processed,
                promises=promises,
                machines=_heard(world, letter),
            ),
            step,
        )
        return taken, broken

    def _admission(self, world: World) -> Iterator[Action]:
        if any(job.state == "queued" for job in world.books.jobs):
            if world.held_back is None:
                return
            step = self.rules.admit(world.books, free_marks(world), world.held_back)
            if step.books is not world.books:
                yield Action(("admitted",), self._after(world, step), step.broken)

    def _timers(self, world: World) -> Iterator[Action]:
        """A deadline passes: as a fault while somebody may still speak, and certainly once nobody can.

        Where time passes it decides, and the shipped rule.
        """
        if self.scenario.within:
            for job, event in self._overdue(world):
                step = self.rules.time_out(world.books, job, event)
                broken = step.broken or invariants.verdict_is_due(world, self.rules, job, event)
                yield Action((event.name, "of job", job.id), self._after(world, step), broken)
            return
        for job in world.books.jobs:
            price = 1 if _may_speak(world, job) else 0
            if world.faults < price:
                continue
            paid = world._replace(faults=world.faults - price)
            for event in TIMERS.get(job.state, ()):
                step = self.rules.time_out(world.books, job, event)
                yield Action((event.name, "of job", job.id), self._after(paid, step), step.broken)

    # effects

    def _effects(self, world: World) -> Iterator[Action]:
        under_way = {flight.effect.id for flight in world.operations}
        for effect in self.rules.turns(world.books):
            if effect.id not in under_way and self._is_due(effect):
                yield from self._begun(world, effect)
        for flight in world.operations:
            if flight.result is None:
                yield from self._carried_out(world, flight)
            else:
                yield self._concluded(world, flight, flight.result)

    def _begun(self, world: World, effect: Effect) -> Iterator[Action]:
        step = self.rules.begin(world.books, effect, world.held_back)
        operation: Operation | None = step.answer
        broken = step.broken
        if isinstance(operation, SendCreate):
            job = job_of(world, effect.job_id)
            assert job is not None
            broken = broken or invariants.create_may_be_sent(world, job)
        elif isinstance(operation, FindServers) and self.scenario.within:
            broken = broken or invariants.look_is_due(world, effect.job_id)
        after = self._after(world, step)
        if operation is not None:
            flight = InFlight(step.effects[effect.id], operation)
            after = after._replace(operations=tuple(sorted((*after.operations, flight), key=_by_job)))
        what = type(operation).__name__ if operation is not None else "nothing to do"
        yield Action(("begun:", effect.kind, "of job", effect.job_id, f"({what})"), after, broken)
        if self.rules.variant.sends_first and isinstance(operation, SendCreate) and world.faults:
            sent = _fault(world)._replace(ghosts=world.ghosts | {_ghost(operation)})
            reason = ("sent, and the daemon dies before it commits that:", effect.kind)
            yield Action(reason, self._restarted(sent))

    def _carried_out(self, world: World, flight: InFlight) -> Iterator[Action]:
        refusal = self.scenario.refusal(flight.effect.job_id)
        answers = _answers(world, flight.operation, not self.scenario.within)
        if isinstance(flight.operation, SendCreate) and refusal is not None:
            answers = iter([(CreateRejected(refusal, isolation.WORDS), world, "")])
        for result, after, note in answers:
            if isinstance(result, StillExists | Trouble):
                yield self._concluded(after, flight, result)
                continue
            operations = tuple(flight._replace(result=result) if f is flight else f for f in after.operations)
            reason = (
                "the cloud answers",
                type(flight.operation).__name__,
                "of job",
                flight.effect.job_id + ":",
            )
            yield Action((*reason, told(result), note), after._replace(operations=operations))

    def _concluded(self, world: World, flight: InFlight, result: OperationResult) -> Action:
        free = free_marks(world) if isinstance(result, Listed) else ()
        step = self.rules.conclude(world.books, flight.effect, flight.operation, result, free)
        rest = world._replace(operations=tuple(f for f in world.operations if f is not flight))
        if self.scenario.refuses:
            rest = isolation.noted(rest, self.scenario.flavor(flight.effect.job_id), result)
        reason = ("concluded:", flight.effect.kind, "of job", flight.effect.job_id, f"({told(result)})")
        after = self._after(rest, step)
        broken = step.broken or isolation.blamed(world, after, flight.effect.job_id, result)
        return Action(reason, after, broken)

    # time

    def _is_due(self, effect: Effect) -> bool:
        return not self.scenario.within or effect.due_at <= NOW

    def _overdue(self, world: World) -> list[tuple[Job, Event]]:
        """Deadlines count only once the queue was read up to date."""
        if world.listening is None or world.queue - world.taken:
            return []
        return self.rules.overdue(world.books, world.listening)

    def _clock(self, world: World) -> Iterator[Action]:
        """The daemon's clock is set, its machine sleeps, or the next daemon's clock differs."""
        if not world.jumps:
            return
        paid = world._replace(jumps=world.jumps - 1)
        for step in (JUMP, -JUMP):
            after = self._retimed(paid, self.rules.set_clock(paid.books, step))
            yield Action((f"the daemon's clock is set: {step:+g}",), after)
            reason = (f"the daemon dies and is started again, with its clock at {step:+g}",)
            yield Action(reason, self._restarted(paid, step))
        asleep = self._retimed(paid, self.rules.set_clock(paid.books, JUMP))
        yield Action((f"the daemon's machine sleeps for {JUMP:g}",), asleep._replace(listening=None))

    def _passing(self, world: World) -> Iterator[Action]:
        """A unit of time passes, once the daemon has done all that it can do now."""
        reads = world.queue - world.taken
        if reads or world.operations or world.snapshot or world.listening is None or self._overdue(world):
            return
        if any(self._is_due(effect) for effect in self.rules.turns(world.books)):
            return
        if self.scenario.boots_quickly and self._boots_late(world):
            return
        if any(True for _ in self._admission(world)):
            return
        broken = invariants.nothing_is_late(world, self.rules)
        later = world._replace(
            machines=tuple(_waited(machine) for machine in world.machines),
            ghosts=frozenset(_waited(ghost) for ghost in world.ghosts),
            listening=min(COUNTED, world.listening + 1),
            lived=timed.lived_on(world.lived),
        )
        recorded = self._retimed(later, self.rules.pass_time(world.books, records=True))
        yield Action(("a unit of time passes",), recorded, broken, passes=True)
        if not self.scenario.recorded and world.books.seen_at == NOW:
            unrecorded = self._retimed(later, self.rules.pass_time(world.books, records=False))
            yield Action(("a unit of time passes, unrecorded so far",), unrecorded, broken, passes=True)

    def _boots_late(self, world: World) -> bool:
        """Whether a server would not boot in time if another unit passed; where servers do not boot, what
        runs ends first: how it is lost is explored elsewhere."""
        runs_on = not (self.scenario.outage or self.scenario.unbootable)
        return any(
            (job.state == "booting" and lived.began + 1 >= self.rules.policy.boot_timeout)
            or (job.state == "running" and not runs_on)
            for job, lived in zip(world.books.jobs, self._lived(world), strict=True)
        )

    def _lived(self, world: World) -> list[timed.Lived]:
        lived = dict(zip(self.scenario.jobs, world.lived, strict=True))
        return [lived[job.id] for job in world.books.jobs]

    def _restarted(self, world: World, step: float = 0.0) -> World:
        """The daemon has died, and another one starts, so many units later by its clock."""
        died = _died(world)
        died = self._after(died, self.rules.resume(died.books))
        if self.scenario.restores:
            died = died._replace(held_back=None)
        if not self.scenario.within:
            return died
        return self._retimed(died, self.rules.restart(died.books, step))._replace(listening=None)

    def _retimed(self, world: World, step: Step) -> World:
        """The world with its times as the step left them. What was lived through stays the same."""
        return self._after(world, step)._replace(lived=world.lived)

    # the cloud

    def _servers(self, world: World) -> Iterator[Action]:
        for ghost in sorted(world.ghosts):
            machine = ghost.machine(free_server(world))
            born = world._replace(ghosts=world.ghosts - {ghost})
            yield Action(("a lost create comes to nothing",), world._replace(ghosts=world.ghosts - {ghost}))
            if ghost.mark in self.rules.live_marks(world.books):
                yield Action(
                    ("a lost create is carried out, unlisted so far:", machine.id), _with(born, machine)
                )
            else:
                yield Action(
                    ("a lost create is carried out late:", machine.id), _with(born, _surfaced(machine))
                )
        for late in sorted(each for each in world.floating if each.late):
            rest = world.floating - {late}
            yield Action(("a lost allocation comes to nothing",), world._replace(floating=rest))
            carried_out = late._replace(late=False, stray=True)
            after = world._replace(floating=rest | {carried_out})
            yield Action(("a lost allocation is carried out late:", late.id), after)
        if world.outage:
            yield Action(("the outage ends",), world._replace(outage=False))
        for machine in world.machines:
            if not machine.listed:
                yield Action((machine.id, "is listed"), _with(world, _surfaced(machine)))
            if machine.phase == "BUILD" and outages.fails_to_boot(world, self.scenario, machine):
                yield Action((machine.id, "does not boot"), _with(world, machine._replace(phase="ERROR")))
            else:
                yield from self._worker(world, machine)
            if not world.faults:
                continue
            yield Action((machine.id, "vanishes"), _without(_fault(world), machine.id))
            if machine.phase == "BUILD":
                full = _with(_fault(world), machine._replace(phase="no room"))
                yield Action(("the cloud has no room for", machine.id), full)
            if machine.phase not in ("ERROR", "no room"):
                yield Action(
                    (machine.id, "is in ERROR"), _with(_fault(world), machine._replace(phase="ERROR"))
                )

    def _worker(self, world: World, machine: Machine) -> Iterator[Action]:
        """The worker in a server speaks. A server that is so far is listed from then on."""
        about = (machine.job, machine.attempt, machine.mark)
        if machine.phase == "BUILD":
            up = _with(world, _surfaced(machine)._replace(phase="up"))
            for report in self.scenario.reports:
                letter = Letter(report, *about)
                yield Action(("the worker in", machine.id, "sends", report), _mailed(up, letter))
        elif machine.phase == "up":
            finished = _with(world, machine._replace(phase="finished"))
            for outcome in OUTCOMES if world.faults else OUTCOMES[:1]:
                letter = Letter("workflow_finished", *about, outcome)
                reason = ("the worker in", machine.id, "sends workflow_finished", outcome)
                after = finished if outcome == "succeeded" else _fault(finished)
                yield Action(reason, _mailed(after, letter))

    def _looks(self, world: World) -> Iterator[Action]:
        if world.snapshot is not None:
            held = world._replace(snapshot=None)
            yield self._observed(held, world.snapshot, "an old look at the cloud is applied")
        seen = _look(world)
        if seen.machines or seen.gone or seen.floating or world.suspected or world.held_back != frozenset():
            yield self._observed(world, seen, "the cloud is looked at")
            if world.faults and world.snapshot is None:
                yield Action(
                    ("the cloud is looked at, and that is applied later",),
                    _fault(world)._replace(snapshot=seen),
                )

    def _observed(self, world: World, seen: Seen, reason: str) -> Action:
        step = self.rules.observe(world.books, seen, world.suspected)
        leaked, suspected = step.answer
        swept = [thing for thing in (*world.machines, *sorted(world.floating)) if thing.id in leaked]
        broken = step.broken or next(
            filter(None, (invariants.may_be_swept(world, each) for each in swept)), None
        )
        after = self._after(world._replace(suspected=suspected - leaked), step)
        if self.scenario.restores:
            after = after._replace(held_back=restores.held_back(seen.machines, world.books))
        after = _without(after, *(each.id for each in swept))
        after = after._replace(floating=after.floating.difference(swept))
        label = (reason,) if not swept else (reason, "and the sweeper deletes", *(m.id for m in swept))
        return Action(label, after, broken)

    def _after(self, world: World, step: Step) -> World:
        """The world with the books as the step left them."""
        operations = world.operations
        if operations:
            operations = tuple(
                flight._replace(effect=step.effects.get(flight.effect.id, flight.effect))
                for flight in operations
            )
        lived = world.lived
        if self.scenario.within and step.books is not world.books:
            records = [{job.id: job for job in books.jobs} for books in (world.books, step.books)]
            lived = tuple(
                timed.lived_since(each, *(record.get(job_id) for record in records))
                for each, job_id in zip(lived, self.scenario.jobs, strict=True)
            )
        return world._replace(
            books=step.books, operations=operations, machines=_recorded(world, step), lived=lived
        )


def _answers(
    world: World, operation: Operation, at_once: bool
) -> Iterator[tuple[OperationResult, World, str]]:
    """Every answer that the cloud may give, and what it does.

    Args:
        at_once: two looks count also if no time passes between them.
    """
    if isinstance(operation, SendCreate):
        yield from _create_answers(world, operation)
    elif isinstance(operation, FindServers):
        found = (
            machine.id for machine in world.machines if machine.listed and machine.mark == operation.mark
        )
        yield Listed(tuple(found)), _missed(world, operation.mark, at_once), ""
    elif isinstance(operation, AttachFloatingIp):
        job = next(job.id for job in world.books.jobs if job.server_id == operation.server_id)
        attached = world._replace(floating=world.floating | {Floating(operation.mark, job)})
        yield Attached("192.0.2.9"), attached, ""
        if world.faults:
            yield Trouble("no answer"), _fault(attached), "(it is there all the same)"
    elif isinstance(operation, DeleteServers):
        rest = _without(world, *operation.servers)
        released = (each for each in world.floating if each.mark == operation.floating_ip and not each.late)
        yield Gone(), rest._replace(floating=rest.floating.difference(released)), ""
        if rest is not world:
            yield StillExists(), world, ""
        if rest is not world and world.faults:
            yield Trouble("no answer"), _fault(rest), "(they are gone all the same)"
    elif isinstance(operation, FetchConsole):
        yield Console(""), world, ""
    if world.faults and not isinstance(operation, SendCreate):
        yield Trouble("no answer"), _fault(world), ""


def _create_answers(world: World, operation: SendCreate) -> Iterator[tuple[OperationResult, World, str]]:
    server = Machine(free_server(world), *_ghost(operation)[:3])
    one = _with(world, server)
    yield Created(server.id), one, ""
    if not world.faults:
        return
    ghost = _fault(world)._replace(ghosts=world.ghosts | {_ghost(operation)})
    denied = _fault(world)._replace(ghosts=world.ghosts | {_ghost(operation)._replace(denied=True)})
    for kind in REFUSALS:
        yield CreateRejected(kind, ""), _fault(world), ""
    yield CreateRejected("capacity", ""), denied, "(a server may surface all the same)"
    yield AnswerLost(""), ghost, "(a server may surface later)"
    yield AnswerLost(""), _fault(one), f"({server.id} exists)"
    twin = Machine(free_server(one), *_ghost(operation)[:3], twin=True)
    yield Created(server.id), _fault(_with(one, twin)), f"({twin.id} too)"
    yield AnswerLost(""), _fault(_with(one, twin)), f"({server.id} and {twin.id} exist)"


def _ghost(operation: SendCreate) -> Ghost:
    return Ghost(operation.mark, operation.job.id, operation.job.attempt)


def _look(world: World) -> Seen:
    """What the cloud shows to ``observer.look``: the list, and which known servers are absent."""
    known = {job.server_id for job in world.books.jobs if job.state in ("booting", "running")}
    exist = {machine.id for machine in world.machines}
    listed = (
        machine._replace(believed=False, stray=False, twin=False)
        for machine in world.machines
        if machine.listed
    )
    floating = (each._replace(stray=False) for each in sorted(world.floating) if not each.late)
    return Seen(
        tuple(listed),
        frozenset(id_ for id_ in known if id_ is not None and id_ not in exist),
        tuple(floating),
    )


def _may_speak(world: World, job: Job) -> bool:
    """A report of this attempt is on its way, or may come."""
    speakers = (machine for machine in world.machines if machine.phase in ("BUILD", "up"))
    sources: Iterator[Machine | Ghost | Letter] = chain(speakers, world.ghosts, world.queue)
    if any(source.job == job.id and source.attempt == job.attempt for source in sources):
        return True
    waits = any(effect.job_id == job.id and effect.kind == "create_server" for effect in world.books.effects)
    return waits and job.state == "booting"


# changes of a world


def _fault(world: World) -> World:
    return world._replace(faults=world.faults - 1)


def _died(world: World) -> World:
    """All that was in memory is lost; what was begun may still reach the cloud, late."""
    ghosts, floating = set(world.ghosts), set(world.floating)
    there = {each.mark for each in floating}
    for flight in world.operations:
        operation = flight.operation if flight.result is None else None
        if isinstance(operation, SendCreate):
            ghosts.add(_ghost(operation))
        if isinstance(operation, AttachFloatingIp) and operation.mark not in there:
            floating.add(Floating(operation.mark, flight.effect.job_id, late=True))
    return world._replace(
        operations=(),
        snapshot=None,
        suspected=frozenset(),
        ghosts=frozenset(ghosts),
        floating=frozenset(floating),
    )


def _acked(world: World, letter: Letter) -> World:
    return _forgotten(world, {letter})


def _forgotten(world: World, letters: set[Letter]) -> World:
    return world._replace(
        queue=world.queue - letters, taken=world.taken - letters, processed=world.processed - letters
    )


def _mailed(world: World, letter: Letter) -> World:
    return world._replace(queue=world.queue | {letter})


def _with(world: World, machine: Machine) -> World:
    others = (other for other in world.machines if other.id != machine.id)
    return world._replace(machines=tuple(sorted((*others, machine))))


def _without(world: World, *servers: str) -> World:
    rest = tuple(machine for machine in world.machines if machine.id not in servers)
    return world if len(rest) == len(world.machines) else world._replace(machines=rest)


def _surfaced(machine: Machine) -> Machine:
    """The server is listed from now on."""
    return machine._replace(listed=True, stray=machine.stray or machine.missed == 2, missed=0)


def _missed(world: World, mark: str, at_once: bool) -> World:
    """A look has missed what exists, or will exist, of this request."""
    return world._replace(
        machines=tuple(
            _counted(m, at_once) if m.mark == mark and not m.listed else m for m in world.machines
        ),
        ghosts=frozenset(_counted(ghost, at_once) if ghost.mark == mark else ghost for ghost in world.ghosts),
    )


T = TypeVar("T", Machine, Ghost)


def _counted(thing: T, at_once: bool) -> T:
    if thing.missed == 1 and not at_once:
        return thing
    return thing._replace(missed=1 if thing.missed == 0 else 2)


def _waited(thing: T) -> T:
    """Time has passed since a look has missed it."""
    return thing._replace(missed=MISSED_BEFORE) if thing.missed == 1 else thing


def _heard(world: World, letter: Letter) -> tuple[Machine, ...]:
    """The servers, the one believed whose worker is heard before its id is known.

    Twins share their token and cannot be told apart: of those, only recorded ids are believed.
    """
    job = job_of(world, letter.job) if letter.job is not None else None
    if job is None or job.server_id is not None or letter.mark is None or not is_valid(world.books, letter):
        return world.machines
    speakers = [machine for machine in world.machines if machine.mark == letter.mark]
    if job.state not in ("booting", "running") or len(speakers) != 1 or speakers[0].twin:
        return world.machines
    return tuple(m._replace(believed=True) if m is speakers[0] else m for m in world.machines)


def _recorded(world: World, step: Step) -> tuple[Machine, ...]:
    """The servers, those believed whose ids are in the books."""
    if step.books is world.books:
        return world.machines
    ids = {job.server_id for job in step.books.jobs}.union(*(effect.servers for effect in step.books.effects))
    if all(machine.believed or machine.id not in ids for machine in world.machines):
        return world.machines
    return tuple(m._replace(believed=True) if m.id in ids else m for m in world.machines)


def _by_job(flight: InFlight) -> tuple[str, int]:
    return flight.effect.job_id, flight.effect.id
