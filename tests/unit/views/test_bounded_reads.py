"""What the commands read does not grow with what is stored: statements and rows are counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lando.errors import UsageError
from lando.messages import Message
from lando.store.selection import Selection
from lando.store.store import Store
from lando.views.inventory import read_database
from lando.views.jobs import Views
from lando.views.queue_peek import EmbeddedPeek
from lando.workqueue.embedded import EmbeddedPublisher
from tests.support.stored_jobs import BODY, job_id, store_jobs

FEW, MANY = 60, 3_000
"""Of ended jobs, and of queued ones: more than a command shows."""
NOW_QUEUED = 1_000_000
"""The first number of those that are queued."""


class Reads:
    """Counts what is read through SQLAlchemy."""

    def __init__(self) -> None:
        self.statements = self.rows = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        real = sa.engine.default.DefaultExecutionContext.create_cursor

        def create_cursor(context: Any) -> Any:
            self.statements += 1
            return Counted(real(context), self)

        sa.engine.default.DefaultExecutionContext.create_cursor = create_cursor  # type: ignore[method-assign]
        try:
            yield
        finally:
            sa.engine.default.DefaultExecutionContext.create_cursor = real  # type: ignore[method-assign]


class Counted:
    """A cursor of the driver that counts the rows that are fetched."""

    def __init__(self, cursor: Any, reads: Reads) -> None:
        self._cursor, self._reads = cursor, reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def _counted(self, rows: Any) -> Any:
        self._reads.rows += len(rows)
        return rows

    def fetchall(self) -> Any:
        return self._counted(self._cursor.fetchall())

    def fetchmany(self, *size: int) -> Any:
        return self._counted(self._cursor.fetchmany(*size))

    def fetchone(self) -> Any:
        row = self._cursor.fetchone()
        self._reads.rows += row is not None
        return row

    def __iter__(self) -> Iterator[Any]:
        for row in self._cursor:
            self._reads.rows += 1
            yield row


def fill(store: Store, count: int) -> None:
    label = {"project": "rna", "kind": "test"}
    store_jobs(store, 3, "running", lambda _: label)
    store_jobs(store, count, lambda n: "failed" if n % 3 else "done", lambda _: label, first=10, outputs="{}")
    store_jobs(store, count, "queued", lambda _: label, first=NOW_QUEUED)


LABEL = (("project", "rna"),)
COMMANDS: dict[str, Callable[[Views], object]] = {
    "status": lambda views: views.listing(Selection(), 20, 10).jobs,
    "status --since": lambda views: views.listing(Selection(since=1.0), 20, 10).jobs,
    "status --label": lambda views: views.listing(Selection(labels=LABEL), 20, 10).jobs,
    "status --labels": lambda views: views.listing(Selection(labels=(*LABEL, ("kind", "test"))), 20, 10).jobs,
    "status --submitter": lambda views: views.listing(Selection(submitter="ana"), 20, 10).jobs,
    "status --state": lambda views: views.listing(Selection(("queued", "failed")), 20, 10).jobs,
    "status --json": lambda views: list(views.each(Selection(("running", "failed")), 5, 5)),
    "status JOB": lambda views: views.job(job_id(10)),
    "status JOB of a queued one": lambda views: views.job(job_id(NOW_QUEUED)),
    "--watch": lambda views: views.listing(Selection(), 0, 0).counts,
    "a prefix": lambda views: views.resolve(job_id(10)[:13]),
    "daemon": lambda views: views.daemon(),
    "run, check --boot": lambda views: views.count_unfinished() > 0,
    "history": lambda views: views.history(job_id(10)),
    "servers": lambda views: len(read_database(views, None, [job_id(10)]).live),
    "retry": lambda views: views.body(job_id(10)),
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Views]]:
    """The views of a database with few jobs, and of one with many."""
    found = {}
    for count in (FEW, MANY):
        path = tmp_path_factory.mktemp("stored") / "lando.db"
        with closing(Store(f"sqlite:///{path}")) as store:
            fill(store, count)
        found[count] = Views(f"sqlite:///{path}", path, EmbeddedPeek(path), path.parent / "lock", None)
        list(found[count].jobs(ids=[job_id(1)]))  # opens it
    yield found
    for views in found.values():
        views.close()


@pytest.mark.parametrize("read", COMMANDS.values(), ids=COMMANDS)
def test_no_command_reads_more_where_more_is_stored(
    stored: dict[int, Views], read: Callable[[Views], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lando.state_dir.running", lambda _: 1)
    counts = []
    for views in stored.values():
        reads = Reads()
        with reads.counting():
            assert read(views) is not None
        counts.append((reads.statements, reads.rows))
    assert counts[0] == counts[1]
    assert counts[0][0] > 0 and counts[0][1] < 200


def test_a_stream_reads_a_page_at_a_time(stored: dict[int, Views]) -> None:
    reads, numbers = Reads(), 3 + 2 * MANY
    with reads.counting(), closing(stored[MANY].each(Selection())) as stream:
        first = next(stream)
        assert first.job.state == "running"
        assert reads.rows < numbers + MANY + 3 * 500 + 100, "numbers, places, and one page with its labels"
        assert sum(1 for _ in stream) == numbers - 1


def test_the_counts_are_of_all(stored: dict[int, Views]) -> None:
    listing = stored[MANY].listing(Selection(), 20, 10)
    assert [each.job.state for each in listing.jobs] == [
        *["running"] * 3,
        *["queued"] * 17,
        *[each.job.state for each in listing.jobs[20:]],
    ]
    assert listing.counts == {
        "terminating": 0,
        "running": 3,
        "booting": 0,
        "queued": MANY,
        "done": 1_000,
        "failed": 2_000,
    }
    assert sum(listing.left_out.values()) == 3 + 2 * MANY - 30
    filtered = stored[MANY].listing(Selection(labels=LABEL, submitter="ana"), 1, 1)
    assert filtered.counts == listing.counts


def queue(path: Path, count: int) -> list[str]:
    with closing(EmbeddedPublisher(path, "client", "bo")) as publisher:
        for number in range(count):
            body = {**BODY, "labels": {"n": str(number % 2)}}
            publisher.publish(
                Message("start_worker", body, job=job_id(number), id=f"start-{number}").encode()
            )
        publisher.publish(Message("cancel_job", job=job_id(0)).encode())
    return [job_id(number) for number in range(count)]


def test_what_waits_in_the_queue_is_read_as_far_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lando.db"
    ids = queue(path, 30)
    decoded = []
    real = json.JSONDecoder.decode
    monkeypatch.setattr(json.JSONDecoder, "decode", lambda *given: decoded.append(1) or real(*given))
    with closing(Views(f"sqlite:///{path}", path, EmbeddedPeek(path), tmp_path / "lock", None)) as views:
        listing = views.listing(Selection(), 10, 10)
        assert [each.job.id for each in listing.jobs] == ids[:10]
        assert listing.counts["queued"] == 30 and listing.left_out == {"queued": 20}
        assert views.listing(Selection(), 0, 0).counts["queued"] == 30
        assert views.count_unfinished() == 30
        assert len(decoded) <= 11
        decoded.clear()
        assert views.resolve(ids[7][:20]) == ids[7]
        assert [each.job.id for each in views.jobs(ids=[ids[7]])] == [ids[7]]
        assert len(decoded) <= 3
        with pytest.raises(UsageError, match="no job"):
            views.resolve("")
        half = Selection(labels=(("n", "1"),))
        assert [each.job.id for each in views.listing(half, 3, 3).jobs] == ids[1:6:2]
        assert views.listing(half, 3, 3).counts["queued"] == 15
        assert [each.job.id for each in views.each(Selection())] == ids
        assert not views.listing(Selection(submitter="ana")).jobs
        assert not views.listing(Selection(("done",))).jobs


@pytest.mark.parametrize("prefix", ["", "é", "\udcff", "%"])
def test_what_can_begin_no_id_names_no_job(stored: dict[int, Views], prefix: str) -> None:
    with pytest.raises(UsageError, match="no job"):
        stored[FEW].resolve(prefix)
