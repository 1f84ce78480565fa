"""What is PostgreSQL's own about the store: what it refuses, and what each of its errors says."""

from __future__ import annotations

import re
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import get_args

import psycopg
import pytest
import sqlalchemy as sa

from lando.errors import LandoError, UsageError
from lando.postgres import opening
from lando.states.events import EVENTS
from lando.states.job import Job, Outcome, State
from lando.states.table import EffectKind
from lando.store import facts
from lando.store.database import StoreConflict, StoreForbidden, StoreOutage, StoreUnusable
from lando.store.store import Store
from lando.store.tables import EFFECTS, FACTS, HISTORY, JOBS
from tests.support import postgres_server as postgres
from tests.support.postgres_server import Database, Postgres
from tests.support.shared_servers import session_directory

A, B = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "ab")


@pytest.fixture
def database_url(postgres_url: str) -> str:
    return postgres_url


def insert(store: Store, job: Job) -> None:
    with store.transaction() as transaction:
        transaction.insert_job(job, {}, "me")


# rows


def test_a_snapshot_does_not_change_while_it_is_read(store: Store) -> None:
    with store.reading() as queries:
        assert queries.count_live() == 0
        insert(store, Job(A, state="running"))
        assert queries.count_live() == 0 and queries.jobs() == []
    with store.reading() as queries:
        assert queries.count_live() == 1


def test_who_reads_cannot_write(store: Store) -> None:
    with pytest.raises(StoreForbidden, match="read-only transaction"), store.reading() as queries:
        queries._connection.execute(sa.delete(JOBS))


def test_a_decision_over_rows_that_changed_meanwhile_is_a_conflict(store: Store) -> None:
    insert(store, Job(A, not_before=5.0))
    with pytest.raises(StoreConflict, match="another transaction"), store.transaction() as transaction:
        assert transaction.job(A) is not None
        with store.transaction() as other:
            job = other.job(A)
            assert job is not None
            other.save_job(job)
        transaction.limit_due_times(0.0, -1.0)


