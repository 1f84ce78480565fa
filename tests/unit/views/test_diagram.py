"""The pictures of the machine: the committed ones are today's, and a job's way is in them."""

from __future__ import annotations

import html
import itertools
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from pathlib import Path

import pytest

from lando.config.site_config import Timeouts
from lando.engine.ledger import StateChange
from lando.errors import LandoError
from lando.states.events import EVENTS
from lando.states.job import State
from lando.states.machine import MACHINE, STATES, RowTransition
from lando.views.diagram import graph, style
from lando.views.diagram.__main__ import stamp, write
from lando.views.diagram.graphviz import dot, render
from lando.views.diagram.mermaid import mermaid

COMMITTED = Path(__file__).parents[3] / "diagrams"
NAMES = {event.name for event in EVENTS}

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")

Edge = tuple[str, str, str, tuple[str, ...]]


def machine_edges() -> set[Edge]:
    """Source, event, target and effects of every transition that moves."""
    transitions = [
        transition
        for event in MACHINE.events.values()
        for of_state in event.transitions.values()
        for transition in of_state
        if transition.dest is not None
    ]
    assert all(isinstance(transition, RowTransition) for transition in transitions)
    return {(each.source, each.row.event, each.dest, each.row.effects) for each in transitions}


def edges(drawn: list[tuple[str, str, list[str]]]) -> set[Edge]:
    """The same, of edges with their labels' lines."""
    return {
        (source, line, target, tuple(each.removeprefix("→ ") for each in lines if each.startswith("→ ")))
        for source, target, lines in drawn
        for line in lines
        if line in NAMES
    }


def mermaid_edges(text: str) -> list[tuple[str, str, list[str]]]:
    found = re.findall(r"^    (\S+) --> (\S+) : (.*)$", text, re.MULTILINE)
    return [(source, target, plain(label).split("<br/>")) for source, target, label in found]


def plain(words: str) -> str:
    """Mermaid's entities as the signs they stand for."""
    return re.sub(r"#(\d+);", lambda entity: chr(int(entity[1])), words)


def dot_edges(text: str) -> list[tuple[str, str, list[str], str]]:
    """Edges with their labels' lines and their other attributes."""
    found = re.findall(r"^  (\w+) -> (\w+) \[label=<(<TABLE.*</TABLE>)>, (.*)\];$", text, re.MULTILINE)
    return [
        (source, target, ["".join(row.itertext()) for row in ElementTree.fromstring(label)], attributes)
        for source, target, label, attributes in found
    ]


def dot_edge(text: str, source: str, event: str, target: str) -> tuple[list[str], str]:
    [found] = [
        (lines, attributes)
        for tail, head, lines, attributes in dot_edges(text)
        if (tail, head) == (source, target) and event in lines
    ]
    return found


def history(*steps: tuple[float, str, State | None, State], reason: str = "because") -> list[StateChange]:
    return [
        StateChange("job-1", 5000.0 + at, event, source, to, reason, 1) for at, event, source, to in steps
    ]


TWO_ATTEMPTS = history(
    (0.0, "start_worker", None, "queued"),
    (0.84, "admitted", "queued", "booting"),
    (61.0, "boot_timeout", "booting", "terminating"),
    (63.2, "server_gone", "terminating", "queued"),
    (73.4, "admitted", "queued", "booting"),
    (3695.0, "worker_progress", "booting", "running"),
)

# the committed files


@pytest.mark.parametrize(("name", "draw"), [("machine.mmd", mermaid), ("machine.dot", dot)])
def test_committed_text_is_what_the_code_draws(name, draw):
    committed = (COMMITTED / name).read_text(encoding="utf-8")
    assert committed == draw(), f"diagrams/{name} is stale: run python -m lando.views.diagram"


def test_committed_svg_is_made_of_what_the_code_draws():
    committed = (COMMITTED / "machine.svg").read_text(encoding="utf-8")
    assert committed.endswith(stamp(dot())), "stale: run python -m lando.views.diagram"
    shown = " ".join(ElementTree.fromstring(committed).itertext())
    assert all(state in shown for state in STATES)


@needs_graphviz
def test_write_makes_the_three_files(tmp_path):
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["machine.dot", "machine.mmd", "machine.svg"]
    assert (tmp_path / "machine.svg").read_text().endswith(stamp((tmp_path / "machine.dot").read_text()))


