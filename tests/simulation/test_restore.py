"""After a restore from ten minutes ago no job runs twice at once, what is unknown stays, and all ends."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.restore import restore

SEEDS = range(1, 4)
MEANWHILE = {
    ("none", "queued"), ("none", "booting"), ("none", "running"), ("none", "failed"), ("queued", "running"),
    ("queued", "done"), ("running", "running"), ("running", "done"), ("running", "failed"), ("done", "done"),
    ("failed", "failed"),
}  # fmt: skip
"""States at the backup and at the restore that must have been met."""


@pytest.mark.parametrize("answers_get_lost", [False, True])
def test_a_restored_database_runs_no_job_twice_at_once(answers_get_lost: bool) -> None:
    met: Counter[tuple[str, str]] = Counter()
    unknown = lost = 0
    for seed in SEEDS:
        seen = restore(seed, answers_get_lost)
        met += seen.meanwhile
        unknown += len(seen.unknown)
        lost += len(seen.lost)
    print(f"{unknown} unknown servers, {lost} lost jobs, {dict(met)}")
    assert not MEANWHILE - met.keys()
    assert unknown > 20 and lost > 20, "too little was at stake"
