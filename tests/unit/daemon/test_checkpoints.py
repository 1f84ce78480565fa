"""When the daemon makes a checkpoint, and what it says when none gets through."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lando.daemon import checkpoints
from lando.daemon.checkpoints import Checkpoints, make_last_checkpoint
from lando.sqlite.checkpoint import log_size
from lando.store.store import Store


@pytest.fixture
def path(store: Store, tmp_path: Path) -> Path:
    store.start_guard()
    return tmp_path / "lando.db"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM jobs").fetchone()
        yield


def write(store: Store, name: str = "a fact") -> None:
    with store.transaction() as transaction:
        transaction.set_fact(name, name)


def facts_in_file(path: Path) -> set[str]:
    """What is in the file without its log."""
    copy = path.with_name("copy.db")
    # By another process: when this one closes the file, SQLite's locks are dropped.
    subprocess.run(["cp", path, copy], check=True)
    with closing(sqlite3.connect(copy)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM facts")}


def test_one_is_made_when_it_is_time_and_something_was_written(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Checkpoints(store)
    write(store)
    made.make()
    assert "a fact" not in facts_in_file(path)
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    made = Checkpoints(store)
    made.make()
    assert "a fact" in facts_in_file(path)
    assert store.guard is not None
    calls = []

    def checkpoint() -> bool:
        calls.append(1)
        return True

    monkeypatch.setattr(store.guard, "checkpoint", checkpoint)
    made.make()
    assert calls == []
    write(store, "another")
    made.make()
    assert calls == [1]


def test_a_log_that_cannot_be_shortened_is_told_once_an_hour(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    made = Checkpoints(store)
    with reading(path):
        write(store)
        made.make()
        assert not caplog.records, "it is small"
        monkeypatch.setattr(checkpoints, "LARGE_LOG", 0)
        made.make()
        write(store, "another")
        made.make()
        (record,) = caplog.records
        assert "lando.db-wal has 0 MiB and grows until another process stops reading" in record.getMessage()
        assert f"fuser -v {path}" in record.getMessage()
    caplog.clear()
    monkeypatch.setattr(checkpoints, "WARN_AGAIN", 0.0)
    made = Checkpoints(store)
    made.make()
    assert not caplog.records and "another" in facts_in_file(path)


def test_the_last_one_empties_the_log(store: Store, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(store)
    make_last_checkpoint(store)
    assert log_size(path) == 0 and not caplog.records
    assert "a fact" in facts_in_file(path)


def test_the_last_one_is_not_waited_for(store: Store, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        make_last_checkpoint(store)
    (record,) = caplog.records
    assert "lando.db is not whole without lando.db-wal" in record.getMessage()
    assert "database is locked" in record.getMessage()
