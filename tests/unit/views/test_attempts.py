"""A job's attempts, from its history."""

from __future__ import annotations

from lando.engine.ledger import StateChange
from lando.states.job import State
from lando.views.attempts import Attempt, attempts


def changes(*rows: tuple[str, State | None, State, int]) -> list[StateChange]:
    """Rows of a history, a second apart, each with its event as the reason."""
    return [
        StateChange("a job", float(at), event, source, target, f"because of {event}", attempt)
        for at, (event, source, target, attempt) in enumerate(rows)
    ]


def test_no_attempt() -> None:
    assert attempts([]) == []
    assert attempts(changes(("start_worker", None, "queued", 0), ("cancel", "queued", "failed", 0))) == []


def test_attempts_of_every_kind() -> None:
    found = attempts(
        changes(
            ("start_worker", None, "queued", 0),
            ("admitted", "queued", "booting", 1),
            ("create_refused", "booting", "queued", 1),
            ("admitted", "queued", "booting", 2),
            ("worker_started", "booting", "running", 2),
            ("worker_lost", "running", "terminating", 2),
            ("server_gone", "terminating", "queued", 2),
            ("boot_failures_judged", "queued", "failed", 2),
            ("retry", "failed", "queued", 2),
            ("admitted", "queued", "booting", 3),
            ("cancel", "booting", "terminating", 3),
            ("server_gone", "terminating", "failed", 3),
            ("retry", "failed", "queued", 3),
            ("admitted", "queued", "booting", 4),
        )
    )
    assert found == [
        Attempt(1, 1.0, 2.0, "queued", "because of create_refused"),
        Attempt(2, 3.0, 6.0, "queued", "because of server_gone"),
        Attempt(3, 9.0, 11.0, "failed", "because of server_gone"),
        Attempt(4, 13.0),
    ]
