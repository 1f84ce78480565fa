"""Back-off: doubled by each failure, bounded, and finite for any number of failures."""

from __future__ import annotations

from lando import backoff


def test_each_failure_doubles_the_delay_up_to_the_longest() -> None:
    assert [backoff.delay(failures, 10.0, 60.0) for failures in range(6)] == [10, 10, 20, 40, 60, 60]


def test_any_number_of_failures_has_a_delay() -> None:
    assert backoff.delay(1_000_000, 0.5, 30.0) == 30.0


def test_jitter_shortens_by_up_to_a_half() -> None:
    waits = {backoff.jittered(3, 10.0, 60.0) for _ in range(1000)}
    assert len(waits) > 1
    assert 20.0 <= min(waits) < 25.0
    assert 35.0 < max(waits) <= 40.0
