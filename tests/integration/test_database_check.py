"""``lando-fsm database check``, on both databases: it only looks."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lando.engine.retention import Retention
from lando.store import overview as overview_module
from lando.store.overview import overview
from lando.store.retention import DueCounts
from lando.store.schema import HEAD, upgrade
from tests.conftest import Commands
from tests.support.local_site import migrated_database
from tests.support.many_jobs import fill
from tests.support.postgres_server import Database


@pytest.fixture
def database(tmp_path: Path) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    path = state / "lando.db"
    path.touch(mode=0o600)
    path.write_bytes(migrated_database())
    return path


def execute(database: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_what_a_database_holds(database: Path, command: Commands) -> None:
    fill(database, 1_000)
    now, day = time.time(), 86400.0
    execute(
        database,
        "UPDATE jobs SET state = 'done' WHERE state IN ('failed', 'terminating')",
        f"UPDATE jobs SET entered_at = {now - 100 * day}",
        f"UPDATE jobs SET entered_at = {now - 0.5 * day} WHERE state = 'done' AND number < 100",
        f"UPDATE jobs SET entered_at = {now - 3 * day} WHERE state = 'done' AND number BETWEEN 100 AND 199",
        f"UPDATE jobs SET entered_at = {now - 20 * day} WHERE state = 'done' AND number BETWEEN 200 AND 299",
        f"UPDATE jobs SET entered_at = {now - 80 * day} WHERE state = 'done' AND number BETWEEN 300 AND 399",
    )
    said = command("database", "check", "--json")
    assert said.code == 0, said
    found: dict[str, Any] = json.loads(said.out)
    assert found["jobs"] == {"done": 980, "queued": 10, "running": 10}
    assert found["ended"] == {"day": 98, "week": 98, "month": 98, "quarter": 98, "older": 588}
    assert (found["rows"]["jobs"], found["rows"]["history"]) == (1_000, 3_000)
    assert (found["schema"], found["oldest_schema"], found["migration_pending"]) == (HEAD, "0006", False)
    assert (found["damage"], found["daemon"], found["not_to_be_used"]) == ("none found", None, None)
    assert found["bytes"] >= database.stat().st_size > 0
    assert found["oldest_end"].startswith("20")
    assert found["retention"] == {"ended": None, "logs": None, "secrets": 784}
    shown = command("database", "check").out
    assert "before that" in shown and "retention would remove now: secrets: 784 jobs" in shown


def test_looking_migrates_nothing(tmp_path: Path, command: Commands) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    database = state / "lando.db"
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        upgrade(connection, to="0005")
        connection.execute(sa.text("INSERT INTO facts (name, value) VALUES ('a', '1')"))
    engine.dispose()
    found = json.loads(command("database", "check", "--json").out)
    assert (found["schema"], found["oldest_schema"], found["migration_pending"]) == ("0005", None, True)
    assert found["retention"] is None
    assert found["rows"]["facts"] == 1
    assert f"migrated to {HEAD} when next used" in command("database", "check").out
    with contextlib.closing(sqlite3.connect(database)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0005",)]


def test_what_is_wrong(database: Path, command: Commands) -> None:
    fill(database, 500)
    with database.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 30 * 4096)
    said = command("database", "check")
    assert said.code != 0 and "damaged" in said.out + said.err
    database.write_bytes(migrated_database())
    execute(database, *(f"UPDATE {table} SET version_num = '9999'" for table in VERSIONS))
    said = command("database", "check")
    assert said.code == 2 and "its schema (9999) is newer" in said.err
    database.unlink()
    said = command("database", "check")
    assert said.code == 1 and "does not exist yet" in said.err
    assert not database.exists()


VERSIONS = ("alembic_version", "oldest_version")


def test_on_postgresql(postgres_database: Database) -> None:
    postgres_database.execute("INSERT INTO facts (name, value) VALUES ('a', '1')")
    found = overview(postgres_database.url, Retention(ended=1.0))
    assert found.due == DueCounts(ended=0, logs=None, secrets=0)
    assert found.rows["facts"] == 1 and found.states == {} and found.size > 1_000_000
    assert found.ended == {"day": 0, "week": 0, "month": 0, "quarter": 0, "older": 0}


def test_jobs_are_counted_in_indexes(database: Path) -> None:
    """Bodies and outputs of 110,000 jobs would be some hundred MB to read."""
    fill(database, 100)
    statements: list[tuple[str, Any]] = []
    engine = sa.create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        listen = sa.event.listens_for(connection, "before_cursor_execute")
        listen(lambda _connection, _cursor, text, values, *_: statements.append((text, values)))
        overview_module._rows(connection, {"jobs", "history", "logs"})
        overview_module._states(connection)
        overview_module._ended(connection)
        counts = statements.copy()
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", each) for text, each in counts]
        *covered, ended = [" ".join(row[3] for row in plan) for plan in plans]
    engine.dispose()
    assert len(covered) == 4
    assert all("USING COVERING INDEX" in plan for plan in covered), covered
    assert "USING COVERING INDEX" in ended, ended
