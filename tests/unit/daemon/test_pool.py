"""The pool: calls go on beside the loop, and each result comes back to it once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from lando.daemon.pool import Pool

PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""


class Woken:
    """The loop: counts how often it is woken."""

    def __init__(self) -> None:
        self._semaphore = threading.Semaphore(0)

    def __call__(self) -> None:
        self._semaphore.release()

    def wait(self, times: int = 1) -> None:
        assert all(self._semaphore.acquire(timeout=PATIENCE) for _ in range(times))


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Lets calls that hang end."""
    event = threading.Event()
    yield event
    event.set()


def test_every_result_wakes_the_loop_and_is_collected_once() -> None:
    woken = Woken()
    pool: Pool[int] = Pool(2, woken)
    assert pool.collect() == []
    for number in range(5):
        pool.submit(lambda number=number: number)  # type: ignore[misc]
    woken.wait(times=5)
    assert sorted(pool.collect()) == [0, 1, 2, 3, 4]
    assert pool.collect() == []


def test_a_call_that_hangs_does_not_delay_the_others(release: threading.Event) -> None:
    woken = Woken()
    pool: Pool[object] = Pool(2, woken)
    pool.submit(lambda: release.wait(PATIENCE))
    for number in range(3):
        pool.submit(lambda number=number: number)  # type: ignore[misc]
    woken.wait(times=3)
    assert pool.collect() == [0, 1, 2]


def test_no_more_calls_are_in_progress_than_the_pool_has_threads(release: threading.Event) -> None:
    woken, started = Woken(), Woken()
    running: list[int] = []

    def call() -> int:
        running.append(1)
        started()
        release.wait(PATIENCE)
        return len(running)

    pool: Pool[int] = Pool(2, woken)
    for _ in range(5):
        pool.submit(call)
    started.wait(times=2)
    assert len(pool._threads) == len(running) == 2
    release.set()
    woken.wait(times=5)
    assert len(pool._threads) == 2
    assert len(pool.collect()) == 5


def test_no_thread_is_needed_once_the_pool_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later there may be none: with one call lost so, the daemon would wait for its result for ever."""
    woken = Woken()
    pool: Pool[int] = Pool(2, woken)

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    pool.submit(lambda: 1)
    woken.wait()
    assert pool.collect() == [1]


def test_a_call_that_hangs_does_not_keep_the_process_from_ending() -> None:
    hangs = "import threading, lando.daemon.pool as pool; pool.Pool(1, print).submit(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", hangs], timeout=PATIENCE, check=False).returncode == 0


def test_a_pool_that_was_stopped_begins_nothing_more() -> None:
    woken = threading.Event()
    held, begun = threading.Event(), threading.Event()

    def hold() -> str:
        begun.set()
        held.wait()
        return "held"

    pool: Pool[str] = Pool(1, woken.set)
    pool.submit(hold)
    assert begun.wait(10)
    called: list[str] = []
    pool.submit(lambda: called.append("called") or "called")
    pool.stop()
    held.set()
    pool._threads[0].join(10)
    assert not pool._threads[0].is_alive()
    assert called == [] and pool.collect() == ["held"]
