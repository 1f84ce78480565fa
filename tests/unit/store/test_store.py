"""The store: compare-and-set, transactions, migrations, the outbox's order."""

from __future__ import annotations

import dataclasses
import json
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from lando.config import job_file
from lando.engine.engine import COPIED
from lando.engine.holds import Hold, Holds
from lando.engine.ledger import StateChange
from lando.engine.reservation import Reservation
from lando.errors import UsageError
from lando.states.job import CreateRequest, Job, State
from lando.store import admission_order, message_rows, partial_indexes
from lando.store.database import StoreUnavailable
from lando.store.facts import HOLD_FACT
from lando.store.pending import StaleRecord
from lando.store.queries import Queries
from lando.store.schema import HEAD
from lando.store.store import Store
from lando.yaml_json import read_json, write_json
from tests.support import postgres_server as postgres
from tests.support.query_plans import plan
from tests.support.shared_servers import session_directory

A, B, C = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abc")
BODY = {"git_clone": "https://example.org/wf.git", "cd": ".", "input": {"a": "ü"}, "run_cwl": "tool.cwl"}


@pytest.fixture
def new_path(tmp_path: Path) -> Path:
    """A file that does not exist yet, nor its directory."""
    return tmp_path / "state" / "lando.db"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, new_path: Path) -> Iterator[str]:
    """A database without a schema."""
    if request.param == "sqlite":
        yield new_url(new_path)
        return
    here = postgres.shared(session_directory()).create(migrated=False)
    yield here.url
    here.remove()


def insert(store: Store, *jobs: Job) -> None:
    with store.transaction() as transaction:
        for job in jobs:
            transaction.insert_job(job, BODY, "me")


def load(store: Store, job_id: str) -> Job:
    with store.transaction() as transaction:
        job = transaction.job(job_id)
    assert job is not None
    return job


# records


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    job = Job(
        A,
        state="terminating",
        priority=-7,
        boot_timeout=0.1,
        runnable=False,
        verdict="system_failed",
        requests=(CreateRequest("mark", "token", "sent", 1.5), CreateRequest("mark2", "token2")),
        outputs='{"out": {"class": "File", "location": "file:///ü"}, "none": null}',
        log_tail="line\nline\n",
        exit_code=-9,
        submitted_at=1.25,
    )
    insert(store, job)
    assert load(store, A) == job


def test_a_write_based_on_an_old_record_is_refused(store: Store) -> None:
    insert(store, Job(A))
    read = load(store, A)
    with store.transaction() as transaction:
        first = transaction.save_job(dataclasses.replace(read, reason="first"))
    assert first.version == read.version + 1
    with pytest.raises(StaleRecord), store.transaction() as transaction:
        transaction.append_change(StateChange(A, 1.0, "cancel", "queued", "failed", "second", 0))
        transaction.save_job(dataclasses.replace(read, reason="second"))
    assert load(store, A) == first
    with store.reading() as queries:
        assert queries.history(A) == [], "what came before the refused write is rolled back with it"


