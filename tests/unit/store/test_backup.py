"""A backup is a whole, consistent, private copy, or there is none."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from lando.errors import LandoError, UsageError
from lando.sqlite.quick_check import quick_check
from lando.states.job import Job
from lando.store import backup, backup_files
from lando.store.store import Store
from lando.workqueue.embedded import EmbeddedPublisher, waiting

MAKE = """
import sys
from pathlib import Path
from lando.store import backup
backup.make(f"sqlite:///{sys.argv[1]}", Path(sys.argv[2]), keep=2)
"""


@pytest.fixture
def database(store: Store, tmp_path: Path) -> Path:
    return tmp_path / "lando.db"


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
