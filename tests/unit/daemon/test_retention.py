"""The daemon removes what is due: rows, files and dead letters."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lando import state_dir
from lando.daemon.retention import RetentionWork
from lando.engine.retention import Retention
from lando.states.job import Job
from lando.store.store import Store
from lando.workqueue.interface import DeadLetter

DAY = 86400.0
NOW = 1000 * DAY
A, B, C = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abc")
BODY = {"git_clone": "https://ana:hunter22@example.org/wf.git", "cd": ".", "input": {}, "run_cwl": "a.cwl"}


class Letters:
    def __init__(self) -> None:
        self.before: list[float] = []
        self.old = 2

    def all(self) -> list[DeadLetter]:
        return []

    def requeue(self, ids: Sequence[str]) -> None: ...

    def drop(self, ids: Sequence[str]) -> None: ...

    def drop_before(self, at: float) -> int:
        self.before.append(at)
        return self.old


class Site:
    def __init__(self, store: Store, root: Path, **kept: float | None) -> None:
        self.store = store
        self.root = root
        self.letters = Letters()
        self.work = RetentionWork(Retention(**kept), store, root, self.letters, lambda: None)

    def job(self, id_: str, days: float, state: str = "done", output: bool = True) -> Path:
        with self.store.transaction() as transaction:
            transaction.insert_job(Job(id_, state=state, entered_at=NOW - days * DAY), BODY, "me")  # type: ignore[arg-type]
        outputs = state_dir.outputs(self.root, id_)
        outputs.mkdir(parents=True)
        if output:
            (outputs / "result.txt").write_text("result")
        return outputs

    def run(self, until: object, now: float = NOW) -> None:
        """Look until a condition holds."""
        deadline = time.monotonic() + 10
        while not until():  # type: ignore[operator]
            assert time.monotonic() < deadline
            self.work.hurry()
            self.work._next_listing = 0.0
            self.work.work(now, is_idle=True)
            time.sleep(0.002)

    def ids(self) -> set[str]:
        with self.store.reading() as queries:
            return {view.job.id for view in queries.jobs()}


def test_a_job_is_removed_and_its_results_stay(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path, ended=90 * DAY)
    outputs, empty = site.job(A, 91), site.job(B, 91, output=False)
    site.job(C, 91, "running")
    site.run(lambda: site.ids() == {C} and not empty.parent.exists())
    assert (outputs / "result.txt").read_text() == "result"


def test_results_are_removed_also_of_jobs_that_were_removed(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path, ended=90 * DAY, results=100 * DAY)
    gone, stays, running = site.job(A, 101), site.job(B, 95), site.job(C, 200, "running")
    site.run(lambda: site.ids() == {C} and not gone.parent.exists())
    assert stays.exists() and running.exists()
    site.run(lambda: not list((tmp_path / "limbo").iterdir()))


def test_a_job_that_stays_says_when_its_results_were_removed(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path, results=100 * DAY)
    site.job(A, 101)

    def removed_at() -> float | None:
        with store.reading() as queries:
            removed = queries.removed(A)
        return removed and removed.results_at

    site.run(removed_at)
    assert removed_at() == NOW
    assert not state_dir.outputs(tmp_path, A).parent.exists()


def test_a_job_that_is_to_be_forgotten_goes_with_its_files(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path)
    outputs, other = site.job(A, 1), site.job(B, 1)
    with store.transaction() as transaction:
        job = transaction.job(A)
        assert job is not None
        transaction.forget(job, NOW)
    site.run(lambda: site.ids() == {B} and not outputs.parent.exists())
    assert other.exists()


def test_a_link_in_place_of_a_directory_is_removed_and_not_followed(store: Store, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    site = Site(store, tmp_path, results=DAY)
    outputs = site.job(A, 2, output=False)
    outputs.rmdir()
    outputs.parent.rmdir()
    outputs.parent.symlink_to(elsewhere)
    site.run(lambda: not outputs.parent.is_symlink())
    assert (elsewhere / "precious").exists()


def test_secrets_are_dropped_after_a_week_unless_they_are_kept(store: Store, tmp_path: Path) -> None:
    default = Site(store, tmp_path)
    default.job(A, 8)

    def body() -> str:
        with store.transaction() as transaction:
            return str(transaction.body(A))

    never = RetentionWork(Retention(secrets=None), store, tmp_path, default.letters, lambda: None)
    never.work(NOW, is_idle=True)
    assert "hunter22" in body()
    default.run(lambda: "hunter22" not in body())


def test_old_dead_letters_are_dropped(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path, dead_letters=30 * DAY)
    site.run(lambda: site.letters.before)
    assert site.letters.before == [NOW - 30 * DAY]


@pytest.mark.parametrize(("old", "lines"), [(0, []), (2, ["removed after their time: dead letters (2)"])])
def test_the_log_says_how_many_dead_letters_were_removed_if_any(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture, old: int, lines: list[str]
) -> None:
    caplog.set_level("INFO")
    site = Site(store, tmp_path, dead_letters=30 * DAY)
    site.letters.old = old
    site.run(lambda: math.isfinite(site.work._next_letters) and site.letters.before)
    for _ in range(3):
        site.work.hurry()
        site.work.work(NOW + DAY, is_idle=True)
    assert [line for line in caplog.messages if line.startswith("removed")] == lines


def test_a_clock_that_is_a_year_ahead_removes_nothing(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path, ended=90 * DAY)
    site.job(A, 1)
    for now in (NOW, NOW + 365 * DAY, NOW + 365.5 * DAY):
        site.work.hurry()
        site.work.work(now, is_idle=True)
    assert site.ids() == {A}
    site.run(lambda: not site.ids(), NOW + 366.1 * DAY)


def test_a_busy_loop_is_not_held_up_and_pieces_are_spread(store: Store, tmp_path: Path) -> None:
    site = Site(store, tmp_path, ended=90 * DAY)
    site.job(A, 91)
    site.work.work(NOW, is_idle=False)
    assert site.ids() == {A}
    with store.reading() as queries:
        assert not queries.forgotten([A]), "the loop had something else to do"
    site.work.work(NOW, is_idle=True)
    assert site.work.next_look > 0, "a pause follows each piece"


@pytest.mark.parametrize("kept", [{}, {"secrets": None}])
def test_what_is_not_due_costs_nothing(store: Store, tmp_path: Path, kept: dict[str, None]) -> None:
    site = Site(store, tmp_path, **kept)
    site.job(A, 1)
    site.work.work(NOW, is_idle=True)
    assert site.work.next_look > 50


def test_what_was_removed_is_logged_and_nothing_if_nothing_was(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lando")
    site = Site(store, tmp_path, dead_letters=30 * DAY)
    counts = [0, 2]
    site.letters.drop_before = lambda _: counts.pop(0)  # type: ignore[method-assign]

    def is_told() -> bool:
        site.work._next_letters = min(site.work._next_letters, time.monotonic())
        return bool(caplog.messages)

    site.run(is_told)
    assert caplog.messages == ["removed after their time: dead letters (2)"]
