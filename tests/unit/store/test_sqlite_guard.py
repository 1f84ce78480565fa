"""A store does nothing with a file that is not the one that was opened, and a daemon's saves what it had."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lando.store.database import StoreReplaced
from lando.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lando.db"


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
    assert store.guard.difference() == f"{path}: was removed or renamed while it was in use"
    sentence = store.guard.save()
    (saved,) = path.parent.glob("lando.db.saved-*")
    assert sentence == f"What it held was saved as {saved}"
    assert saved.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(saved)) as connection:
        assert connection.execute("SELECT value FROM facts WHERE name = 'a fact'").fetchone() == ("1",)
    assert not list(path.parent.glob("lando.db-*")), "SQLite would apply the log to the next file"


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
