"""What a picture of the machine shows: the whole of it, or one job's way through it.

Edges are the rows that move; what is recorded while a job stays is listed in its state; what is ignored or
refused is not drawn.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from lando.engine.ledger import StateChange
from lando.states.events import EVENTS
from lando.states.job import State
from lando.states.machine import MACHINE, STATES, RowTransition
from lando.states.table import Row

Tone = Literal["success", "failure", "other"]

INITIAL: State = "queued"
SUBMITTED = "start_worker"
"""The message that makes a job: the edge from the initial mark."""

SUCCESS_PATH = ("admitted", "worker_started", "worker_progress", "workflow_finished", "server_gone")
"""The events that lead from a state to the next one when nothing goes wrong: the way that is emphasised."""

DEADLINES = {"boot_timeout": "boot", "run_timeout": "run", "worker_lost": "silence"}
"""The events that a clock brings, and the key of ``timeouts`` in landoconfig.yml that sets the time."""

SHOWN_VISITS = 4
"""Of an edge that a job took more often, only the first times and the last are told."""

RENDER_TIMEOUT = 60.0
"""Seconds that Graphviz may take."""


class Move(NamedTuple):
    """What identifies a row that leads to another state."""

    source: State
    event: str
    target: State


class Arrow(NamedTuple):
    """What rows have in common that are stacked on one edge."""

    source: State
    target: State
    tone: Tone = "other"
    timed: bool = False
    effects: tuple[str, ...] = ()


def _rows() -> Iterator[tuple[State, Row]]:
    """The machine's rows, state by state, and in the order in which a job meets their events."""
    for state in STATES:
        for event in EVENTS:
            for transition in MACHINE.events[event.name].transitions.get(state, ()):
                assert isinstance(transition, RowTransition)
                yield state, transition.row


MOVES = {Move(source, row.event, row.to): row for source, row in _rows() if row.to is not None}


def arrows(job_path: JobPath) -> dict[Arrow, list[Move]]:
    """The edges, each with the moves that are stacked on it."""
    arrows: dict[Arrow, list[Move]] = {}
    for move, row in MOVES.items():
        arrow = Arrow(move.source, move.target, _tone(move, row), move.event in DEADLINES, row.effects)
        arrows.setdefault(arrow, []).append(move)
    for move in job_path.unknown():
        arrows.setdefault(Arrow(move.source, move.target), []).append(move)
    return arrows


def _tone(move: Move, row: Row) -> Tone:
    if move.event in SUCCESS_PATH and distance(move.source, move.target) == 1:
        return "success"
    if move.target == "failed" or "save_console_log" in row.effects:
        return "failure"
    return "other"


def distance(source: State, target: State) -> int:
    """How many states further on; negative: how many back."""
    states = list(STATES)
    return states.index(target) - states.index(source)


def condition(move: Move) -> str:
    """When an event leads to several states: what decides."""
    if move not in MOVES:
        return "a machine of an older version"
    ways = [other for other in MOVES if (other.source, other.event) == (move.source, move.event)]
    return MOVES[move].why if len(ways) > 1 else ""


def deadline(move: Move) -> str:
    """When a clock brings the event: the key of landoconfig.yml that sets the time."""
    return f"after timeouts.{DEADLINES[move.event]}" if move.event in DEADLINES else ""


def effect_lines(effects: Iterable[str]) -> list[str]:
    """The effects that are ordered, a line each."""
    return [f"→ {effect}" for effect in effects]


def records(state: State) -> str:
    """What is recorded while a job stays in this state, with the effects that are ordered then."""
    effects: dict[str, tuple[str, ...]] = {}
    for source, row in _rows():
        if source == state and row.answer == "stays":
            effects[row.event] = effects.get(row.event, ()) + row.effects
    return ", ".join(" ".join([event, *effect_lines(effects)]) for event, effects in effects.items())


# A job's way


class JobPath:
    """Where a job has been and when, and where it is. Without a history: nowhere.

    Args:
        path: the job's history, oldest first.
    """

    def __init__(self, path: Sequence[StateChange]) -> None:
        self.last = path[-1] if path else None
        self.states = {change.target for change in path}
        self._visits: dict[Move | None, list[str]] = {}
        for ordinal, change in enumerate(path, start=1):
            move = Move(change.source, change.event, change.target) if change.source else None
            self._visits.setdefault(move, []).append(f"{ordinal}. +{_elapsed(change.at - path[0].at)}")

    def __bool__(self) -> bool:
        return self.last is not None

    def took(self, move: Move | None) -> bool:
        """Whether the job went this way; None is the edge from the initial mark."""
        return move in self._visits

    def visits(self, move: Move | None) -> str:
        """When the job went this way, as in ``2. +0.8 s, 6. +41.2 s``."""
        visits = self._visits.get(move, [])
        if len(visits) > SHOWN_VISITS:
            visits = [*visits[: SHOWN_VISITS - 1], f"… {visits[-1]} ({len(visits)} times)"]
        return ", ".join(visits)

    def unknown(self) -> list[Move]:
        """Moves that the machine does not make today: an older version did."""
        return [move for move in self._visits if move is not None and move not in MOVES]

    def title(self) -> str:
        """Which job, where it is, and why."""
        if self.last is None:
            return ""
        return f"{self.last.job_id} is {self.last.target}: {self.last.reason}"


def _elapsed(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


# Colours, told apart by people who see red and green alike, and on white and dark pages


class Style(NamedTuple):
    """How a state is painted."""

    fill: str
    line: str
    text: str


INK = "#24303C"
SOFT = "#5B6770"
FAINT = "#A9B2BB"
TONES: dict[Tone, str] = {"success": "#0B5CAD", "failure": "#B5443A", "other": SOFT}
STYLES = {
    "queued": Style("#F4F6F8", "#0B5CAD", INK),
    "live": Style("#EDF4FB", "#0B5CAD", INK),
    "done": Style("#D3E4F6", "#0B5CAD", INK),
    "failed": Style("#FAE6E3", "#B5443A", INK),
    "current": Style("#FFEFB8", "#B07A00", INK),
    "unvisited": Style("#FFFFFF", FAINT, FAINT),
}


def style_of(state: State, job_path: JobPath) -> str:
    """The name of the style of a state."""
    if job_path.last is not None and job_path.last.target == state:
        return "current"
    if job_path and state not in job_path.states:
        return "unvisited"
    return state if state in STYLES else "live"


def clip(words: str) -> str:
    """One printable line, cut to a length that fits into a picture."""
    printable = "".join(sign if sign.isprintable() else " " for sign in words)
    return textwrap.shorten(printable, 240, placeholder=" …")
