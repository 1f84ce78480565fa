"""A database is copied to a real PostgreSQL: exactly, and whatever interrupts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lando.app.moving import refuse_left_database
from lando.errors import UsageError
from lando.state_dir import DaemonLock
from lando.store.copying.rows import CopiedTable
from lando.store.copying.target import Target
from lando.store.store import Store
from lando.store.tables import METADATA
from tests.conftest import Commands, Said
from tests.support import postgres_server as postgres
from tests.support.local_site import CONFIG, Gate, LocalSite, migrated_database, wait_for, workflow
from tests.support.many_jobs import fill
from tests.support.postgres_server import Database
from tests.support.rabbitmq_server import VirtualHost
from tests.support.rabbitmq_site import BrokerSite

BROKER = """
work_queue:
  host: 127.0.0.1
  port: 1
  username: lando
  password: secret
  worker_username: worker
  worker_password: secret
cloud: local
"""
"""RabbitMQ, which a copy does not ask: what waits there stays there."""


@pytest.fixture
def empty(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database as CREATE DATABASE makes it."""
    if not os.environ.get(postgres.URL):
        postgres.require_server()
    here = postgres.shared(Path(os.environ["LANDO_TEST_SESSION"])).create(migrated=False)
    yield here
    here.remove()


@pytest.fixture
def here(tmp_path: Path, command: Commands) -> Path:
    """The file of a migrated database without jobs, of a deployment with RabbitMQ."""
    (tmp_path / "landoconfig.yml").write_text(CONFIG.format(max_workers=2) + BROKER)
    (tmp_path / "landoconfig.yml").chmod(0o600)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    database = state / "lando.db"
    database.touch(mode=0o600)
    database.write_bytes(migrated_database())
    return database


@pytest.fixture
def site(here: Path, tmp_path: Path) -> Iterator[LocalSite]:
    """Commands in processes of their own, with the same configuration."""
    with contextlib.closing(LocalSite(tmp_path, config=CONFIG + BROKER)) as site:
        site.config.chmod(0o600)
        yield site


