"""The places of boxes, arrows and labels: nothing crosses, nothing is covered, and README is wide enough."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from lando.states.machine import STATES
from lando.views.diagram.graph import Arrow, arrows
from lando.views.diagram.graphviz import dot
from lando.views.diagram.layout import BOX_WIDTH, Edge, Layout, Point, Side, Size, place, spline

LABEL = Size(120.0, 56.0)
README_WIDTH = 830.0
"""Pixels that a picture in a README gets on GitHub, at most; a wider one is shrunk."""

Segment = tuple[Point, Point]


def side(arrow: Arrow) -> Side:
    if arrow.tone == "success":
        return "down"
    return "left" if "failed" in (arrow.source, arrow.target) or arrow.tone == "failure" else "right"


@pytest.fixture(scope="module")
def edges() -> list[Edge]:
    """Those of the machine, with labels of one size."""
    return [Edge(arrow.source, arrow.target, side(arrow), LABEL) for arrow in arrows()]


@pytest.fixture(scope="module")
def layout(edges: list[Edge]) -> Layout:
    return place(dict.fromkeys(STATES, 100.0), edges)


def segments(corners: tuple[Point, ...]) -> list[Segment]:
    return list(itertools.pairwise(corners))


def meet(one: Segment, other: Segment) -> bool:
    """Whether two horizontal or vertical pieces have a point in common, their ends aside."""
    return all(
        sorted(a)[0] <= sorted(b)[1] and sorted(b)[0] <= sorted(a)[1]
        for a, b in zip(zip(*inner(one), strict=True), zip(*inner(other), strict=True), strict=True)
    )


def inner(segment: Segment) -> Segment:
    """A piece without its ends."""
    (x, y), (to_x, to_y) = segment
    part = 0.001
    start = Point(x + part * (to_x - x), y + part * (to_y - y))
    return start, Point(to_x - part * (to_x - x), to_y - part * (to_y - y))


def test_pieces_that_meet_are_found() -> None:
    flat = (Point(0, 0), Point(10, 0))
    assert meet(flat, (Point(5, -5), Point(5, 5)))
    assert meet(flat, (Point(20, 0), Point(8, 0)))
    assert not meet(flat, (Point(5, 1), Point(5, 5)))
    assert not meet(flat, (Point(10, 0), Point(10, 5)))


def test_no_two_arrows_cross(layout: Layout) -> None:
    routes = enumerate(layout.routes)
    pieces = [(number, piece) for number, route in routes for piece in segments(route.corners)]
    crossing = [
        (one, other)
        for (one, piece), (other, another) in itertools.combinations(pieces, 2)
        if one != other and meet(piece, another)
    ]
    assert crossing == []


def test_boxes_do_not_overlap_and_hold_what_they_need(layout: Layout) -> None:
    column = [layout.boxes[state] for state in ("queued", "booting", "running", "terminating", "done")]
    assert all(above.bottom < below.top for above, below in itertools.pairwise(column))
    assert all(box.height >= 100.0 for box in layout.boxes.values())
    failed, done = layout.boxes["failed"], layout.boxes["done"]
    assert failed.center.x + BOX_WIDTH / 2 < done.center.x - BOX_WIDTH / 2


def test_each_label_is_beside_its_own_line_and_covers_no_other(edges: list[Edge], layout: Layout) -> None:
    rectangles = []
    for edge, route in zip(edges, layout.routes, strict=True):
        width, height = route.label_width, edge.label.height
        x, y = route.label.x - width / 2, route.label.y - height / 2
        rectangles.append((x, y, x + width, y + height))
    for (a, one), (b, other) in itertools.combinations(enumerate(rectangles), 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (edges[a], edges[b])
    for (left, top, right, bottom), route in itertools.product(rectangles, layout.routes):
        for start, end in segments(route.corners):
            x, y = sorted((start.x, end.x)), sorted((start.y, end.y))
            covers = left < x[1] and x[0] < right and top < y[1] and y[0] < bottom
            assert not covers, route


def test_arrows_begin_and_end_at_their_boxes(edges: list[Edge], layout: Layout) -> None:
    for edge, route in zip(edges, layout.routes, strict=True):
        for state, point in ((edge.source, route.corners[0]), (edge.target, route.corners[-1])):
            box = layout.boxes[state]
            assert box.top <= point.y <= box.bottom
            assert abs(point.x - box.center.x) <= BOX_WIDTH / 2
            on_the_rim = point.y in (box.top, box.bottom) or abs(point.x - box.center.x) == BOX_WIDTH / 2
            assert on_the_rim, edge


def test_a_spline_turns_corners_and_ends_with_an_arrowhead() -> None:
    line = spline((Point(0, 0), Point(-50, 0), Point(-50, 100), Point(0, 100)))
    assert line.startswith("e,-1,-100 0,0 ")
    points = line.split()[1:]
    assert len(points) % 3 == 1, "a start, and three points for each piece"
    assert points[-1] == "-9,-100"
    assert len(spline((Point(0, 0), Point(0, 50))).split()[1:]) == 4, "straight"


def test_the_committed_picture_fits_into_a_readme_without_being_shrunk_much() -> None:
    svg = (Path(__file__).parents[3] / "diagrams" / "machine.svg").read_text()
    found = re.search(r'<svg width="(\d+)pt"', svg)
    assert found is not None
    shrunk = min(1.0, README_WIDTH / (int(found[1]) * 96 / 72))
    sizes = {float(size) for size in re.findall(r'font-size="([\d.]+)"', svg)}
    assert min(sizes) * 96 / 72 * shrunk > 11, "pixels of the smallest text"


def test_the_layout_is_part_of_the_text() -> None:
    assert "layout=nop2" in dot()
