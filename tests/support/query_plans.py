"""How a database answers a query."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler


class _Explain(sa.Executable, sa.ClauseElement):
    inherit_cache = False

    def __init__(self, query: sa.Select[Any]) -> None:
        self.query = query


@compiles(_Explain)
def _(element: _Explain, compiler: SQLCompiler, **more: Any) -> str:
    words = "EXPLAIN QUERY PLAN" if compiler.dialect.name == "sqlite" else "EXPLAIN (COSTS OFF)"
    return f"{words} {compiler.process(element.query, **more)}"


def plan(connection: sa.Connection, query: sa.Select[Any], values: Mapping[str, Any]) -> list[str]:
    """The steps of its plan, in the database's words. PostgreSQL plans for what the tables have, and reads a
    small one whole: here it uses indexes wherever it can."""
    if connection.dialect.name == "postgresql":
        for setting in ("enable_seqscan", "enable_bitmapscan", "enable_sort"):
            connection.exec_driver_sql(f"SET LOCAL {setting} = off")
    return [str(row[-1]) for row in connection.execute(_Explain(query), values)]
