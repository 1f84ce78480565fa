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
from lando.store.types import listed


def next_queued(
    now: float,
    skip: Collection[str],
    small: Collection[str | None],
    among: Collection[str] | None,
    held_back: Collection[str],
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and its parameters; see ``Ledger.next_queued`` and ``Ledger.held_back``."""
    if not skip and not small and among is None and not held_back:
        return _FIRST, {"now": now}
    values = _values(now, skip, small, held_back)
    if among is None:
        return (_FIRST_FREE if held_back else _FIRST_BUT), values
    return (_FIRST_FREE_OF if held_back else _FIRST_OF), {**values, "among": [*among]}


def least_doubtful(
    now: float,
    skip: Collection[str],
    small: Collection[str | None],
    among: Collection[str] | None,
    held_back: Collection[str],
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and its parameters; see ``Ledger.least_doubtful`` and ``Ledger.held_back``."""
    values = _values(now, skip, small, held_back)
    if among is None:
        return (_LEAST_DOUBTFUL_FREE if held_back else _LEAST_DOUBTFUL_BUT), values
    query = _LEAST_DOUBTFUL_FREE_OF if held_back else _LEAST_DOUBTFUL_OF
    return query, {**values, "among": [*among]}


def next_wishes(
    now: float,
    skip: Collection[str],
    small: Collection[str | None],
    after: str | None,
    held_back: Collection[str],
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and its parameters; see ``Ledger.next_wishes`` and ``Ledger.held_back``."""
    values = _values(now, skip, small, held_back)
    if after is None:
        return (_WISHES_FREE if held_back else _WISHES), values
    return (_WISHES_FREE_AFTER if held_back else _WISHES_AFTER), {**values, "after": after}


def _values(
    now: float, skip: Collection[str], small: Collection[str | None], held_back: Collection[str]
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "now": now,
        "skip": [*skip],
        "small": [flavor or "" for flavor in small],
    }
    return {**values, "held_back": [*held_back]} if held_back else values


def _waiting(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(jobs.c.state == "queued", jobs.c.not_before <= sa.bindparam("now"))


def _not_skipped(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(
        _waiting(jobs),
        jobs.c.wishes.not_in(listed("skip")),
        sa.func.coalesce(jobs.c.flavor, "").not_in(listed("small")),
    )


def _among(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(_not_skipped(jobs), jobs.c.wishes.in_(listed("among")))


def _free(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    """Apart from the others: the index does not have the ids."""
    return sa.and_(_not_skipped(jobs), jobs.c.id.not_in(listed("held_back")))


def _free_among(jobs: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(_free(jobs), _among(jobs))


def _first(condition: Callable[[sa.FromClause], sa.ColumnElement[bool]]) -> sa.Select[Any]:
    """The first in the order: by priority, the highest first, then by arrival.

    Two selects, each of which follows the index in one direction and stops at its first row.
    """
    each = JOBS.alias("each")
    highest = sa.select(each.c.priority).where(condition(each)).order_by(each.c.priority.desc()).limit(1)
    query = sa.select(*JOB_COLUMNS).where(condition(JOBS), JOBS.c.priority == highest.scalar_subquery())
    return query.order_by(JOBS.c.number).limit(1)


# Built once: building a statement costs more than executing it.
_FIRST = _first(_waiting)
_FIRST_BUT = _first(_not_skipped)
_FIRST_OF = _first(_among)
_FIRST_FREE = _first(_free)
_FIRST_FREE_OF = _first(_free_among)
_LEAST_DOUBTFUL = (
    sa.select(*JOB_COLUMNS)
    .order_by(JOBS.c.doubtful + JOBS.c.unanswered, JOBS.c.priority.desc(), JOBS.c.number)
    .limit(1)
)  # reads every job that waits, but once a probe only
_LEAST_DOUBTFUL_BUT = _LEAST_DOUBTFUL.where(_not_skipped(JOBS))
_LEAST_DOUBTFUL_FREE = _LEAST_DOUBTFUL.where(_free(JOBS))
_LEAST_DOUBTFUL_OF = _LEAST_DOUBTFUL.where(_among(JOBS))
_LEAST_DOUBTFUL_FREE_OF = _LEAST_DOUBTFUL.where(_free_among(JOBS))
WAITING_WISHES = sa.select(JOBS.c.wishes).where(_waiting(JOBS)).distinct()
"""See ``Ledger.waiting_wishes``."""
_LEAST_WISHES = sa.select(sa.func.min(JOBS.c.wishes))
_LATER = JOBS.c.wishes > sa.bindparam("after")
_WISHES = _LEAST_WISHES.where(_not_skipped(JOBS))
_WISHES_AFTER = _WISHES.where(_LATER)
_WISHES_FREE = _LEAST_WISHES.where(_free(JOBS))
_WISHES_FREE_AFTER = _WISHES_FREE.where(_LATER)
