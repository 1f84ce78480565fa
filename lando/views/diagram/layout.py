"""Where the boxes, arrows and labels of a picture go.

The states of a run without failures stand in a column, ``failed`` stands beside ``done``. Any other arrow
leaves its box on one side, below its label, follows a lane beside the column, and enters its target from the
side. The lanes are nested, so that arrows do not cross. A text that grows only moves what is below it.

All lengths are points (1/72 inch). x grows to the right, y grows downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lando.states.job import State

COLUMN: tuple[State, ...] = ("queued", "booting", "running", "terminating", "done")
ROWS: dict[State, int] = {**{state: row for row, state in enumerate(COLUMN)}, "failed": len(COLUMN) - 1}

BOX_WIDTH = 236.0
BESIDE = 30.0
"""Between ``failed`` and ``done``."""
GAP = 24.0
"""Between boxes of the column, beside the height of the label between them."""
SLOT = 12.0
"""Between the ends of two arrows on one side of a box."""
LANE = 12.0
"""Between two lanes."""
MARGIN = 8.0
"""Between a label and a line or a box."""
ARROWHEAD = 8.0
CORNER = 8.0
"""The radius of a rounded corner."""

Side = Literal["down", "left", "right"]


class Point(NamedTuple):
    """A place in the picture."""

    x: float
    y: float


class Size(NamedTuple):
    """The size of a label."""

    width: float
    height: float


class Edge(NamedTuple):
    """An arrow to place."""

    source: State
    target: State
    side: Side
    label: Size


class Box(NamedTuple):
    """A placed state."""

    center: Point
    height: float

    @property
    def top(self) -> float:
        """The y of its upper side."""
        return self.center.y - self.height / 2

    @property
    def bottom(self) -> float:
        """The y of its lower side."""
        return self.center.y + self.height / 2


class Route(NamedTuple):
    """A placed arrow: the corners of its line, its ends included, and the center of its label."""

    corners: tuple[Point, ...]
    label: Point
    label_width: float


@dataclass(frozen=True)
class Layout:
    """A placed picture."""

    boxes: Mapping[State, Box]
    routes: Sequence[Route]
    """In the order of the edges."""
    left: float
    """The x of what is leftmost."""


class _End(NamedTuple):
    """One end of an edge, on a side of a box."""

    edge: int
    is_tail: bool


def place(heights: Mapping[State, float], edges: Sequence[Edge]) -> Layout:
    """Place everything; the center of the column is x = 0, and the top of its first box y = 0.

    Args:
        heights: of the texts of the states.
        edges: the arrows.
    """
    lanes = {side: _lanes(edges, side) for side in ("left", "right")}
    slots, needed = _slots(edges, lanes)
    boxes = _boxes(heights, needed, edges)
    return _Router(edges, boxes, lanes, slots).layout()


def _lanes(edges: Sequence[Edge], side: str) -> dict[int, int]:
    """The lane of each edge on this side; the shortest edges are nearest to the column."""
    lanes: dict[int, int] = {}
    beside = [number for number, edge in enumerate(edges) if edge.side == side]
    for number in sorted(beside, key=lambda number: _rows(edges[number])[1] - _rows(edges[number])[0]):
        first, last = _rows(edges[number])
        passed = [lane for other, lane in lanes.items() if _overlap(_rows(edges[other]), (first, last))]
        lanes[number] = max(passed, default=-1) + 1
    return lanes


def _rows(edge: Edge) -> tuple[int, int]:
    first, last = sorted((ROWS[edge.source], ROWS[edge.target]))
    return first, last


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _slots(
    edges: Sequence[Edge], lanes: Mapping[str, Mapping[int, int]]
) -> tuple[dict[_End, float], dict[State, float]]:
    """How far below the top of its box each end is, and how high the boxes have to be for it."""
    slots: dict[_End, float] = {}
    needed: dict[State, float] = {}
    for state in COLUMN:
        for side in ("left", "right"):
            y = 0.0
            for end in _ends(edges, lanes[side], state):
                y += edges[end.edge].label.height + MARGIN if _has_label(edges[end.edge], end) else SLOT
                slots[end] = y
            needed[state] = max(needed.get(state, 0.0), y + SLOT)
    return slots, needed


def _ends(edges: Sequence[Edge], lanes: Mapping[int, int], state: State) -> list[_End]:
    """The ends at one side of a box, from top to bottom, in the order in which their lines do not cross."""
    up: list[_End] = []
    down: list[_End] = []
    for number in sorted(lanes, key=lambda number: lanes[number]):
        edge = edges[number]
        if edge.target == state:
            (up if ROWS[edge.source] <= ROWS[state] else down).append(_End(number, False))
        if edge.source == state:
            (up if ROWS[edge.target] < ROWS[state] else down).append(_End(number, True))
    return [*up, *reversed(down)]


def _has_label(edge: Edge, end: _End) -> bool:
    """The label is at the tail; but ``failed`` has no sides, so an arrow from there has it at its head."""
    return end.is_tail == (edge.source != "failed")


def _boxes(
    heights: Mapping[State, float], needed: Mapping[State, float], edges: Sequence[Edge]
) -> dict[State, Box]:
    boxes: dict[State, Box] = {}
    y = 0.0
    for state in COLUMN:
        between = [edge.label.height for edge in edges if edge.side == "down" and edge.target == state]
        if boxes:
            y += GAP + max(between, default=0.0)
        height = max(heights[state], needed[state], heights["failed"] if state == "done" else 0.0)
        boxes[state] = Box(Point(0.0, y + height / 2), height)
        y += height
    done = boxes["done"]
    return {**boxes, "failed": Box(Point(-BOX_WIDTH - BESIDE, done.center.y), done.height)}


class _Router:
    """Places the edges beside placed boxes."""

    def __init__(
        self,
        edges: Sequence[Edge],
        boxes: Mapping[State, Box],
        lanes: Mapping[str, Mapping[int, int]],
        slots: Mapping[_End, float],
    ) -> None:
        self._edges = edges
        self._boxes = boxes
        self._lanes = lanes
        self._slots = slots
        self._label_width = {
            side: max((edge.label.width for edge in edges if edge.side == side), default=0.0)
            for side in ("left", "right")
        }

    def layout(self) -> Layout:
        routes = [
            self._straight(edge) if edge.side == "down" else self._beside(number, edge)
            for number, edge in enumerate(self._edges)
        ]
        failed = self._boxes["failed"].center.x - BOX_WIDTH / 2
        x = [self._lane(number, edge) for number, edge in enumerate(self._edges) if edge.side != "down"]
        return Layout(self._boxes, routes, min([failed, *x]))

    def _straight(self, edge: Edge) -> Route:
        start, end = self._boxes[edge.source].bottom, self._boxes[edge.target].top
        label = Point(MARGIN + edge.label.width / 2, (start + end - ARROWHEAD) / 2)
        return Route((Point(0.0, start), Point(0.0, end)), label, edge.label.width)

    def _beside(self, number: int, edge: Edge) -> Route:
        x = self._lane(number, edge)
        tail, head = self._end(_End(number, True), x), self._end(_End(number, False), x)
        corners = [tail]
        corners += [Point(x, tail.y)] if tail.x != x else []
        corners += [Point(x, head.y)] if head.x != x else []
        corners.append(head)
        labeled = tail if edge.source != "failed" else head
        width = self._label_width[edge.side]
        away = MARGIN + width / 2
        x = labeled.x - away if edge.side == "left" else labeled.x + away
        return Route(tuple(corners), Point(x, labeled.y - edge.label.height / 2), width)

    def _lane(self, number: int, edge: Edge) -> float:
        away = BOX_WIDTH / 2 + self._label_width[edge.side] + 2 * MARGIN
        away += LANE * self._lanes[edge.side][number]
        return -away if edge.side == "left" else away

    def _end(self, end: _End, lane: float) -> Point:
        edge = self._edges[end.edge]
        state = edge.source if end.is_tail else edge.target
        box = self._boxes[state]
        if state == "failed":
            return Point(lane, box.top)
        x = -BOX_WIDTH / 2 if edge.side == "left" else BOX_WIDTH / 2
        return Point(x, box.top + self._slots[end])


def spline(corners: Sequence[Point], pen: float = 1.0) -> str:
    """A line with rounded corners and an arrowhead, as Graphviz's ``pos`` of an edge.

    Source: https://graphviz.org/docs/attr-types/splineType/

    Args:
        corners: of a line whose pieces are horizontal or vertical, its ends included.
        pen: the width of the line; a thick one has an arrowhead that reaches further.
    """
    end = _towards(corners[-1], corners[-2], pen)
    stop = _towards(end, corners[-2], ARROWHEAD)
    points = [corners[0]]
    for before, corner, after in zip(corners, corners[1:-1], [*corners[2:-1], stop], strict=False):
        into, out = _towards(corner, before, CORNER), _towards(corner, after, CORNER)
        points += [points[-1], into, into, corner, corner, out]
    points += [points[-1], stop, stop]
    return f"e,{position(end)} " + " ".join(map(position, points))


def _towards(start: Point, end: Point, length: float) -> Point:
    """The point that is so far from the start on the way to the end; half of the way at most."""
    way = abs(end.x - start.x) + abs(end.y - start.y)
    part = min(length / way, 0.5) if way else 0.0
    return Point(start.x + part * (end.x - start.x), start.y + part * (end.y - start.y))


def position(point: Point) -> str:
    """A point as Graphviz writes it, whose y grows upwards."""
    return f"{round(point.x, 1) + 0.0:g},{round(-point.y, 1) + 0.0:g}"
