"""What is remembered of messages: which had their effect, and cancels that came before their jobs."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.messages import Origin
from lando.store.tables import EARLY_CANCELS, PROCESSED

MAX_PROCESSED = 100_000
"""Messages that are remembered as processed."""
MAX_EARLY_CANCELS = 10_000
"""Rows that are left when a transaction adds more: the newest."""


def forget_processed(connection: Connection, origin: Origin, before: float, limit: int) -> int:
    """Forget up to ``limit`` messages processed before this time (epoch seconds), or before the newest
    MAX_PROCESSED, and early cancels as old.

    Returns:
        How many messages were forgotten.
    """
    # Of any origin, which the index alone answers: workers' are few, left by lando-fsm 0.1.
    newest = sa.select(PROCESSED.c.at).order_by(PROCESSED.c.at.desc()).offset(MAX_PROCESSED - 1).limit(1)
    oldest_kept = max(before, connection.execute(newest).scalar() or before)
    old = sa.select(PROCESSED.c.id).where(
        PROCESSED.c.at < oldest_kept, PROCESSED.c.id.startswith(f"{origin}:")
    )
    forgotten = connection.execute(sa.delete(PROCESSED).where(PROCESSED.c.id.in_(old.limit(limit))))
    if origin == "client":
        connection.execute(sa.delete(EARLY_CANCELS).where(EARLY_CANCELS.c.at < before))
    return forgotten.rowcount


def shift_times(connection: Connection, step: float, now: float) -> None:
    """See ``Ledger.shift_message_times``."""
    for table in (PROCESSED, EARLY_CANCELS):
        shifted = sa.case((table.c.at + step < now, table.c.at + step), else_=now)
        connection.execute(sa.update(table).values(at=shifted))


def drop_oldest_early_cancels(connection: Connection) -> None:
    """Leave MAX_EARLY_CANCELS at most."""
    count = sa.select(sa.func.count()).select_from(EARLY_CANCELS)
    too_many = connection.execute(count).scalar_one() - MAX_EARLY_CANCELS
    if too_many > 0:
        oldest = sa.select(EARLY_CANCELS.c.job_id).order_by(EARLY_CANCELS.c.at).limit(too_many)
        connection.execute(sa.delete(EARLY_CANCELS).where(EARLY_CANCELS.c.job_id.in_(oldest)))