def test_of_two_writers_at_the_same_instant_one_wins(store: Store) -> None:
    insert(store, Job(A))
    read = load(store, A)
    together = threading.Barrier(2)
    answers: list[str] = []

    def write(reason: str) -> None:
        together.wait()
        try:
            with store.transaction() as transaction:
                transaction.save_job(dataclasses.replace(read, reason=reason))
            answers.append("saved")
        except StaleRecord:
            answers.append("stale")

    writers = [threading.Thread(target=write, args=(reason,)) for reason in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(answers) == ["saved", "stale"]


def test_any_error_undoes_the_whole_transaction(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.insert_job(Job(A), BODY, None)
        raise ZeroDivisionError
    with store.reading() as queries:
        assert queries.jobs() == []


def test_a_part_is_undone_alone(store: Store) -> None:
    change = StateChange(A, 1.0, "start_worker", None, "queued", "", 0)
    with store.transaction() as transaction:
        transaction.insert_job(Job(A), BODY, None)
        transaction.append_change(change)
        with pytest.raises(ZeroDivisionError), transaction.part():
            transaction.append_change(change)
            transaction.insert_job(Job(B), BODY, None)
            raise ZeroDivisionError
    assert transaction.changes == [change]
    with store.reading() as queries:
        assert [view.job.id for view in queries.jobs()] == [A]
        assert queries.history(A) == [change]


def test_a_reader_sees_one_moment(store: Store) -> None:
    insert(store, Job(A))
    with store.reading() as queries:
        before = queries.jobs()
        insert(store, Job(B))
        assert queries.jobs() == before
    with store.reading() as queries:
        assert [view.job.id for view in queries.jobs()] == [A, B]


def test_an_effect_of_no_job_is_refused(store: Store) -> None:
    with pytest.raises(sa.exc.IntegrityError), store.transaction() as transaction:
        transaction.add_effect(A, "create_server", (), 0.0)


# order


def test_priority_then_first_come_first_served_and_back_off(store: Store) -> None:
    insert(store, Job(A), Job(B, priority=1, not_before=100.0), Job(C))
    with store.transaction() as transaction:
        assert [job and job.id for job in map(transaction.next_queued, (50.0, 100.0))] == [A, B]
    with store.reading() as queries:
        assert queries.places_in_queue() == {2: 1, 1: 2, 3: 3}
        assert queries.places_in_queue([1, 3]) == {1: 2, 3: 3}


def test_live_jobs_are_counted(store: Store) -> None:
    states: tuple[State, ...] = ("queued", "booting", "running", "terminating", "done", "failed")
    insert(store, *(Job(f"{n}{A[1:]}", state=state) for n, state in enumerate(states)))
    with store.transaction() as transaction:
        assert transaction.live() == {"": 3}
        assert [job.state for job in transaction.jobs_in(("running", "done"))] == ["running", "done"]


def test_only_a_live_job_owns_a_server(store: Store) -> None:
    insert(store, Job(A, state="failed", server_name="vm"), Job(B, state="running", server_name="vm"))
    with store.transaction() as transaction:
        found = transaction.job_of_server("vm")
        assert found is not None
        assert found.id == B
        assert transaction.job_of_server("other") is None


def test_effects_of_a_job_wait_for_each_other_and_deletion_goes_last(store: Store) -> None:
    insert(store, Job(A), Job(B))
    with store.transaction() as transaction:
        transaction.add_effect(A, "delete_server", (), 1.0)
        transaction.add_effect(A, "save_console_log", (), 2.0)
        transaction.add_effect(B, "delete_twins", ("s1", "s2"), 1.0)
        turns = transaction.next_effects()
        assert [(effect.job_id, effect.kind, effect.servers) for effect in turns] == [
            (B, "delete_twins", ("s1", "s2")),
            (A, "save_console_log", ()),
        ]
        transaction.remove_effect(turns[1])
        transaction.postpone_effect(turns[0], 9.0, 3, "not now")
        turns = transaction.next_effects()
    assert [(effect.kind, effect.due_at, effect.tries) for effect in turns] == [
        ("delete_server", 1.0, 0),
        ("delete_twins", 9.0, 3),
    ]
    with store.reading() as queries:
        shown = {view.job.id: view.effect and view.effect.reason for view in queries.jobs()}
    assert shown == {A: "", B: "not now"}


# messages, cancels, facts


def test_messages_are_remembered_for_a_while(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.mark_processed("client:old", 1.0)
        transaction.mark_processed("client:new", 3.0)
        transaction.mark_processed("worker:old", 1.0)
        transaction.remember_cancel(A, 1.0)
        transaction.remember_cancel(B, 3.0)
        transaction.remember_cancel(B, 4.0)
        transaction.forget_processed("client", 2.0, 100)
        ids = ("client:old", "client:new", "client:never", "worker:old")
        assert [transaction.is_processed(id_) for id_ in ids] == [False, True, False, True]
        transaction.forget_processed("worker", 2.0, 0)
        assert transaction.is_processed("worker:old"), "no more than allowed at once"
        transaction.forget_processed("worker", 2.0, 1)
        assert not transaction.is_processed("worker:old")
        assert [transaction.was_canceled(id_) for id_ in (A, B, C)] == [False, True, False]


def test_holds_are_kept_until_they_are_replaced(store: Store) -> None:
    used_up = Hold("quota", 10.0, "5 of 5 servers", 2)
    refused = (
        ('{"flavor": "gpu"}', Hold("site", 11.0, "not allowed", 3, True, False, 2, True)),
        ("", used_up),
    )
    for said in (
        Holds(used_up, refused, ("", '{"volume_size": 40}'), '{"flavor": "gpu"}', A),
        Holds(Hold("site", 12.0, "login refused", account=True), refused=refused),
        Holds(),
    ):
        with store.transaction() as transaction:
            transaction.set_holds(said)
            assert transaction.holds() == said
        with store.reading() as queries:
            assert queries.holds() == said


def test_the_one_hold_of_version_0_1_is_everybodys(store: Store) -> None:
    with store.transaction() as transaction:
        assert transaction.holds() == Holds()
        transaction.set_fact(HOLD_FACT, {"kind": "quota", "until": 10.0, "words": "used up", "times": 2})
        assert transaction.holds() == Holds(everybody=Hold("quota", 10.0, "used up", 2))
        transaction.set_fact(HOLD_FACT, None)
        assert transaction.holds() == Holds()


def test_a_reservation_is_kept_until_it_is_replaced(store: Store) -> None:
    for said in (Reservation(A, 5.0, 1800.0, kept=False, owner=B), None):
        with store.transaction() as transaction:
            transaction.set_reservation(said)
            assert transaction.reservation() == said
        with store.reading() as queries:
            assert queries.reservation() == said


def test_the_admission_order_is_read_from_its_indexes(store: Store) -> None:
    insert(store, Job(A, wishes="l", flavor="large"), Job(B, priority=1, wishes="w"), Job(C, priority=1))
    with store.transaction() as transaction:
        found = [
            transaction.next_queued(0.0),
            transaction.next_queued(0.0, ["w"]),
            transaction.next_queued(0.0, (), [None]),
            transaction.next_queued(0.0, ["x"], ["y"], ["w"]),
        ]
        assert [job and job.id for job in found] == [B, C, A, B]
        assert transaction.next_wishes(0.0, (), ["large"], "") == "w"
        assert transaction.next_wishes(0.0, (), (), None) == ""
        assert transaction.next_wishes(0.0, (), (), "w") is None
    queries: list[tuple[str, Any]] = [
        ("jobs_ready", admission_order.next_queued(0.0, None, ())),
        ("jobs_ready", admission_order.next_queued(0.0, None, ["d"])),
        ("jobs_ready_by_wishes", admission_order.next_queued(0.0, ["b", "c"], ())),
        ("jobs_ready_by_wishes", admission_order.next_queued(0.0, ["b"], ["d", "e"])),
        ("jobs_ready_by_doubt", admission_order.least_doubtful(0.0, ["b"], ())),
        ("jobs_ready_by_doubt", admission_order.least_doubtful(0.0, ["b"], ["d"])),
        ("jobs_ready_by", admission_order.ready_wishes(0.0, ["b"], ())),
    ]
    with store.transaction() as transaction:
        for index, (query, values) in queries:
            steps = plan(transaction._connection, query, values)
            assert any(f"{index}" in step for step in steps), steps
            assert not any(step in ("SCAN jobs", "SCAN each") or "Seq Scan on jobs" in step for step in steps)


def test_however_many_wait_for_the_quota_the_admission_order_is_one_query(store: Store) -> None:
    insert(store, Job(A, wishes="0"), Job(B, wishes="b"), Job(C, wishes="c", not_before=9.0))
    many = [str(number) for number in range(260_000)]  # more than SQLite's highest limit of variables
    with store.transaction() as transaction:
        job = transaction.next_queued(0.0, many, many)
        assert job is not None and job.id == B
        assert sorted(transaction.queued_wishes()) == ["0", "b", "c"]
        transaction.held_back = frozenset((*many, B))
        assert transaction.next_queued(0.0, many) is None


def test_jobs_that_are_held_back_are_left_out_of_the_admission_order(store: Store) -> None:
    insert(store, Job(A, wishes="w"), Job(B, priority=1, wishes="v"), Job(C, wishes="w"))
    with store.transaction() as transaction:
        transaction.held_back = frozenset({A, B, "another database's"})
        found = [
            transaction.next_queued(0.0),
            transaction.next_queued(0.0, ["w"]),
            transaction.next_queued(0.0, among=["v", "w"]),
            transaction.next_queued(0.0, among=["v"]),
        ]
        assert [job and job.id for job in found] == [C, None, C, None]
        doubtful = transaction.least_doubtful(0.0, (), ())
        assert doubtful is not None and doubtful.id == C
        assert transaction.next_wishes(0.0, (), (), None) == "w", "nobody else asks for v"
        assert transaction.next_wishes(0.0, (), (), "v") == "w"
        assert transaction.next_wishes(0.0, (), (), "w") is None
    with store.transaction() as transaction:
        job = transaction.next_queued(0.0)
        assert job is not None and job.id == B, "they are held back in that transaction alone"


def test_wishes_are_those_of_who_waits_or_owns_a_server(store: Store) -> None:
    insert(store, Job(A, state="running", wishes="large"), Job(B, state="done", wishes="huge"))
    with store.transaction() as transaction:
        assert transaction.wishes() == (False, {"large"})
    insert(store, Job(C))
    with store.transaction() as transaction:
        assert transaction.wishes() == (True, {"", "large"})


def test_the_last_boots_are_kept(store: Store) -> None:
    with store.transaction() as transaction:
        assert transaction.boots() == []
        transaction.set_boots([12.5, 9.0])
        assert transaction.boots() == [12.5, 9.0]
    with store.reading() as queries:
        assert queries.boots() == [12.5, 9.0]


def test_the_deployment_is_born_with_the_database(store: Store, database_url: str) -> None:
    born = store.deployment(None)
    assert len(born) >= 8
    with closing(Store(database_url)) as again:
        assert again.deployment(None) == born
        assert again.deployment("configured") == "configured"


# forgetting


def test_old_messages_are_forgotten_a_few_at_a_time(store: Store) -> None:
    with store.transaction() as transaction:
        for number in range(25):
            transaction.mark_processed(f"worker:{number}", float(number))
        forgotten = [transaction.forget_processed("worker", 20.0, 8) for _ in range(4)]
    assert forgotten == [8, 8, 4, 0]


def test_more_messages_than_can_be_remembered_are_forgotten_oldest_first(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_rows, "MAX_PROCESSED", 10)
    with store.transaction() as transaction:
        for number in range(25):
            transaction.mark_processed(f"client:{number}", float(number))
    with store.transaction() as transaction:
        forgotten = [transaction.forget_processed("client", 2.0, 8) for _ in range(3)]
        kept = [number for number in range(25) if transaction.is_processed(f"client:{number}")]
    assert forgotten == [8, 7, 0]
    assert kept == list(range(15, 25))


def test_the_console_of_the_last_attempt_is_shown(store: Store) -> None:
    insert(store, Job(A))
    with store.transaction() as transaction:
        for attempt, text in ((2, "second"), (1, "first"), (2, "second, again")):
            transaction.save_console(A, attempt, text)
    with store.reading() as queries:
        assert queries.console(A) == (2, "second, again")
        assert queries.console(B) is None


# the file


def test_a_new_file_is_private_and_durable(new_path: Path) -> None:
    with closing(Store(f"sqlite:///{new_path}")) as store:
        insert(store, Job(A))
        assert stat.S_IMODE(new_path.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in new_path.parent.iterdir()} == {0o600}
        with store.reading() as queries:
            pragmas = ("journal_mode", "synchronous", "foreign_keys")
            found = [queries._connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    assert found == ["wal", 2, 1]


def test_a_file_that_is_no_database(new_path: Path) -> None:
    new_path.parent.mkdir()
    new_path.write_text("some text that is longer than the header of a database would be" * 20)
    with pytest.raises(StoreUnavailable, match=f"^{new_path}: file is not a database"):
        Store(f"sqlite:///{new_path}")


def test_a_url_of_nothing_we_know() -> None:
    with pytest.raises(UsageError, match=r"^database\.url: "):
        Store("no url at all")


# migrations


def upgraded_to(url: str, version: str) -> None:
    """A database as an older lando-fsm left it."""
    config = Config()
    config.set_main_option("script_location", "lando.store:migrations")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
    engine.dispose()


def test_migrations_and_tables_say_the_same(store: Store) -> None:
    with store.reading() as queries:
        context = MigrationContext.configure(queries._connection)
        differences = compare_metadata(context, partial_indexes.TABLES)
    assert differences == []


def test_an_older_schema_is_migrated_and_keeps_its_jobs(empty_url: str) -> None:
    upgraded_to(empty_url, "0001")
    new = (
        *("flavor", "misses", "doubtful", "excused", "unanswered", "floating_ip", "wishes", "worker_version"),
        "lost_secrets",
    )
    fields = {name: value for name, value in dataclasses.asdict(Job(A)).items() if name not in new}
    values = {**fields, "requests": "[]", "name": "old", "body": '{"flavor": "large"}'}
    insert_rows(empty_url, "jobs", values)
    pieces = [(A, 1, 9, "of an earlier attempt"), (A, 2, 1, "one"), (A, 2, 2, "two"), (A, 2, 4, "four")]
    columns = ("job_id", "attempt", "seq", "text")
    insert_rows(empty_url, "logs", *(dict(zip(columns, piece, strict=True)) for piece in pieces))
    with closing(Store(empty_url)) as store:
        assert load(store, A) == Job(A, flavor="large", wishes='{"flavor": "large"}')
        with store.transaction() as transaction:
            transaction.save_console(A, 1, "a table that 0001 has not")
        with store.reading() as queries:
            (totals,) = rows(queries, "SELECT job_id, rows, characters, attempt, seqs FROM log_totals")
            assert totals == (A, 4, 31, 2, "[[1, 2], [4, 4]]")
            assert rows(queries, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def insert_rows(url: str, table: str, *rows: dict[str, Any]) -> None:
    """Rows of a schema that this lando-fsm does not know any more."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.Table(table, sa.MetaData(), autoload_with=connection).insert(), rows)
    engine.dispose()


def rows(queries: Queries, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in queries._connection.execute(sa.text(statement))]


GIT = {"git_clone": "https://example.org/a.git", "cd": ".", "run_cwl": "a.cwl"}
DAY = 86400.0
NAMES = [f"label-{number}" for number in range(200)]


@pytest.mark.parametrize("state", ["queued", "running", "failed"])
@pytest.mark.parametrize(
    ("asked", "record", "kept"),
    [
        ({"input": "a: 1\n"}, {}, {"input": {"a": 1}}),
        ({"input": "# none\n"}, {}, {"input": {}}),
        ({"attempts": 500}, {"attempts": 500}, {"attempts": 100}),
        ({"run_timeout": "3650d"}, {"run_timeout": 3650 * DAY}, {"run_timeout": 366 * DAY}),
        ({"boot_timeout": 4e7}, {"boot_timeout": 4e7}, {"boot_timeout": 366 * DAY}),
        ({"priority": 2**31 - 1}, {"priority": 2**31 - 1}, {"priority": 10**6}),
        ({"priority": -(2**31)}, {"priority": -(2**31)}, {"priority": -(10**6)}),
        ({"volume_size": 10**6}, {}, {"volume_size": 65536}),
        ({"labels": {"k" * 300: "v" * 2000}}, {}, {"labels": {"k" * 200: "v" * 1000}}),
        (
            {"labels": {f"k{n:03}": "v" for n in range(200)}},
            {},
            {"labels": {f"k{n:03}": "v" for n in range(100)}},
        ),
        (
            {"run_timeout": "90m", "attempts": 100},
            {"run_timeout": 5400.0, "attempts": 100},
            {"run_timeout": 5400.0},
        ),
    ],
)
def test_a_job_that_an_older_version_accepted_can_still_be_created(
    new_path: Path, state: State, asked: dict[str, Any], record: dict[str, Any], kept: dict[str, Any]
) -> None:
    upgraded_to(new_url(new_path), "0003")
    old_job(new_url(new_path), {**GIT, "input": {}, **asked}, state=state, **record)
    with closing(Store(f"sqlite:///{new_path}")) as store, store.transaction() as transaction:
        job, spec = transaction.job(A), job_file.from_body(transaction.body(A))
    assert {name: getattr(spec, name) for name in kept} == kept
    assert job is not None and job.wishes == spec.wishes
    for name in COPIED:
        assert getattr(job, name) == getattr(spec, name)


@pytest.mark.parametrize(
    ("asked", "runnable"),
    [({"input": "a: [1"}, True), ({"cd": "d" * 3000}, True), ({"input": "a: 1"}, False)],
)
def test_a_job_that_cannot_be_brought_within_the_limits_is_left_as_it_is(
    new_path: Path, asked: dict[str, Any], runnable: bool
) -> None:
    upgraded_to(new_url(new_path), "0003")
    body = {**GIT, "input": {}, **asked}
    old_job(new_url(new_path), body, runnable=runnable)
    with closing(Store(f"sqlite:///{new_path}")) as store, store.transaction() as transaction:
        assert transaction.body(A) == body


def test_numbers_are_stored_as_they_are_written(new_path: Path) -> None:
    body = read_json('{"input": {"a": 1.50, "b": [1e-5, 9007199254740993]}}')
    with closing(Store(f"sqlite:///{new_path}")) as store:
        with store.transaction() as transaction:
            transaction.insert_job(Job(A), body, None)
        with store.transaction() as transaction:
            assert write_json(transaction.body(A)) == write_json(body)
        with store.reading() as queries:
            assert write_json(queries.body(A)) == write_json(body)


def new_url(new_path: Path) -> str:
    new_path.parent.mkdir(mode=0o700, exist_ok=True)
    return f"sqlite:///{new_path}"


def old_job(url: str, body: dict[str, Any], **fields: Any) -> None:
    """A job as version 0003 stored it."""
    columns = {**dataclasses.asdict(Job(A, **fields)), "requests": "[]", "name": "", "body": json.dumps(body)}
    new = ("wishes", "worker_version", "doubtful", "excused", "unanswered", "lost_secrets")
    insert_rows(url, "jobs", {name: value for name, value in columns.items() if name not in new})


def test_a_newer_schema_is_refused_and_left_alone(store: Store, database_url: str) -> None:
    insert(store, Job(A))
    for table in ("alembic_version", "oldest_version"):
        change(store, f"UPDATE {table} SET version_num = '9999'")
    reason = rf"its schema \(9999\) is newer than this lando-fsm knows \({HEAD}\)"
    with pytest.raises(UsageError, match=reason):
        Store(database_url)
    with store.reading() as queries:
        assert rows(queries, "SELECT version_num FROM alembic_version") == [("9999",)]
        assert rows(queries, "SELECT id FROM jobs") == [(A,)]
    for table in ("alembic_version", "oldest_version"):
        change(store, f"UPDATE {table} SET version_num = '{HEAD}'")


def change(store: Store, statement: str) -> None:
    with store.transaction() as transaction:
        transaction._connection.execute(sa.text(statement))


def test_several_processes_make_the_database_at_the_same_instant(empty_url: str) -> None:
    opening = f"from lando.store.store import Store; input(); Store({empty_url!r}).close()"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", opening],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    with closing(Store(empty_url)) as store, store.reading() as queries:
        assert rows(queries, "SELECT version_num FROM alembic_version") == [(HEAD,)]


def test_a_command_loads_nothing_that_only_a_daemon_needs() -> None:
    code = "import sys, lando.store.store; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "lando.store.queries" in loaded.split()
    assert {"lando.store.sqlite_guard", "lando.sqlite.stamp"}.isdisjoint(loaded.split())
