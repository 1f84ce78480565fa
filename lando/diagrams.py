"""Pictures of the machine, drawn from the transitions that run: the whole of it, or one job's way through it.

Mermaid and dot are text and need nothing; SVG and PNG are made of dot's by Graphviz. Edges are the rows that
move; what is recorded while a job stays is listed in its state; what is ignored or refused is not drawn.

``python -m lando.diagrams [DIRECTORY]`` writes the files of ``diagrams/``.
"""

from __future__ import annotations

import hashlib
import html
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from lando.errors import LandoError
from lando.job import ENDED_STATES, State
from lando.ledger import Change
from lando.states import EVENTS, MACHINE, STATES, Row

Tone = Literal["success", "failure", "other"]

BEGIN: State = "queued"
SUBMITTED = "start_worker"
"""The message that makes a job: the edge from the initial mark."""

CLEAN_RUN = ("admitted", "worker_started", "worker_progress", "workflow_finished", "server_gone")
"""The events that lead from a state to the next one when nothing goes wrong: the way that is emphasised."""

DEADLINES = {"boot_timeout": "boot", "run_timeout": "run", "worker_lost": "silence"}
"""The events that a clock brings, and the key of landoconfig.yml's ``timeouts`` that sets the time."""

TOLD_VISITS = 4
"""Of an edge that a job took more often, only the first times and the last are told."""

RENDER_TIMEOUT = 60.0
"""Seconds that Graphviz may take."""


# What is drawn


class Move(NamedTuple):
    """What identifies a row that leads to another state."""

    source: State
    event: str
    target: State


class Arrow(NamedTuple):
    """The rows between two states that differ in nothing but their event: one edge."""

    source: State
    target: State
    tone: Tone
    timed: bool
    orders: tuple[str, ...]


def _rows() -> Iterator[tuple[State, Row]]:
    """The machine's rows, state by state, and in the order in which a job meets their events."""
    for state in STATES:
        for event in EVENTS:
            for transition in MACHINE.events[event.name].transitions.get(state, ()):
                yield state, transition.row


def _moves() -> dict[Move, Row]:
    return {Move(source, row.event, row.to): row for source, row in _rows() if row.to is not None}


def _tone(move: Move, row: Row) -> Tone:
    states = list(STATES)
    if move.event in CLEAN_RUN and states.index(move.target) == states.index(move.source) + 1:
        return "success"
    if move.target == "failed" or "save_console_log" in row.orders:
        return "failure"
    return "other"


def _arrows() -> dict[Arrow, list[Move]]:
    """The edges, each with the moves that are stacked on it."""
    arrows: dict[Arrow, list[Move]] = {}
    for move, row in _moves().items():
        timed = move.event in DEADLINES
        arrow = Arrow(move.source, move.target, _tone(move, row), timed, row.orders)
        arrows.setdefault(arrow, []).append(move)
    return arrows


def _records(state: State) -> list[str]:
    """What is recorded while a job stays in this state, with the effects that are ordered then."""
    orders: dict[str, tuple[str, ...]] = {}
    for source, row in _rows():
        if source == state and row.answer == "stays":
            orders[row.event] = orders.get(row.event, ()) + row.orders
    return [" ".join([event, *_ordered(effects)]) for event, effects in orders.items()]


def _ordered(effects: Sequence[str]) -> list[str]:
    return [f"→ {effect}" for effect in effects]


def _event_text(event: str) -> str:
    return f"{event} (timeouts.{DEADLINES[event]})" if event in DEADLINES else event


# A job's way


class Journey:
    """Where a job has been and when, and where it is.

    Args:
        path: the job's history, oldest first, not empty.
    """

    def __init__(self, path: Sequence[Change]) -> None:
        self.last = path[-1]
        self.states = {change.target for change in path}
        self._visits: dict[Move | None, list[str]] = {}
        for ordinal, change in enumerate(path, start=1):
            move = Move(change.source, change.event, change.target) if change.source else None
            self._visits.setdefault(move, []).append(f"{ordinal}. +{_elapsed(change.at - path[0].at)}")

    def visits(self, move: Move | None) -> str:
        """When an edge was taken (None: the one from the initial mark): ``2. +0.8 s, 6. +41.2 s``."""
        visits = self._visits.get(move, [])
        if len(visits) > TOLD_VISITS:
            visits = [*visits[: TOLD_VISITS - 1], f"… {visits[-1]} ({len(visits)} times)"]
        return ", ".join(visits)

    def unknown(self) -> list[Move]:
        """Moves that this version's machine does not make: an older one did."""
        return [move for move in self._visits if move is not None and move not in _moves()]


