"""An outage of twelve hours fails no job, costs few creates, and is over soon after its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.simulation.cloud import BUILD, SLOWEST_BOOT
from tests.simulation.night import HOUR, JOBS, LENGTH, SETTINGS, Figures, night
from tests.simulation.outages import Kind
from tests.simulation.site import Settings

SOON = 120.0
CALLS_AN_HOUR = 800.0
LONGEST_BACK_OFF = 600.0
LONGEST_BOOT_TIMEOUT = 20 * 60.0
RAMP = 30.0
"""Seconds in which 20 creates are sent, six at a time, once the first server has booted."""


def _check(
    say: Callable[[str, object], None],
    kinds: tuple[Kind, ...],
    full_within: float,
    settings: Settings = SETTINGS,
) -> Figures:
    seen = night(*kinds, settings=settings)
    say("seen", f"12 h without {' and '.join(kinds)}: {seen}")
    print(seen)
    assert seen.states == {"done": JOBS}
    assert seen.attempts == 0
    assert seen.creates < 100
    assert seen.full_after <= full_within
    return seen


@pytest.mark.parametrize("kinds", [("nova", "keystone"), ("neutron", "glance")])
def test_where_reads_show_the_end_all_goes_on_within_two_minutes(
    kinds: tuple[Kind, ...], record_property: Callable[[str, object], None]
) -> None:
    seen = _check(record_property, kinds, SOON, replace(SETTINGS, observe=10.0))
    assert sum(seen.calls.values()) < CALLS_AN_HOUR * LENGTH / HOUR
    assert seen.calls["delete"] <= 3 * 60 * LENGTH / HOUR, "one deletion a minute is tried, thrice"


@pytest.mark.parametrize(
    ("kind", "until_it_is_known"),
    [
        ("creates", 0.0),
        ("builds", BUILD[1] + SLOWEST_BOOT),  # the last one that failed, and the first one that boots
        ("workers", LONGEST_BOOT_TIMEOUT + SLOWEST_BOOT),
    ],
)
def test_where_only_a_create_shows_the_end_all_goes_on_after_the_longest_back_off_and_a_boot(
    kind: Kind, until_it_is_known: float, record_property: Callable[[str, object], None]
) -> None:
    _check(record_property, (kind,), LONGEST_BACK_OFF + until_it_is_known + RAMP)
