from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from lando.errors import UsageError
from lando.states.job import Job
from lando.store.database import stored_schema
from lando.store.schema import HEAD, MIGRATIONS, Schema, upgrade
from lando.store.store import Store
from tests.support.next_schema import NEXT, migrate_to_next, versions
from tests.support.postgres_server import Database

A = "a" * 32


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Of a database whose tables may be changed."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    database: Database = request.getfixturevalue("postgres_database")
    return database.url


def test_a_new_database_says_who_may_use_it(store: Store, database_url: str) -> None:
    assert versions(database_url) == ([HEAD], ["0006"])
    assert stored_schema(database_url) == Schema(HEAD, "0006")


def test_a_newer_schema_that_this_program_may_use_is_used_and_not_migrated(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    store.close()
    migrate_to_next(database_url, tmp_path, oldest=HEAD)
    with closing(Store(database_url)) as here:
        with here.transaction() as transaction:
            transaction.insert_job(Job(A), {"git_clone": "x"}, "me")
            transaction.set_fact("a fact", 1)
            transaction.mark_processed("client:1", 1.0)
            transaction.save_console(A, 1, "text")
        with here.reading() as queries:
            assert [view.job.id for view in queries.jobs()] == [A]
    assert versions(database_url) == ([NEXT], [HEAD])
    assert read(database_url, "SELECT next_text FROM jobs") == [("unknown",)]


def test_a_newer_schema_that_this_program_may_not_use_is_refused(
    store: Store, database_url: str, tmp_path: Path
) -> None:
    with store.transaction() as transaction:
        transaction.set_fact("a fact", 1)
    store.close()
    migrate_to_next(database_url, tmp_path, oldest=NEXT)
    reason = rf"its schema \({NEXT}\) is newer than this lando-fsm knows \({HEAD}\)"
    with pytest.raises(UsageError, match=reason):
        Store(database_url)
    assert versions(database_url) == ([NEXT], [NEXT])
    assert read(database_url, "SELECT name, value FROM facts") == [("a fact", "1")]


def test_a_newer_schema_without_the_row_is_refused(store: Store, database_url: str) -> None:
    store.close()
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(sa.text("DELETE FROM oldest_version"))
    engine.dispose()
    with pytest.raises(UsageError, match=r"its schema \(9999\) is newer"):
        Store(database_url)


def read(url: str, statement: str) -> list[tuple[Any, ...]]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(sa.text(statement))]
    engine.dispose()
    return rows


@pytest.mark.parametrize(
    ("schema", "is_too_new", "is_pending"),
    [
        (Schema(None), False, True),
        (Schema("0005"), False, True),
        (Schema(HEAD, "0006"), False, False),
        (Schema("9999", HEAD), False, False),
        (Schema("9999", "0001"), False, False),
        (Schema("9999", "9998"), True, False),
        (Schema("9999"), True, False),
    ],
)
def test_which_schema_may_be_used(schema: Schema, is_too_new: bool, is_pending: bool) -> None:
    assert (schema.is_too_new, schema.is_pending) == (is_too_new, is_pending)


def migration_modules() -> list[Any]:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    found: list[Any] = [each.module for each in ScriptDirectory.from_config(config).walk_revisions()]
    return found[::-1]


def test_each_migration_says_who_may_use_its_result() -> None:
    modules = [module for module in migration_modules() if module.revision >= "0006"]
    assert modules[-1].revision == HEAD
    said = [module.oldest for module in modules]
    assert all(re.fullmatch(r"\d{4}", oldest) for oldest in said)
    assert said == sorted(said), "what an earlier migration has excluded stays excluded"
    assert all("0006" <= oldest <= module.revision for module, oldest in zip(modules, said, strict=True))


def test_a_new_column_that_is_required_has_a_default_of_the_server(tmp_path: Path) -> None:
    """Else a program that does not know the column cannot insert."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'lando.db'}")
    known: dict[str, set[str]] = {}
    for module in migration_modules():
        with engine.begin() as connection:
            upgrade(connection, to=module.revision)
            there = sa.inspect(connection)
            found = {table: there.get_columns(table) for table in there.get_table_names()}
        for table, columns in found.items():
            added = [each for each in columns if each["name"] not in known.get(table, {each["name"]})]
            required = [each["name"] for each in added if not each["nullable"] and each["default"] is None]
            assert not required, f"{module.revision}: {table}: {required}"
        known = {table: {each["name"] for each in columns} for table, columns in found.items()}
    engine.dispose()
