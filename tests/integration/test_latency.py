"""A submitted job is taken at once: nothing polls where it can be woken."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.latency import measure


def test_the_first_effect_starts_at_once(tmp_path: Path) -> None:
    waits = measure(tmp_path, jobs=20)
    # A reader that polled would take its tick, a second; this machine may be busy, so the median decides.
    assert statistics.median(waits) < 0.1, waits
