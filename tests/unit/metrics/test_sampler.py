"""The sampler: asked by many it reads once, and a database that is slow or away delays nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from lando.metrics import sampler as module
from lando.metrics.sampler import EVERY, OVERDUE, STALE, Sample, Sampler
from lando.store.database import StoreUnavailable
from tests.support.local_site import wait_for


class Site:
    """A database that answers as it is told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reads = 0
        self.answer: Callable[[], None] = lambda: None
        self.sampler = Sampler(self.read, lambda: self.now)

    def read(self) -> Sample:
        self.reads += 1
        self.answer()
        return Sample(float(self.reads))


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(module, "PATIENCE", 5.0)
    site = Site()
    yield site
    site.sampler.close(1.0)


def test_nothing_is_read_before_somebody_asks(site: Site) -> None:
    time.sleep(0.02)
    assert site.reads == 0


def test_a_sample_is_used_for_a_while(site: Site) -> None:
    first = site.sampler.latest()
    site.now += EVERY / 2
    assert site.sampler.latest() is first
    site.now += EVERY
    assert site.sampler.latest() == Sample(2.0)


def test_many_who_ask_cost_one_read(site: Site) -> None:
    go_on = threading.Event()
    site.answer = lambda: go_on.wait(5) and None
    found: list[Sample | None] = []
    many = [threading.Thread(target=lambda: found.append(site.sampler.latest())) for _ in range(8)]
    for each in many:
        each.start()
    wait_for(lambda: site.reads == 1, "the read")
    go_on.set()
    for each in many:
        each.join()
    assert found == [Sample(1.0)] * 8


def test_what_takes_long_is_done_seldom(site: Site) -> None:
    def slow() -> None:
        site.now += 2.0

    site.answer = slow
    first = site.sampler.latest()
    site.now += 20 * 2.0 - 1
    assert site.sampler.latest() is first
    site.now += 2.0
    assert site.sampler.latest() == Sample(2.0)


def test_a_database_that_hangs_delays_nobody_for_long(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first = site.sampler.latest()
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    go_on = threading.Event()
    site.answer = lambda: go_on.wait(10) and None
    site.now += EVERY
    assert site.sampler.latest() is first, "the last one is shown meanwhile"
    assert not site.sampler.is_overdue
    site.now += OVERDUE + 0.1
    assert site.sampler.is_overdue
    site.now += STALE
    assert site.sampler.latest() is None
    go_on.set()
    wait_for(lambda: not site.sampler.is_overdue, "the end of it")


@pytest.mark.parametrize("error", [StoreUnavailable("it is away"), ZeroDivisionError("a bug")])
def test_a_database_that_is_away(site: Site, error: Exception) -> None:
    def fail() -> None:
        raise error

    first = site.sampler.latest()
    site.answer = fail
    site.now += EVERY
    assert site.sampler.latest() is first
    assert str(error) in site.sampler.trouble
    site.now += STALE + 1
    assert site.sampler.latest() is None
    site.answer = lambda: None
    site.now += EVERY
    assert site.sampler.latest() is not None
    assert site.sampler.trouble == ""


def test_closed_it_answers_at_once(site: Site) -> None:
    site.sampler.close(1.0)
    begun = time.monotonic()
    assert site.sampler.latest() is None
    assert time.monotonic() - begun < 1.0
