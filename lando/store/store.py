"""All that is persisted: jobs, their history, the outbox of effects, processed messages, logs."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from lando.state_dir import BUSY_TIMEOUT
from lando.store.database import connect, errors
from lando.store.facts import DEPLOYMENT_FACT
from lando.store.queries import Queries
from lando.store.transaction import Transaction


class Store:
    """The database, opened and up to date.

    Args:
        url: SQLAlchemy's form, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        patience: seconds that SQLite waits for a lock of another process.

    Raises:
        UsageError: the schema is newer than this program.
        StoreUnavailable: the database cannot be opened.
    """

    def __init__(self, url: str, patience: float = BUSY_TIMEOUT) -> None:
        with errors():
            parsed = sa.make_url(url)
        self._path = Path(parsed.database) if parsed.drivername == "sqlite" and parsed.database else None
        self._engine = connect(url, patience)

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
        """A consistent snapshot to read from; writers are not blocked."""
        with errors(self._path), self._engine.connect().execution_options(reading=True) as connection:
            yield Queries(connection)

    def deployment(self, configured: str | None) -> str:
        """The deployment's name: the configured one, else a random one, generated with the database."""
        if configured is not None:
            return configured
        with self.transaction() as transaction:
            generated = transaction.fact(DEPLOYMENT_FACT)
            if generated is None:
                generated = uuid.uuid4().hex[:12]
                transaction.set_fact(DEPLOYMENT_FACT, generated)
        return str(generated)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
