"""The line of ``lando-fsm check`` about how long what has ended is kept, and how large the database is."""

from __future__ import annotations

from typing import Literal

from lando.app.app import App
from lando.cli.text import count
from lando.times import written

MANY_JOBS, MANY_BYTES = 100_000, 10**9
"""Ended jobs, and bytes of the database, from which on a database that keeps everything is warned of."""
ADVICE = "set retention.ended in landoconfig.yml to keep them for a time such as 90d (docs/retention.md)"


def check(app: App) -> tuple[Literal["ok", "warning"], str]:
    """The verdict and the message."""
    retention = app.config.retention
    kept = ", ".join(f"{key} {written(seconds)}" for key, seconds in vars(retention).items() if seconds)
    with app.views().reading() as queries:
        if queries is None:
            return "ok", kept or "everything is kept"
        ended, size = queries.count_ended(), queries.database_size()
    found = f"{count(ended, 'ended job')}, {size / 2**20:,.0f} MiB; {kept or 'everything is kept'}"
    if retention.ended is None and (ended > MANY_JOBS or size > MANY_BYTES):
        return "warning", f"{found}; jobs are kept for ever, and the database grows: {ADVICE}"
    return "ok", found
