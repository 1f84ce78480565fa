"""Pictures of the machine, drawn from the transitions that run: the whole of it, or one job's way through it.

Mermaid and dot are text and need nothing; SVG and PNG are made of dot by Graphviz. Edges are the rows that
move; what is recorded while a job stays is listed in its state; what is ignored or refused is not drawn.

``python -m lando.views.diagram.graph [DIRECTORY]`` writes the files of ``diagrams/``.
"""

from __future__ import annotations

import hashlib
import html
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lando.engine.ledger import StateChange
from lando.errors import LandoError
from lando.states.events import EVENTS
from lando.states.job import ENDED_STATES, State
from lando.states.machine import MACHINE, STATES, RowTransition
from lando.states.table import Row

Tone = Literal["success", "failure", "other"]

BEGIN: State = "queued"
SUBMITTED = "start_worker"
"""The message that makes a job: the edge from the initial mark."""

CLEAN_RUN = ("admitted", "worker_started", "worker_progress", "workflow_finished", "server_gone")
"""The events that lead from a state to the next one when nothing goes wrong: the way that is emphasised."""

DEADLINES = {"boot_timeout": "boot", "run_timeout": "run", "worker_lost": "silence"}
"""The events that a clock brings, and the key of ``timeouts`` in landoconfig.yml that sets the time."""

TOLD_VISITS = 4
"""Of an edge that a job took more often, only the first times and the last are told."""

RENDER_TIMEOUT = 60.0
"""Seconds that Graphviz may take."""


def mermaid(path: Sequence[StateChange] | None = None) -> str:
    """The machine as a Mermaid state diagram; the same machine is always the same text.

    Source: https://mermaid.js.org/syntax/stateDiagram.html

    Args:
        path: a job's history, oldest first: the states and edges it took are marked, with the time since
            it was submitted.
    """
    journey = Journey(path or ())
    lines = ["stateDiagram-v2", *(f"    {line}" for line in _mermaid_statements(journey))]
    return "\n".join(lines) + "\n"


def dot(path: Sequence[StateChange] | None = None) -> str:
    """The machine in Graphviz's language; the same machine is always the same text.

    Source: https://graphviz.org/doc/info/lang.html

    Args:
        path: a job's history, oldest first: its way is highlighted, with the time since it was submitted,
            and the rest is greyed.
    """
    journey = Journey(path or ())
    lines = ['digraph "lando-fsm" {', *(f"  {line}" for line in _dot_statements(journey)), "}"]
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


# What is drawn


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


def _arrows(journey: Journey) -> dict[Arrow, list[Move]]:
    """The edges, each with the moves that are stacked on it."""
    arrows: dict[Arrow, list[Move]] = {}
    for move, row in MOVES.items():
        arrow = Arrow(move.source, move.target, _tone(move, row), move.event in DEADLINES, row.effects)
        arrows.setdefault(arrow, []).append(move)
    for move in journey.unknown():
        arrows.setdefault(Arrow(move.source, move.target), []).append(move)
    return arrows


def _tone(move: Move, row: Row) -> Tone:
    if move.event in CLEAN_RUN and _distance(move.source, move.target) == 1:
        return "success"
    if move.target == "failed" or "save_console_log" in row.effects:
        return "failure"
    return "other"


def _distance(source: State, target: State) -> int:
    """How many states further on; negative: how many back."""
    states = list(STATES)
    return states.index(target) - states.index(source)


def _why(move: Move) -> str:
    """When an event leads to several states: what decides."""
    if move not in MOVES:
        return "a machine of an older version"
    ways = [other for other in MOVES if (other.source, other.event) == (move.source, move.event)]
    return MOVES[move].why if len(ways) > 1 else ""


def _deadline(move: Move) -> str:
    return f"after timeouts.{DEADLINES[move.event]}" if move.event in DEADLINES else ""


def _effects(effects: Iterable[str]) -> list[str]:
    return [f"→ {effect}" for effect in effects]


def _records(state: State) -> str:
    """What is recorded while a job stays in this state, with the effects that are ordered then."""
    effects: dict[str, tuple[str, ...]] = {}
    for source, row in _rows():
        if source == state and row.answer == "stays":
            effects[row.event] = effects.get(row.event, ()) + row.effects
    return ", ".join(" ".join([event, *_effects(effects)]) for event, effects in effects.items())


# A job's way


class Journey:
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
        if len(visits) > TOLD_VISITS:
            visits = [*visits[: TOLD_VISITS - 1], f"… {visits[-1]} ({len(visits)} times)"]
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


