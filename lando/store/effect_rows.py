"""The outbox in SQL: rows of effects, of which each turn reads only those that it can begin.

Effects of a job run one at a time. Only its next one is in a **lane**, by its kind; those behind it have
none, and are in no turn's way. Each lane is read in the order of its due times, up to as many rows as can be
begun. Deletions that need no call, since there is no server, have a lane of their own: they do not wait while
the cloud does not answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from lando.engine.ledger import Effect, rank
from lando.message_limits import REASON, shorten
from lando.states.job import Job
from lando.store.tables import EFFECTS, JOBS

if TYPE_CHECKING:
    from lando.states.table import EffectKind

LANES: Mapping[EffectKind, int] = {
    "create_server": 1,
    "delete_server": 2,
    "delete_twins": 3,
    "attach_floating_ip": 4,
    "save_console_log": 4,
}
"""Creates, deletions, and the rest do not wait for one another."""
NO_SERVER = 5
"""The lane of the deletion of a job that has no server."""
ALL = 2**31 - 1
AT_ONCE = 500
"""Ids in one statement."""

_has_no_server = sa.and_(
    EFFECTS.c.kind == "delete_server",
    sa.exists().where(JOBS.c.id == EFFECTS.c.job_id, JOBS.c.server_id.is_(None)),
)
_lane_of_row = sa.case(
    (_has_no_server, sa.literal_column(str(NO_SERVER))),
    *((EFFECTS.c.kind == kind, sa.literal_column(str(lane))) for kind, lane in LANES.items()),
)
_JOBS = EFFECTS.c.job_id.in_(sa.bindparam("jobs", expanding=True))


def _earlier() -> sa.Exists:
    earlier = EFFECTS.alias("earlier")
    return sa.exists().where(
        earlier.c.job_id == EFFECTS.c.job_id,
        sa.or_(
            earlier.c.rank < EFFECTS.c.rank,
            sa.and_(earlier.c.rank == EFFECTS.c.rank, earlier.c.id < EFFECTS.c.id),
        ),
    )


def _first_of(lane: int) -> sa.Select[Any]:
    rows = sa.select(EFFECTS).where(EFFECTS.c.lane == sa.literal_column(str(lane)))
    first = rows.order_by(EFFECTS.c.due_at, EFFECTS.c.id).limit(sa.bindparam("limit"))
    return sa.select(first.subquery(f"lane_{lane}"))


# Built once: building a statement costs more than executing it.
_INSERT = sa.insert(EFFECTS)
_LEAVE_LANES = sa.update(EFFECTS).where(_JOBS, EFFECTS.c.lane.is_not(None), _earlier()).values(lane=None)
_DELETE = sa.delete(EFFECTS).where(EFFECTS.c.id == sa.bindparam("key"))
_next = EFFECTS.alias("next")
_ENTER_LANE = (
    sa.update(EFFECTS)
    .where(
        EFFECTS.c.id
        == sa.select(_next.c.id)
        .where(_next.c.job_id == sa.bindparam("job"))
        .order_by(_next.c.rank, _next.c.id)
        .limit(1)
        .scalar_subquery(),
        EFFECTS.c.lane.is_(None),
    )
    .values(lane=_lane_of_row)
)
_POSTPONE = (
    sa.update(EFFECTS)
    .where(EFFECTS.c.id == sa.bindparam("key"))
    .values({name: sa.bindparam(name) for name in ("due_at", "tries", "words")})
)
_NEXT = sa.union_all(*(_first_of(lane) for lane in sorted({*LANES.values(), NO_SERVER})))
_OF_JOBS = (
    sa.select(EFFECTS)
    .where(_JOBS, EFFECTS.c.kind.in_(sa.bindparam("kinds", expanding=True)))
    .order_by(EFFECTS.c.id)
)
_waiting_deletions = (
    sa.update(EFFECTS)
    .where(EFFECTS.c.due_at > sa.bindparam("now"))
    .values(due_at=sa.bindparam("now"), words="")
)
_HASTEN_JOBS = _waiting_deletions.where(_JOBS, EFFECTS.c.kind == "delete_server", EFFECTS.c.tries == 0)
_HASTEN_FAILED = _waiting_deletions.where(
    EFFECTS.c.lane.in_([sa.literal_column(str(LANES[kind])) for kind in ("delete_server", "delete_twins")]),
    EFFECTS.c.due_at <= sa.bindparam("latest"),
    EFFECTS.c.tries > 0,
)
_WAITING_TWINS = sa.select(EFFECTS).where(
    EFFECTS.c.lane == sa.literal_column(str(LANES["delete_twins"])),
    EFFECTS.c.due_at > sa.bindparam("now"),
    EFFECTS.c.tries == 0,
)
_LIMIT = (
    sa.update(EFFECTS).where(EFFECTS.c.due_at > sa.bindparam("latest")).values(due_at=sa.bindparam("latest"))
)


def values(job: Job, kind: EffectKind, servers: tuple[str, ...], due_at: float) -> dict[str, Any]:
    """The columns of a new effect."""
    needs_no_call = kind == "delete_server" and job.server_id is None
    return {
        "job_id": job.id,
        "kind": kind,
        "rank": rank(kind),
        "lane": NO_SERVER if needs_no_call else LANES[kind],
        "servers": json.dumps(servers),
        "due_at": due_at,
        "tries": 0,
        "words": "",
    }


def insert(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Add new effects; those behind another one of their job are in no lane."""
    if rows:
        connection.execute(_INSERT, rows)
        for jobs in _parts({row["job_id"] for row in rows}):
            connection.execute(_LEAVE_LANES, {"jobs": jobs})