def test_a_deadlock_is_a_conflict(store: Store) -> None:
    insert(store, Job(A))
    insert(store, Job(B))
    both = threading.Barrier(2)
    said: list[str] = []

    def change(first: str, second: str) -> None:
        try:
            with store.transaction() as transaction:
                for job_id in (first, second):
                    transaction._connection.execute(sa.update(JOBS).where(JOBS.c.id == job_id).values(seq=1))
                    if job_id == first:
                        both.wait()
            said.append("done")
        except StoreConflict:
            said.append("conflict")

    store._engine.dispose()
    threads = [threading.Thread(target=change, args=order) for order in ((A, B), (B, A))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["conflict", "done"]


def test_an_error_in_a_part_leaves_the_rest_of_the_transaction(store: Store) -> None:
    insert(store, Job(A))
    with store.transaction() as transaction:
        transaction.set_fact("kept", 1)
        with pytest.raises(sa.exc.DataError), transaction.part():
            transaction._connection.execute(sa.update(JOBS).values(priority=2**40))
        with pytest.raises(sa.exc.IntegrityError), transaction.part():
            transaction.insert_job(Job(A), {}, "me")
        transaction.set_fact("also kept", 2)
    with store.reading() as queries:
        assert (queries.fact("kept"), queries.fact("also kept")) == (1, 2)


def test_an_error_does_not_tell_the_row(store: Store) -> None:
    secret = "hunter2"  # of which a traceback shows the name
    insert(store, Job(A))
    with pytest.raises(sa.exc.IntegrityError) as raised, store.transaction() as transaction:
        transaction._connection.execute(sa.update(JOBS).values(body=f"{secret}\n{secret}", reason=None))
    told = "".join(traceback.format_exception(raised.value))
    assert 'null value in column "reason"' in told and secret not in told
    with (
        pytest.raises(sa.exc.IntegrityError) as raised,
        store.transaction() as transaction,
        transaction.part(),
    ):
        transaction._connection.execute(sa.update(JOBS).values(body=secret, reason=None))
    assert secret not in "".join(traceback.format_exception(raised.value))


def test_more_rows_than_one_statement_has_parameters(store: Store) -> None:
    with store.transaction() as transaction:
        for number in range(3000):  # of 45 columns each, where 65,535 parameters are allowed
            job_id = f"{number:08}-0000-4000-8000-000000000000"
            transaction.insert_job(Job(job_id), {}, None)
    with store.reading() as queries:
        assert queries._connection.execute(sa.select(sa.func.count()).select_from(JOBS)).scalar() == 3000


def test_numbers_do_not_run_out(store: Store) -> None:
    with store.transaction() as transaction:
        for table, column in (("jobs", "number"), ("history", "id"), ("effects", "id"), ("logs", "id")):
            name = f"{table}_{column}_seq"
            transaction._connection.execute(sa.text(f"ALTER SEQUENCE {name} RESTART WITH {2**40}"))
    insert(store, Job(A))
    with store.reading() as queries:
        assert queries.jobs()[0].number == 2**40
    with store.transaction() as transaction:
        for table, column in (("jobs", "number"), ("history", "id"), ("effects", "id"), ("logs", "id")):
            transaction._connection.execute(sa.text(f"ALTER SEQUENCE {table}_{column}_seq RESTART"))


def test_every_text_is_in_the_order_of_its_bytes(store: Store) -> None:
    query = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type IN ('text', 'character varying')
          AND collation_name IS DISTINCT FROM 'C' AND table_name <> 'alembic_version'
    """
    with store.reading() as queries:
        assert queries._connection.execute(sa.text(query)).all() == []
        order = queries._connection.execute(sa.text("SELECT 'a' < 'B'"))  # what the database itself would say
        assert order.scalar() is True


def test_ids_are_found_by_their_beginning_through_the_index(store: Store) -> None:
    with store.reading() as queries:
        queries._connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        query = "EXPLAIN SELECT id FROM jobs WHERE id LIKE 'aaaa%'"
        plan = "\n".join(queries._connection.exec_driver_sql(query.replace("%", "%%")).scalars())
    assert "Index Cond: ((id >= 'aaaa'" in plan.replace("(id)::text", "id").replace("(((id", "((id")


def test_names_fit_their_columns() -> None:
    lengths = {
        JOBS.c.state: get_args(State),
        JOBS.c.outcome: get_args(Outcome),
        HISTORY.c.event: [event.name for event in EVENTS],
        EFFECTS.c.kind: get_args(EffectKind),
        FACTS.c.name: [value for name, value in vars(facts).items() if name.endswith("_FACT")],
    }
    for column, names in lengths.items():
        assert names and max(map(len, names)) <= column.type.length, column  # type: ignore[attr-defined]


# errors


@pytest.fixture
def server() -> postgres.Server:
    return postgres.shared(session_directory())


Change = Callable[[sa.URL], sa.URL]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda url: url.set(password="wrong"), "password authentication failed for user"),
        (lambda url: url.set(username="nobody"), "password authentication failed for user"),
        (lambda url: url.set(database="absent"), 'database "absent" does not exist (create it: docs/post'),
        (lambda url: url.update_query_dict({"sslmode": "require"}), "does not support SSL, but SSL was req"),
        (lambda url: url.update_query_dict({"sslmode": "wrong"}), 'invalid sslmode value: "wrong" (correct'),
    ],
)
def test_what_waiting_does_not_change_ends_with_exit_code_2(
    postgres_url: str, change: Change, expected: str
) -> None:
    url = change(sa.make_url(postgres_url))
    error = refused(url)
    assert isinstance(error, StoreForbidden) and error.exit_code == 2
    assert expected in str(error)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda url: url.set(port=1), "port 1 failed: Connection refused (is it running, is its address"),
        (lambda url: url.set(host="absent.invalid"), "failed to resolve host 'absent.invalid'"),
        (
            lambda url: url.set(host="", port=None, query={"host": ("127.0.0.1:1", "127.0.0.1:2")}),
            "database 'DATABASE' at 127.0.0.1:1 or 127.0.0.1:2, account OWNER: ",
        ),
    ],
)
def test_a_server_that_cannot_be_reached_is_an_outage(
    postgres_url: str, change: Change, expected: str
) -> None:
    url = change(sa.make_url(postgres_url))
    error = refused(url)
    assert isinstance(error, StoreOutage) and error.exit_code == 1
    assert expected.replace("DATABASE", url.database or "").replace("OWNER", postgres.OWNER) in str(error)


def refused(url: sa.URL) -> LandoError:
    """What opening it says, in one line and without the password."""
    with pytest.raises(LandoError) as raised:
        Store(url.render_as_string(hide_password=False))
    text = str(raised.value)
    assert "\n" not in text and "FATAL" not in text
    assert text.startswith(f"database {url.database!r} at ")
    assert url.password is None or str(url.password) not in text
    return raised.value


@pytest.fixture
def stranger(server: postgres.Server, postgres_database: Database) -> Iterator[str]:
    """The URL of an account that may log in to a database with our schema, and nothing else."""
    server.execute("CREATE ROLE stranger LOGIN PASSWORD 'hunter2'")
    url = sa.make_url(postgres_database.url).set(username="stranger", password="hunter2")
    yield url.render_as_string(hide_password=False)
    server.execute(f"DROP DATABASE {postgres_database.name} WITH (FORCE)", "DROP ROLE stranger")


def test_an_account_without_rights(stranger: str, postgres_database: Database) -> None:
    assert "permission denied for table alembic_version (the account needs more rights: " in str(
        refused(sa.make_url(stranger))
    )
    postgres_database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO stranger")
    with closing(Store(stranger)) as store:
        with store.reading() as queries:
            assert queries.jobs() == []
        with pytest.raises(StoreForbidden, match="permission denied for table jobs"):
            insert(store, Job(A))
    postgres_database.execute(
        "DROP TABLE alembic_version", f"REVOKE CONNECT ON DATABASE {postgres_database.name} FROM public"
    )
    assert "permission denied for database" in str(refused(sa.make_url(stranger)))


def test_a_schema_of_somebody_else(server: postgres.Server) -> None:
    empty = server.create(migrated=False)
    try:
        empty.execute("ALTER DATABASE " + empty.name + " OWNER TO postgres", "CREATE TABLE jobs (what text)")
        assert "permission denied for schema public" in str(refused(sa.make_url(empty.url)))
        empty.execute(f"GRANT ALL ON SCHEMA public TO {postgres.OWNER}")
        assert "tables that lando-fsm did not make; give it a database of its own" in str(
            refused(sa.make_url(empty.url))
        )
        empty.execute(
            "CREATE TABLE alembic_version (version_num text)",
            f"GRANT ALL ON alembic_version TO {postgres.OWNER}",
        )
        empty.execute("INSERT INTO alembic_version VALUES ('ae1027a6acf')")
        assert "another program's (alembic_version 'ae1027a6acf')" in str(refused(sa.make_url(empty.url)))
        lost = sa.make_url(empty.url).update_query_dict({"options": "-csearch_path=absent"})
        assert "no schema has been selected to create in" in str(refused(lost))
    finally:
        empty.remove()


def test_a_missing_table_is_nothing_to_go_on_with(postgres_database: Database) -> None:
    with closing(Store(postgres_database.url)) as store:
        postgres_database.execute("DROP TABLE consoles")
        with (
            pytest.raises(StoreUnusable, match="a table of lando-fsm is missing"),
            store.reading() as queries,
        ):
            queries.console(A)


def test_a_session_that_was_ended_is_an_outage_and_the_next_one_works(
    store: Store, postgres_url: str
) -> None:
    other = psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True)
    with pytest.raises(StoreOutage, match="terminating connection"), store.transaction() as transaction:
        pid = transaction._connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
        other.execute(f"SELECT pg_terminate_backend({pid}, 10000)")
        transaction.set_fact("lost", 1)
    other.close()
    insert(store, Job(A))


def test_a_statement_that_takes_too_long_is_an_outage(store: Store) -> None:
    short = "statement_timeout of the server is short"
    with pytest.raises(StoreOutage, match=short), store.transaction() as transaction:
        transaction._connection.execute(sa.text("SET LOCAL statement_timeout = 10"))
        transaction._connection.execute(sa.text("SELECT pg_sleep(10)"))


def test_all_connections_in_use(store: Store, server: postgres.Server, postgres_database: Database) -> None:
    server.execute("CREATE ROLE busy LOGIN PASSWORD 'hunter2' CONNECTION LIMIT 0")
    url = sa.make_url(postgres_database.url).set(username="busy", password="hunter2")
    error = refused(url)
    server.execute("DROP ROLE busy")
    assert isinstance(error, StoreOutage)
    assert 'too many connections for role "busy" (more connections must be allowed: ' in str(error)


def test_a_server_that_is_read_only_stops_and_restarts(private_postgres: Postgres) -> None:
    server = private_postgres.server()
    server.prepare()
    here = server.create()
    url = sa.make_url(here.url)
    with closing(Store(here.url)) as store:
        server.execute(f"ALTER DATABASE {here.name} SET default_transaction_read_only = on")
        store._engine.dispose()
        with pytest.raises(
            StoreForbidden, match=r"read-only transaction .*name the primary in database\.url"
        ):
            insert(store, Job(A))
        one = url.update_query_dict({"target_session_attrs": "read-write"})
        error = refused(one)
        assert isinstance(error, StoreForbidden) and "session is read-only" in str(error)
        hosts = (f"127.0.0.1:{url.port}", "127.0.0.1:1")
        both = one.set(host="", port=None).update_query_dict({"host": hosts})
        error = refused(both.set(port=None))
        assert isinstance(error, StoreOutage), "another one may become the primary"
        server.execute(f"ALTER DATABASE {here.name} RESET default_transaction_read_only")
        private_postgres.stop()
        with pytest.raises(StoreOutage):
            insert(store, Job(A))
        private_postgres.start()
        insert(store, Job(A))
        private_postgres.kill()
        with pytest.raises(StoreOutage):
            insert(store, Job(B))
        private_postgres.start()
        insert(store, Job(B))


def test_an_old_server_and_a_narrow_encoding_are_refused(
    server: postgres.Server, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    name = "lando_test_latin1"
    server.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc"
    )
    error = refused(sa.make_url(postgres_url).set(database=name))
    server.execute(f"DROP DATABASE {name}")
    assert isinstance(error, UsageError) and "its encoding is LATIN1" in str(error)
    monkeypatch.setattr(opening, "OLDEST", 99)
    error = refused(sa.make_url(postgres_url))
    assert isinstance(error, UsageError) and "lando-fsm needs 99 or newer" in str(error)


# texts


def test_texts_that_postgres_would_refuse_are_stored(store: Store) -> None:
    insert(store, Job(A, reason="a\0b", log_tail="\ud800c", server_name="d\0"))
    with store.transaction() as transaction:
        transaction.save_console(A, 1, "\0boot\0\udc80")
        transaction.append_log(A, 1, [1], "e\0f")
        assert transaction.next_queued(0.0, ["\0"], ["\ud800"]) is not None
        job = transaction.job(A)
        assert job and (job.reason, job.log_tail, job.server_name) == ("a�b", "�c", "d�")
    with store.reading() as queries:
        assert queries.console(A) == (1, "�boot��")
        assert queries.log(A) == [(1, 1, "e�f")]


# the documentation


def test_the_commands_of_the_documentation_make_what_is_needed(private_postgres: Postgres) -> None:
    page = (Path(__file__).parents[3] / "docs" / "postgresql.md").read_text()
    create, shared, reader = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)

    def run(block: str, database: str = "postgres") -> None:
        private_postgres.execute(*(part for part in block.split(";") if part.strip()), database=database)

    run(create)
    with closing(Store(private_postgres.url("lando", "lando", "CHANGE-ME"))) as store:
        insert(store, Job(A))
    run(shared, "lando")
    with closing(Store(private_postgres.url("lando", "lando_shared", "CHANGE-ME"))) as store:
        insert(store, Job(B))
        with store.reading() as queries:
            assert [view.job.id for view in queries.jobs()] == [B]
    run(reader, "lando")
    with closing(Store(private_postgres.url("lando", "lando_reader", "CHANGE-ME"))) as store:
        with store.reading() as queries:
            assert [view.job.id for view in queries.jobs()] == [A]
        with pytest.raises(StoreForbidden, match="permission denied"):
            insert(store, Job(B))
