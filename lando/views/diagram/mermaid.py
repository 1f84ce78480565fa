"""The machine as a Mermaid state diagram."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from lando.engine.ledger import StateChange
from lando.states.job import ENDED_STATES, State
from lando.states.machine import STATES
from lando.views.diagram.graph import (
    BEGIN,
    LOOKS,
    SUBMITTED,
    Arrow,
    Journey,
    Move,
    arrows,
    clip,
    deadline,
    effect_lines,
    look_of,
    records,
    why,
)


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


def _mermaid_statements(journey: Journey) -> Iterator[str]:
    yield "direction TB"
    for name, look in LOOKS.items():
        width = 4 if name == "current" else 1
        yield f"classDef {name} fill:{look.fill},stroke:{look.line},stroke-width:{width}px,color:{look.text}"
    for state in STATES:
        yield from _mermaid_state(state)
        yield f"class {state} {look_of(state, journey)}"
    yield f"[*] --> {BEGIN} : {_mermaid_lines([f'{journey.visits(None)} {SUBMITTED}'])}"
    for arrow, moves in _mermaid_arrows(journey).items():
        yield f"{arrow.source} --> {arrow.target} : {_mermaid_lines(_mermaid_label(arrow, moves, journey))}"
    for state in ENDED_STATES:
        yield f"{state} --> [*]"
    if journey.last is not None:
        title = _mermaid_lines(textwrap.wrap(clip(journey.title()), 28))
        yield f"note right of {journey.last.target} : {title}"


def _mermaid_arrows(journey: Journey) -> dict[Arrow, list[Move]]:
    """Mermaid paints all edges alike: what differs in its look only is stacked, too."""
    stacked: dict[Arrow, list[Move]] = {}
    for arrow, moves in arrows(journey).items():
        stacked.setdefault(arrow._replace(tone="other", timed=False), []).extend(moves)
    return stacked


def _mermaid_state(state: State) -> Iterator[str]:
    text = STATES[state]
    yield f"{state} : {state}"
    recorded = records(state)
    facts = (text.means, f"waits for {text.waits_for}", f"deadline {text.deadline}")
    for words in (*facts, f"records {recorded}") if recorded else facts:
        for line in textwrap.wrap(words, 44, break_on_hyphens=False):
            yield f"{state} : {_mermaid_text(line)}"


def _mermaid_label(arrow: Arrow, moves: Sequence[Move], journey: Journey) -> Iterator[str]:
    for move in moves:
        yield f"{journey.visits(move)} {move.event}"
        yield from filter(None, [deadline(move), *textwrap.wrap(why(move), 24)])
    yield from effect_lines(arrow.effects)


def _mermaid_lines(lines: Iterable[str]) -> str:
    return "<br/>".join(_mermaid_text(line.strip()) for line in lines)


def _mermaid_text(words: str) -> str:
    """Words as entities where Mermaid would read them as its own signs (``:`` and ``;`` end a label)."""
    return re.sub(r"[^\w\s.,()+→…'/-]", lambda sign: f"#{ord(sign[0])};", words)
