"""What is counted, and that no label has a value that was not known beforehand."""

from __future__ import annotations

from typing import Any, cast

import pytest

from lando.cloud.interface import (
    Ambiguous,
    CloudError,
    NoCapacity,
    QuotaExceeded,
    RateLimited,
    Refused,
    Server,
    Unreachable,
)
from lando.engine.ledger import StateChange
from lando.engine.operations import AnswerLost, Created, CreateRejected, Gone, StillExists, Trouble
from lando.messages import Message
from lando.metrics import bounded_labels as labels
from lando.metrics.cloud_calls import MeasuredCloud
from lando.states.events import EVENTS
from lando.states.machine import TABLE
from tests.unit.metrics.everything import Everything


@pytest.fixture
def all_() -> Everything:
    return Everything()


def change(source: Any, event: str, target: Any, seconds: float = 1.0) -> StateChange:
    return StateChange("job", 100.0, event, source, target, "why", 1, 100.0 - seconds)


def test_every_way_of_the_table_is_a_series_from_the_beginning(all_: Everything) -> None:
    found, fired = all_.scrape(), 0
    for source, rows in TABLE.items():
        for row in rows:
            if row.answer == "moves":
                told = found.get("lando_transitions_total", from_=source, event=row.event, to=str(row.to))
                assert told == 0.0
                all_.meter.changed([change(source, row.event, row.to)])
                fired += 1
    after = all_.scrape()
    assert after.get("lando_transitions_total", from_="other", event="other", to="other") is None
    assert after.sum("lando_transitions_total") == fired


def test_how_boots_end_is_known_for_every_event(all_: Everything) -> None:
    leaving = {row.event for row in TABLE["booting"] if row.answer == "moves"}
    assert leaving == labels.BOOTS.keys()
    assert leaving <= {event.name for event in EVENTS}


def test_durations_are_those_of_the_state_that_was_left(all_: Everything) -> None:
    all_.meter.changed(
        [
            change("queued", "admitted", "booting", 2),
            change("booting", "worker_started", "running", 40),
            change("booting", "boot_timeout", "terminating", 400),
            change("running", "workflow_finished", "terminating", 3000),
            change("terminating", "server_gone", "done", 7),
            change("queued", "cancel", "failed", 9),
        ]
    )
    found = all_.scrape()
    for name, seconds in {"queued": 2, "boot": 40, "run": 3000, "server_gone": 7}.items():
        assert found.get(f"lando_{name}_seconds_sum") == seconds
        assert found.get(f"lando_{name}_seconds_count") == 1
    assert found.by("lando_boots_total", "outcome") == {("booted",): 1, ("timeout",): 1}


def test_a_clock_that_was_set_back_makes_no_negative_time(all_: Everything) -> None:
    all_.meter.changed([change("booting", "worker_started", "running", -50)])
    assert all_.scrape().get("lando_boot_seconds_sum") == 0.0


def test_buckets_of_boots_reach_an_hour(all_: Everything) -> None:
    assert all_.scrape().get("lando_boot_seconds_bucket", le="3600.0") == 0.0


@pytest.mark.parametrize(
    ("disposition", "told"),
    [
        ("taken", "taken"),
        ("duplicate", "duplicate"),
        ("ignored", "stale"),
        ("refused", "refused"),
        ("shutdown", "taken"),
        ("unknown", None),
    ],
)
def test_what_becomes_of_messages(all_: Everything, disposition: Any, told: str | None) -> None:
    all_.meter.took(Message("worker_progress"), disposition)
    expected = {} if told is None else {("worker_progress", told): 1.0}
    assert all_.scrape().by("lando_messages_total", "type", "disposition") == expected


def test_unknown_values_are_other(all_: Everything) -> None:
    evil = '"}\n# evil {"'
    meter = cast(Any, all_.meter)
    meter.changed([change(evil, evil, evil)])
    meter.took(Message(evil), "taken")
    meter.took(Message("cancel_job"), evil)
    meter.rejected(evil, "dead_lettered")
    meter.rejected(None, "removed")
    meter.carries_out(evil)
    meter.carried_out(evil, Trouble("x"))
    meter.swept(evil)
    meter.failed(evil, evil)
    for number in range(100):
        all_.count_request(f"GET /v2/{number}/{evil}", 200 + number)
        all_.count_request(f"EVIL{number} /servers", None)
    before = len(all_.scrape().samples)
    for number in range(100, 200):
        all_.count_request(f"GET /v2/{number}/{evil}", 200 + number % 100)
        meter.took(Message(f"{evil}{number}"), f"{evil}{number}")
        meter.changed([change(f"{evil}{number}", evil, evil)])
    after = all_.scrape()
    assert len(after.samples) - before <= 1
    assert "evil" not in after.text


