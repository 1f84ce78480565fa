"""How long something lasts in the worst case: along every way from one world to another, not the best one."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple

COSTLY = 2
"""Of a way: it takes a fault, an ask or a change of the clock, and no time."""


class Ways(NamedTuple):
    """Every way from one world to another, by their numbers, and the units of time that each takes."""

    sources: array[int]
    targets: array[int]
    units: array[int]


class TooLong(NamedTuple):
    """A way along which something lasts for longer than it may."""

    worlds: tuple[int, ...]
    units: int | None
    """None: for ever."""


def too_long(ways: Ways, lasts: Sequence[bool], within: int) -> TooLong | None:
    """The first such way, if there is one.

    A step that changes nothing and takes no time is none. For ever: in a circle, or until nothing can happen.

    Args:
        ways: all ways.
        lasts: of each world, whether it lasts there.
        within: units that it may last.
    """
    following = _following(ways, lasts)
    longest, best = _longest(following, lasts)
    for number, units in enumerate(longest):
        if units > within:
            return TooLong(_along(number, best), units)
    left = {number for number in following if longest[number] < 0}
    if not left:
        return None
    circle = _circle(following, left)
    return TooLong(circle, None)


Following = dict[int, list[tuple[int, int]]]


def _following(ways: Ways, lasts: Sequence[bool]) -> Following:
    following: Following = {number: [] for number, it_lasts in enumerate(lasts) if it_lasts}
    for source, target, units in zip(*ways, strict=True):
        takes = 0 if units == COSTLY else units
        if lasts[source] and (source != target or takes):
            following[source].append((target, takes))
    return following


def _longest(following: Following, lasts: Sequence[bool]) -> tuple[array[int], dict[int, int]]:
    """How many units it lasts from each world on, -1 where there is no end of it; and the way there."""
    longest = array("l", [-1 if it_lasts else 0 for it_lasts in lasts])
    best: dict[int, int] = {}
    open_ways = {number: len(ways) for number, ways in following.items()}
    before: dict[int, list[tuple[int, int]]] = {}
    for number, ways in following.items():
        for target, units in ways:
            before.setdefault(target, []).append((number, units))
    front = [number for number in before if not lasts[number]]
    reached = dict.fromkeys(following, 0)
    while front:
        number = front.pop()
        for source, units in before.get(number, ()):
            if longest[number] + units >= reached[source]:
                reached[source], best[source] = longest[number] + units, number
            open_ways[source] -= 1
            if not open_ways[source]:
                longest[source] = reached[source]
                front.append(source)
    return longest, best


def _along(number: int, best: dict[int, int]) -> tuple[int, ...]:
    worlds = [number]
    while worlds[-1] in best:
        worlds.append(best[worlds[-1]])
    return tuple(worlds)


def _circle(following: Following, left: set[int]) -> tuple[int, ...]:
    """A way from the first world from which there is no end, round the circle once."""
    worlds = [min(left)]
    while worlds.count(worlds[-1]) == 1:
        target = next((target for target, _ in following[worlds[-1]] if target in left), None)
        if target is None:
            break
        worlds.append(target)
    return tuple(worlds)
