"""The session in which a daemon writes to PostgreSQL: one daemon per database, and what becomes of others."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from lando.state_dir import DaemonRunning
from lando.store import daemon_session
from lando.store.answer_watch import AnswerWatch
from lando.store.daemon_session import DaemonSession, PlaceTaken
from lando.store.database import StoreOutage, StoreUnusable
from lando.store.seen_server import Identity, SeenServer, file_in
from tests.support.postgres_proxy import PostgresProxy
from tests.support.postgres_server import Database

Sessions = Callable[..., DaemonSession]


@pytest.fixture
def proxy(postgres_database: Database) -> Iterator[PostgresProxy]:
    here = PostgresProxy(sa.make_url(postgres_database.url).port or 5432)
    yield here
    here.close()


@pytest.fixture
def sessions(tmp_path: Path, postgres_database: Database) -> Iterator[Sessions]:
    """Makes sessions of daemons, each with a state directory of its own unless it is named."""
    with contextlib.ExitStack() as made:

        def make(name: str, port: int | None = None) -> DaemonSession:
            state = tmp_path / name
            state.mkdir(exist_ok=True)
            address = sa.make_url(postgres_database.url)
            session = DaemonSession(address if port is None else address.set(port=port), state)
            made.callback(session.close)
            return session

        yield make


def backend(session: DaemonSession) -> int:
    with session.transaction() as connection:
        return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def owner(database: Database) -> str:
    return str(sa.make_url(database.url).username)


def test_a_second_daemon_is_told_who_holds_the_lock(sessions: Sessions) -> None:
    first = sessions("a")
    first.open()
    with pytest.raises(DaemonRunning) as refused:
        sessions("b").open()
    assert f"pid {os.getpid()} on " in str(refused.value)
    assert "from 127.0.0.1 since 20" in str(refused.value)
    assert "not-a-secret" not in str(refused.value)
    first.close()
    sessions("c").open()


def test_all_that_is_written_is_written_in_the_session_that_holds_the_lock(
    sessions: Sessions, postgres_database: Database
) -> None:
    session = sessions("a")
    held = (
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        f" AND database = (SELECT oid FROM pg_database WHERE datname = '{postgres_database.name}')"
    )
    with session.transaction() as connection:
        writing = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        assert postgres_database.execute(held) == [(writing,)]


def test_a_transaction_asks_nothing_but_its_own_statements(sessions: Sessions, proxy: PostgresProxy) -> None:
    session = sessions("a", proxy.port)
    session.open()
    for _ in range(2):
        with session.transaction() as connection:
            connection.exec_driver_sql("SELECT 42")
    assert proxy.commits[-1].count(b"SELECT") == 1
    assert proxy.accepted == 1


def test_a_copy_of_the_state_directory_does_not_end_the_daemon(sessions: Sessions, tmp_path: Path) -> None:
    first = sessions("a")
    first.open()
    shutil.copytree(tmp_path / "a", tmp_path / "copy", dirs_exist_ok=True)
    with pytest.raises(DaemonRunning, match="a daemon runs for this database already"):
        sessions("copy").open()
    first.open()


def test_after_a_cut_of_the_network_the_daemon_ends_its_own_session(
    sessions: Sessions, proxy: PostgresProxy
) -> None:
    session = sessions("a", proxy.port)
    before = backend(session)
    proxy.is_held = True  # PostgreSQL's end stays open
    proxy.cut()
    with pytest.raises(StoreOutage):
        backend(session)
    proxy.is_held = False
    assert backend(session) != before


def test_a_daemon_that_was_killed_does_not_keep_the_next_one_of_its_state_directory_away(
    sessions: Sessions,
) -> None:
    """Its session may live on at the server for half a minute, if its machine was lost."""
    killed = sessions("a")
    before = backend(killed)
    next_one = sessions("a")
    assert backend(next_one) != before
    with pytest.raises(StoreOutage):
        backend(killed)


def test_a_daemon_whose_place_was_taken_meanwhile_ends(
    sessions: Sessions, postgres_database: Database
) -> None:
    first, second = sessions("a"), sessions("b")
    postgres_database.execute(f"SELECT pg_terminate_backend({backend(first)}, 5000)")
    second.open()
    with pytest.raises(StoreOutage):
        backend(first)
    with pytest.raises(PlaceTaken, match=r"another daemon has taken over while this one was .*: pid \d+ on "):
        backend(first)
    assert PlaceTaken.exit_code == 2
    backend(second)


def test_other_schemas_of_a_database_are_of_other_daemons(
    sessions: Sessions, postgres_database: Database
) -> None:
    sessions("a").open()
    postgres_database.execute(
        f"ALTER DATABASE {postgres_database.name} SET search_path = other",
        f"CREATE SCHEMA other AUTHORIZATION {owner(postgres_database)}",
    )
    sessions("b").open()


def test_a_holder_of_another_account_is_told_as_far_as_it_may_be_seen(
    sessions: Sessions, postgres_database: Database
) -> None:
    with psycopg.connect(_administrators(postgres_database), autocommit=True) as other:
        other.execute(daemon_session.TRY_LOCK)
        with pytest.raises(DaemonRunning, match=r"a session of postgres, connected, backend \d+"):
            sessions("a").open()


def test_while_the_daemon_runs_a_server_that_refuses_its_account_is_an_outage(
    sessions: Sessions, postgres_database: Database
) -> None:
    session = sessions("a")
    held = backend(session)
    name = postgres_database.name
    postgres_database.execute(
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC, {owner(postgres_database)}",
        f"SELECT pg_terminate_backend({held}, 5000)",
    )
    for _ in range(2):
        with pytest.raises(StoreOutage):
            backend(session)
    postgres_database.execute(f"GRANT CONNECT ON DATABASE {name} TO {owner(postgres_database)}")
    backend(session)


def test_a_server_that_does_not_answer_is_given_up(
    sessions: Sessions,
    proxy: PostgresProxy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(daemon_session, "AnswerWatch", lambda where: AnswerWatch(where, limit=0.4))
    session = sessions("a", proxy.port)
    backend(session)
    proxy.is_held = True
    with pytest.raises(StoreOutage, match="the server did not answer"):
        backend(session)
    assert "the database server has not answered for" in caplog.text
    proxy.is_held = False
    backend(session)


def test_a_daemon_that_is_stopped_keeps_no_other_one_away(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(daemon_session.SETTINGS, "idle_session_timeout", "100ms")
    stopped = sessions("a")
    stopped.open()
    monkeypatch.undo()
    sessions("b").open()
    with pytest.raises(StoreOutage):
        backend(stopped)
    with pytest.raises(PlaceTaken):
        backend(stopped)


# which server it is


def test_a_server_of_an_older_timeline_is_refused(tmp_path: Path, sessions: Sessions) -> None:
    session = sessions("a")
    session.open()
    seen = session.history
    assert seen.system and seen.timeline
    session.close()
    SeenServer(file_in(tmp_path / "a"), session.where).note(Identity(seen.system, seen.timeline + 1))
    with pytest.raises(StoreOutage, match=rf"has timeline {seen.timeline}, older than {seen.timeline + 1}"):
        sessions("a").open()
    file_in(tmp_path / "a").unlink()
    sessions("a").open()


def test_a_server_of_another_cluster_ends_a_daemon_that_runs_and_warns_one_that_starts(
    tmp_path: Path, sessions: Sessions, postgres_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    running = sessions("a")
    held = backend(running)
    running._seen.note(Identity("1234", 1))
    postgres_database.execute(f"SELECT pg_terminate_backend({held}, 5000)")
    with pytest.raises(StoreOutage):
        backend(running)
    with pytest.raises(StoreUnusable, match="is of another cluster"):
        backend(running)
    assert caplog.text == ""
    sessions("a").open()
    assert "is of another cluster" in caplog.text


def test_what_is_remembered_of_one_database_does_not_count_for_another(tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    SeenServer(file, "one").note(Identity("1", 7))
    SeenServer(file, "one").add_session("s")
    assert SeenServer(file, "one").identity == Identity("1", 7)
    other = SeenServer(file, "other")
    assert other.identity == Identity() and other.sessions == ("s",)
    file.write_text("[")
    assert SeenServer(file, "one").identity == Identity()


def test_the_other_hosts_are_tried_before_one_that_was_refused(sessions: Sessions) -> None:
    session = sessions("a")
    session._server._refused = "one", "5432"
    named = {"host": "one,two,three", "port": "5432,5433,5432"}
    session._server._order_hosts(None, None, None, named)
    assert (named["host"], named["port"]) == ("two,three,one", "5433,5432,5432")


def _administrators(database: Database) -> str:
    address = database.server._administrator.set(drivername="postgresql", database=database.name)
    return address.render_as_string(hide_password=False)
