"""What a store's statements cost, by counting: statements, and the rows or instructions that they read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from lando.store.store import Store

CHANGES = ("INSERT", "UPDATE", "DELETE")
READ = """
SELECT sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid))
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""
"""Rows and entries of indexes that this session has read (PostgreSQL, "The Statistics Views")."""


@dataclass
class Cost:
    """Of everything between two moments."""

    statements: list[str] = field(default_factory=list)
    read: int = 0
    """PostgreSQL: rows and entries of indexes. SQLite: instructions of its virtual machine; every row and
    every entry that is visited takes some."""

    @property
    def writes(self) -> list[str]:
        """Statements that may change something."""
        return [text for text in self.statements if text.startswith(CHANGES)]


class Reads:
    """Counts from now on; remembers each statement with the values that it had first."""

    def __init__(self, store: Store) -> None:
        self._engine = store._engine
        self._cost = Cost()
        self.seen: dict[str, Any] = {}
        self._read_before = 0
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        with self._engine.connect() as connection:  # the only one in the pool
            self._prepare(connection.connection.driver_connection)
        sa.event.listen(self._engine, "before_cursor_execute", self._on_statement)
        sa.event.listen(self._engine, "begin", self._on_begin)
        sa.event.listen(self._engine, "commit", self._on_commit)

    def _prepare(self, connection: Any) -> None:
        if self._is_sqlite:
            connection.set_progress_handler(self._on_instruction, 1)
        else:  # a table of a few rows would be read whole
            connection.execute("SET enable_seqscan = off")
            connection.execute("SET enable_bitmapscan = off")
            connection.commit()

    def _on_instruction(self) -> int:
        self._cost.read += 1
        return 0

    def _on_statement(self, _: object, __: object, text: str, values: Any, ___: object, many: bool) -> None:
        self._cost.statements.append(text)
        self.seen.setdefault(text, values[0] if many else values)

    def _on_begin(self, connection: sa.Connection) -> None:
        self._read_before = self._read_by(connection)

    def _on_commit(self, connection: sa.Connection) -> None:
        self._cost.read += self._read_by(connection) - self._read_before

    def _read_by(self, connection: sa.Connection) -> int:
        """By this transaction, and by earlier ones that the server has not gathered yet."""
        if self._is_sqlite:
            return 0
        cursor = connection.connection.cursor()
        cursor.execute(READ)
        row = cursor.fetchone()
        cursor.close()
        return 0 if row is None else int(row[0] or 0)

    @contextmanager
    def counted(self) -> Iterator[Cost]:
        """What is done within."""
        self._cost = cost = Cost()
        yield cost
        self._cost = Cost()

    def plans(self) -> dict[str, list[str]]:
        """How the database answers each statement that was seen, as the tables are now."""
        words = "EXPLAIN QUERY PLAN" if self._is_sqlite else "EXPLAIN (COSTS OFF)"
        found = {}
        with self._engine.connect() as connection:
            if not self._is_sqlite:
                connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
                connection.exec_driver_sql("SET LOCAL enable_bitmapscan = on")
            for text, values in [*self.seen.items()]:
                if text.startswith(("SELECT", *CHANGES)) and "EXPLAIN" not in text:
                    rows = connection.exec_driver_sql(f"{words} {text}", values)
                    found[text] = [str(row[-1]).strip() for row in rows]
            connection.rollback()
        return found


def scans(plan: list[str], tables: Collection[str]) -> list[str]:
    """The steps of a plan that read one of these tables whole, and those that sort what was read.

    SQLite calls it a scan, too, where an index is followed from its first entry; with a limit that is none.
    """
    names = "|".join(tables)
    whole = re.compile(rf"SCAN (\S+ AS )?({names})\b(?! USING INDEX jobs_ready$)|Seq Scan on ({names})\b")
    return [step for step in plan if whole.search(step) or "TEMP B-TREE" in step or step.startswith("Sort")]
