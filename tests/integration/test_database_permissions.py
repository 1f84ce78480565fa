"""A database that this account may not read or write is told as that, with exit code 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.store.store import Store
from lando.workqueue.embedded import EmbeddedPublisher

UNPRIVILEGED = ["65534"] if os.geteuid() == 0 else []
"""The account (nobody) that the child changes to, since root may read and write everywhere."""

# Writes to the database as the store does, and as a publisher; prints the exit code and the error of each.
OPENER = """
import os, sys
from pathlib import Path
from lando.errors import LandoError
from lando.store.store import Store
from lando.workqueue.embedded import EmbeddedPublisher

if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
path = Path(sys.argv[1])
for write in (
    lambda: Store(f"sqlite:///{path}").deployment(None),
    lambda: EmbeddedPublisher(path, "client").publish(b"x"),
):
    try:
        write()
        print("written")
    except LandoError as error:
        print(error.exit_code, error)
"""


@pytest.fixture
def database() -> Iterator[Path]:
    """In a directory that every account may write to."""
    directory = Path(tempfile.mkdtemp())
    path = directory / "lando.db"
    Store(f"sqlite:///{path}").close()
    EmbeddedPublisher(path, "client").close()
    path.chmod(0o666)
    directory.chmod(0o777)
    yield path
    directory.chmod(0o700)
    shutil.rmtree(directory)


@pytest.mark.parametrize(
    ("file", "mode", "words"),
    [
        ("lando.db", 0o000, "unable to open database file"),
        ("lando.db", 0o444, "attempt to write a readonly database"),
        ("lando.db-wal", 0o000, "unable to open database file"),
    ],
)
def test_a_file_that_may_not_be_used_is_named(database: Path, file: str, mode: int, words: str) -> None:
    path = database.with_name(file)
    path.touch()
    path.chmod(mode)
    expected = f"2 {database}: {words} (this account may not read and write the file: ls -l {path})"
    assert written(database) == [expected, expected]


def test_a_directory_that_may_not_be_written_is_named(database: Path) -> None:
    database.parent.chmod(0o555)
    store, publisher = written(database)
    directory = f"(this account may not read and write its directory: ls -ld {database.parent})"
    for line in (store, publisher):
        assert line.startswith("2 ") and line.endswith(directory)


def test_files_that_may_be_used_are_written(database: Path) -> None:
    assert written(database) == ["written", "written"]


def written(database: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", OPENER, str(database), *UNPRIVILEGED],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
