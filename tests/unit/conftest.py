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
def store(fresh_database: Path, tmp_path: Path) -> Iterator[Store]:
    """A store without jobs."""
    path = shutil.copy(fresh_database, tmp_path / "lando.db")
    store = Store(f"sqlite:///{path}")
    yield store
    store.close()
