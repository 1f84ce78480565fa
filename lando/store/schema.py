"""The schema: its version, and the oldest version whose programs may still use it.

Two tables of one row each, made once and never changed again, so that a program of any age can read them in a
database of any later version:

    alembic_version (version_num VARCHAR(32))   the version
    oldest_version  (version_num VARCHAR(32))   programs that know this version, or a later one, may use it

Versions are four digits and compared as text. How a migration keeps older programs working is in
CONTRIBUTING.md, "Add a migration".
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from lando.errors import UsageError
from lando.store.tables import OLDEST_VERSION

HEAD = "0006"
"""The schema version that this program migrates to, and whose tables it knows."""

MIGRATIONS = "lando.store:migrations"
"""Where Alembic finds them."""

VERSION_TABLES = frozenset(("alembic_version", OLDEST_VERSION.name))


@dataclass(frozen=True)
class Schema:
    """The schema of a database."""

    version: str | None
    """None: no program has used the database yet."""
    oldest: str | None = None
    """None: only programs that know its version may use it, as with all versions before 0006."""

    @cached_property
    def is_too_new(self) -> bool:
        """Whether this program may not use it."""
        if self.version is None or self.version <= HEAD:
            return False
        return self.oldest is None or self.oldest > HEAD

    @cached_property
    def is_pending(self) -> bool:
        """Whether this program migrates it when it opens the database."""
        return self.version is None or self.version < HEAD

    def refuse_unusable(self, shown_url: str) -> None:
        """Refuse a schema that this program may not use.

        Args:
            shown_url: names the database, without its password.

        Raises:
            UsageError: it is one.
        """
        if self.version is not None and re.fullmatch("[0-9]{4}", self.version) is None:
            raise UsageError(
                f"{shown_url}: its schema is another program's (alembic_version {self.version!r}); "
                "give lando-fsm a database of its own"
            )
        if self.is_too_new:
            raise UsageError(
                f"{shown_url}: its schema ({self.version}) is newer than this lando-fsm knows ({HEAD}); "
                "use the newer lando-fsm, nothing was changed"
            )


def described(schema: Schema) -> str:
    """For ``check``: the schema, and what this program does with it."""
    if schema.is_pending:
        return f"schema {schema.version or 'none'}; migrated to {HEAD} when next used"
    if schema.version != HEAD:
        return f"schema {schema.version}, which this lando-fsm ({HEAD}) may use"
    return f"schema {schema.version}"


def read_schema(connection: Connection) -> Schema:
    """The schema of the database that the connection is to; nothing is made or migrated."""
    there = sa.inspect(connection)
    if not there.has_table("alembic_version"):
        return Schema(None)
    version = _only(connection, "alembic_version")
    is_known = version is not None and there.has_table(OLDEST_VERSION.name)
    return Schema(version, _only(connection, OLDEST_VERSION.name) if is_known else None)


def _only(connection: Connection, table: str) -> str | None:
    query = sa.select(sa.column("version_num", sa.String)).select_from(sa.table(table))
    value = connection.execute(query).scalar()
    return None if value is None else str(value)


def upgrade(connection: Connection, location: str = MIGRATIONS, to: str = HEAD) -> None:
    """Migrate, in the transaction of the connection, and record which programs may still use the result.

    Args:
        connection: in a transaction, alone.
        location: of the migrations, in Alembic's form.
        to: the version to migrate to.
    """
    from alembic import command  # noqa: PLC0415 - half a second to import, needed once in a schema's life
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", location)
    config.attributes["connection"] = connection
    command.upgrade(config, to)
    migration: Any = ScriptDirectory.from_config(config).get_revision(to)
    oldest = getattr(migration.module, "oldest", None)
    if oldest is not None:  # before 0006 there is no table for it
        connection.execute(sa.delete(OLDEST_VERSION))
        connection.execute(sa.insert(OLDEST_VERSION).values(version_num=oldest))
