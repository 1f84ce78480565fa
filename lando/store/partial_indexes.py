"""Indexes of some of a table's rows, so that thousands of others cost nothing.

Apart from the tables, since these options load SQLAlchemy's PostgreSQL dialect: 50 ms, which a command on
SQLite need not wait. Nothing but migrations makes an index; this is what they are compared with.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Index

from lando.store.tables import ENDED, FORGOTTEN, JOBS, METADATA

TABLES = METADATA
"""The tables with all of their indexes."""


def _only(condition: str) -> dict[str, Any]:
    """Of an index that has some of the rows. A query uses it if it has this condition, as it is written."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


# For admission; see ``lando.store.admission_order``.
_READY, _IN_BACK_OFF = _only("waiting = 0"), _only("waiting = 1")
_IN_ORDER = (JOBS.c.priority.desc(), JOBS.c.number)
Index("jobs_ready", *_IN_ORDER, **_READY)
Index("jobs_ready_by_wishes", JOBS.c.wishes, *_IN_ORDER, **_READY)
Index("jobs_ready_by_doubt", JOBS.c.wishes, JOBS.c.doubt, *_IN_ORDER, **_READY)
Index("jobs_in_back_off", JOBS.c.not_before, **_IN_BACK_OFF)

# For lists, in their order; see ``lando.store.selection``.
Index("jobs_in_queue", JOBS.c.state, JOBS.c.priority.desc(), JOBS.c.number, **_only("state = 'queued'"))
_BY_TIME = (JOBS.c.state, JOBS.c.entered_at, JOBS.c.number)
Index("jobs_in_progress", *_BY_TIME, **_only("state IN ('booting', 'running', 'terminating')"))
Index("jobs_ended", *_BY_TIME, **_only("state IN ('done', 'failed')"))

# For retention: what is due; see ``lando.store.retention``.
Index("jobs_by_end", JOBS.c.entered_at, **_only(ENDED))
Index("jobs_with_secrets", JOBS.c.entered_at, **_only(f"{ENDED} AND secrets_dropped_at IS NULL"))
Index("jobs_with_logs", JOBS.c.entered_at, **_only(f"{ENDED} AND logs_removed_at IS NULL"))
Index("forgotten_with_rows", FORGOTTEN.c.at, **_only("has_rows"))
Index("forgotten_with_files", FORGOTTEN.c.at, FORGOTTEN.c.id, **_only("has_files"))