class Look(NamedTuple):
    """How a state is painted."""

    fill: str
    line: str
    text: str


INK = "#24303C"
SOFT = "#5B6770"
FAINT = "#A9B2BB"
TONES: dict[Tone, str] = {"success": "#0B5CAD", "failure": "#B5443A", "other": SOFT}
LOOKS = {
    "queued": Look("#F4F6F8", "#0B5CAD", INK),
    "live": Look("#EDF4FB", "#0B5CAD", INK),
    "done": Look("#D3E4F6", "#0B5CAD", INK),
    "failed": Look("#FAE6E3", "#B5443A", INK),
    "current": Look("#FFEFB8", "#B07A00", INK),
    "unvisited": Look("#FFFFFF", FAINT, FAINT),
}


def _look(state: State, journey: Journey) -> str:
    """The name of the look of a state."""
    if journey.last is not None and journey.last.target == state:
        return "current"
    if journey and state not in journey.states:
        return "unvisited"
    return state if state in LOOKS else "live"


# Mermaid


def _mermaid_statements(journey: Journey) -> Iterator[str]:
    yield "direction TB"
    for name, look in LOOKS.items():
        width = 4 if name == "current" else 1
        yield f"classDef {name} fill:{look.fill},stroke:{look.line},stroke-width:{width}px,color:{look.text}"
    for state in STATES:
        yield from _mermaid_state(state)
        yield f"class {state} {_look(state, journey)}"
    yield f"[*] --> {BEGIN} : {_mermaid_lines([f'{journey.visits(None)} {SUBMITTED}'])}"
    for arrow, moves in _mermaid_arrows(journey).items():
        yield f"{arrow.source} --> {arrow.target} : {_mermaid_lines(_mermaid_label(arrow, moves, journey))}"
    for state in ENDED_STATES:
        yield f"{state} --> [*]"
    if journey.last is not None:
        title = _mermaid_lines(textwrap.wrap(_clip(journey.title()), 28))
        yield f"note right of {journey.last.target} : {title}"


def _mermaid_arrows(journey: Journey) -> dict[Arrow, list[Move]]:
    """Mermaid paints all edges alike: what differs in its look only is stacked, too."""
    stacked: dict[Arrow, list[Move]] = {}
    for arrow, moves in _arrows(journey).items():
        stacked.setdefault(arrow._replace(tone="other", timed=False), []).extend(moves)
    return stacked


def _mermaid_state(state: State) -> Iterator[str]:
    text = STATES[state]
    yield f"{state} : {state}"
    records = _records(state)
    facts = (text.means, f"waits for {text.waits_for}", f"deadline {text.deadline}")
    for words in (*facts, f"records {records}") if records else facts:
        for line in textwrap.wrap(words, 44, break_on_hyphens=False):
            yield f"{state} : {_mermaid_text(line)}"


def _mermaid_label(arrow: Arrow, moves: Sequence[Move], journey: Journey) -> Iterator[str]:
    for move in moves:
        yield f"{journey.visits(move)} {move.event}"
        yield from filter(None, [_deadline(move), *textwrap.wrap(_why(move), 24)])
    yield from _effects(arrow.effects)


def _mermaid_lines(lines: Iterable[str]) -> str:
    return "<br/>".join(_mermaid_text(line.strip()) for line in lines)


def _mermaid_text(words: str) -> str:
    """Words as entities where Mermaid would read them as its own signs (``:`` and ``;`` end a label)."""
    return re.sub(r"[^\w\s.,()+→…'/-]", lambda sign: f"#{ord(sign[0])};", words)


# dot

FONT = "Helvetica,Arial,sans-serif"


def _dot_statements(journey: Journey) -> Iterator[str]:
    yield "graph [bgcolor=white, pad=0.3, nodesep=0.25, ranksep=0.4, labelloc=t, fontsize=13];"
    yield f'graph [fontname="{FONT}", fontcolor="{INK}", label="{_dot_title(journey)}"];'
    yield f'node [shape=box, style="rounded,filled", fontname="{FONT}", fontsize=11, width=3.3];'
    yield f'edge [fontname="{FONT}", fontsize=10, arrowsize=0.8];'
    yield _dot_mark("begin", "circle", BEGIN)
    for state in STATES:
        yield _dot_state(state, journey)
    for state in ENDED_STATES:
        yield _dot_mark(f"end_{state}", "doublecircle", state)
    start = [_bold(f"{journey.visits(None)} {SUBMITTED}".strip())]
    yield f'begin -> {BEGIN} [label={_dot_label(start)}, color="{INK}", fontcolor="{INK}"];'
    for arrow, moves in _arrows(journey).items():
        yield _dot_arrow(arrow, moves, journey)
    for state in ENDED_STATES:
        ended = not journey or _look(state, journey) == "current"
        yield f'{state} -> end_{state} [color="{INK if ended else FAINT}"];'
    yield "{rank=same; failed -> done [style=invis];}"