def remove(connection: Connection, effect: Effect) -> None:
    """Remove an effect; the next one of its job takes its place."""
    connection.execute(_DELETE, {"key": effect.id})
    connection.execute(_ENTER_LANE, {"job": effect.job_id})


def postpone(connection: Connection, effect: Effect, due_at: float, tries: int, reason: str) -> None:
    """See ``Ledger.postpone_effect``."""
    words = shorten(reason, REASON)
    connection.execute(_POSTPONE, {"key": effect.id, "due_at": due_at, "tries": tries, "words": words})


def following(connection: Connection, limit: int) -> list[Effect]:
    """The next effects of jobs, due or not, the longest overdue first: of each lane up to ``limit``."""
    found = [_effect(row) for row in connection.execute(_NEXT, {"limit": limit})]
    return sorted(found, key=lambda effect: (effect.due_at, effect.id))


def of_jobs(connection: Connection, kinds: Sequence[EffectKind], job_ids: Collection[str]) -> list[Effect]:
    """The effects of these kinds of some jobs, due or not."""
    rows = (connection.execute(_OF_JOBS, {"jobs": jobs, "kinds": kinds}) for jobs in _parts(job_ids))
    return [_effect(row) for part in rows for row in part]


def hasten_deletions(connection: Connection, job_ids: Collection[str], now: float) -> None:
    """See ``Ledger.hasten_deletions``."""
    for jobs in _parts(job_ids):
        connection.execute(_HASTEN_JOBS, {"jobs": jobs, "now": now})


def hasten_failed_deletions(connection: Connection, now: float, latest: float) -> None:
    """See ``Ledger.hasten_failed_deletions``."""
    connection.execute(_HASTEN_FAILED, {"now": now, "latest": latest})


def waiting_twins(connection: Connection, now: float) -> list[Effect]:
    """See ``Ledger.waiting_twins``."""
    return [_effect(row) for row in connection.execute(_WAITING_TWINS, {"now": now})]


def limit_due_times(connection: Connection, latest: float) -> None:
    """No effect is due later. Reads the whole outbox: after a step of the clock only."""
    connection.execute(_LIMIT, {"latest": latest})


def _parts(job_ids: Collection[str]) -> list[list[str]]:
    ids = sorted(job_ids)
    return [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]


def _effect(row: Row[Any]) -> Effect:
    return Effect(
        row.id, row.job_id, row.kind, tuple(json.loads(row.servers)), row.due_at, row.tries, row.words
    )
