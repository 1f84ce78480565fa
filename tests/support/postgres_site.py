"""A site with RabbitMQ and PostgreSQL, as a facility has them; VMs are local."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from tests.support.local_site import QUICK
from tests.support.rabbitmq_server import VirtualHost
from tests.support.rabbitmq_site import BrokerSite


class PostgresSite(BrokerSite):
    """A BrokerSite whose daemon keeps everything in PostgreSQL.

    Args:
        root, here, max_workers, config, work_queue: see ``BrokerSite``.
        url: the database's, as the daemon is to have it.
        direct: the same past any proxy, for the test's own questions.
    """

    def __init__(
        self,
        root: Path,
        here: VirtualHost,
        url: str,
        max_workers: int = 4,
        config: str = QUICK,
        direct: str | None = None,
        **work_queue: Any,
    ) -> None:
        cloud = f'cloud: local\ndatabase:\n  url: "{url}"'
        super().__init__(root, here, max_workers, config, cloud, **work_queue)
        address = sa.make_url(direct or url).set(drivername="postgresql")
        self._direct = address.render_as_string(hide_password=False)
        self._connection: psycopg.Connection[Any] | None = None
        self._seen: dict[str, str] = {}

    def make_state(self) -> None:
        """A directory; the database has its schema."""
        self.state.mkdir(mode=0o700, parents=True, exist_ok=True)

    def query(self, statement: str) -> list[Any]:
        """Rows, in a session of the test's own."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self._direct, autocommit=True, connect_timeout=2)
        return self._connection.execute(statement).fetchall()

    def states(self) -> dict[str, str]:
        """As last seen: the database may be down."""
        with contextlib.suppress(psycopg.OperationalError):
            self._seen = dict(self.query("SELECT id, state FROM jobs"))
        return self._seen

    def close(self) -> None:
        """End what is left, and the test's own session."""
        super().close()
        self.views().close()
        if self._connection is not None:
            self._connection.close()