# the machine


def test_mermaid_has_every_move_and_no_other_with_its_effects():
    assert edges(mermaid_edges(mermaid())) == machine_edges()


def test_dot_has_every_move_and_no_other_with_its_effects():
    assert edges([edge[:3] for edge in dot_edges(dot())]) == machine_edges()


@pytest.mark.parametrize("draw", [mermaid, dot])
def test_every_state_says_what_it_is_and_what_is_ordered_in_it(draw):
    text = re.sub(r"<[^>]*>|\w+ : ", " ", plain(html.unescape(draw())))
    shown = " ".join(text.split())
    for state in STATES.values():
        assert state.means in shown
        assert f"waits for {state.waits_for}" in shown
        assert f"deadline {state.deadline}" in shown
    assert shown.count("server_created → delete_duplicates") == 3


def test_mermaid_marks_where_jobs_begin_and_end():
    text = mermaid()
    assert f"    [*] --> {MACHINE.initial} : start_worker\n" in text
    assert re.findall(r"(\w+) --> \[\*\]", text) == ["done", "failed"]


def test_timers_are_dashed_and_name_the_configuration_key_that_sets_them():
    timers = {"boot_timeout": "boot", "run_timeout": "run", "worker_lost": "silence"}
    for _, _, lines, attributes in dot_edges(dot()):
        on_it = [event for event in timers if event in lines]
        assert ("style=dashed" in attributes) == bool(on_it)
        for event in on_it:
            assert lines[lines.index(event) + 1] == f"after timeouts.{timers[event]}"
    assert set(graph.DEADLINES) <= NAMES
    assert set(graph.DEADLINES.values()) <= {field.name for field in fields(Timeouts)}


def test_the_clean_run_is_emphasised_from_the_first_state_to_done():
    text = dot()
    way = [(source, to) for source, to, _, attributes in dot_edges(text) if "penwidth=3.5" in attributes]
    states = ["queued", "booting", "running", "terminating", "done"]
    assert way == list(itertools.pairwise(states))
    assert "worker_progress" in dot_edge(text, "booting", "worker_started", "running")[0]


def test_failures_and_the_rest_are_told_apart():
    text = dot()
    color = {
        tone: re.search(r'color="(#\w+)"', dot_edge(text, *edge)[1])[1]
        for tone, edge in {
            "success": ("running", "workflow_finished", "terminating"),
            "failure": ("running", "server_lost", "terminating"),
            "other": ("running", "cancel", "terminating"),
        }.items()
    }
    assert color == style.TONES
    assert len(set(color.values())) == 3


def test_an_event_with_several_ways_out_says_what_decides():
    lines = dot_edge(dot(), "terminating", "server_gone", "queued")[0]
    assert " ".join(lines[1:]) == "a system failure, and the job may run again"
    assert dot_edge(dot(), "failed", "retry", "queued")[0] == ["retry"]


def test_the_picture_has_a_background_of_its_own():
    assert "bgcolor=white" in dot()


# a job's way


def test_mermaid_tells_when_a_job_went_where():
    labels = {
        (source, to, line) for source, to, lines in mermaid_edges(mermaid(TWO_ATTEMPTS)) for line in lines
    }
    assert ("[*]", "queued", "1. +0.0 s start_worker") in labels
    assert ("queued", "booting", "2. +0.8 s, 5. +1 min 13 s admitted") in labels
    assert ("booting", "terminating", "3. +1 min 1 s boot_timeout") in labels
    assert ("terminating", "queued", "4. +1 min 3 s server_gone") in labels
    assert ("booting", "running", "6. +1 h 1 min worker_progress") in labels
    assert ("booting", "running", "worker_started") in labels


def test_mermaid_marks_the_states_a_job_was_in():
    looks = dict(re.findall(r"^    class (\w+) (\w+)$", mermaid(TWO_ATTEMPTS), re.MULTILINE))
    assert looks == {
        "queued": "queued",
        "booting": "live",
        "running": "current",
        "terminating": "live",
        "done": "unvisited",
        "failed": "unvisited",
    }