def execute(database: Path, *statements: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        return [row for statement in statements for row in connection.execute(statement).fetchall()]


def contents(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, but what each says about the copy itself."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        tables = {
            table.name: sorted(map(tuple, connection.execute(sa.select(table))), key=repr)
            for table in METADATA.sorted_tables
        }
    engine.dispose()
    return {**tables, "facts": [row for row in tables["facts"] if row[0] != "copy"]}


def assert_equal(database: Path, copy: Database) -> None:
    """Both have the same rows, all of them."""
    assert contents(copy.url) == contents(f"sqlite:///{database}")


def copied(said: Said) -> dict[str, Any]:
    assert said.code == 0, said
    found: dict[str, Any] = json.loads(said.out)
    return found


# the copy


def test_every_row_is_copied_and_compared(here: Path, command: Commands, empty: Database) -> None:
    fill(here, 2_000)
    found = copied(command("database", "copy", "--to", empty.url, "--json"))
    assert_equal(here, empty)
    rows = {table["name"]: table["rows"] for table in found["tables"]}
    assert (rows["jobs"], rows["history"], rows["facts"]) == (2_000, 6_000, 2)
    assert (found["was_complete"], found["resumed_rows"], found["restarted"], found["changes"]) == (
        False,
        0,
        False,
        [],
    )
    assert all(len(table["checksum"]) == 32 for table in found["tables"])
    assert empty.url.split("@")[0].rsplit(":", 1)[1] not in json.dumps(found)
    # The next rows get the next numbers.
    for table, column in (("jobs", "number"), ("effects", "id"), ("history", "id"), ("logs", "id")):
        highest = empty.execute(f"SELECT max({column}) FROM {table}")[0][0]
        assert empty.execute(f"SELECT nextval(pg_get_serial_sequence('{table}', '{column}'))") == [
            (highest + 1,)
        ]
    assert empty.execute("SELECT count(*) FROM pg_trigger WHERE tgenabled = 'D'") == [(0,)]


def test_a_hundred_thousand_jobs(
    here: Path, command: Commands, empty: Database, record_property: Any
) -> None:
    jobs = 100_000
    fill(here, jobs, history=1, logs=10)
    begun = time.monotonic()
    found = copied(command("database", "copy", "--to", empty.url, "--json"))
    rows = sum(table["rows"] for table in found["tables"])
    record_property("seen", f"{jobs:,} jobs, {rows:,} rows copied in {time.monotonic() - begun:.1f} s")
    assert empty.execute("SELECT count(*), sum(priority), min(number), max(number) FROM jobs") == execute(
        here, "SELECT count(*), sum(priority), min(number), max(number) FROM jobs"
    )
    assert empty.execute("SELECT count(*) FROM history") == [(jobs,)]


def test_numbers_are_not_used_again(here: Path, command: Commands, empty: Database) -> None:
    fill(here, 30)
    for table in ("history", "logs", "log_totals", "effects", "consoles"):
        execute(here, f"DELETE FROM {table}")
    execute(here, "DELETE FROM jobs WHERE number > 20")
    copied(command("database", "copy", "--to", empty.url, "--json"))
    assert empty.execute("SELECT nextval(pg_get_serial_sequence('jobs', 'number'))") == [(31,)]


def test_the_result_for_people(here: Path, command: Commands, empty: Database) -> None:
    fill(here, 10)
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 0, said
    assert "60 rows" in said.out or "rows in" in said.out
    password = sa.make_url(empty.url).password
    assert password and password not in said.out + said.err
    assert ":***@" in said.out
    assert f"state_dir: {here.parent}" in said.out


# interruptions


def is_refused(url: str) -> bool:
    """Whether a daemon refuses the database, as it does at its start."""
    with contextlib.closing(Store(url)) as store:
        try:
            refuse_left_database(store, "here")
        except UsageError:
            return True
    return False


@pytest.mark.parametrize(
    ("point", "jobs"),
    [
        ("copy-begun", 100),
        ("copy-batch:1", 100),
        ("copy-batch:3", 5_500),
        ("copy-batch:9", 100),
        ("copy-verified", 100),
        ("copy-left", 100),
        ("copy-complete", 100),
    ],
)
def test_a_copy_that_was_killed_goes_on(
    here: Path, site: LocalSite, empty: Database, point: str, jobs: int
) -> None:
    fill(here, jobs)
    arguments = ("database", "copy", "--to", empty.url, "--json")
    killed = site.command(*arguments, check=False, LANDO_CRASH_AT=point)
    assert killed.returncode == -signal.SIGKILL
    is_left, is_complete = point in ("copy-left", "copy-complete"), point == "copy-complete"
    original = f"sqlite:///{here}"
    assert is_refused(original) == is_left, "the original may be used until it was left"
    assert is_refused(empty.url) != is_complete, "the copy may be used once it is complete"
    found = json.loads(site.command(*arguments).stdout)
    assert found["was_complete"] == is_complete
    assert (found["resumed_rows"] > 0) == (point not in ("copy-begun", "copy-complete")), found
    assert not found["restarted"]
    assert_equal(here, empty)
    assert is_refused(original) and not is_refused(empty.url)


CHANGES = {
    "a value": "UPDATE jobs SET state = 'failed' WHERE number = 8",
    "a row less": "DELETE FROM history WHERE id = 5",
    "a row more": "INSERT INTO facts (name, value) VALUES ('a', '1')",
    "a row more in the end": "INSERT INTO early_cancels (job_id, at) VALUES ('z', 1.0)",
}


@pytest.mark.parametrize("change", CHANGES)
def test_an_original_that_changed_meanwhile_is_copied_anew(
    here: Path, site: LocalSite, empty: Database, change: str
) -> None:
    fill(here, 100)
    arguments = ("database", "copy", "--to", empty.url, "--json")
    assert site.command(*arguments, check=False, LANDO_CRASH_AT="copy-verified").returncode == -signal.SIGKILL
    execute(here, CHANGES[change])
    found = json.loads(site.command(*arguments).stdout)
    assert found["restarted"] == (change != "a row more in the end")
    assert_equal(here, empty)


def test_what_is_written_during_the_copy_is_noticed(
    here: Path, command: Commands, empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here, 100)
    append = Target.append

    def change(self: Target, table: CopiedTable, rows: Any) -> None:
        append(self, table, rows)
        if table.name == "jobs":
            execute(here, "UPDATE jobs SET priority = 9 WHERE number = 7")

    monkeypatch.setattr(Target, "append", change)
    said = command("database", "copy", "--to", empty.url)
    assert (said.code, said.out) == (1, "")
    assert f"{here}: was written to while it was copied" in said.err
    assert not is_refused(f"sqlite:///{here}") and is_refused(empty.url)
    monkeypatch.undo()


def test_a_copy_that_somebody_writes_to_is_not_complete(
    here: Path, command: Commands, empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(here, 100)
    append = Target.append

    def change(self: Target, table: CopiedTable, rows: Any) -> None:
        append(self, table, rows)
        if table.name == "jobs":
            empty.execute("UPDATE jobs SET log_tail = 'x' WHERE number = 7")

    monkeypatch.setattr(Target, "append", change)
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 1 and "table jobs has 100 rows with checksum" in said.err
    assert not is_refused(f"sqlite:///{here}") and is_refused(empty.url)


def test_ctrl_c_says_how_to_go_on(here: Path, site: LocalSite, empty: Database) -> None:
    fill(here, 20_000)
    process = site.start("database", "copy", "--to", empty.url)
    wait_for(lambda: empty.execute("SELECT to_regclass('facts')") != [(None,)], "the schema")
    wait_for(lambda: empty.execute("SELECT count(*) FROM facts") != [(0,)], "the begin")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.wait(), out) == (130, "")
    assert "the copy is incomplete; run the same command again" in err and "Traceback" not in err


# what is refused


def test_a_target_that_is_not_empty_is_refused(here: Path, command: Commands, empty: Database) -> None:
    empty.execute("CREATE TABLE others (id integer)", "CREATE VIEW seen AS SELECT 1 AS one")
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 2 and "is not empty (others, seen)" in said.err
    assert empty.execute("SELECT to_regclass('jobs')") == [(None,)]
    assert execute(here, "SELECT count(*) FROM facts WHERE name = 'copy'") == [(0,)]


def test_a_target_that_was_used_is_refused(
    here: Path, command: Commands, postgres_database: Database
) -> None:
    with contextlib.closing(Store(postgres_database.url)) as store, store.transaction() as transaction:
        transaction.set_fact("deployment", "another")
    said = command("database", "copy", "--to", postgres_database.url)
    assert said.code == 2 and "is not empty (facts: 1 rows)" in said.err


def test_a_target_with_the_schema_and_no_rows_is_empty(
    here: Path, command: Commands, postgres_database: Database
) -> None:
    fill(here, 10)
    copied(command("database", "copy", "--to", postgres_database.url, "--json"))
    assert_equal(here, postgres_database)


def test_a_second_copy_is_refused_and_the_first_is_found(
    here: Path, command: Commands, empty: Database, postgres_database: Database
) -> None:
    fill(here, 10)
    copied(command("database", "copy", "--to", empty.url, "--json"))
    said = command("database", "copy", "--to", postgres_database.url)
    assert said.code == 2 and "was copied to" in said.err and "lando-fsm database reopen" in said.err
    assert copied(command("database", "copy", "--to", empty.url, "--json"))["was_complete"]
    # Another database with the same configuration.
    here.unlink()
    here.write_bytes(migrated_database())
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 2 and f"is a copy of another database ({here})" in said.err


def test_a_daemon_of_the_original_is_named(here: Path, command: Commands, empty: Database) -> None:
    held = DaemonLock(here.with_name("daemon.lock"))
    said = command("database", "copy", "--to", empty.url)
    held.release()
    assert said.code == 2 and f"a daemon runs here already (pid {os.getpid()})" in said.err
    assert empty.execute("SELECT to_regclass('facts')") == [(None,)]


def test_a_daemon_of_the_copy_is_noticed(here: Path, command: Commands, empty: Database) -> None:
    with contextlib.closing(Target(empty.url)) as target:
        target.hold()
        said = command("database", "copy", "--to", empty.url)
    assert said.code == 2 and "a daemon, or another copy, uses it" in said.err
    copied(command("database", "copy", "--to", empty.url, "--json"))


def test_addresses_that_are_wrong(here: Path, command: Commands, empty: Database) -> None:
    address = sa.make_url(empty.url)

    def refused(url: str | sa.URL, code: int = 2) -> str:
        text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
        said = command("database", "copy", "--to", text)
        assert (said.code, said.out) == (code, ""), said
        assert "Traceback" not in said.err and "wrong-password" not in said.err
        return said.err

    assert "password authentication failed" in refused(address.set(password="wrong-password"))
    assert "does not exist" in refused(address.set(database="not_there"))
    refused(address.set(port=1), code=1)
    assert "expected postgresql+psycopg://" in refused("sqlite:////tmp/x.db")
    assert "write postgresql+psycopg://" in refused(f"postgresql://lando:wrong-password@{address.host}/x")
    assert execute(here, "SELECT count(*) FROM facts WHERE name = 'copy'") == [(0,)]


def test_an_account_that_may_not_create_tables(here: Path, command: Commands, empty: Database) -> None:
    empty.execute(
        f"ALTER DATABASE {empty.name} OWNER TO CURRENT_USER", "REVOKE CREATE ON SCHEMA public FROM public"
    )
    said = command("database", "copy", "--to", empty.url)
    assert (
        said.code == 2 and "permission denied for schema public" in said.err and "Traceback" not in said.err
    )


def test_there_is_nothing_to_copy(here: Path, command: Commands, empty: Database) -> None:
    here.unlink()
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 2 and "there is nothing to copy" in said.err
    assert not here.exists()


def test_a_damaged_original_is_refused(here: Path, command: Commands, empty: Database) -> None:
    fill(here, 500)
    with here.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(os.urandom(30 * 4096))
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 2 and "the file is damaged" in said.err
    assert empty.execute("SELECT to_regclass('facts')") == [(None,)]


# values that PostgreSQL cannot store


def test_values_that_postgresql_cannot_store_are_replaced_and_named(
    here: Path, command: Commands, empty: Database
) -> None:
    fill(here, 400)
    execute(
        here,
        "UPDATE jobs SET log_tail = 'a' || char(0) || 'b' WHERE number = 3",
        "UPDATE logs SET text = CAST(x'61eda080' AS TEXT) WHERE id = 4",
        "UPDATE jobs SET exit_code = 5000000000 WHERE number = 5",
        "UPDATE jobs SET runnable = 2 WHERE number = 6",
        "UPDATE jobs SET log_tail = '😀' WHERE number = 7",
        "PRAGMA foreign_keys = OFF",
        "DELETE FROM jobs WHERE number = 9",
    )
    found = copied(command("database", "copy", "--to", empty.url, "--json"))
    changes = {(each["table"], each["key"], each["column"]): each["what"] for each in found["changes"]}
    assert changes == {
        ("jobs", "number 3", "log_tail"): "1 characters that PostgreSQL cannot store are replaced by U+FFFD",
        ("jobs", "number 5", "exit_code"): "5000000000 is stored as 2147483647, the nearest that PostgreSQL "
        "can store there",
        ("jobs", "number 6", "runnable"): "2 is taken as true",
        ("logs", "id 4", "text"): "3 characters that PostgreSQL cannot store are replaced by U+FFFD",
    }
    assert {table["name"]: table["left_out"] for table in found["tables"] if table["left_out"]} == {
        "history": 3,
        "logs": 1,
        "log_totals": 1,
    }
    assert empty.execute("SELECT log_tail FROM jobs WHERE number IN (3, 7) ORDER BY number") == [
        ("a\ufffdb",),
        ("😀",),
    ]
    assert empty.execute("SELECT exit_code FROM jobs WHERE number = 5") == [(2**31 - 1,)]
    # Without --json they are named, too.
    assert command("database", "reopen", "--copy", empty.url).code == 0
    said = command("database", "copy", "--to", empty.url)
    assert "jobs, number 5: exit_code: 5000000000 is stored as 2147483647" in said.err
    assert "history: left out 3 rows of jobs that are not there" in said.err


UNSTORABLE = {
    "UPDATE early_cancels SET job_id = 'a' || char(0)": "table early_cancels, job_id",
    "UPDATE jobs SET outcome = 'that is longer than sixteen' WHERE number = 2": "table jobs, number 2: "
    "column outcome has 27 characters where 16 fit",
    "UPDATE jobs SET priority = 'high' WHERE number = 2": "number 2: column priority holds 'high'",
    "UPDATE consoles SET attempt = 3000000000": "attempt 3000000000: column attempt holds '3000000000'",
}


@pytest.mark.parametrize("statement", UNSTORABLE)
def test_a_row_that_cannot_be_stored_is_named(
    here: Path, command: Commands, empty: Database, statement: str
) -> None:
    fill(here, 10)
    execute(here, statement)
    said = command("database", "copy", "--to", empty.url)
    assert (said.code, said.out) == (1, "")
    assert UNSTORABLE[statement] in said.err and "correct or remove it with sqlite3" in said.err
    assert not is_refused(f"sqlite:///{here}")


# the embedded queue


def test_messages_of_the_embedded_queue_are_not_lost(
    tmp_path: Path, here: Path, command: Commands, empty: Database
) -> None:
    (tmp_path / "landoconfig.yml").write_text(CONFIG.format(max_workers=2))
    job = workflow(tmp_path, "true")
    assert command("submit", job).code == 0
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 2 and "1 messages wait in the embedded queue" in said.err
    execute(here, "DELETE FROM queue_messages")
    fill(here, 10)
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 2 and "2 jobs have VMs, whose workers report to the embedded queue" in said.err
    execute(here, "DELETE FROM effects", "UPDATE jobs SET state = 'done' WHERE state <> 'queued'")
    said = command("database", "copy", "--to", empty.url)
    assert said.code == 0 and "work_queue:" in said.out
    said = command("submit", job)
    assert said.code == 2 and "this queue is closed: its database was copied to" in said.err
    assert execute(here, "SELECT count(*) FROM queue_messages") == [(0,)]
    said = command("database", "reopen", "--copy", empty.url)
    assert said.code == 0, said
    assert command("submit", job).code == 0


# afterwards


def test_a_daemon_refuses_what_it_may_not_use(here: Path, site: LocalSite, empty: Database) -> None:
    fill(here, 10)
    url = f"database:\n  url: {empty.url}\n"
    arguments = ("database", "copy", "--to", empty.url)
    original, copy = site.config.read_text(), site.config.with_name("copy.yml")
    copy.write_text(original + url)
    copy.chmod(0o600)
    assert site.command(*arguments, check=False, LANDO_CRASH_AT="copy-batch:3").returncode == -signal.SIGKILL
    said = site.command("-c", copy, "daemon", check=False)
    assert said.returncode == 2 and f"is an incomplete copy of {here}" in said.stderr
    site.command(*arguments)
    for refused in (("daemon",), ("servers", "--sweep"), ("servers", "--dry-run")):
        said = site.command(*refused, check=False)
        assert said.returncode == 2 and f"{here}: was copied to database" in said.stderr, said
    checked = site.command("check", check=False)
    assert checked.returncode == 1 and f"{here}: was copied to database" in checked.stdout


def test_back_to_the_original(here: Path, command: Commands, empty: Database) -> None:
    fill(here, 10)
    original = f"sqlite:///{here}"
    assert command("database", "reopen", "--copy", empty.url).code == 2
    copied(command("database", "copy", "--to", empty.url, "--json"))
    for wrong in ((), ("--copy", empty.url, "--copy-is-gone")):
        assert command("database", "reopen", *wrong).code == 2
    said = command("database", "reopen", "--copy", empty.url)
    assert said.code == 0 and f"{here} is in use again" in said.err
    assert not is_refused(original) and is_refused(empty.url)
    execute(here, "UPDATE jobs SET priority = 9")
    assert copied(command("database", "copy", "--to", empty.url, "--json"))["restarted"]
    assert_equal(here, empty)
    empty.execute("""INSERT INTO facts VALUES ('daemon', '{"pid": 1}')""")
    said = command("database", "reopen", "--copy", empty.url)
    assert said.code == 2 and "a daemon has used it" in said.err
    assert is_refused(original) and not is_refused(empty.url)
    assert command("database", "reopen", "--copy-is-gone").code == 0
    assert not is_refused(original)


def ended(site: LocalSite, *jobs: str) -> list[dict[str, Any]]:
    """All of these jobs, once all have ended; as ``status`` says."""
    said = site.command("status", "--json", *jobs, check=False)
    found: list[dict[str, Any]] = json.loads(said.stdout) if said.returncode == 0 else []
    is_over = len(found) == len(jobs) and all(job["state"] in ("done", "failed") for job in found)
    return found if is_over else []


def test_a_daemon_goes_on_with_the_copy(
    tmp_path: Path, least_privilege: VirtualHost, empty: Database, gate: Gate
) -> None:
    with contextlib.closing(BrokerSite(tmp_path / "site", least_privilege)) as site:
        daemon = site.start_daemon()
        done = site.queue_job(workflow(site.root, "true", "done"))
        assert site.wait(done, "done", "failed")["state"] == "done"
        running = site.queue_job(workflow(site.root, gate.script, "running"))
        gate.wait_for_arrivals()
        site.wait(running, "running")
        daemon.terminate()
        assert daemon.wait(20) == 0
        waiting = site.queue_job(workflow(site.root, "true", "waiting"))
        said = site.command("database", "copy", "--to", empty.url)
        assert "stays the state directory" in said.stdout
        with site.config.open("a") as config:
            config.write(f"\ndatabase:\n  url: {empty.url}\nstate_dir: {site.state}\n")
        gate.let_through()
        site.start_daemon()
        found = wait_for(lambda: ended(site, done, running, waiting), "all jobs to end")
        assert {job["state"] for job in found} == {"done"}, site.daemon_log()
        assert [job["attempt"] for job in found] == [1, 1, 1]
        site.nothing_is_left()
