"""The PostgreSQL that the other tests use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support import postgres_server as postgres
from tests.support.local_site import wait_for
from tests.support.postgres_guard import processes
from tests.support.postgres_server import Database, Postgres

CHECKOUT = Path(__file__).parents[2]


def test_a_database_has_the_schema_and_is_its_owners_own(postgres_database: Database) -> None:
    url = postgres_database.url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        connection.execute("CREATE TABLE more (id integer)")
    empty = postgres_database.server.create(migrated=False)
    assert empty.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    empty.remove()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        empty.execute("SELECT 1")


@pytest.mark.parametrize("end", ["stop", "stop_at_once", "kill"])
def test_what_was_committed_outlives_every_end(private_postgres: Postgres, end: str) -> None:
    private_postgres.execute("CREATE TABLE kept (id integer)", "INSERT INTO kept VALUES (7)")
    if end == "kill":
        private_postgres.kill()
    else:
        private_postgres.stop("fast" if end == "stop" else "immediate")
    assert not private_postgres.processes() and not private_postgres.is_up()
    private_postgres.start()
    assert private_postgres.execute("SELECT id FROM kept") == [(7,)]


def test_a_paused_server_does_not_answer_until_it_goes_on(private_postgres: Postgres) -> None:
    private_postgres.pause()
    assert not private_postgres.is_up()
    private_postgres.resume()
    assert private_postgres.is_up()


def test_a_replica_follows_and_is_promoted(private_postgres: Postgres, tmp_path: Path) -> None:
    private_postgres.execute("CREATE TABLE kept (id integer)")
    replica = Postgres(tmp_path / "replica", copy_of=private_postgres)
    with replica.running():
        private_postgres.execute("INSERT INTO kept VALUES (7)")
        wait_for(lambda: replica.execute("SELECT id FROM kept") == [(7,)], "the row on the replica")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            replica.execute("INSERT INTO kept VALUES (8)")
        private_postgres.kill()
        replica.promote()
        replica.execute("INSERT INTO kept VALUES (8)")


def test_settings_are_the_servers(tmp_path: Path) -> None:
    postgres.require_server()
    with Postgres(tmp_path / "few", durable=True, settings="max_connections = 7\n").running() as here:
        assert here.execute("SHOW max_connections") == [("7",)]
        assert here.execute("SHOW fsync") == [("on",)]
        assert here.execute("SHOW listen_addresses") == [("127.0.0.1",)]


def test_a_server_ends_with_its_tests_even_when_they_are_killed(tmp_path: Path) -> None:
    postgres.require_server()
    script = (
        "import pathlib, sys, time\n"
        "from tests.support.postgres_server import Postgres\n"
        f"here = Postgres(pathlib.Path({str(tmp_path / 'postgres')!r}))\n"
        "here.start()\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", script], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None and owner.stdout.readline() == "up\n"
    here = Postgres(tmp_path / "postgres")
    assert here.processes()
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    wait_for(lambda: not processes(here.directory), "PostgreSQL to end")
    wait_for(lambda: not here.directory.exists(), "its files to be removed")


def test_without_a_server_tests_are_skipped_or_fail_where_one_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres, "program", lambda name: None)
    monkeypatch.delenv(postgres.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception):
        postgres.require_server()
    monkeypatch.setenv(postgres.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception):
        postgres.require_server()
