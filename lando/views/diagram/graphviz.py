"""The machine in Graphviz's language, and pictures made of it."""

from __future__ import annotations

import html
import subprocess
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from lando.engine.ledger import StateChange
from lando.errors import LandoError
from lando.states.job import ENDED_STATES, State
from lando.states.machine import STATES
from lando.views.diagram.graph import (
    FAINT,
    INITIAL,
    INK,
    SOFT,
    STYLES,
    SUBMITTED,
    TONES,
    Arrow,
    JobPath,
    Move,
    arrows,
    clip,
    condition,
    deadline,
    distance,
    effect_lines,
    records,
    style_of,
)

RENDER_TIMEOUT = 60.0
"""Seconds that Graphviz may take."""


def dot(path: Sequence[StateChange] | None = None) -> str:
    """The machine in Graphviz's language; the same machine is always the same text.

    Source: https://graphviz.org/doc/info/lang.html

    Args:
        path: a job's history, oldest first: its way is highlighted, with the time since it was submitted,
            and the rest is greyed.
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
            f"{format} is drawn by Graphviz, and its command dot is not installed: apt-get install graphviz "
            "(the formats mermaid and dot need nothing)"
        ) from None
    except subprocess.TimeoutExpired:
        raise LandoError(f"Graphviz's dot drew no {format} within {RENDER_TIMEOUT:g} s") from None
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip()[:500]
        raise LandoError(f"Graphviz's dot failed ({error.returncode}): {words}") from None
    except OSError as error:
        raise LandoError(f"Graphviz's dot could not be started: {error}") from None
    return done.stdout


FONT = "Helvetica,Arial,sans-serif"


def _statements(job_path: JobPath) -> Iterator[str]:
    yield "graph [bgcolor=white, pad=0.3, nodesep=0.25, ranksep=0.4, labelloc=t, fontsize=13];"
    yield f'graph [fontname="{FONT}", fontcolor="{INK}", label="{_title(job_path)}"];'
    yield f'node [shape=box, style="rounded,filled", fontname="{FONT}", fontsize=11, width=3.3];'
    yield f'edge [fontname="{FONT}", fontsize=10, arrowsize=0.8];'
    yield _mark("begin", "circle", INITIAL)
    for state in STATES:
        yield _state(state, job_path)
    for state in ENDED_STATES:
        yield _mark(f"end_{state}", "doublecircle", state)
    start = [_bold(f"{job_path.visits(None)} {SUBMITTED}".strip())]
    yield f'begin -> {INITIAL} [label={_label(start)}, color="{INK}", fontcolor="{INK}"];'
    for arrow, moves in arrows(job_path).items():
        yield _arrow(arrow, moves, job_path)
    for state in ENDED_STATES:
        ended = not job_path or style_of(state, job_path) == "current"
        yield f'{state} -> end_{state} [color="{INK if ended else FAINT}"];'
    yield "{rank=same; failed -> done [style=invis];}"


def _mark(name: str, shape: str, state: State) -> str:
    return (
        f'{name} [shape={shape}, style=filled, label="", width=0.15, fillcolor="{INK}", '
        f"group={_group(state)}];"
    )


def _group(state: State) -> str:
    """What is in one group stands in one line: the states of a clean run."""
    return "failed" if state == "failed" else "clean"


def _title(job_path: JobPath) -> str:
    lines = textwrap.wrap(clip(job_path.title()), 90)
    return "\\n".join(html.escape(line).replace("\\", "\\\\") for line in lines)


def _state(state: State, job_path: JobPath) -> str:
    text, style = STATES[state], STYLES[style_of(state, job_path)]
    lines = [_font(_bold(state), size=16), *_wrapped(text.means)]
    lines += [*_wrapped(text.waits_for, "waits for"), *_wrapped(text.deadline, "deadline")]
    soft = FAINT if style.text == FAINT else SOFT
    lines += [_font(line, size=9, color=soft) for line in _wrapped(records(state), "records", 52)]
    width = 4 if style is STYLES["current"] else 1.2
    return (
        f'{state} [label={_label(lines, width=225)}, fillcolor="{style.fill}", color="{style.line}", '
        f'fontcolor="{style.text}", penwidth={width}, group={_group(state)}];'
    )


def _arrow(arrow: Arrow, moves: Sequence[Move], job_path: JobPath) -> str:
    taken = [move for move in moves if job_path.took(move)] if job_path else moves
    color = TONES[arrow.tone] if taken else FAINT
    lines: list[str] = []
    for move in moves:
        ink = color if move in taken else FAINT
        lines += [_font(line, color=ink) for line in _move(move, job_path)]
    lines += [html.escape(effect) for effect in effect_lines(arrow.effects)]
    pen = 3.5 if arrow.tone == "success" else 1.2
    if job_path:
        pen = 3.5 if taken else 1.0
    style = ", style=dashed" if arrow.timed else ""
    return (
        f'{arrow.source} -> {arrow.target} [label={_label(lines)}, color="{color}", fontcolor="{color}", '
        f"penwidth={pen}{style}{_side(arrow)}];"
    )


def _side(arrow: Arrow) -> str:
    """A clean run goes straight down; failures leave it on the left, everything else on the right."""
    if arrow.tone == "success":
        return ", weight=10"
    if arrow.source in ENDED_STATES:
        return ""
    side = "w" if arrow.tone == "failure" else "e"
    corners = {1: ("s", "n"), -1: ("n", "s")}  # neighbours: the short way, from corner to corner
    tail, head = corners.get(distance(arrow.source, arrow.target), ("", ""))
    return f", tailport={tail}{side}, headport={head}{side}"


def _move(move: Move, job_path: JobPath) -> Iterator[str]:
    if job_path.took(move):
        yield _bold(job_path.visits(move))
    yield _bold(move.event)
    if deadline(move):
        yield html.escape(deadline(move))
    for line in textwrap.wrap(condition(move), 26):
        yield f"<I>{html.escape(line)}</I>"


def _label(lines: Iterable[str], width: int = 0) -> str:
    """Lines as a table with room at the left, so that an edge does not touch its words."""
    cells = "".join(f'<TR><TD WIDTH="4"></TD><TD ALIGN="LEFT">{line}</TD></TR>' for line in lines)
    return f'<<TABLE BORDER="0" WIDTH="{width}" CELLSPACING="0" CELLPADDING="1">{cells}</TABLE>>'


def _wrapped(words: str, heading: str = "", width: int = 44) -> list[str]:
    lines = textwrap.wrap(f"{heading} {words}".strip(), width, break_on_hyphens=False) if words else []
    escaped = [html.escape(line) for line in lines]
    if heading and escaped:
        escaped[0] = f"<I>{heading}</I>{escaped[0].removeprefix(heading)}"
    return escaped


def _bold(words: str) -> str:
    return f"<B>{html.escape(words)}</B>"


def _font(markup: str, size: int | None = None, color: str | None = None) -> str:
    attributes = (f' POINT-SIZE="{size}"' if size else "") + (f' COLOR="{color}"' if color else "")
    return f"<FONT{attributes}>{markup}</FONT>"
