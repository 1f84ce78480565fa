"""How moments and durations are written."""

from __future__ import annotations

import pytest

from lando.times import duration, rfc3339, written


def test_a_moment_is_rfc_3339_in_utc() -> None:
    assert rfc3339(1795370572.4904) == "2026-11-22T18:02:52.490Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(None) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (9.94, "9.9 s"),
        (59.9, "59 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_tenths_are_shown_as_long_as_wanted() -> None:
    assert [duration(41.26), duration(41.26, tenths_below=60)] == ["41 s", "41.3 s"]
    assert duration(73.4, tenths_below=60) == "1 min 13 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.5, "0.5s"),
        (90.0, "1m30s"),
        (5400.0, "1h30m"),
        (366 * 86400.0, "366d"),
        (86401.0, "1d1s"),
    ],
)
def test_a_duration_as_a_file_has_it(seconds: float, text: str) -> None:
    assert written(seconds) == text
