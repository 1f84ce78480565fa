"""A job's attempts, as its history tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lando.engine.ledger import StateChange
from lando.states.job import State

BETWEEN: tuple[State, ...] = ("queued", "done", "failed")
"""The states of a job in which no attempt is in progress."""


@dataclass(frozen=True)
class Attempt:
    """One attempt; times in seconds since the epoch."""

    number: int
    started_at: float
    ended_at: float | None = None
    """None while it is in progress."""
    end: State | None = None
    """The job's state after it."""
    reason: str = ""
    """Why it ended."""


def attempts(history: Sequence[StateChange]) -> list[Attempt]:
    """The attempts in order.

    Args:
        history: every change of state of one job, oldest first.
    """
    found: dict[int, Attempt] = {}
    for change in history:
        if change.event == "admitted":
            found[change.attempt] = Attempt(change.attempt, change.at)
        elif change.target in BETWEEN and change.source not in (None, *BETWEEN):
            begun = found.get(change.attempt)
            if begun is not None:
                found[change.attempt] = Attempt(
                    begun.number, begun.started_at, change.at, change.target, change.reason
                )
    return list(found.values())
