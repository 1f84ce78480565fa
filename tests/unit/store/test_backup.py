"""A backup is a whole, consistent, private copy, or there is none."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from lando.errors import LandoError, UsageError
from lando.sqlite.quick_check import quick_check
from lando.states.job import Job
from lando.store import backup, backup_files
from lando.store.store import Store
from lando.workqueue.embedded import EmbeddedPublisher, waiting
from tests.support import postgres_server as postgres

MAKE = """
import sys
from pathlib import Path
from lando.store import backup
backup.make(f"sqlite:///{sys.argv[1]}", Path(sys.argv[2]), keep=2)
"""


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    here = Store(url(database))
    yield here
    here.close()


@pytest.fixture
def database(sqlite_url: str) -> Path:
    return Path(sqlite_url.removeprefix("sqlite:///"))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir()
    return path


def url(database: Path) -> str:
    return f"sqlite:///{database}"


def jobs(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])


def test_it_is_a_single_private_file_with_what_the_log_and_the_embedded_queue_hold(
    store: Store, database: Path, directory: Path
) -> None:
    publisher = EmbeddedPublisher(database, "client", "ana")
    publisher.publish(b"{}")
    publisher.close()
    with store.transaction() as transaction:
        transaction.insert_job(Job("a"), {}, None)
    made = backup.make(url(database), directory)
    assert [*directory.iterdir()] == [made.path]
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert made.size == made.path.stat().st_size
    assert jobs(made.path) == 1
    assert len(waiting(made.path)) == 1
    Store(url(made.path)).close()


def test_the_newest_are_kept_and_other_files_are_not_touched(database: Path, directory: Path) -> None:
    mine = ("lando-20260101T000000Z.db", "lando-20260102T000000Z.db", "lando-20260103T000000Z.db")
    others = ("lando-20260101T000000Z.dump", "lando-x.db", "other-20260101T000000Z.db", "lando.db")
    for name in (*mine, *others):
        (directory / name).write_text("")
    made = backup.make(url(database), directory, keep=2)
    assert [path.name for path in made.removed] == [*mine[:2]]
    assert {path.name for path in directory.iterdir()} == {mine[2], *others, made.path.name}


def test_what_exists_is_never_replaced(database: Path, directory: Path) -> None:
    for target in (database, directory / "there.db"):
        target.touch()
        before = target.read_bytes()
        with pytest.raises(UsageError, match="exists; name a file that does not"):
            backup.make(url(database), target)
        assert target.read_bytes() == before
    (directory / "link.db").symlink_to(directory / "nowhere")
    with pytest.raises(UsageError, match="exists"):
        backup.make(url(database), directory / "link.db")
    with pytest.raises(UsageError, match="--keep needs one"):
        backup.make(url(database), directory / "new.db", keep=1)
    with pytest.raises(UsageError, match="no such directory; is its disk mounted"):
        backup.make(url(database), directory / "absent" / "new.db")


def test_without_a_database_there_is_nothing_to_back_up(tmp_path: Path, directory: Path) -> None:
    with pytest.raises(UsageError, match="no database yet"):
        backup.make(url(tmp_path / "absent.db"), directory)
    assert not (tmp_path / "absent.db").exists()
    assert [*directory.iterdir()] == []


def test_of_a_damaged_database_there_is_no_backup_and_the_older_ones_stay(
    store: Store, database: Path, directory: Path
) -> None:
    older = backup.make(url(database), directory / "lando-20260101T000000Z.db").path
    store.close()
    with database.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(8 * 4096))
    with pytest.raises(LandoError, match="damaged"):
        backup.make(url(database), directory, keep=1)
    assert [*directory.iterdir()] == [older]


def test_a_backup_that_was_killed_has_no_name_and_is_removed_by_the_next(
    store: Store, database: Path, directory: Path
) -> None:
    with store.transaction() as transaction:
        for number in range(200):
            transaction.insert_job(Job(f"job-{number}"), {"input": "x" * 100_000}, None)
    process = subprocess.Popen([sys.executable, "-c", MAKE, str(database), str(directory)])
    while not any(path.suffix == ".part" and path.stat().st_size for path in directory.iterdir()):
        assert process.poll() is None, "it was quicker than this test"
    process.kill()
    process.wait()
    assert all(".db.part" in path.name for path in directory.iterdir())
    made = backup.make(url(database), directory, keep=2)
    assert [*directory.iterdir()] == [made.path]
    assert quick_check(made.path) == (None, True)


def test_two_at_once_do_not_remove_each_others_files(database: Path, directory: Path) -> None:
    with backup_files.made_whole(directory / "lando-20260101T000000Z.db") as part:
        other = backup.make(url(database), directory, keep=1).path
        assert {*directory.iterdir()} == {part, other}
        with pytest.raises(LandoError, match="another process makes this backup"):
            backup.make(url(database), directory / "lando-20260101T000000Z.db")
    assert {path.name for path in directory.iterdir()} == {"lando-20260101T000000Z.db", other.name}


def test_a_backup_under_load_is_consistent(store: Store, database: Path, directory: Path) -> None:
    """Each transaction adds one job and its event: a backup has as many of one as of the other."""
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            with store.transaction() as transaction:
                transaction.insert_job(Job(f"job-{number}"), {"input": "x" * 10_000}, None)
                transaction.set_fact(f"fact-{number}", number)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen: list[int] = []
        deadline = time.monotonic() + 30.0
        while len(set(seen)) < 3 and time.monotonic() < deadline:
            path = backup.make(url(database), directory / f"{len(seen)}.db").path
            assert quick_check(path) == (None, True)
            with closing(sqlite3.connect(path)) as connection:
                (facts,) = connection.execute(
                    "SELECT count(*) FROM facts WHERE name LIKE 'fact-%'"
                ).fetchone()
            seen.append(jobs(path))
            assert facts == seen[-1]
    finally:
        is_over.set()
        writer.join()
    assert len(set(seen)) >= 3, "nothing was written meanwhile"


# PostgreSQL


@pytest.fixture
def client_programs(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pg_dump and pg_restore of the server's version are, which is first on PATH."""
    pg_dump = postgres.program("pg_dump")
    if pg_dump is None:
        postgres.give_up("no pg_dump on this machine; install it (apt-get install postgresql-client)")
    assert pg_dump is not None
    monkeypatch.setenv("PATH", f"{pg_dump.parent}:{os.environ['PATH']}")
    return pg_dump.parent


