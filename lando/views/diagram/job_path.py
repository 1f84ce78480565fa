"""One job's path through the machine."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lando.engine.ledger import StateChange
from lando.times import duration
from lando.views.diagram.graph import MOVES, Move

SHOWN_VISITS = 4
"""Of an arrow that the job took more often, only the first times and the last are shown."""
MAX_TITLE = 240
"""Characters of the title."""


class JobPath:
    """Where a job has been, and when. Empty and falsy without a history.

    Args:
        path: the job's history, oldest first.
    """

    def __init__(self, path: Sequence[StateChange]) -> None:
        self.last = path[-1] if path else None
        self.states = {change.target for change in path}
        self._visits: dict[Move | None, list[str]] = {}
        for ordinal, change in enumerate(path, start=1):
            move = Move(change.source, change.event, change.target) if change.source else None
            after = duration(change.at - path[0].at, tenths_below=60)
            self._visits.setdefault(move, []).append(f"{ordinal}. +{after}")

    def __bool__(self) -> bool:
        return self.last is not None

    def took(self, move: Move | None) -> bool:
        """Whether the job made this move; None is the arrow from the initial mark."""
        return move in self._visits

    def visits(self, move: Move | None) -> str:
        """When the job made this move, as in ``2. +0.8 s, 6. +41.2 s``."""
        visits = self._visits.get(move, [])
        if len(visits) > SHOWN_VISITS:
            visits = [*visits[: SHOWN_VISITS - 1], f"… {visits[-1]} ({len(visits)} times)"]
        return ", ".join(visits)

    def unknown(self) -> list[Move]:
        """Moves that the machine does not have: an older version did."""
        return [move for move in self._visits if move is not None and move not in MOVES]

    def title(self) -> str:
        """Which job it is, its state, and why: one printable line, cut to a length that fits."""
        if self.last is None:
            return ""
        text = f"{self.last.job_id} is {self.last.target}: {self.last.reason}"
        printable = "".join(character if character.isprintable() else " " for character in text)
        return textwrap.shorten(printable, MAX_TITLE, placeholder=" …")