def _dot_mark(name: str, shape: str, state: State) -> str:
    return (
        f'{name} [shape={shape}, style=filled, label="", width=0.15, fillcolor="{INK}", '
        f"group={_dot_group(state)}];"
    )


def _dot_group(state: State) -> str:
    """What is in one group stands in one line: the states of a clean run."""
    return "failed" if state == "failed" else "clean"


def _dot_title(journey: Journey) -> str:
    lines = textwrap.wrap(_clip(journey.title()), 90)
    return "\\n".join(html.escape(line).replace("\\", "\\\\") for line in lines)


def _dot_state(state: State, journey: Journey) -> str:
    text, look = STATES[state], LOOKS[_look(state, journey)]
    lines = [_font(_bold(state), size=16), *_wrapped(text.means)]
    lines += [*_wrapped(text.waits_for, "waits for"), *_wrapped(text.deadline, "deadline")]
    soft = FAINT if look.text == FAINT else SOFT
    lines += [_font(line, size=9, color=soft) for line in _wrapped(_records(state), "records", 52)]
    width = 4 if look is LOOKS["current"] else 1.2
    return (
        f'{state} [label={_dot_label(lines, width=225)}, fillcolor="{look.fill}", color="{look.line}", '
        f'fontcolor="{look.text}", penwidth={width}, group={_dot_group(state)}];'
    )


def _dot_arrow(arrow: Arrow, moves: Sequence[Move], journey: Journey) -> str:
    taken = [move for move in moves if journey.took(move)] if journey else moves
    color = TONES[arrow.tone] if taken else FAINT
    lines: list[str] = []
    for move in moves:
        ink = color if move in taken else FAINT
        lines += [_font(line, color=ink) for line in _dot_move(move, journey)]
    lines += [html.escape(effect) for effect in _effects(arrow.effects)]
    pen = 3.5 if arrow.tone == "success" else 1.2
    if journey:
        pen = 3.5 if taken else 1.0
    style = ", style=dashed" if arrow.timed else ""
    return (
        f'{arrow.source} -> {arrow.target} [label={_dot_label(lines)}, color="{color}", fontcolor="{color}", '
        f"penwidth={pen}{style}{_dot_side(arrow)}];"
    )


def _dot_side(arrow: Arrow) -> str:
    """A clean run goes straight down; failures leave it on the left, everything else on the right."""
    if arrow.tone == "success":
        return ", weight=10"
    if arrow.source in ENDED_STATES:
        return ""
    side = "w" if arrow.tone == "failure" else "e"
    corners = {1: ("s", "n"), -1: ("n", "s")}  # neighbours: the short way, from corner to corner
    tail, head = corners.get(_distance(arrow.source, arrow.target), ("", ""))
    return f", tailport={tail}{side}, headport={head}{side}"


def _dot_move(move: Move, journey: Journey) -> Iterator[str]:
    if journey.took(move):
        yield _bold(journey.visits(move))
    yield _bold(move.event)
    if _deadline(move):
        yield html.escape(_deadline(move))
    for line in textwrap.wrap(_why(move), 26):
        yield f"<I>{html.escape(line)}</I>"


def _dot_label(lines: Iterable[str], width: int = 0) -> str:
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


def _clip(words: str) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in words)
    return textwrap.shorten(printable, 240, placeholder=" …")


# The committed files


def stamp(dot_text: str) -> str:
    """A comment that tells which dot text an SVG was made of: versions of Graphviz draw differently."""
    return f"<!-- made of dot text with sha256 {hashlib.sha256(dot_text.encode()).hexdigest()} -->\n"


def write(directory: Path) -> None:
    """Write machine.mmd, machine.dot and machine.svg.

    Raises:
        LandoError: Graphviz is not installed, or it failed; the text files are written by then.
    """
    text = dot()
    (directory / "machine.mmd").write_text(mermaid(), encoding="utf-8")
    (directory / "machine.dot").write_text(text, encoding="utf-8")
    (directory / "machine.svg").write_bytes(render(text, "svg") + stamp(text).encode())


def _main() -> None:
    given = sys.argv[1:]
    try:
        write(Path(given[0]) if given else Path(__file__).parents[3] / "diagrams")
    except (LandoError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    _main()