@pytest.mark.parametrize(
    ("call", "label"),
    [
        ("POST /v2.1/servers", "POST /servers"),
        ("POST /compute/v2.1/servers/ID/action", "POST /servers/ID/action"),
        ("GET /compute/v2.1/servers/detail", "GET /servers/detail"),
        ("GET /compute/v2.1/servers/ID", "GET /servers/ID"),
        ("DELETE /v2.1/servers/ID", "DELETE /servers/ID"),
        ("POST /identity/v3/auth/tokens", "POST /tokens"),
        ("GET /volume/v3/ID/os-quota-sets/ID", "GET /os-quota-sets"),
        ("GET /compute/v2.1/os-keypairs/ana's key", "GET /os-keypairs"),
        ("PUT /network/v2.0/floatingips/ID", "PUT /floatingips/ID"),
        ("GET /network/v2.0/quotas/ID/details.json", "GET /quotas"),
        ("GET /", "GET /"),
        ("GET /identity/v3/", "GET /"),
        ("GET /compute", "GET /"),
        ("GET /what/ever", "other"),
        ("BREW /servers", "other"),
        ("", "other"),
    ],
)
def test_calls_of_openstack_are_told_without_ids_and_names(call: str, label: str) -> None:
    assert labels.call_label(call) == label


@pytest.mark.parametrize(
    ("result", "failed"),
    [
        (Created("id"), 0),
        (Gone(), 0),
        (StillExists(), 0),
        (CreateRejected("quota", "too many"), 1),
        (AnswerLost("read timed out"), 1),
        (Trouble("503"), 1),
    ],
)
def test_tries_and_failures_of_effects(all_: Everything, result: Any, failed: int) -> None:
    all_.meter.carries_out("create_server")
    all_.meter.carried_out("create_server", result)
    found = all_.scrape()
    assert found.sum("lando_effect_tries_total") == 1
    assert found.get("lando_effect_failures_total", kind="create_server") == failed


class Failing:
    """A driver that cannot do anything."""

    settle_time, has_quota, floating_ips, project = 1.0, True, None, "p"

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def servers(self) -> list[Server]:
        if self.error is not None:
            raise self.error
        return []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (QuotaExceeded("x"), "quota"),
        (RateLimited("x"), "rate_limit"),
        (NoCapacity("x"), "capacity"),
        (Unreachable("x"), "unreachable"),
        (Refused("x", "site"), "refused"),
        (Ambiguous("x"), "ambiguous"),
        (CloudError("x"), "other"),
        (KeyError("x"), "other"),
    ],
)
def test_operations_of_the_cloud_by_outcome(all_: Everything, error: Exception | None, outcome: str) -> None:
    cloud = MeasuredCloud(cast(Any, Failing(error)), all_.instruments)
    if error is None:
        assert cloud.servers() == []
    else:
        with pytest.raises(type(error)):
            cloud.servers()
    found = all_.scrape()
    assert found.get("lando_cloud_operations_total", operation="list", outcome=outcome) == 1
    assert found.get("lando_cloud_operation_seconds_count", operation="list") == 1
    assert (cloud.settle_time, cloud.has_quota, cloud.floating_ips, cloud.project) == (1.0, True, None, "p")


def test_the_quota_is_told_in_base_units(all_: Everything) -> None:
    found = all_.scrape()
    assert found.get("lando_quota_used", resource="ram_bytes") == 2**20
    assert found.get("lando_quota_free", resource="volume_bytes") == 9 * 2**30
    assert found.get("lando_quota_limit", resource="servers") == 10


def test_a_turn_after_an_outage_is_a_reconnect(all_: Everything) -> None:
    for _ in range(3):
        all_.meter.failed("database", "away")
        assert all_.scrape().get("lando_database_connected") == 0
    all_.meter.turned(0.1)
    all_.meter.failed("bug", "x")
    all_.meter.turned(0.1)
    found = all_.scrape()
    assert found.get("lando_database_reconnects_total") == 1
    assert found.get("lando_database_connected") == 1
    assert found.by("lando_turns_failed_total", "cause") == {("database",): 3, ("bug",): 1}
