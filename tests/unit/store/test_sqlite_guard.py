"""A store does nothing with a file that is not the one that was opened, and a daemon's saves what it had."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lando.store.database import StoreReplaced
from lando.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lando.db"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    return sqlite_url


def write(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.set_fact("a fact", 1)


def test_no_transaction_begins_on_a_file_that_was_removed(store: Store, path: Path) -> None:
    write(store)
    path.unlink()
    with pytest.raises(StoreReplaced, match="was removed or renamed"), store.transaction():
        pytest.fail("begun")
    with pytest.raises(StoreReplaced, match="was removed or renamed"), store.reading():
        pytest.fail("begun")


def test_what_is_committed_beside_the_file_that_others_use_is_no_success(store: Store, path: Path) -> None:
    with pytest.raises(StoreReplaced), store.transaction() as transaction:
        transaction.set_fact("a fact", 1)
        path.unlink()


def test_a_connection_to_another_file_is_not_used(store: Store, path: Path, fresh_database: Path) -> None:
    """The pool opens one where all others are in use."""
    with store.reading():
        shutil.copyfile(fresh_database, path.with_name("new"))
        os.replace(path.with_name("new"), path)
        with pytest.raises(StoreReplaced, match="was replaced by another file"), store.reading():
            pytest.fail("begun")


def test_what_was_opened_is_saved(store: Store, path: Path) -> None:
    store.start_guard()
    write(store)
    path.unlink()
    assert store.guard is not None
    assert store.guard.difference() == f"{path} was removed or renamed while it was in use"
    sentence = store.guard.save()
    (saved,) = path.parent.glob("lando.db.saved-*")
    assert sentence == f"What it held was saved as {saved}"
    assert saved.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(saved)) as connection:
        assert connection.execute("SELECT value FROM facts WHERE name = 'a fact'").fetchone() == ("1",)
    assert not list(path.parent.glob("lando.db-*")), "SQLite would apply the log to the next file"


@contextmanager
def another_process(path: Path) -> Iterator[None]:
    """It has the database open, and closes it at the end, at which SQLite writes the log into the file."""
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1])\n"
        "connection.execute('SELECT count(*) FROM facts').fetchall()\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
        "connection.close()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline()
    try:
        yield
    finally:
        process.communicate()


DAEMON = """
import os, subprocess, sys
from pathlib import Path
from lando.store.store import Store
store = Store(f"sqlite:///{sys.argv[1]}")
store.start_guard()
with store.transaction() as transaction:
    transaction.set_fact("a fact", 1)
print(flush=True)
sys.stdin.readline()
store.leave()
print(store.guard.save(), flush=True)
os._exit(2)
"""


def test_a_file_that_was_overwritten_stays_as_it_was_restored(
    tmp_path: Path, path: Path, fresh_database: Path
) -> None:
    """Neither who opens it, nor who had it open, applies to it what was there before."""
    shutil.copyfile(fresh_database, path)
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None and daemon.stdout.readline()
    log = path.with_name("lando.db-wal").read_bytes()
    with another_process(path):
        shutil.copyfile(fresh_database, path)
        sentence, _ = daemon.communicate("end\n")
        (aside,) = path.parent.glob("lando.db-wal.replaced-*")
        assert "What belonged to it was renamed: " in sentence and aside.name in sentence
        assert aside.read_bytes() == log and aside.stat().st_mode & 0o777 == 0o600
        assert len(list(path.parent.glob("lando.db-shm.replaced-*"))) == 1
    assert path.read_bytes() == fresh_database.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT * FROM facts WHERE name = 'a fact'").fetchall() == []


def test_what_was_restored_through_sqlite_keeps_its_log(
    store: Store, path: Path, fresh_database: Path
) -> None:
    store.start_guard()
    write(store)
    with closing(sqlite3.connect(fresh_database)) as contents, closing(sqlite3.connect(path)) as copy:
        copy.execute("SELECT * FROM facts").fetchall()
        contents.backup(copy)
    with pytest.raises(StoreReplaced, match="was overwritten"):
        write(store)
    assert store.guard is not None
    assert "lando.db-wal belongs to what is there now" in store.guard.save()
    assert path.with_name("lando.db-wal").stat().st_size > 0


def test_what_cannot_be_saved_is_told(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.start_guard()
    path.unlink()
    assert store.guard is not None
    monkeypatch.setattr(os, "open", refuse)
    assert "could not be saved ([Errno 28] " in store.guard.save()
    assert not list(path.parent.glob("lando.db.saved-*"))


def refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_file_that_was_left_is_not_written_by_closing_it(store: Store, path: Path) -> None:
    write(store)
    before = path.stat()
    store.leave()
    store.close()
    assert path.with_name("lando.db-wal").stat().st_size > 0
    assert path.stat().st_mtime_ns == before.st_mtime_ns
