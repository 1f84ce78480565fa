"""A week of outages costs nothing but time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.cloud import SLOWEST_BOOT
from tests.simulation.week import HEADER, SETTINGS, week

CALLS_A_PLACE = 250
"""Calls of the cloud in an hour of trouble, for each place: a deletion is tried each minute, three times."""
LATEST = 600.0 + 20 * 60.0 + SLOWEST_BOOT + 30.0
"""Seconds: the longest back-off, a server whose worker cannot report, and one that boots."""


@pytest.mark.parametrize("seed", [1])
def test_a_week_of_outages_costs_no_job(seed: int, record_property: Callable[[str, object], None]) -> None:
    """What must hold all the time, and in the end, is checked by ``week``."""
    seen = week(seed)
    for line in (*HEADER.splitlines(), seen.row()):
        record_property("seen", line)
    print(HEADER, seen.row(), sep="\n")
    assert seen.alone == 0
    assert seen.busiest_hour() <= SETTINGS.places * CALLS_A_PLACE
    assert max(seen.latencies) <= LATEST
