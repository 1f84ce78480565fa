"""The machine in Graphviz's language, and pictures made of it.

Positions are part of the text (``layout.py``), so Graphviz draws the same picture whatever its version.
"""

from __future__ import annotations

import html
import subprocess
import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal

from lando.engine.ledger import StateChange
from lando.errors import LandoError
from lando.states.job import ENDED_STATES, State
from lando.states.machine import STATES
from lando.views.diagram.graph import (
    INITIAL,
    LEGEND,
    SUBMITTED,
    Arrow,
    Move,
    arrows,
    condition,
    deadline,
    effect_lines,
    records,
)
from lando.views.diagram.job_path import JobPath
from lando.views.diagram.layout import (
    BOX_WIDTH,
    Box,
    Edge,
    Layout,
    Point,
    Route,
    Side,
    place,
    position,
    spline,
)
from lando.views.diagram.markup import SMALL, TEXT, TITLE, WRAP_LABEL, Text, bold, font, italic, wrapped
from lando.views.diagram.style import FAINT, INK, SOFT, STYLES, TONES, style_of

RENDER_TIMEOUT = 60.0
"""Seconds that Graphviz may take."""
FONT = "Helvetica,Arial,sans-serif"
MARK = 12.0
"""The diameter of the marks of begin and end."""
STEP = 28.0
"""Between a mark and the box beside it."""
LEGEND_ROW, LEGEND_LINE, LEGEND_COLUMN = 17.0, 34.0, 270.0
"""Of the legend: the height of a row, the length of a line, and where the second column begins."""


def dot(path: Sequence[StateChange] | None = None) -> str:
    """The machine in Graphviz's language; the same machine is always the same text.

    Source: https://graphviz.org/doc/info/lang.html

    Args:
        path: a job's history, oldest first: its path is highlighted, with the time since it was submitted,
            and the rest is gray.
    """
    job_path = JobPath(path or ())
    lines = ['digraph "lando-fsm" {', *(f"  {line}" for line in _statements(job_path)), "}"]
    return "\n".join(lines) + "\n"


def render(dot_text: str, format: Literal["svg", "png"]) -> bytes:
    """A picture, made by Graphviz's ``dot``.

    Args:
        dot_text: what ``dot`` answered.
        format: PNG is rendered for screens of 144 dots an inch.

    Raises:
        LandoError: Graphviz is not installed, or it failed.
    """
    command = ["dot", f"-T{format}", *(["-Gdpi=144"] if format == "png" else [])]
    try:
        done = subprocess.run(
            command, input=dot_text.encode(), capture_output=True, check=True, timeout=RENDER_TIMEOUT
        )
    except FileNotFoundError:
        raise LandoError(
            f"{format} needs Graphviz, whose command dot is not installed: apt-get install graphviz "
            "(the formats mermaid and dot need nothing)"
        ) from None
    except subprocess.TimeoutExpired:
        raise LandoError(f"Graphviz's dot drew no {format} within {RENDER_TIMEOUT:g} s") from None
    except subprocess.CalledProcessError as error:
        message = error.stderr.decode(errors="replace").strip()[:500]
        raise LandoError(f"Graphviz's dot failed ({error.returncode}): {message}") from None
    except OSError as error:
        raise LandoError(f"Graphviz's dot could not be started: {error}") from None
    return done.stdout


