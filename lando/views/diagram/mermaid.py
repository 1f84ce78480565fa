"""The machine as a Mermaid state diagram."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from lando.engine.ledger import StateChange
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
from lando.views.diagram.style import STYLES, style_of


def mermaid(path: Sequence[StateChange] | None = None) -> str:
    """The machine as a Mermaid state diagram; the same machine is always the same text.

    Source: https://mermaid.js.org/syntax/stateDiagram.html

    Args:
        path: a job's history, oldest first: the states and edges it took are marked, with the time since
            it was submitted.
    """
    job_path = JobPath(path or ())
    lines = ["stateDiagram-v2", *(f"    {line}" for line in _statements(job_path))]
    return "\n".join(lines) + "\n"


def _statements(job_path: JobPath) -> Iterator[str]:
    yield "direction TB"
    for name, paint in STYLES.items():
        width = 4 if name == "current" else 1
        colors = f"fill:{paint.fill},stroke:{paint.line},stroke-width:{width}px,color:{paint.text}"
        yield f"classDef {name} {colors}"
    for state in STATES:
        yield from _state(state)
        yield f"class {state} {style_of(state, job_path)}"
    yield f"[*] --> {INITIAL} : {_lines([f'{job_path.visits(None)} {SUBMITTED}'])}"
    for arrow, moves in _arrows(job_path).items():
        yield f"{arrow.source} --> {arrow.target} : {_lines(_label(arrow, moves, job_path))}"
    for state in ENDED_STATES:
        yield f"{state} --> [*]"
    legend = [line for part, meaning in LEGEND for line in textwrap.wrap(f"{part}: {meaning}", 28)]
    yield f"note left of {INITIAL} : {_lines(legend)}"
    if job_path.last is not None:
        title = _lines(textwrap.wrap(job_path.title(), 28))
        yield f"note right of {job_path.last.target} : {title}"


def _arrows(job_path: JobPath) -> dict[Arrow, list[Move]]:
    """Mermaid paints all edges alike: what differs in its style only is stacked, too."""
    stacked: dict[Arrow, list[Move]] = {}
    for arrow, moves in arrows(job_path.unknown()).items():
        stacked.setdefault(arrow._replace(tone="other", timed=False), []).extend(moves)
    return stacked


def _state(state: State) -> Iterator[str]:
    text, recorded = STATES[state], records(state)
    yield f"{state} : {state}"
    facts = [text.means, f"waits for {text.waits_for}", f"deadline {text.deadline}"]
    for fact in [*facts, f"records {recorded}"] if recorded else facts:
        for line in textwrap.wrap(fact, 44, break_on_hyphens=False):
            yield f"{state} : {_text(line)}"


def _label(arrow: Arrow, moves: Sequence[Move], job_path: JobPath) -> Iterator[str]:
    for move in moves:
        yield f"{job_path.visits(move)} {move.event}"
        yield from filter(None, [deadline(move), *textwrap.wrap(condition(move), 24)])
    yield from effect_lines(arrow.effects)


def _lines(lines: Iterable[str]) -> str:
    return "<br/>".join(_text(line.strip()) for line in lines)


def _text(text: str) -> str:
    """Text, with entities for the characters that mean something to Mermaid (``:`` and ``;`` end a label)."""
    return re.sub(r"[^\w\s.,()+→…'/-]", lambda character: f"#{ord(character[0])};", text)
