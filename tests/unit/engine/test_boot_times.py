"""The boot timeout is learned from the last boots, and forgets them when boots begin to time out."""

from __future__ import annotations

from lando.engine.boot_times import ENOUGH, KEPT, LEAST, MARGIN, MOST, remembered, timeout


def test_the_last_boots_are_kept_the_oldest_first() -> None:
    recent: list[float] = []
    for seconds in range(KEPT + 10):
        recent = remembered(recent, float(seconds))
    assert recent == [float(seconds) for seconds in range(10, KEPT + 10)]


def test_the_longest_timeout_holds_until_enough_is_known() -> None:
    assert timeout([100.0] * (ENOUGH - 1)) == MOST
    assert timeout([100.0] * ENOUGH) == MARGIN * 100.0


def test_no_timeout_is_shorter_or_longer_than_is_sensible() -> None:
    assert timeout([1.0] * KEPT) == LEAST
    assert timeout([9000.0] * KEPT) == MOST


def test_timeouts_lead_back_to_the_longest_one() -> None:
    recent = [10.0] * KEPT
    boots = 0
    while timeout(recent) < MOST:
        recent = remembered(recent, None)
        boots += 1
    assert boots <= 3, "half is forgotten by each"
