"""Which jobs a command shows: the conditions, their order, the counts, and how databases find them."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sqlalchemy as sa

from lando.states.job import STATES, Job, State
from lando.states.records import replace
from lando.store.queries import Queries
from lando.store.selection import Selection, count_in_state, in_state, places_in_queue
from lando.store.store import Store
from lando.store.tables import JOB_LABELS, JOBS
from tests.support.query_plans import plan

BODY: dict[str, Any] = {"git_clone": "https://example.org/a.git", "cd": ".", "input": {}, "run_cwl": "a.cwl"}


def name(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-000000000000"


def insert(
    store: Store, *jobs: Job, labels: dict[str, Any] | None = None, submitter: str | None = "ana"
) -> None:
    with store.transaction() as transaction:
        for job in jobs:
            transaction.insert_job(job, {**BODY, "labels": labels or {}}, submitter)


def counted(queries: Queries) -> dict[str, int]:
    rows = queries._connection.execute(sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state))
    return {**dict.fromkeys(STATES, 0), **{row[0]: row[1] for row in rows}}


def first(
    queries: Queries, selection: Selection, live: int | None = None, ended: int | None = None
) -> list[str]:
    return [
        view.job.id[:8].lstrip("0") for view in queries.listed(queries.first_numbers(selection, live, ended))
    ]


def test_the_furthest_are_first_then_the_queue_then_the_newest(store: Store) -> None:
    insert(
        store,
        Job(name(1), "done", entered_at=50.0),
        Job(name(2), "failed", entered_at=70.0),
        Job(name(3), "queued"),
        Job(name(4), "queued", priority=5),
        Job(name(5), "booting", entered_at=90.0),
        Job(name(6), "running", entered_at=80.0),
        Job(name(7), "running", entered_at=20.0),
        Job(name(8), "terminating", entered_at=99.0),
        Job(name(9), "done", entered_at=60.0),
    )
    with store.reading() as queries:
        assert first(queries, Selection()) == ["8", "7", "6", "5", "4", "3", "2", "9", "1"]
        assert first(queries, Selection(), 5, 2) == ["8", "7", "6", "5", "4", "2", "9"]
        assert first(queries, Selection(), 0, 0) == []
        assert first(queries, Selection(("done", "queued"))) == ["4", "3", "9", "1"]
        assert first(queries, Selection(since=60.0)) == ["8", "7", "6", "5", "4", "3", "2", "9"]
        assert [*queries.numbers(Selection())] == [1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert [*queries.numbers(Selection(("failed", "booting")))] == [2, 5]
        assert queries.counts(Selection(("done", "queued"))) == {"queued": 2, "done": 2}
        assert queries.counts(Selection(since=60.0))["done"] == 1


def test_labels_and_submitter(store: Store) -> None:
    insert(store, Job(name(1), "done", entered_at=1.0), labels={"a": "1", "b": "2"})
    insert(store, Job(name(2), "done", entered_at=2.0), labels={"a": "1"}, submitter="bo")
    insert(store, Job(name(3), "queued"), labels={"b": "2", "a": "1"}, submitter="bo")
    insert(store, Job(name(4), "failed"), labels={"a": "12"}, submitter=None)
    with store.reading() as queries:
        for selection, expected in (
            (Selection(labels=(("a", "1"),)), ["3", "2", "1"]),
            (Selection(labels=(("a", "1"), ("b", "2"))), ["3", "1"]),
            (Selection(labels=(("a", "1"),), submitter="bo"), ["3", "2"]),
            (Selection(labels=(("a", "1"),), since=2.0), ["3", "2"]),
            (Selection(labels=(("a", "2"),)), []),
            (Selection(labels=(("1", "a"),)), []),
            (Selection(submitter="bo"), ["3", "2"]),
            (Selection(("done",), submitter="ana"), ["1"]),
        ):
            assert first(queries, selection) == expected, selection
            assert sum(queries.counts(selection).values()) == len(expected) == len(queries.numbers(selection))
            assert all(
                selection.admits(view.job, view.submitted_by, view.labels)
                for view in queries.jobs()
                if view.job.id[:8].lstrip("0") in expected
            )
        assert queries.jobs()[2].labels == {"b": "2", "a": "1"}, "in the order of the job file"


def test_a_label_follows_its_job(store: Store) -> None:
    insert(store, Job(name(1)), labels={"a": "1"})
    for state, at in (("booting", 5.0), ("failed", 9.0), ("queued", 11.0), ("done", 12.0)):
        with store.transaction() as transaction:
            job = transaction.job(name(1))
            assert job is not None
            transaction.save_job(replace(job, state=state, entered_at=at))  # type: ignore[arg-type]
        with store.reading() as queries:
            row = queries._connection.execute(sa.select(JOB_LABELS.c.state, JOB_LABELS.c.entered_at)).one()
            assert tuple(row) == (state, at)


def test_secrets_are_no_labels(store: Store) -> None:
    insert(store, Job(name(1)), labels={"api_token": "hunter2", "fine": "x"})
    with store.reading() as queries:
        assert "hunter2" not in str(queries._connection.execute(sa.select(JOB_LABELS)).all())
        assert queries.jobs()[0].labels["fine"] == "x"


def test_labels_that_no_job_file_may_have_are_bounded(store: Store) -> None:
    insert(store, Job(name(1)), labels={f"{n}" * 300: ["x" * 5000, n] for n in range(300)})
    insert(store, Job(name(2)), labels={"a": 1, "b": None})
    with store.reading() as queries:
        many, odd = (view.labels for view in queries.jobs())
    assert len(many) == 100 and all(len(key) <= 200 and len(value) <= 1000 for key, value in many.items())
    assert odd == {"a": "1", "b": "null"}


@pytest.mark.parametrize("seed", range(3))
def test_the_counts_are_those_of_the_rows(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    ids: list[str] = []

    def change(transaction: Any) -> None:
        for _ in range(chance.randrange(8)):
            if not ids or chance.random() < 0.3:
                ids.append(name(len(ids) + 1))
                transaction.insert_job(Job(ids[-1], chance.choice(STATES)), BODY, None)
            else:
                job = transaction.job(chance.choice(ids))
                if job is not None:
                    transaction.save_job(replace(job, state=chance.choice(STATES)))
                if chance.random() < 0.3:
                    transaction.flush()

    for _ in range(25):
        try:
            with store.transaction() as transaction:
                change(transaction)
                try:
                    with transaction.part():
                        change(transaction)
                        if chance.random() < 0.4:
                            raise LookupError
                except LookupError:
                    pass
                if chance.random() < 0.2:
                    transaction._connection.execute(
                        sa.delete(JOBS).where(JOBS.c.id == chance.choice([*ids, ""]))
                    )
                if chance.random() < 0.3:
                    raise KeyError
        except KeyError:
            pass
        with store.reading() as queries:
            assert queries.counts() == counted(queries)
            assert queries.count_live() == sum(
                counted(queries)[state] for state in ("booting", "running", "terminating")
            )


def test_prefixes_of_ids(store: Store) -> None:
    insert(store, Job(name(0xABC)), Job(name(0xABD)), Job("ffffffff-ffff-4fff-bfff-ffffffffffff"))
    with store.reading() as queries:
        for prefix, expected in (
            ("00000abc", [name(0xABC)]),
            ("00000ab", [name(0xABC), name(0xABD)]),
            ("00000abd-0000-4", [name(0xABD)]),
            ("f", ["ffffffff-ffff-4fff-bfff-ffffffffffff"]),
            (name(0xABC), [name(0xABC)]),
            (name(0xABC) + "0", []),
            ("00000abd0", []),
            ("%", []),
            ("0000_abc", []),
            ("é", []),
        ):
            assert queries.ids_like(prefix) == expected, prefix


def test_of_a_log_its_end_is_read(store: Store) -> None:
    insert(store, Job(name(1)), Job(name(2)))
    with store.transaction() as transaction:
        for seq in range(1, 200):
            transaction.append_log(name(1), 1, [seq], f"earlier {seq}\n")
        for seq in range(1, 200):
            transaction.append_log(name(1), 2, [seq], f"line {seq}\n")
    with store.reading() as queries:
        attempt, text = queries.end_of_log(name(1), 20)
        assert attempt == 2 and 20 <= text.count("\n") < 25 and text.endswith("line 198\nline 199\n")
        assert "earlier" not in queries.end_of_log(name(1), 1000)[1]
        assert queries.end_of_log(name(2), 20) == (0, "")


SELECTIONS = {
    "all": Selection(),
    "since": Selection(since=5.0),
    "submitter": Selection(submitter="ana"),
    "submitter-since": Selection(submitter="ana", since=5.0),
    "label": Selection(labels=(("a", "1"),)),
    "labels-submitter": Selection(labels=(("a", "1"), ("b", "2")), submitter="ana", since=5.0),
}


@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("state", STATES)
def test_no_list_scans_or_sorts(store: Store, selection: Selection, state: State) -> None:
    with store.reading() as queries:
        for query in (in_state(selection, state, 50), count_in_state(selection, state)):
            steps = plan(queries._connection, query, {})
            assert not any("SCAN" in step or "Seq Scan" in step for step in steps), steps
            is_by_place = state == "queued" and (selection.labels or selection.submitter)
            assert is_by_place or not any("TEMP B-TREE" in step or "Sort" in step for step in steps), steps


def test_places_and_prefixes_are_found_by_indexes(store: Store) -> None:
    between = sa.select(JOBS.c.id).where(JOBS.c.id.between("a", "b")).order_by(JOBS.c.id).limit(10)
    with store.reading() as queries:
        for query in (places_in_queue([1, 2]), places_in_queue(range(30)), places_in_queue(None), between):
            steps = plan(queries._connection, query, {})
            assert not any("SCAN jobs" in step or "Seq Scan" in step for step in steps), steps


def test_of_a_second_label_one_row_a_job_is_looked_at(store: Store) -> None:
    selection = Selection(labels=(("a", "1"), ("b", "2")))
    with store.reading() as queries:
        if queries._connection.dialect.name != "sqlite":
            pytest.skip("PostgreSQL has other ways to join, and statistics to choose by")
        for query in (in_state(selection, "done", 50), count_in_state(selection, "done")):
            steps = [step for step in plan(queries._connection, query, {}) if "SEARCH also" in step]
            assert steps and all("job_id=?" in step for step in steps), steps