def _statements(job_path: JobPath) -> Iterator[str]:
    drawn = arrows(job_path.unknown())
    states = {state: _state_text(state, job_path) for state in STATES}
    labels = [_arrow_text(arrow, moves, job_path) for arrow, moves in drawn.items()]
    edges = [
        Edge(arrow.source, arrow.target, _side(arrow), label.size)
        for arrow, label in zip(drawn, labels, strict=True)
    ]
    layout = place({state: text.size.height + 14 for state, text in states.items()}, edges)
    yield "graph [layout=nop2, bgcolor=white, pad=0.2, labelloc=t, fontsize=13];"
    yield f'graph [fontname="{FONT}", fontcolor="{INK}", label="{_title(job_path)}"];'
    yield f'node [shape=box, style="rounded,filled", labelloc=t, fixedsize=true, fontsize={SMALL}];'
    yield f'node [fontname="{FONT}"];'
    yield f'edge [fontname="{FONT}", fontsize={SMALL}, arrowsize=0.8];'
    for state, text in states.items():
        yield _state(state, text, layout.boxes[state], job_path)
    yield from _begin(layout, job_path)
    for (arrow, moves), label, route in zip(drawn.items(), labels, layout.routes, strict=True):
        yield _arrow(arrow, moves, label, route, job_path)
    for state in ENDED_STATES:
        yield from _end(state, layout.boxes[state], job_path)
    yield from _legend(layout, job_path)


def _side(arrow: Arrow) -> Side:
    """A run without failures goes straight down; failures leave it on the left, all others on the right."""
    if arrow.tone == "success":
        return "down"
    return "left" if arrow.tone == "failure" or "failed" in (arrow.source, arrow.target) else "right"


def _title(job_path: JobPath) -> str:
    lines = textwrap.wrap(job_path.title(), 90)
    return "\\n".join(html.escape(line).replace("\\", "\\\\") for line in lines)


def _state_text(state: State, job_path: JobPath) -> Text:
    text = STATES[state]
    soft = FAINT if style_of(state, job_path) == "unvisited" else SOFT
    lines = [(bold(state), TITLE)]
    for line in (
        *wrapped(text.means),
        *wrapped(text.waits_for, "waits for"),
        *wrapped(text.deadline, "deadline"),
    ):
        lines.append((line, TEXT))
    lines += [(font(line, color=soft), SMALL) for line in wrapped(records(state), "records")]
    return Text(tuple(lines))


def _state(state: State, text: Text, box: Box, job_path: JobPath) -> str:
    name = style_of(state, job_path)
    style, pen = STYLES[name], 4 if name == "current" else 1.2
    return (
        f'{state} [label={text.table(BOX_WIDTH - 14, space_above=5)}, fillcolor="{style.fill}", '
        f'color="{style.line}", fontcolor="{style.text}", penwidth={pen}, '
        f"{_node(box.center, BOX_WIDTH, box.height)}];"
    )


def _node(center: Point, width: float, height: float) -> str:
    """The place of a node; Graphviz wants its size in inches."""
    return f'pos="{position(center)}", width={width / 72:.3f}, height={height / 72:.3f}'


def _begin(layout: Layout, job_path: JobPath) -> Iterator[str]:
    top = layout.boxes[INITIAL].top
    text = Text(((bold(f"{job_path.visits(None)} {SUBMITTED}".strip()), SMALL),))
    yield _mark("begin", "circle", Point(0, top - STEP - MARK))
    line = spline((Point(0, top - STEP - MARK / 2), Point(0, top)))
    label = Point(8 + text.size.width / 2, top - STEP / 2 - 4)
    yield (
        f'begin -> {INITIAL} [label={text.table(text.size.width)}, color="{INK}", fontcolor="{INK}", '
        f'pos="{line}", lp="{position(label)}"];'
    )


def _end(state: State, box: Box, job_path: JobPath) -> Iterator[str]:
    x, bottom = box.center.x, box.bottom
    yield _mark(f"end_{state}", "doublecircle", Point(x, bottom + STEP + MARK))
    ended = not job_path or style_of(state, job_path) == "current"
    line = spline((Point(x, bottom), Point(x, bottom + STEP + MARK / 2 - 4)))
    yield f'{state} -> end_{state} [color="{INK if ended else FAINT}", pos="{line}"];'


def _mark(name: str, shape: str, center: Point) -> str:
    return f'{name} [shape={shape}, style=filled, label="", fillcolor="{INK}", {_node(center, MARK, MARK)}];'


