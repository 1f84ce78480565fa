"""Every invariant holds in every world that can be reached, and breaking the rules is noticed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lando.states.machine import TABLE
from tests.model.breakages import BREAKAGES, Breakage, explored
from tests.model.explore import Exploration, explore
from tests.model.outage_breakages import OUTAGE_BREAKAGES
from tests.model.refusal_breakages import REFUSAL_BREAKAGES
from tests.model.restore_breakages import RESTORE_BREAKAGES
from tests.model.scenarios import (
    DEEP,
    OUTAGES,
    OUTAGES_DEEP,
    REFUSED,
    REFUSED_DEEP,
    RESTORED,
    RESTORED_ASK,
    TIMED,
    TIMED_DEEP,
    USUAL,
)
from tests.model.timed_breakages import TIMED_BREAKAGES
from tests.model.world import Scenario

Record = Callable[[str, object], None]


def names(value: Scenario | Breakage) -> str:
    return value.name


LARGEST = (USUAL[0], USUAL[3], *TIMED, REFUSED[1], REFUSED[3], OUTAGES[0])
LARGE = [pytest.param(each, marks=pytest.mark.large) for each in LARGEST]
SMALL = (REFUSED[0], REFUSED[2], *REFUSED[4:], RESTORED, RESTORED_ASK)
TOGETHER = (USUAL[1], USUAL[2], USUAL[4], USUAL[5], USUAL[6], OUTAGES[1])
"""Explored by one test, since only together do they fire every row."""


@pytest.mark.parametrize("scenario", [*LARGE, *SMALL], ids=names)
def test_every_invariant_holds_and_every_job_can_end(scenario: Scenario, record_property: Record) -> None:
    assert_holds(explore(scenario), record_property)


def test_every_row_is_fired_unless_only_a_bug_could_fire_it(record_property: Record) -> None:
    fired: set[tuple[str, str, str]] = set()
    for scenario in TOGETHER:
        found = explore(scenario)
        assert_holds(found, record_property)
        fired |= found.rows
    rows = {(state, row.event, row.why): row.answer for state, rows in TABLE.items() for row in rows}
    unfired = {row for row in rows if row not in fired}
    assert unfired == {row for row, answer in rows.items() if why_never_fired(*row[:2], answer, row[2])}


def why_never_fired(state: str, event: str, answer: str, why: str) -> str | None:
    """Why the daemon never fires a row, so that only a bug would."""
    if answer == "refused" and event not in ("cancel", "retry"):
        return "the daemon asks for nothing that is refused"
    if event in ("boot_timeout", "run_timeout", "worker_lost") and answer == "ignored":
        return "the daemon fires a deadline only in the state that it belongs to"
    if (state, event) == ("terminating", "server_active"):
        return None  # a floating IP was attached meanwhile
    if why == "the request made no server, and the cloud does not answer creates":
        return "it takes three answers that are lost, or two jobs, which only the deep scenarios have"
    if event == "boot_failures_judged" and (answer == "ignored" or state in ("booting", "terminating")):
        return "it takes two servers at a time, which only the deep scenarios have"
    if event == "boot_failures_judged" and "the last allowed" in why:
        return "it takes a job that boots for each failure that is allowed"
    if event in ("server_active", "boot_failed", "server_lost") and answer == "ignored":
        return "the observer speaks of the servers that booting and running jobs have now, and of no other"
    if "retention.secrets" in why:
        return "no scenario lets the days pass after which secrets are dropped"
    if (state, event) == ("running", "boot_failed"):
        return "the observer calls a running job's broken server lost"
    return None


ALL_BREAKAGES = (
    *(*BREAKAGES, *TIMED_BREAKAGES, *REFUSAL_BREAKAGES),
    *(*OUTAGE_BREAKAGES, *RESTORE_BREAKAGES),
)
SCENARIOS = (
    *(*USUAL, *TIMED, *REFUSED, *OUTAGES, RESTORED),
    *(*DEEP, *TIMED_DEEP, *REFUSED_DEEP, *OUTAGES_DEEP),
)


@pytest.mark.large
@pytest.mark.parametrize(
    "scenario",
    sorted({each.scenario for each in ALL_BREAKAGES}.difference(SCENARIOS), key=names),
    ids=names,
)
def test_without_a_breakage_its_scenario_holds(scenario: Scenario, record_property: Record) -> None:
    assert_holds(explore(scenario), record_property)


@pytest.mark.parametrize(
    "breakage",
    [
        pytest.param(each, marks=pytest.mark.large)
        if each.scenario in (*LARGEST, *REFUSED_DEEP, *TIMED_DEEP)
        else each
        for each in ALL_BREAKAGES
    ],
    ids=names,
)
def test_what_is_broken_on_purpose_is_caught(breakage: Breakage) -> None:
    found = explored(breakage)
    assert found.broken is not None, "nobody noticed"
    assert found.broken.invariant == breakage.invariant, str(found)
    assert found.story


def test_a_story_is_as_short_as_it_can_be() -> None:
    breakage = next(each for each in BREAKAGES if each.name == "one look concludes absence")
    found = explore(breakage.scenario, breakage.variant)
    assert str(found).splitlines()[1:] == [
        "  1. taken and acked: start_worker A",
        "  2. admitted",
        "  3. begun: create_server of job A (SendCreate)",
        "  4. the daemon dies and is started again",
        "  5. begun: create_server of job A (FindServers)",
        "  6. the cloud answers FindServers of job A: listed: none",
        "  7. concluded: create_server of job A (listed: none)",
        "  8. a lost create is carried out late: server-1",
        "  9. begun: create_server of job A (SendCreate)",
        "     a create of job A is sent, and server-1 exists",
    ]


def assert_holds(found: Exploration, record_property: Record) -> None:
    print(found)
    record_property("seen", str(found))
    assert found.broken is None, f"\n{found}"
    assert found.states > 10