def test_dot_highlights_the_way_and_greys_the_rest():
    text = dot(TWO_ATTEMPTS)
    taken = {(move.source, move.event, move.target) for move in map(move_of, TWO_ATTEMPTS[1:])}
    for source, event, target, _ in machine_edges():
        attributes = dot_edge(text, source, event, target)[1]
        siblings = [event for tail, event, head in taken if (tail, head) == (source, target)]
        on_the_way = any(sibling in dot_edge(text, source, event, target)[0] for sibling in siblings)
        assert (style.FAINT not in attributes) == on_the_way, (source, event, target)
        assert ("penwidth=3.5" in attributes) == on_the_way
    assert dot_edge(text, "queued", "admitted", "booting")[0][0] == "2. +0.8 s, 5. +1 min 13 s"


def test_dot_greys_what_did_not_happen_on_an_edge_that_was_taken():
    text = dot(TWO_ATTEMPTS)
    assert f'<FONT COLOR="{style.FAINT}"><B>worker_started</B></FONT>' in text
    assert f'<FONT COLOR="{style.TONES["success"]}"><B>worker_progress</B></FONT>' in text


def move_of(change: StateChange) -> graph.Move:
    assert change.source is not None
    return graph.Move(change.source, change.event, change.target)


def test_a_way_taken_often_tells_the_first_times_and_the_last():
    path = history((0.0, "start_worker", None, "queued"))
    for turn in range(1, 31):
        path += history(
            (30.0 * turn, "admitted", "queued", "booting"),
            (30.0 * turn + 1, "create_refused", "booting", "queued"),
        )
    lines = dot_edge(dot(path), "queued", "admitted", "booting")[0]
    assert lines[0] == "2. +30.0 s, 4. +1 min 0 s, 6. +1 min 30 s, … 60. +15 min 0 s (30 times)"


def test_a_move_of_an_older_machine_is_drawn_all_the_same():
    path = history((0.0, "start_worker", None, "queued"), (1.0, "teleported", "queued", "done"))
    assert ("queued", "done") in [edge[:2] for edge in mermaid_edges(mermaid(path))]
    lines, attributes = dot_edge(dot(path), "queued", "teleported", "done")
    assert lines == ["2. +1.0 s", "teleported", "by an older version of", "lando-fsm"]
    assert "penwidth=3.5" in attributes


def test_an_empty_history_draws_the_machine():
    assert dot([]) == dot()
    assert mermaid([]) == mermaid()


NASTY = 'git said: "fatal: <b>no</b> &lt; such\\N %%{init}%% #35; repo"\n--> done\x00; 100% é'


def test_mermaid_quotes_the_reason():
    text = mermaid(history((0.0, "start_worker", None, "queued"), reason=NASTY))
    [note] = re.findall(r"^    note right of queued : (.*)$", text, re.MULTILINE)
    assert not re.search(r'[:<>"%{}\\&]', note.replace("<br/>", ""))
    assert not re.search(r";|#(?!\d+;)", re.sub(r"#\d+;", "", note))
    shown = plain(note.replace("<br/>", " "))
    assert shown == "job-1 is queued: " + " ".join(NASTY.replace("\x00", " ").split())


@needs_graphviz
def test_dot_quotes_the_reason():
    text = dot(history((0.0, "start_worker", None, "queued"), reason=NASTY))
    svg = ElementTree.fromstring(render(text, "svg"))
    shown = " ".join("".join(svg.itertext()).split())
    assert 'git said: "fatal: <b>no</b> &lt; such\\N %%{init}%% #35; repo" --> done ; 100% é' in shown


def test_a_long_reason_is_cut():
    text = dot(history((0.0, "start_worker", None, "queued"), reason="word " * 1000))
    assert "…" in text
    assert text.count("word") < 60


# Graphviz


@needs_graphviz
@pytest.mark.parametrize(("format", "begins"), [("svg", b"<?xml"), ("png", b"\x89PNG")])
def test_render(format, begins):
    assert render(dot(TWO_ATTEMPTS), format).startswith(begins)


def test_without_graphviz_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LandoError, match="apt-get install graphviz") as raised:
        render("digraph {}", "png")
    assert "mermaid and dot need nothing" in str(raised.value)


def test_when_graphviz_fails_its_words_are_told(monkeypatch, tmp_path):
    fake = tmp_path / "dot"
    fake.write_text("#!/bin/sh\necho 'syntax error in line 1' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LandoError, match=r"dot failed \(3\): syntax error in line 1"):
        render("digraph {}", "svg")
