"""What a picture of the machine shows.

Arrows are the rows that move; what is recorded while a job stays is listed in its state; what is ignored or
refused is not drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from lando.states.events import EVENTS
from lando.states.job import State
from lando.states.machine import MACHINE, STATES, RowTransition
from lando.states.table import Row

Tone = Literal["success", "failure", "other"]

INITIAL: State = "queued"
SUBMITTED = "start_worker"
"""The message that creates a job: the arrow from the initial mark."""

SUCCESS_PATH = ("admitted", "worker_started", "worker_progress", "workflow_finished", "server_gone")
"""The events that lead from a state to the next one in a run without failures, which is emphasized."""

DEADLINES = {"boot_timeout": "boot", "run_timeout": "run", "worker_lost": "silence"}
"""The deadline events, and the key of ``timeouts`` in landoconfig.yml that sets the time."""

SHOWN_EFFECTS = {"delete_twins": "delete_duplicates"}
"""Effects that are shown by another name than they are stored by."""

LEGEND = (
    ("event", "what has happened"),
    ("condition", "where an event leads to several states"),
    ("→ effect", "what the daemon does next"),
    ("records", "events that change the job, but not its state"),
)
"""The parts of the texts of a picture."""


class Move(NamedTuple):
    """What identifies a row that leads to another state."""

    source: State
    event: str
    target: State


class Arrow(NamedTuple):
    """What the rows on one arrow have in common."""

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


def arrows(more: Iterable[Move] = ()) -> dict[Arrow, list[Move]]:
    """The arrows, each with its moves.

    Args:
        more: moves that the machine does not have.
    """
    found: dict[Arrow, list[Move]] = {}
    for move, row in MOVES.items():
        arrow = Arrow(move.source, move.target, _tone(move, row), move.event in DEADLINES, row.effects)
        found.setdefault(arrow, []).append(move)
    for move in more:
        found.setdefault(Arrow(move.source, move.target), []).append(move)
    return found


def _tone(move: Move, row: Row) -> Tone:
    states = list(STATES)
    if move.event in SUCCESS_PATH and states.index(move.target) == states.index(move.source) + 1:
        return "success"
    if move.target == "failed" or "save_console_log" in row.effects:
        return "failure"
    return "other"


def condition(move: Move) -> str:
    """When an event leads to several states: the condition of this one."""
    if move not in MOVES:
        return "by an older version of lando-fsm"
    ways = [other for other in MOVES if (other.source, other.event) == (move.source, move.event)]
    return MOVES[move].why if len(ways) > 1 else ""


def deadline(move: Move) -> str:
    """Of a deadline event, the key of landoconfig.yml that sets the time; else empty."""
    return f"after timeouts.{DEADLINES[move.event]}" if move.event in DEADLINES else ""


def effect_lines(effects: Iterable[str]) -> list[str]:
    """The effects that are ordered, a line each."""
    return [f"→ {SHOWN_EFFECTS.get(effect, effect)}" for effect in effects]


def records(state: State) -> str:
    """What is recorded while a job stays in this state, with the effects that are ordered then."""
    effects: dict[str, tuple[str, ...]] = {}
    for source, row in _rows():
        if source == state and row.answer == "stays":
            effects[row.event] = effects.get(row.event, ()) + row.effects
    return ", ".join(" ".join([event, *effect_lines(effects)]) for event, effects in effects.items())
