"""How a database answers a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa


def plan(connection: sa.Connection, query: sa.Executable, values: Mapping[str, Any]) -> list[str]:
    """The steps of its plan, in the database's words. PostgreSQL plans for what the tables have, and reads a
    small one whole: here it uses indexes wherever it can."""
    if connection.dialect.name == "postgresql":
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            connection.exec_driver_sql(f"SET LOCAL {setting} = off")
    words = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF)"

    steps: list[str] = []

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"{words} {statement}", parameters)
        steps.extend(str(row[-1]) for row in cursor.fetchall())

    sa.event.listen(connection, "before_cursor_execute", explain)
    try:
        connection.execute(query, values)
    finally:
        sa.event.remove(connection, "before_cursor_execute", explain)
    return steps