def _arrow_text(arrow: Arrow, moves: Sequence[Move], job_path: JobPath) -> Text:
    taken = _taken(moves, job_path)
    lines: list[str] = []
    for move in moves:
        color = _color(arrow, taken) if move in taken else FAINT
        lines += [font(line, color=color) for line in _move_lines(move, job_path)]
    lines += [html.escape(effect) for effect in effect_lines(arrow.effects)]
    return Text(tuple((line, SMALL) for line in lines))


def _arrow(arrow: Arrow, moves: Sequence[Move], text: Text, route: Route, job_path: JobPath) -> str:
    taken = _taken(moves, job_path)
    color = _color(arrow, taken)
    pen = 3.5 if arrow.tone == "success" else 1.2
    if job_path:
        pen = 3.5 if taken else 1.0
    dashed = ", style=dashed" if arrow.timed else ""
    return (
        f'{arrow.source} -> {arrow.target} [label={text.table(route.label_width)}, color="{color}", '
        f'fontcolor="{color}", penwidth={pen}{dashed}, pos="{spline(route.corners, pen)}", '
        f'lp="{position(route.label)}"];'
    )


def _taken(moves: Sequence[Move], job_path: JobPath) -> Sequence[Move]:
    return [move for move in moves if job_path.took(move)] if job_path else moves


def _color(arrow: Arrow, taken: Sequence[Move]) -> str:
    return TONES[arrow.tone] if taken else FAINT


def _move_lines(move: Move, job_path: JobPath) -> Iterator[str]:
    if job_path.took(move):
        yield bold(job_path.visits(move))
    yield bold(move.event)
    if deadline(move):
        yield html.escape(deadline(move))
    for line in textwrap.wrap(condition(move), WRAP_LABEL):
        yield italic(line)


def _legend(layout: Layout, job_path: JobPath) -> Iterator[str]:
    """Two columns below the picture: what the lines mean, and what the texts mean."""
    top = max(box.bottom for box in layout.boxes.values()) + STEP + 2 * MARK + 24
    for row, (color, pen, dashed, meaning) in enumerate(_line_legend(job_path)):
        y = top + row * LEGEND_ROW
        start, end = Point(layout.left, y), Point(layout.left + LEGEND_LINE, y)
        style = ", style=dashed" if dashed else ""
        yield _text_node(f"line_{row}", end, (meaning, SMALL))
        line = spline((start, end))
        yield f'line_{row} -> line_{row} [color="{color}", penwidth={pen}{style}, pos="{line}"];'
    for row, (part, meaning) in enumerate(_text_legend(job_path)):
        y = top + row * LEGEND_ROW
        yield _text_node(f"text_{row}", Point(layout.left + LEGEND_COLUMN, y), (f"{part}: {meaning}", SMALL))


def _line_legend(job_path: JobPath) -> Iterator[tuple[str, float, bool, str]]:
    """Color, width, whether it is dashed, and meaning of each kind of line."""
    if job_path:
        yield INK, 3.5, False, "taken by this job"
        yield FAINT, 1.0, False, "not taken"
        yield INK, 1.2, True, "after a time limit"
        return
    yield TONES["success"], 3.5, False, "a run without failures"
    yield TONES["failure"], 1.2, False, "a failure"
    yield TONES["other"], 1.2, False, "everything else"
    yield TONES["failure"], 1.2, True, "a time limit, set in landoconfig.yml"


def _text_legend(job_path: JobPath) -> Iterator[tuple[str, str]]:
    """Each kind of text, marked up as it is in the picture, and its meaning."""
    if job_path:
        yield bold("2. +0.8 s"), "the second change, 0.8 s after the submission"
    marks = {"event": bold, "condition": italic, "records": italic}
    for part, meaning in LEGEND:
        yield marks.get(part, html.escape)(part), html.escape(meaning)


def _text_node(name: str, left: Point, line: tuple[str, int]) -> str:
    text = Text((line,))
    width, height = text.size
    center = Point(left.x + 6 + width / 2, left.y)
    return (
        f'{name} [shape=none, style=solid, label={text.table(width)}, fontcolor="{INK}", '
        f"{_node(center, width, height)}];"
    )
