"""Colors: told apart also by people who see red and green alike, on white and on dark pages."""

from __future__ import annotations

from typing import NamedTuple

from lando.states.job import State
from lando.views.diagram.graph import Tone
from lando.views.diagram.job_path import JobPath


class Style(NamedTuple):
    """The colors of a state."""

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
