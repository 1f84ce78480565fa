"""Refuses servers of PostgreSQL whose data is not what was used before: an old primary that has returned."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from lando.postgres.address import address_of
from lando.store.database import OldServer, StoreOutage, StoreUnusable
from lando.store.seen_server import Identity, SeenServer

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger("lando")


class ServerCheck:
    """Looks at the server of each new connection of an engine.

    Args:
        engine: its connections.
        seen: which server was used before.
    """

    def __init__(self, engine: sa.Engine, seen: SeenServer) -> None:
        self.where = str(address_of(engine.url))
        self._seen = seen
        self._refused: tuple[str, str] | None = None
        """Host and port that were refused last: the others of the URL are tried first."""
        sa.event.listen(engine, "do_connect", self._order_hosts)

    def attach_reader(self, engine: sa.Engine) -> None:
        """Check each connection of an engine that remembers nothing, as of a command."""

        @sa.event.listens_for(engine, "connect")
        def _(connection: psycopg.Connection[Any], record: Any) -> None:
            self._seen = SeenServer(self._seen.path, self.where)  # the daemon may have seen another one
            if self._seen.identity == Identity():
                return
            try:
                connection.autocommit = True
                self.refuse_older(connection, identity(connection))
                connection.autocommit = False
            except BaseException:
                connection.close()
                raise

    def note(self, connection: psycopg.Connection[Any], has_begun: bool) -> None:
        """Refuse a server to which a daemon must not write, although it would take it; remember another.

        Args:
            connection: commits each statement.
            has_begun: the daemon has used a server before.

        Raises:
            StoreOutage: another server may be reached later.
            StoreUnusable: it has other data.
        """
        found = identity(connection)
        info = connection.info
        server = f"{info.host}:{info.port}"
        if _value(connection, "SELECT pg_is_in_recovery()"):
            self._refused = info.host, str(info.port)
            raise StoreOutage(
                f"{self.where}: {server} is a replica, which takes no writes; with several hosts in "
                "database.url, add target_session_attrs=read-write"
            )
        if self._seen.is_other_cluster(found):
            text = (
                f"{self.where}: {server} is of another cluster (system identifier {found.system}) than the "
                f"server that was used before ({self._seen.identity.system})"
            )
            if has_begun:
                raise StoreUnusable(f"{text}. Nothing was done from then on, and VMs run on")
            log.warning("%s; that is right if it was upgraded or restored", text)
        self.refuse_older(connection, found)
        self._seen.note(found)

    def refuse_older(self, connection: psycopg.Connection[Any], found: Identity) -> None:
        """Refuse a server that has an older history than one that was used.

        Raises:
            OldServer: it has.
        """
        info = connection.info
        if not self._seen.is_older(found):
            self._refused = None
            return
        self._refused = info.host, str(info.port)
        raise OldServer(
            f"{self.where}: {info.host}:{info.port} has timeline {found.timeline}, older than "
            f"{self._seen.identity.timeline}, which was used before: it was the primary, and lacks what was "
            "written since. Stop it, or make it a replica; if it is the right one nevertheless, stop the "
            f"daemon and remove {self._seen.path}"
        )

    def _order_hosts(self, dialect: Any, record: Any, positional: Any, named: dict[str, Any]) -> None:
        """Of two servers that both take writes, libpq would find the first again and again."""
        hosts, ports = str(named.get("host", "")).split(","), str(named.get("port", "")).split(",")
        if self._refused is None or len(hosts) < 2:
            return
        ports = ports if len(ports) == len(hosts) else ports[:1] * len(hosts)
        pairs = sorted(zip(hosts, ports, strict=True), key=lambda pair: pair == self._refused)
        named["host"], named["port"] = (",".join(each) for each in zip(*pairs, strict=True))


def identity(connection: psycopg.Connection[Any]) -> Identity:
    """What an ordinary account may ask; services that are like PostgreSQL may not have it.

    Args:
        connection: commits each statement.
    """
    import psycopg  # noqa: PLC0415 - where there is one

    system, timeline = None, None
    with contextlib.suppress(psycopg.Error):
        system = str(_value(connection, "SELECT system_identifier FROM pg_control_system()"))
    with contextlib.suppress(psycopg.Error):  # a replica has none
        # pg_control_checkpoint() would tell of the new timeline only after a promoted replica's checkpoint.
        timeline = int(_value(connection, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"), 16)
    return Identity(system, timeline)


def _value(connection: psycopg.Connection[Any], statement: str) -> Any:
    row = connection.execute(statement).fetchone()
    return None if row is None else row[0]
