"""Visits every world that can be reached, breadth first, so that the first story found is the shortest."""

from __future__ import annotations

import contextlib
import gc
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from . import invariants, isolation
from .actions import Action, Actions
from .every_way import COSTLY, TooLong, Ways, too_long
from .rules import Broken, Rules, Variant
from .world import Scenario, World

SHIPPED = Variant()


@dataclass(frozen=True)
class Exploration:
    """What came of it."""

    scenario: Scenario
    states: int
    transitions: int
    rows: frozenset[tuple[str, str, str]]
    """The rows of the table that were fired: state, event, why."""
    broken: Broken | None = None
    story: tuple[str, ...] = ()
    """The shortest way to what is broken, a line a step."""

    def __str__(self) -> str:
        seen = f"{self.scenario.name}: {self.states} states, {self.transitions} transitions"
        if self.broken is None:
            within = f" within {self.scenario.within} units of time" if self.scenario.within else ""
            return f"{seen}; every invariant holds, and every state can end{within}"
        steps = (f"{number:3}. {line}" for number, line in enumerate(self.story, 1))
        return "\n".join((f"{seen}; broken: {self.broken.invariant}", *steps, f"     {self.broken.reason}"))


@dataclass
class _Map:
    """The worlds seen so far, how each was first reached, and every way from one to another."""

    numbers: dict[World, int] = field(default_factory=dict)
    parents: array[int] = field(default_factory=lambda: array("l"))
    reason: list[tuple[object, ...]] = field(default_factory=list)
    sources: array[int] = field(default_factory=lambda: array("l"))
    targets: array[int] = field(default_factory=lambda: array("l"))
    units: array[int] = field(default_factory=lambda: array("b"))
    """How much time each way takes; ``COSTLY`` for one that takes a fault."""

    def add(self, world: World, parent: int, reason: tuple[object, ...]) -> tuple[int, bool]:
        """The number of a world, and whether it is new."""
        number = self.numbers.setdefault(world, len(self.parents))
        if number < len(self.parents):
            return number, False
        self.parents.append(parent)
        self.reason.append(reason)
        return number, True

    def story(self, number: int, *last: tuple[object, ...]) -> tuple[str, ...]:
        lines = list(reversed(last))
        while number > 0:
            lines.append(self.reason[number])
            number = self.parents[number]
        return tuple(" ".join(str(word) for word in reason if word != "") for reason in reversed(lines))


def explore(scenario: Scenario, variant: Variant = SHIPPED) -> Exploration:
    """Visit everything; stop at the first thing that is broken."""
    with _no_garbage_collector():
        return _explore(scenario, variant)


@contextlib.contextmanager
def _no_garbage_collector() -> Iterator[None]:
    """Millions of small tuples without cycles: looking for cycles would cost a good part of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _explore(scenario: Scenario, variant: Variant) -> Exploration:
    rules = Rules(scenario, variant)
    seen = _Map()
    actions = Actions(rules)
    found = (
        _visit(seen, actions, scenario.first(rules.empty))
        or _lasting(seen, actions)
        or _endless(seen, scenario)
    )
    broken, story = found or (None, ())
    return Exploration(scenario, len(seen.parents), len(seen.sources), frozenset(rules.rows), broken, story)


def _visit(seen: _Map, actions: Actions, first: World) -> tuple[Broken, tuple[str, ...]] | None:
    seen.add(first, -1, ())
    frontier = [(0, first)]
    while frontier:
        following = []
        for number, world in frontier:
            for action in actions.of(world):
                target, new = seen.add(action.world, number, action.reason)
                seen.sources.append(number)
                seen.targets.append(target)
                seen.units.append(_units(world, action))
                broken = action.broken
                if new and broken is None:
                    broken = invariants.broken_in(action.world, actions.rules)
                if broken is not None:
                    return broken, seen.story(number, action.reason)
                if new:
                    following.append((target, action.world))
        frontier = following
    return None


def _units(world: World, action: Action) -> int:
    after = action.world
    if (after.faults, after.asks, after.jumps) != (world.faults, world.asks, world.jumps):
        return COSTLY
    return 1 if action.passes else 0


def _lasting(seen: _Map, actions: Actions) -> tuple[Broken, tuple[str, ...]] | None:
    """The first way along which something lasts too long, if there is one."""
    scenario = actions.scenario
    if not (scenario.refuses or scenario.unbootable):
        return None
    ways = Ways(seen.sources, seen.targets, seen.units)
    for name, is_due, within in isolation.dues(scenario):
        found = too_long(ways, [is_due(world, scenario) for world in seen.numbers], within)
        if found is not None:
            how = "for ever" if found.units is None else f"for {found.units} units of time"
            return Broken(name, f"it lasts {how}"), seen.story(found.worlds[0], *_steps(seen, actions, found))
    return None


def _steps(seen: _Map, actions: Actions, way: TooLong) -> Iterator[tuple[object, ...]]:
    """What happens along a way."""
    worlds = list(seen.numbers)
    for number, target in pairwise(way.worlds):
        yield next(
            action.reason for action in actions.of(worlds[number]) if seen.numbers[action.world] == target
        )


def _endless(seen: _Map, scenario: Scenario) -> tuple[Broken, tuple[str, ...]] | None:
    """The first world from which no end can be reached, if there is one."""
    ends = [number for world, number in seen.numbers.items() if invariants.has_ended(world, scenario)]
    if scenario.within:
        return _overlong(seen, ends, scenario.within)
    can_end = _backwards(seen, ends)
    if all(can_end):
        return None
    number = can_end.index(0)
    return Broken("every job can end", "from here on no end can be reached"), seen.story(number)


def _overlong(seen: _Map, ends: list[int], within: int) -> tuple[Broken, tuple[str, ...]] | None:
    """The first world from which no end can be reached in time, without another fault, if there is one."""
    distances = _distances(seen, ends)
    number = next((each for each, units in enumerate(distances) if units < 0 or units > within), None)
    if number is None:
        return None
    how = "at all" if distances[number] < 0 else f"in less than {distances[number]} units of time"
    return Broken("every job can end in time", f"from here on no end can be reached {how}"), seen.story(
        number
    )


def _distances(seen: _Map, ends: list[int]) -> array[int]:
    """How many units each world is from one of ``ends``, without a fault; -1: it cannot reach one."""
    ways: list[list[tuple[int, int]]] = [[] for _ in seen.parents]
    for source, target, units in zip(seen.sources, seen.targets, seen.units, strict=True):
        if units != COSTLY:
            ways[target].append((source, units))
    distances = array("l", [-1]) * len(seen.parents)
    front, units = list(ends), 0
    while front:
        following = []
        while front:
            number = front.pop()
            if distances[number] >= 0:
                continue
            distances[number] = units
            for source, takes in ways[number]:
                if distances[source] < 0:
                    (following if takes else front).append(source)
        front, units = following, units + 1
    return distances


def _backwards(seen: _Map, ends: list[int]) -> bytearray:
    """Which worlds can reach one of ``ends``."""
    ways: list[list[int]] = [[] for _ in seen.parents]
    for source, target in zip(seen.sources, seen.targets, strict=True):
        ways[target].append(source)
    reached = bytearray(len(seen.parents))
    for end in ends:
        reached[end] = 1
    front = list(ends)
    while front:
        for source in ways[front.pop()]:
            if not reached[source]:
                reached[source] = 1
                front.append(source)
    return reached
