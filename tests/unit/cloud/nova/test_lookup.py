"""A service that hangs or fails delays only those who need what is not known."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, cast

import pytest

from lando.cloud.interface import Ambiguous, CloudError, RateLimited, Refused, Unreachable
from lando.cloud.nova.lookup import AGAIN_SECONDS, ConfiguredName, Image, NameLookup
from lando.cloud.nova.session import Session

WORKER = ConfiguredName("worker", "vm_settings.worker_image_name")
OF_JOB = ConfiguredName("worker", "image in the job file", "job")
NETWORK = ConfiguredName("net", "vm_settings.network_name")
VALID = 300.0
PATIENCE = 5.0
"""Seconds; for what takes none unless it hangs."""


class Services:
    """Glance, which hangs or fails when it is told to, and Neutron, which always answers."""

    def __init__(self) -> None:
        self.now = 0.0
        self.image_id = "old"
        self.error: CloudError | None = None
        self.looks = 0
        self.asked = threading.Semaphore(0)
        """Counts the requests that reached Glance."""
        self._answers = threading.Event()
        self._answers.set()
        self.lookup = NameLookup(cast(Session, self), None, VALID, lambda: self.now)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        yield

    def glance_rows(self, action: str, path: str, collection: str, query: Any) -> list[dict[str, Any]]:
        self.looks += 1
        found = self.image_id
        self.asked.release()
        assert self._answers.wait(4 * PATIENCE)
        if self.error is not None:
            raise self.error
        return [{"id": found, "name": "worker"}] if found else []

    def neutron_rows(self, action: str, path: str, collection: str, query: Any) -> list[dict[str, Any]]:
        return [{"id": "1", "name": "net"}]

    def image(self) -> Image:
        return self.lookup.image(WORKER)


@pytest.fixture
def glance() -> Services:
    return Services()


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[], Any]], Future[Any]]]:
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


def test_a_glance_that_hangs_delays_no_network(glance: Services, start: Any) -> None:
    with glance.hanging():
        image = start(glance.image)
        assert glance.asked.acquire(timeout=PATIENCE)
        assert start(lambda: glance.lookup.network(NETWORK)).result(PATIENCE).id == "1"
    assert image.result(PATIENCE).id == "old"


def test_a_known_name_is_used_while_one_thread_looks_it_up_again(glance: Services, start: Any) -> None:
    glance.image()
    glance.now, glance.image_id = VALID, "new"
    with glance.hanging():
        first = start(glance.image)
        assert glance.asked.acquire(timeout=PATIENCE) and glance.asked.acquire(timeout=PATIENCE)
        assert [start(glance.image).result(PATIENCE).id for _ in range(6)] == ["old"] * 6
    assert first.result(PATIENCE).id == "new"
    assert (glance.image().id, glance.looks) == ("new", 2)


@pytest.mark.parametrize("error", [None, Unreachable("listing images: timed out")])
def test_those_who_need_an_unknown_name_wait_for_one_look_together(
    glance: Services, start: Any, error: CloudError | None
) -> None:
    glance.error = error
    with glance.hanging():
        creates = [start(glance.image) for _ in range(6)]
        assert glance.asked.acquire(timeout=PATIENCE)
        assert not wait(creates, 0.2).done
    assert not wait(creates, PATIENCE).not_done
    assert glance.looks == 1
    assert {type(create.exception()) for create in creates} == {type(error)}
    glance.error = None
    assert glance.image().id == "old"


@pytest.mark.parametrize("kind", [Unreachable, Ambiguous, RateLimited, CloudError])
def test_a_known_name_is_used_while_glance_fails_and_asked_for_again_a_minute_later(
    glance: Services, kind: type[CloudError], caplog: pytest.LogCaptureFixture
) -> None:
    glance.image()
    glance.now, glance.error, glance.image_id = VALID, kind("listing images: HTTP 503"), "new"
    with caplog.at_level(logging.WARNING):
        assert [glance.image().id for _ in range(5)] == ["old"] * 5
    assert glance.looks == 2
    assert caplog.messages == ["listing images: HTTP 503; vm_settings.worker_image_name as before: old"]
    glance.error = None
    glance.now += AGAIN_SECONDS - 1.0
    assert glance.image().id == "old"
    glance.now += 1.0
    assert glance.image().id == "new"


def test_a_name_that_nothing_has_any_more_is_refused_even_while_it_was_known(glance: Services) -> None:
    glance.image()
    glance.now, glance.image_id = VALID, ""
    for _ in range(2):
        with pytest.raises(Refused, match="the cloud has no active image named worker"):
            glance.image()


def test_a_name_that_a_create_was_refused_for_is_not_used_again(glance: Services, start: Any) -> None:
    glance.image()
    glance.now = VALID
    with glance.hanging():
        before = start(glance.image)
        assert glance.asked.acquire(timeout=PATIENCE) and glance.asked.acquire(timeout=PATIENCE)
        glance.lookup.forget()
        glance.image_id = "new"
        after = start(glance.image)
        assert glance.asked.acquire(timeout=PATIENCE), "the look that began before does not count"
    assert (before.result(PATIENCE).id, after.result(PATIENCE).id) == ("old", "new")
    assert glance.image().id == "new"
    glance.lookup.forget()
    glance.error = Unreachable("listing images: HTTP 503")
    with pytest.raises(Unreachable):
        glance.image()


def test_a_refusal_names_the_setting_of_each_who_waits(glance: Services, start: Any) -> None:
    glance.image_id = ""
    with glance.hanging():
        site, job = start(glance.image), start(lambda: glance.lookup.image(OF_JOB))
        assert glance.asked.acquire(timeout=PATIENCE) and glance.asked.acquire(timeout=PATIENCE)
    assert (site.exception().origin, job.exception().origin) == ("site", "job")
    assert "image in the job file" in str(job.exception())
