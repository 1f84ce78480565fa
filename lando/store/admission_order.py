"""The admission order in SQL: which queued job is the first, but for those that have to wait.

A queued job is ``waiting`` for its back-off (1), or ready (0): ``PROMOTE`` makes those ready whose back-off
has ended. The first of all is the first entry of the index ``jobs_ready``. Where some wishes have to wait,
the caller knows the others, and the first is among the first of each of these, as the index
``jobs_ready_by_wishes`` has them. So what is read does not grow with the jobs that wait.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from lando.store.pending import JOB_COLUMNS
from lando.store.tables import JOBS
from lando.store.types import listed

READY: sa.ColumnElement[int] = sa.literal_column("0")
WAITING: sa.ColumnElement[int] = sa.literal_column("1")
"""As they are written, for SQLite to use an index that has such jobs only."""


def next_queued(
    now: float, wishes: Collection[str] | None, held_back: Collection[str]
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and its parameters; see ``Ledger.next_queued`` and ``Ledger.held_back``.

    Args:
        now: the daemon's clock.
        wishes: only with these; None: with any.
        held_back: not these jobs.
    """
    if wishes is None:
        return (_FIRST_FREE if held_back else _FIRST), _values(now, (), held_back)
    return (_FIRST_FREE_OF if held_back else _FIRST_OF), _values(now, wishes, held_back)


def least_doubtful(
    now: float, wishes: Collection[str], held_back: Collection[str]
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """The statement, and its parameters; see ``Ledger.least_doubtful`` and ``Ledger.held_back``."""
    return (_LEAST_DOUBTFUL_FREE if held_back else _LEAST_DOUBTFUL), _values(now, wishes, held_back)


def ready_wishes(
    now: float, wishes: Collection[str], held_back: Collection[str]
) -> tuple[sa.Select[Any], dict[str, Any]]:
    """Which of these wishes jobs have that are ready: the statement, and its parameters."""
    return (_READY_WISHES_FREE if held_back else _READY_WISHES), _values(now, wishes, held_back)


def _values(now: float, wishes: Collection[str], held_back: Collection[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"now": now}
    if wishes:
        values["wished"] = [*wishes]
    if held_back:
        values["held_back"] = [*held_back]
    return values


def _is_ready(jobs: sa.FromClause, is_free: bool) -> sa.ColumnElement[bool]:
    ready = sa.and_(jobs.c.waiting == READY, jobs.c.not_before <= sa.bindparam("now"))
    return sa.and_(ready, jobs.c.id.not_in(listed("held_back"))) if is_free else ready


def _in_order(jobs: sa.FromClause) -> tuple[sa.ColumnElement[Any], ...]:
    """By priority, the highest first, then by arrival."""
    return jobs.c.priority.desc(), jobs.c.number


def _by_doubt(jobs: sa.FromClause) -> tuple[sa.ColumnElement[Any], ...]:
    return jobs.c.doubt, *_in_order(jobs)


def _first(is_free: bool) -> sa.Select[Any]:
    return sa.select(*JOB_COLUMNS).where(_is_ready(JOBS, is_free)).order_by(*_in_order(JOBS)).limit(1)


def _first_of(order: Any, is_free: bool) -> sa.Select[Any]:
    """The first among the first of each of the wishes."""
    wished, each = listed("wished").subquery("wished"), JOBS.alias("each")
    first = (
        sa.select(each.c.number)
        .where(_is_ready(each, is_free), each.c.wishes == wished.c.value)
        .order_by(*order(each))
        .limit(1)
        .correlate(wished)
        .scalar_subquery()
    )
    firsts = sa.select(first).select_from(wished)
    return sa.select(*JOB_COLUMNS).where(JOBS.c.number.in_(firsts)).order_by(*order(JOBS)).limit(1)


def _ready_wishes(is_free: bool) -> sa.Select[Any]:
    wished, each = listed("wished").subquery("wished"), JOBS.alias("each")
    one = sa.exists().where(_is_ready(each, is_free), each.c.wishes == wished.c.value)
    return sa.select(wished.c.value).where(one.correlate(wished))


# Built once: building a statement costs more than executing it.
_FIRST, _FIRST_FREE = _first(False), _first(True)
_FIRST_OF, _FIRST_FREE_OF = _first_of(_in_order, False), _first_of(_in_order, True)
_LEAST_DOUBTFUL, _LEAST_DOUBTFUL_FREE = _first_of(_by_doubt, False), _first_of(_by_doubt, True)
_READY_WISHES, _READY_WISHES_FREE = _ready_wishes(False), _ready_wishes(True)
PROMOTE = (
    sa.update(JOBS)
    .where(JOBS.c.waiting == WAITING, JOBS.c.not_before <= sa.bindparam("now"))
    .values(waiting=0)
)
"""Those whose back-off has ended are ready."""
RECONSIDER = sa.update(JOBS).where(JOBS.c.waiting == READY, JOBS.c.not_before > 0).values(waiting=1)
"""After a step of the clock: ``PROMOTE`` finds out again."""
LIMIT_WAITS = (
    sa.update(JOBS)
    .where(JOBS.c.waiting == WAITING, JOBS.c.not_before > sa.bindparam("latest"))
    .values(not_before=sa.bindparam("latest"))
)
"""See ``Ledger.limit_due_times``."""
