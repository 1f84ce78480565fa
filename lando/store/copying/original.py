"""The SQLite file that is copied: one snapshot of it, and what is written into it about its being copied."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from lando.sqlite.opening import make_durable
from lando.store.copying.mark import CopyMark, mark_value, to_mark
from lando.store.copying.rows import CHUNK, CopiedTable, Row
from lando.store.facts import COPY_FACT
from lando.store.tables import FACTS


class Original:
    """Opened; the snapshot that ``rows`` reads is that of the first reading.

    Args:
        path: the file, whose schema is up to date.
        patience: seconds to wait for a lock of another process.

    Raises:
        sqlite3.Error: it cannot be read or written.
    """

    def __init__(self, path: Path, patience: float) -> None:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        self._connection = sqlite3.connect(uri, uri=True, timeout=patience, isolation_level=None)
        try:
            make_durable(self._connection, patience)
        except BaseException:
            self._connection.close()
            raise
        # What is no UTF-8 is half of a surrogate pair, and replaced as such.
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        self._version = 0

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def begin(self) -> None:
        """Take the snapshot."""
        self._connection.execute("BEGIN")
        self._connection.execute("SELECT 1 FROM alembic_version").fetchone()
        self._version = self._data_version()

    def rows(self, table: CopiedTable, first: int) -> Iterator[list[Row]]:
        """All rows that are copied, by their key, some at a time. Rows of jobs that are not there are left
        out: nothing shows them, and PostgreSQL refuses them.

        Args:
            table: whose.
            first: after so many rows, a new list begins.
        """
        columns, order = (", ".join(map(_quoted, names)) for names in (table.names, table.keys))
        query = f"SELECT {columns} FROM {_quoted(table.name)} WHERE {_copied(table)} ORDER BY {order}"  # noqa: S608
        with contextlib.closing(self._connection.execute(query)) as cursor:
            while rows := cursor.fetchmany(min(CHUNK, first or CHUNK)):
                first = max(0, first - len(rows))
                yield rows

    def count(self, table: CopiedTable) -> int:
        """How many rows there are, with those that are left out."""
        query = f"SELECT count(*) FROM {_quoted(table.name)}"  # noqa: S608
        if table.name == FACTS.name:
            query += f" WHERE name <> '{COPY_FACT}'"
        return int(self._connection.execute(query).fetchone()[0])

    def last_number(self, table: CopiedTable) -> int:
        """The highest number that a row of the table ever had, as far as SQLite knows it."""
        query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
        row = self._connection.execute(query, (table.name,)).fetchone()
        return 0 if row is None else int(row[0])

    def mark(self) -> CopyMark | None:
        """What it says about its being copied."""
        query = "SELECT value FROM facts WHERE name = ?"
        row = self._connection.execute(query, (COPY_FACT,)).fetchone()
        return to_mark(None if row is None else json.loads(row[0]))

    def set_mark(self, mark: CopyMark) -> None:
        """Say it, durably; in the transaction that is open, if one is."""
        self._connection.execute(
            "INSERT INTO facts (name, value) VALUES (?, ?) "
            "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (COPY_FACT, json.dumps(mark_value(mark))),
        )

    def lock(self) -> bool:
        """End the snapshot and lock the file: from now on nobody else writes.

        Returns:
            Whether nobody has written since the snapshot was taken.
        """
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN IMMEDIATE")
        return self._data_version() == self._version

    def commit(self) -> None:
        """Commit what was written since ``lock``, and unlock."""
        self._connection.execute("COMMIT")

    @property
    def connection(self) -> sqlite3.Connection:
        """For the embedded queue, whose tables are in the same file."""
        return self._connection

    def _data_version(self) -> int:
        """Changes when another connection commits: https://www.sqlite.org/pragma.html#pragma_data_version."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])


def _copied(table: CopiedTable) -> str:
    conditions = ["1"]
    if table.name == FACTS.name:
        conditions.append(f"name <> '{COPY_FACT}'")
    for key in table.table.foreign_keys:
        column = f"{_quoted(table.name)}.{_quoted(key.parent.name)}"
        there, other = _quoted(key.column.table.name), _quoted(key.column.name)
        found = f"SELECT 1 FROM {there} AS t WHERE t.{other} = {column}"  # noqa: S608
        conditions.append(f"({column} IS NULL OR EXISTS ({found}))")
    return " AND ".join(conditions)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
