"""Whether a database's files are the same, whether they are whole, and what keeps them from that."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lando.sqlite import opening
from lando.sqlite.checkpoint import checkpoint, log_path, log_size, readers
from lando.sqlite.failures import is_damage, is_outage, sentence
from lando.sqlite.opening import make_durable
from lando.sqlite.quick_check import quick_check
from lando.sqlite.same_file import SameFile
from lando.sqlite.stamp import Stamp


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lando.db"


def connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    make_durable(connection)
    return connection


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(path)) as connection:
        connection.executescript("CREATE TABLE t (x); CREATE TABLE u (x); CREATE TABLE v (x);")
        yield connection


def fill(connection: sqlite3.Connection, rows: int = 10) -> None:
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?)", [(b"." * 100_000,)] * rows)
    connection.execute("COMMIT")


# the same files


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_each_file_is_missed(path: Path, connection: sqlite3.Connection, suffix: str) -> None:
    same = SameFile(path)
    assert same.difference() is None
    file = path.with_name(f"lando.db{suffix}")
    file.unlink()
    assert same.difference() == f"{file} was removed or renamed while it was in use"
    file.touch()
    assert same.difference() == f"{file} was replaced by another file while it was in use"


def test_a_directory_that_was_renamed_is_missed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    file = tmp_path / "state" / "lando.db"
    file.touch()
    same = SameFile(file)
    file.parent.rename(tmp_path / "elsewhere")
    assert "was removed or renamed" in (same.difference() or "")


# overwritten in place


def numbers(connection: sqlite3.Connection) -> tuple[int, int]:
    (schema,) = connection.execute("PRAGMA schema_version").fetchone()
    (user,) = connection.execute("PRAGMA user_version").fetchone()
    return schema, user


def stamp(path: Path, connection: sqlite3.Connection) -> Stamp:
    made = Stamp(path)
    number = made.next(numbers(connection))
    connection.execute(f"PRAGMA user_version = {number}")
    assert checkpoint(connection, "PASSIVE")
    made.written(numbers(connection))
    assert made.is_in_file()
    return made


@pytest.mark.parametrize("made_by", ["backup", "VACUUM INTO"])
def test_a_backup_that_is_copied_over_it_is_noticed(
    path: Path, connection: sqlite3.Connection, tmp_path: Path, made_by: str
) -> None:
    """Also one that was made since the number was written."""
    made = stamp(path, connection)
    target = tmp_path / "backup.db"
    if made_by == "backup":
        with closing(sqlite3.connect(target)) as copy:
            connection.backup(copy)
    else:
        connection.execute("VACUUM INTO ?", (str(target),))
    shutil.copyfile(target, path)
    assert not made.is_in_file()


def test_a_file_that_was_emptied_is_noticed(path: Path, connection: sqlite3.Connection) -> None:
    made = stamp(path, connection)
    os.truncate(path, 0)
    assert not made.is_in_file()


def test_until_a_checkpoint_the_earlier_number_is_right_too(
    path: Path, connection: sqlite3.Connection
) -> None:
    made = stamp(path, connection)
    with closing(connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        number = made.next(numbers(connection))
        connection.execute(f"PRAGMA user_version = {number}")
        assert not checkpoint(connection, "PASSIVE")
        assert made.is_in_file() and made.is_known(numbers(connection))
        connection.execute(f"PRAGMA user_version = {made.next(numbers(connection))}")
        assert made.is_in_file(), "the file has the first of three"
    assert checkpoint(connection, "PASSIVE")
    assert made.is_in_file()
    made.written(numbers(connection))
    assert made.is_in_file()


def test_what_sqlite_reads_is_known(path: Path, connection: sqlite3.Connection) -> None:
    made = stamp(path, connection)
    schema, user = numbers(connection)
    assert made.is_known((schema, user))
    connection.execute("VACUUM")
    assert made.is_known(numbers(connection))
    checkpoint(connection, "PASSIVE")
    assert made.is_in_file()
    assert not made.is_known((schema, user + 1))


# checkpoints


def test_a_checkpoint_makes_the_file_whole(
    path: Path, connection: sqlite3.Connection, tmp_path: Path
) -> None:
    fill(connection)
    assert log_size(path) > 1_000_000
    assert checkpoint(connection, "TRUNCATE")
    assert log_size(path) == 0
    shutil.copyfile(path, tmp_path / "copy.db")
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("SELECT count(*) FROM t").fetchone() == (10,)


def test_a_log_that_grew_is_shortened_once_nobody_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LOG_SIZE", 500_000)
    with closing(connect(path)) as connection, closing(connect(path)) as reader:
        connection.execute("CREATE TABLE t (x)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        fill(connection, 100)
        fill(connection, 1)
        assert log_size(path) > 5_000_000
        reader.execute("COMMIT")
        assert checkpoint(connection, "PASSIVE")
        fill(connection, 1)
        assert log_size(path) <= 500_000


def test_who_reads_is_told(path: Path, connection: sqlite3.Connection) -> None:
    code = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "for line in sys.stdin:\n"
        "    connection.execute(line)\n"
        "    connection.execute('SELECT count(*) FROM t').fetchone()\n"
        "    print('done', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        for statement, expected in (("BEGIN", [process.pid]), ("COMMIT", [])):
            process.stdin.write(f"{statement}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            assert readers(path) == expected
    finally:
        process.communicate()
    assert readers(path, Path("/no/locks")) == []


# damage


def test_a_sound_file_and_one_that_is_damaged(path: Path, connection: sqlite3.Connection) -> None:
    fill(connection)
    checkpoint(connection, "TRUNCATE")
    assert quick_check(path) == (None, True)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    found, is_all = quick_check(path)
    assert found is not None and "\n" not in found and is_all


def test_a_row_that_breaks_a_rule_of_its_table_is_no_damage(
    path: Path, connection: sqlite3.Connection
) -> None:
    connection.execute("CREATE TABLE w (x CHECK (x > 0))")
    connection.execute("PRAGMA ignore_check_constraints = ON")
    connection.execute("INSERT INTO w VALUES (0)")
    with closing(sqlite3.connect(path)) as other:
        assert "CHECK constraint failed" in other.execute("PRAGMA quick_check").fetchone()[0]
    assert quick_check(path) == (None, True)


def test_looking_for_damage_ends_in_time(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(200_000)])
    connection.execute("COMMIT")
    assert quick_check(path, 0.0) == (None, False)
    assert quick_check(path) == (None, True)


# what errors mean


def failure(path: Path, connection: sqlite3.Connection, statement: str) -> sqlite3.Error:
    with pytest.raises(sqlite3.Error) as raised:
        connection.execute(statement)
    return raised.value


def test_a_full_database_is_an_outage(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA max_page_count = 10")
    error = failure(path, connection, "INSERT INTO t VALUES (zeroblob(1000000))")
    assert is_outage(error) and not is_damage(error)
    assert sentence(error) == "database or disk is full (make room on the disk)"


def test_a_locked_database_is_an_outage(path: Path, connection: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        connection.execute("BEGIN IMMEDIATE")
        error = failure(path, other, "BEGIN IMMEDIATE")
    assert is_outage(error) and not is_damage(error)


def test_a_wrong_statement_is_neither(path: Path, connection: sqlite3.Connection) -> None:
    error = failure(path, connection, "SELECT json('{')")
    assert "malformed" in str(error)
    assert not is_outage(error) and not is_damage(error)


def test_text_is_no_database(path: Path) -> None:
    path.write_text("no database" * 1000)
    with closing(sqlite3.connect(path)) as connection:
        error = failure(path, connection, "SELECT * FROM sqlite_master")
    assert is_damage(error) and not is_outage(error)
    assert "file is not a database: the file is damaged, and was left as it is" in sentence(error)


def test_the_log_is_beside_the_file(path: Path) -> None:
    assert log_path(path).name == "lando.db-wal"
    assert log_size(path) == 0
