"""All that is persisted: jobs, their history, the outbox of effects, processed messages, logs."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from lando.store.database import HEAD, StoreUnavailable, connect, errors, schema_version
from lando.store.pending import StaleRecord
from lando.store.queries import EffectView, JobView, Queries
from lando.store.transaction import SWEPT_FACT, Swept, Transaction

__all__ = [
    "CLOUD_FACT",
    "DEPLOYMENT_FACT",
    "HEAD",
    "QUEUE_FACT",
    "ROOM_FACT",
    "SWEPT_FACT",
    "EffectView",
    "JobView",
    "Queries",
    "StaleRecord",
    "Store",
    "StoreUnavailable",
    "Swept",
    "Transaction",
    "schema_version",
]

DEPLOYMENT_FACT = "deployment"
"""The fact that is our servers' mark, where the configuration has none."""
QUEUE_FACT = "queue"
CLOUD_FACT = "cloud"
"""The facts that tell since when the daemon cannot hear the work queue, or see the cloud, and why."""
ROOM_FACT = "room"
"""The fact that tells what the next job in the order waits for."""


class Store:
    """The database, opened and up to date.

    Args:
        url: SQLAlchemy's form, ``sqlite:///…`` or ``postgresql+psycopg://…``.

    Raises:
        UsageError: the schema is newer than this program.
        StoreUnavailable: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        with errors():
            parsed = sa.make_url(url)
        self._path = Path(parsed.database) if parsed.drivername == "sqlite" and parsed.database else None
        self._engine = connect(url)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A transaction that writes: committed at the end, rolled back by any exception.

        Raises:
            StoreUnavailable: nothing was written.
        """
        with errors(self._path), self._engine.begin() as connection:
            transaction = Transaction(connection)
            yield transaction
            transaction.flush()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Queries]:
        """A consistent snapshot to read from; keeps nobody from writing."""
        with errors(self._path), self._engine.connect().execution_options(reading=True) as connection:
            yield Queries(connection)

    def deployment(self, configured: str | None) -> str:
        """The mark of our servers: the configured one, else a random one born with the database."""
        if configured is not None:
            return configured
        with self.transaction() as transaction:
            born = transaction.fact(DEPLOYMENT_FACT)
            if born is None:
                born = uuid.uuid4().hex[:12]
                transaction.set_fact(DEPLOYMENT_FACT, born)
        return str(born)

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()
