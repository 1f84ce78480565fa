"""What retention removes: in pieces, through indexes, and never of a job that has not ended."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lando.engine.ledger import StateChange
from lando.engine.retention import Retention
from lando.states.job import ENDED_STATES, CreateRequest, Job, State
from lando.store import retention
from lando.store.retention import DueCounts
from lando.store.store import Store
from lando.store.tables import FORGOTTEN, JOBS, LOGS
from tests.support.query_plans import plan

DAY = 86400.0
NOW = 1000 * DAY
STATES: tuple[State, ...] = ("queued", "booting", "running", "terminating", "done", "failed")
BODY: dict[str, Any] = {"git_clone": "https://ana:hunter22@example.org/wf.git", "cd": ".", "input": {}}
TABLES = ("jobs", "history", "logs", "log_totals", "consoles")


def job_id(number: int) -> str:
    return f"{number:08}-0000-4000-8000-000000000000"


def insert(
    store: Store, number: int, state: State = "done", age: float = 0.0, lines: int = 3, **body: Any
) -> str:
    """A job that has been in this state for ``age`` seconds, with all that a job can have."""
    id_ = job_id(number)
    requests = (CreateRequest("mark", "secret-token", "adopted"),)
    job = Job(id_, state=state, attempt=2, requests=requests, log_tail="the end", entered_at=NOW - age)
    with store.transaction() as transaction:
        transaction.insert_job(job, {**BODY, **body}, "ana")
        transaction.append_change(StateChange(id_, NOW - age, "start_worker", None, "queued", "", 0))
        for seq in range(1, lines + 1):
            transaction.append_log(id_, 2, [seq], f"line {seq}\n")
        transaction.save_console(id_, 1, "boot messages")
    return id_


def count(store: Store, table: str) -> int:
    with store.reading() as queries:
        return int(queries._connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())


def body(store: Store, id_: str) -> dict[str, Any]:
    with store.transaction() as transaction:
        return transaction.body(id_)


def contents(store: Store) -> dict[str, int]:
    return {table: count(store, table) for table in TABLES}


def remove_all(store: Store, jobs: int = 20, rows: int = 200) -> int:
    """Every row that is to be removed; returns the number of pieces."""
    pieces = 0
    while True:
        with store.transaction() as transaction:
            if not transaction.remove_rows(jobs, rows):
                return pieces
        pieces += 1


def test_a_job_is_removed_with_all_that_it_has(store: Store) -> None:
    insert(store, 1, age=91 * DAY)
    insert(store, 2, "failed", age=92 * DAY)
    stays = insert(store, 3, age=89 * DAY)
    with store.transaction() as transaction:
        assert transaction.forget_ended(NOW - 90 * DAY, NOW, 10) == 2
        assert transaction.forget_ended(NOW - 90 * DAY, NOW, 10) == 0, "each once"
    remove_all(store)
    assert contents(store) == {"jobs": 1, "history": 1, "logs": 3, "log_totals": 1, "consoles": 1}
    with store.reading() as queries:
        assert [view.job.id for view in queries.jobs()] == [stays]
        gone = queries.forgotten([job_id(1), job_id(2), stays])
    assert {(each.id, each.attempt, each.ended_at, each.with_results) for each in gone} == {
        (job_id(1), 2, NOW - 91 * DAY, False),
        (job_id(2), 2, NOW - 92 * DAY, False),
    }


def test_the_oldest_go_first_and_only_as_many_as_are_asked_for(store: Store) -> None:
    for number, days in ((1, 100), (2, 300), (3, 200)):
        insert(store, number, age=days * DAY)
    with store.transaction() as transaction:
        assert transaction.forget_ended(NOW - 90 * DAY, NOW, 2) == 2
        assert {each.id for each in transaction.forgotten([job_id(1), job_id(2), job_id(3)])} == {
            job_id(2),
            job_id(3),
        }


def test_a_piece_has_no_more_rows_than_it_may(store: Store) -> None:
    for number in range(3):
        insert(store, number, age=91 * DAY, lines=25)
    with store.transaction() as transaction:
        transaction.forget_ended(NOW - 90 * DAY, NOW, 10)
    before = count(store, "logs")
    with store.transaction() as transaction:
        assert transaction.remove_rows(20, 10) == 10
    assert count(store, "logs") == before - 10, "those of logs first"
    assert count(store, "jobs") == 3
    assert remove_all(store, rows=10) >= 7
    assert contents(store) == dict.fromkeys(TABLES, 0)


def test_a_job_with_an_effect_is_left_alone(store: Store) -> None:
    id_ = insert(store, 1, age=91 * DAY)
    with store.transaction() as transaction:
        transaction.add_effect(id_, "delete_server", (), NOW)
    with store.transaction() as transaction:
        assert transaction.forget_ended(NOW, NOW, 10) == 0
        job = transaction.job(id_)
        assert job is not None
        transaction.forget(job, NOW)
    with store.transaction() as transaction:
        transaction.remove_rows(10, 1000)
        assert transaction.job(id_) == job


def test_what_stands_for_a_removed_job_is_what_the_sweep_asks_for(store: Store) -> None:
    id_ = insert(store, 1, age=91 * DAY)
    with store.transaction() as transaction:
        transaction.forget_ended(NOW, NOW, 10)
    remove_all(store)
    with store.transaction() as transaction:
        (found,) = transaction.jobs_with([id_, job_id(9)])
        assert (found.id, found.state, found.attempt) == (id_, "done", 2)
        assert transaction.job(id_) is None
        assert transaction.is_forgotten(id_)
        assert not transaction.is_forgotten(job_id(9))


def test_what_is_known_of_removed_jobs_is_removed_when_all_of_them_is_gone(store: Store) -> None:
    for number in (1, 2):
        insert(store, number, age=91 * DAY)
    with store.transaction() as transaction:
        transaction.forget_ended(NOW, NOW, 10)
        assert transaction.remove_forgotten(NOW + 1, 10) == 0, "its rows are there"
    remove_all(store)
    with store.transaction() as transaction:
        assert transaction.remove_forgotten(NOW + 1, 10) == 0, "its files may be"
        assert {each.id for each in transaction.with_files((0.0, ""), 10)} == {job_id(1), job_id(2)}
        (second,) = transaction.with_files((NOW, job_id(1)), 10)
        assert second.id == job_id(2)
        transaction.note_without_files([job_id(1)])
        assert transaction.remove_forgotten(NOW, 10) == 0, "too new"
        assert transaction.remove_forgotten(NOW + 1, 10) == 1
        assert not transaction.forgotten([job_id(1)])


# logs


def test_a_log_is_removed_and_its_job_stays(store: Store) -> None:
    id_ = insert(store, 1, age=31 * DAY, lines=25)
    insert(store, 2, age=29 * DAY)
    insert(store, 3, "running", age=31 * DAY)
    pieces = 0
    while True:
        with store.transaction() as transaction:
            if not transaction.remove_logs(NOW - 30 * DAY, NOW, 10, 10):
                break
        pieces += 1
    assert pieces == 3
    assert contents(store) == {"jobs": 3, "history": 3, "logs": 6, "log_totals": 3, "consoles": 2}
    with store.reading() as queries:
        removed = queries.removed(id_)
        assert removed is not None and removed.logs_at == NOW
        assert queries.jobs(ids=[id_])[0].job.log_tail == ""
        assert queries.log(id_) == []
        other = queries.removed(job_id(2))
        assert other is not None and other.logs_at is None


def test_a_job_that_is_retried_has_a_log_again_and_keeps_it_for_its_time(store: Store) -> None:
    id_ = insert(store, 1, "failed", age=31 * DAY, git_clone="https://example.org/wf.git")
    with store.transaction() as transaction:
        transaction.remove_logs(NOW - 30 * DAY, NOW, 10, 100)
        transaction.drop_secrets(NOW, NOW, 10)
    with store.transaction() as transaction:
        job = transaction.job(id_)
        assert job is not None and not job.lost_secrets
        transaction.save_job(Job(**{**vars(job), "state": "queued", "attempt": 3}))
        transaction.append_change(StateChange(id_, NOW, "retry", "failed", "queued", "", 2))
        transaction.append_log(id_, 3, [1], "once more\n")
    with store.reading() as queries:
        removed = queries.removed(id_)
        assert removed is not None and (removed.logs_at, removed.secrets_at) == (None, None)
        assert [text for *_, text in queries.log(id_)] == ["once more\n"]
    with store.transaction() as transaction:
        job = transaction.job(id_)
        assert job is not None
        transaction.save_job(Job(**{**vars(job), "state": "done", "entered_at": NOW}))
        assert transaction.remove_logs(NOW + 1, NOW + 1, 10, 100) > 0


# secrets


def test_secrets_are_dropped_and_the_rest_of_the_body_stays(store: Store) -> None:
    id_ = insert(store, 1, "failed", age=8 * DAY, input={"sample": "s1", "password": "hunter23", "n": 3})
    young = insert(store, 2, "failed", age=6 * DAY)
    running = insert(store, 3, "running", age=8 * DAY)
    with store.transaction() as transaction:
        assert transaction.drop_secrets(NOW - 7 * DAY, NOW, 10) == (1, 1)
        assert transaction.drop_secrets(NOW - 7 * DAY, NOW, 10) == (0, 0), "each once"
    with store.reading() as queries:
        views = {view.job.id: view for view in queries.jobs()}
        assert "hunter2" not in str(body(store, id_))
        assert body(store, id_)["input"] == {"sample": "s1", "password": "***", "n": 3}
        assert views[id_].job.lost_secrets
        assert views[id_].job.requests == (), "with their tokens"
        for other in (young, running):
            assert "hunter22" in str(body(store, other))
            assert views[other].job.requests and not views[other].job.lost_secrets


def test_a_job_without_secrets_loses_the_tokens_of_its_servers_only(store: Store) -> None:
    id_ = insert(store, 1, "failed", age=8 * DAY, git_clone="https://example.org/wf.git")
    with store.transaction() as transaction:
        assert transaction.drop_secrets(NOW - 7 * DAY, NOW, 10) == (1, 0)
    with store.reading() as queries:
        (view,) = queries.jobs(ids=[id_])
    assert body(store, id_)["git_clone"] == "https://example.org/wf.git"
    assert not view.job.lost_secrets and view.job.requests == ()


def test_few_large_bodies_are_looked_at_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MAX_BODIES", 5000)
    for number in range(5):
        insert(store, number, age=8 * DAY, input={"text": "x" * 3000})
    with store.transaction() as transaction:
        assert [transaction.drop_secrets(NOW, NOW, 10)[0] for _ in range(4)] == [2, 2, 1, 0]


# what is due


def test_what_is_due_is_counted(store: Store) -> None:
    insert(store, 1, age=100 * DAY)
    insert(store, 2, "failed", age=40 * DAY)
    insert(store, 3, age=8 * DAY)
    insert(store, 4, "queued", age=100 * DAY)
    with store.reading() as queries:
        everything = Retention(ended=90 * DAY, logs=30 * DAY, secrets=7 * DAY)
        assert queries.retention_due(everything, NOW) == DueCounts(ended=1, logs=2, secrets=3)
        assert queries.retention_due(Retention(), NOW) == DueCounts(ended=None, logs=None, secrets=3)
        assert queries.count_ended() == 3
        assert queries.database_size() > 10_000
    with store.transaction() as transaction:
        transaction.remove_logs(NOW - 30 * DAY, NOW, 10, 100)
    with store.reading() as queries:
        assert queries.retention_due(everything, NOW).logs == 0


def test_the_end_of_a_job_is_known_after_its_removal(store: Store) -> None:
    insert(store, 1, age=100 * DAY)
    insert(store, 2, age=5 * DAY)
    insert(store, 3, "running", age=100 * DAY)
    with store.transaction() as transaction:
        transaction.forget_ended(NOW - 90 * DAY, NOW, 10)
    remove_all(store)
    with store.transaction() as transaction:
        found = transaction.ended_at([job_id(number) for number in range(5)])
    assert found == {job_id(1): NOW - 100 * DAY, job_id(2): NOW - 5 * DAY}


@pytest.mark.parametrize(
    ("index", "query"),
    [
        ("jobs_with_secrets", retention.oldest(retention.WITH_SECRETS, JOBS.c.id, before=NOW, limit=10)),
        ("jobs_with_logs", retention.oldest(retention.WITH_LOGS, JOBS.c.id, before=NOW, limit=10)),
        ("jobs_by_end", retention.oldest(retention.HAS_ENDED, JOBS.c.id, before=NOW, limit=10)),
        ("forgotten_with_rows", retention.with_rows(10)),
        ("forgotten_with_files", retention.files_after((0.0, ""), 10)),
        ("forgotten_by_age", retention.known_before(NOW, 10)),
        ("logs", retention.some_of(LOGS, ["a", "b"], 10)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_due_is_found_through_an_index(store: Store, index: str, query: sa.Select[Any]) -> None:
    with store.reading() as queries:
        steps = plan(queries._connection, query, {})
    on_tables = [step for step in steps if " jobs" in step or " logs" in step or " forgotten_jobs" in step]
    assert any(index in step and "ndex" in step.lower() for step in on_tables), steps
    assert not [step for step in steps if "TEMP B-TREE" in step or "Sort" in step or "Seq Scan" in step], (
        steps
    )
    assert not [step for step in steps if step.startswith("SCAN") and "INDEX" not in step], steps


def test_a_look_at_what_is_not_due_reads_no_job(store: Store) -> None:
    """The same statements, and none that finds a row, however many jobs are kept."""
    for number in range(30):
        insert(store, number, age=DAY, lines=1)
    with store.transaction() as transaction:
        assert transaction.forget_ended(NOW - 90 * DAY, NOW, 10) == 0
        assert transaction.remove_logs(NOW - 30 * DAY, NOW, 10, 100) == 0
        assert transaction.drop_secrets(NOW - 7 * DAY, NOW, 10) == (0, 0)
        assert transaction.remove_rows(10, 100) == 0
    assert contents(store)["jobs"] == 30


# whatever there is


AGES = st.sampled_from([0.0, 6.0, 8.0, 29.0, 31.0, 89.0, 91.0, 400.0])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(STATES), AGES), max_size=6), st.integers(1, 3), st.integers(1, 7))
def test_nothing_of_a_job_that_has_not_ended_or_is_not_due_is_touched(
    sqlite_store: Store, jobs: list[tuple[State, float]], at_once: int, rows: int
) -> None:
    store = sqlite_store
    with store.transaction() as transaction:
        for table in ("logs", "log_totals", "history", "consoles", "jobs", "forgotten_jobs"):
            transaction._connection.execute(sa.text(f"DELETE FROM {table}"))
    for number, (state, days) in enumerate(jobs):
        insert(store, number, state, age=days * DAY)
    with store.transaction() as transaction:
        transaction.forget_ended(NOW - 90 * DAY, NOW, 100)
    for _ in range(100):
        with store.transaction() as transaction:
            more = transaction.remove_rows(at_once, rows)
            more += transaction.remove_logs(NOW - 30 * DAY, NOW, at_once, rows)
            more += transaction.drop_secrets(NOW - 7 * DAY, NOW, at_once)[0]
        if not more:
            break
    with store.reading() as queries:
        views = {view.job.id: view for view in queries.jobs()}
        for number, (state, days) in enumerate(jobs):
            id_, has_ended = job_id(number), state in ENDED_STATES
            assert (id_ in views) == (not has_ended or days < 90)
            if id_ in views:
                assert bool(queries.log(id_)) == (not has_ended or days < 30)
                assert ("hunter22" in str(body(store, id_))) == (not has_ended or days < 7)
                assert bool(views[id_].job.requests) == (not has_ended or days < 7)
                assert queries.history(id_)
    assert count(store, FORGOTTEN.name) == sum(s in ENDED_STATES and days > 90 for s, days in jobs)


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Any:
    store = Store(sqlite_url)
    yield store
    store.close()
