"""The admission order in SQL: which queued job is the first, but for those that have to wait.

The queries are answered from the index ``jobs_in_order`` alone, up to the one row that is read: thousands of
jobs that have to wait cost little.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import sqlalchemy as sa

from lando.store.pending import JOB_COLUMNS
from lando.store.tables import JOBS


def values(now: float, skip: Collection[str], small: Collection[str | None]) -> dict[str, Any]:
    """The parameters of the queries, but for ``among`` and ``after``; see ``Ledger.next_queued``."""
    return {"now": now, "skip": [*skip], "small": [flavor or "" for flavor in small]}


def _waiting(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(jobs.c.state == "queued", jobs.c.not_before <= sa.bindparam("now"))


def _not_skipped(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(
        _waiting(jobs),
        jobs.c.wishes.not_in(sa.bindparam("skip", expanding=True)),
        sa.func.coalesce(jobs.c.flavor, "").not_in(sa.bindparam("small", expanding=True)),
    )


def _among(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(_not_skipped(jobs), jobs.c.wishes.in_(sa.bindparam("among", expanding=True)))


def _first(condition: Callable[[sa.FromClause], sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """The first in the order: by priority, the highest first, then by arrival.

    Two selects, each of which follows the index in one direction and stops at its first row.
    """
    each = JOBS.alias("each")
    highest = sa.select(each.c.priority).where(condition(each)).order_by(each.c.priority.desc()).limit(1)
    query = sa.select(*JOB_COLUMNS).where(condition(JOBS), JOBS.c.priority == highest.scalar_subquery())
    return query.order_by(JOBS.c.number).limit(1)


# Built once: building a statement costs more than executing it.
FIRST = _first(_waiting)
FIRST_BUT = _first(_not_skipped)
FIRST_OF = _first(_among)
LEAST_DOUBTFUL = (
    sa.select(*JOB_COLUMNS)
    .where(_not_skipped(JOBS))
    .order_by(JOBS.c.doubtful, JOBS.c.priority.desc(), JOBS.c.number)
    .limit(1)
)  # reads every job that waits, but once a probe only
WISHES = sa.select(sa.func.min(JOBS.c.wishes)).where(_not_skipped(JOBS))
WISHES_AFTER = WISHES.where(JOBS.c.wishes > sa.bindparam("after"))