def test_a_dump_of_postgresql_has_its_jobs(postgres_url: str, directory: Path, client_programs: Path) -> None:
    store = Store(postgres_url)
    with store.transaction() as transaction:
        transaction.insert_job(Job("a-job-to-be-found"), {}, None)
    store.close()
    made = backup.make(postgres_url, directory, keep=1)
    again = backup.make(postgres_url, directory / "again.dump")
    assert {*directory.iterdir()} == {made.path, again.path}
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    script = [client_programs / "pg_restore", "--data-only", "--table=jobs", "--file=-", made.path]
    assert b"a-job-to-be-found" in subprocess.run(script, check=True, capture_output=True).stdout


def test_without_the_right_password_there_is_no_dump_and_the_password_is_shown_nowhere(
    postgres_url: str, directory: Path, client_programs: Path
) -> None:
    wrong = sa.make_url(postgres_url).set(password="sesame-0815").render_as_string(hide_password=False)
    with pytest.raises(LandoError, match=r"pg_dump failed .*password authentication failed") as error:
        backup.make(wrong, directory)
    assert "sesame" not in str(error.value)
    assert [*directory.iterdir()] == []


def test_accounts_of_the_machine_do_not_see_the_password(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore"):
        call = f'echo "{name} $* password $PGPASSWORD" >> {tmp_path}/calls'
        (programs / name).write_text(f"#!/bin/sh\n{call}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    hosts = "postgresql+psycopg://ana:sesame-0815@/jobs?host=a:1&host=b:2&target_session_attrs=read-write"
    backup.make(hosts, directory)
    dump, listing = (tmp_path / "calls").read_text().splitlines()
    assert "sesame" not in dump.partition(" password ")[0]
    assert dump.endswith(" password sesame-0815")
    for each in ("dbname=jobs", "user=ana", "host=a,b", "port=1,2", "target_session_attrs=read-write"):
        assert each in dump
    assert listing.startswith("pg_restore --list ")


def test_without_pg_dump_it_is_said_how_to_install_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="apt-get install postgresql-client"):
        backup.make("postgresql+psycopg://ana@db/jobs", directory)
