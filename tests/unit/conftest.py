from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.store.store import Store


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that is migrated, once: that takes longer than most unit tests."""
    path = tmp_path_factory.mktemp("fresh") / "lando.db"
    Store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def sqlite_url(fresh_database: Path, tmp_path: Path) -> str:
    """The URL of an SQLite file, with the schema and no rows."""
    return f"sqlite:///{shutil.copy(fresh_database, tmp_path / 'lando.db')}"


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """The URL of a database with the schema and no rows; packages whose tests need both override this."""
    return sqlite_url


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """A store without jobs."""
    store = Store(database_url)
    yield store
    store.close()