def _elapsed(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _journey(path: Sequence[Change] | None) -> Journey | None:
    return Journey(path) if path else None


# dot

INK = "#24303C"
FAINT = "#A9B2BB"
COLORS: dict[Tone, str] = {"success": "#0B5CAD", "failure": "#B5443A", "other": "#5B6770"}
FILLS: dict[State, str] = {"queued": "#F4F6F8", "done": "#D9E8F8", "failed": "#FAE6E3"}
LIVE_FILL = "#EDF4FB"


def dot(path: Sequence[Change] | None = None) -> str:
    """The machine in Graphviz's language; the same machine is always the same text.

    Args:
        path: a job's history, oldest first; its way is highlighted, and the rest is greyed.
    """
    journey = _journey(path)
    lines = [
        'digraph "lando-fsm" {',
        '  graph [bgcolor="white", pad=0.3, nodesep=0.5, ranksep=0.55, fontname="Helvetica"];',
        f'  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, fontcolor="{INK}"];',
        '  edge [fontname="Helvetica", fontsize=10, arrowsize=0.8];',
        f'  begin [shape=circle, style=filled, label="", width=0.2, fillcolor="{INK}"];',
        *(_dot_state(state, journey) for state in STATES),
        *(f'  end_{state} [shape=doublecircle, style=filled, label="", width=0.12, fillcolor="{INK}"];' for state in ENDED_STATES),
        f'  begin -> {BEGIN} [label=<{SUBMITTED}>, color="{INK}"];',
        *(_dot_arrow(arrow, moves, journey) for arrow, moves in _arrows().items()),
        *(f'  {state} -> end_{state} [color="{INK}"];' for state in ENDED_STATES),
        "  {rank=same; done; failed}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _dot_state(state: State, journey: Journey | None) -> str:
    text = STATES[state]
    rows = [f'<FONT POINT-SIZE="15"><B>{state}</B></FONT>', *map(html.escape, textwrap.wrap(text.means, 46))]
    rows += [f'<I>waits for</I> {"<BR/>".join(map(html.escape, textwrap.wrap(text.waits_for, 46)))}',
     f'<I>deadline</I> {html.escape(text.deadline)}']
    records = _records(state)
    if records:
        rows += [f'<FONT COLOR="#5B6770">notes {html.escape(", ".join(records))}</FONT>' ]
    color = COLORS["failure" if state == "failed" else "success"]
    return f'  {state} [label={_table(rows)}, fillcolor="{FILLS.get(state, LIVE_FILL)}", color="{color}"];'


def _table(rows):
    cells = "".join(f'<TR><TD ALIGN="LEFT" BALIGN="LEFT">{row}</TD></TR>' for row in rows)
    return f'<<TABLE BORDER="0" CELLSPACING="0" CELLPADDING="1">{cells}</TABLE>>'


def _dot_arrow(arrow, moves, journey):
    rows = []
    for m in moves:
        rows.append(f"<B>{html.escape(_event_text(m.event))}</B>")
        rows.append(f'<FONT POINT-SIZE="9" COLOR="#5B6770"><I>{html.escape(_moves()[m].why)}</I></FONT>')
    if arrow.orders:
        rows.append(" ".join(_ordered(arrow.orders)))
    c=COLORS[arrow.tone]
    extra = {"success": ", penwidth=3, weight=8"}.get(arrow.tone, "")
    if arrow.timed: extra += ", style=dashed"
    return f'  {arrow.source} -> {arrow.target} [label={_table(rows)}, color="{c}", fontcolor="{c}"{extra}];'
