"""Live and ready: each thing that can be wrong makes the daemon not ready, and is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from lando.metrics.health import CLOUD_WITHIN, LIVE_WITHIN, UP_TO_DATE_WITHIN, Health
from lando.metrics.instruments import Instruments
from lando.metrics.recording_meter import RecordingMeter


class Watched:
    """A daemon that is well, with a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 1000.0
        instruments = Instruments(CollectorRegistry(), is_openstack=False, is_postgresql=False)
        self.meter = RecordingMeter(instruments, lambda: self.now)
        self.health = Health(self.meter, 1.0, lambda: self.now)

    def begin(self) -> None:
        self.health.lock_trouble = ""
        self.tick(0.0)
        self.meter.cloud("")

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.meter.turned(0.001)
        self.meter.queue(None, True, self.now)


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    watched.begin()
    return watched


def test_one_that_is_well(watched: Watched) -> None:
    assert watched.health.not_live() == ""
    assert watched.health.not_ready() == []


def test_one_that_starts_lives_and_is_not_ready() -> None:
    starting = Watched()
    starting.now += 10_000
    assert starting.health.not_live() == ""
    assert [line.partition(":")[0] for line in starting.health.not_ready()] == ["daemon", "queue", "cloud"]


def database(watched: Watched) -> None:
    watched.meter.failed("database", "lando.db: the disk\nis full")


def bug(watched: Watched) -> None:
    watched.meter.failed("bug", "ZeroDivisionError: division by zero")


def queue(watched: Watched) -> None:
    watched.meter.queue("the broker refuses the connection", False, None)


def not_listening(watched: Watched) -> None:
    watched.meter.queue(None, False, None)


def late(watched: Watched) -> None:
    for _ in range(int(UP_TO_DATE_WITHIN) // 50 + 1):
        watched.now += 50
        watched.meter.turned(0.001)
        watched.meter.queue(None, True, None)
    watched.meter.cloud("")


def cloud(watched: Watched) -> None:
    watched.meter.cloud("503 from Nova")


def silent_cloud(watched: Watched) -> None:
    for _ in range(4):
        watched.tick(CLOUD_WITHIN / 3)


def lock(watched: Watched) -> None:
    watched.health.lock_trouble = "its lock in the database is lost"


def stuck(watched: Watched) -> None:
    watched.now += LIVE_WITHIN + 1


@pytest.mark.parametrize(
    ("happens", "reason"),
    [
        (database, "database: lando.db: the disk is full"),
        (bug, "daemon: ZeroDivisionError: division by zero"),
        (queue, "queue: the broker refuses the connection"),
        (not_listening, "up to date: it was not yet read to its end without interruption"),
        (late, "up to date: it was last read to its end 350 s ago"),
        (cloud, "cloud: 503 from Nova"),
        (silent_cloud, "cloud: it last answered 160 s ago"),
        (lock, "daemon: its lock in the database is lost"),
        (stuck, "loop: it has not gone on for 61 s"),
    ],
)
def test_what_is_wrong_is_named_and_ends(
    watched: Watched, happens: Callable[[Watched], None], reason: str
) -> None:
    happens(watched)
    assert watched.health.not_ready() == [reason]
    assert bool(watched.health.not_live()) == (happens is stuck)
    watched.begin()
    assert watched.health.not_ready() == []


def test_one_that_waits_after_a_failure_lives(watched: Watched) -> None:
    watched.meter.failed("database", "away")
    for _ in range(20):
        watched.now += LIVE_WITHIN / 2
        watched.meter.alive()
        assert watched.health.not_live() == ""
