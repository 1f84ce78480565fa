"""Opens the database: durable connections, and a schema that is up to date.

SQLite: https://www.sqlite.org/pragma.html (WAL, synchronous=FULL, foreign keys); transactions are begun
by us, since the driver begins late and never IMMEDIATE (SQLAlchemy, "SQLite: serializable isolation").
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from lando.errors import DatabaseLocked, LandoError, UsageError
from lando.state_dir import BUSY_TIMEOUT, is_locked, use_write_ahead_log

HEAD = "0005"
"""The schema version that this program reads and writes."""

_MIGRATION_LOCK = 0x6C616E646F


class StoreUnavailable(LandoError):
    """The database cannot be read or written at the moment; nothing was changed."""


class StoreLocked(StoreUnavailable, DatabaseLocked):
    """Another process holds its lock."""


def connect(url: str, patience: float = BUSY_TIMEOUT) -> Engine:
    """An engine on an up-to-date schema; makes a missing SQLite file (0600), migrates an older schema.

    Args:
        url: SQLAlchemy's form, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        patience: seconds that SQLite waits for a lock of another process.

    Raises:
        UsageError: the schema is newer than this program.
        StoreUnavailable: the database cannot be opened.
    """
    parsed = sa.make_url(url)
    path = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
    with errors(path):
        if path is not None:
            _make_private(path)
        engine = sa.create_engine(parsed, connect_args=_connect_args(path, patience), hide_parameters=True)
        if path is not None:
            _tune_sqlite(engine, patience)
        try:
            _migrate(engine, parsed.render_as_string(hide_password=True))
        except BaseException:
            engine.dispose()
            raise
    return engine


def schema_version(url: str) -> str | None:
    """The schema version of the database; nothing is created or migrated.

    Raises:
        StoreUnavailable: the database cannot be read.
    """
    with errors():
        engine = sa.create_engine(url, hide_parameters=True)
    try:
        with errors(), engine.connect() as connection:
            return _version(connection)
    finally:
        engine.dispose()


def _connect_args(path: Path | None, patience: float) -> dict[str, Any]:
    return {} if path is None else {"timeout": patience, "check_same_thread": False}


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _tune_sqlite(engine: Engine, patience: float) -> None:
    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        use_write_ahead_log(connection, patience)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    @sa.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _migrate(engine: Engine, shown_url: str) -> None:
    with engine.connect().execution_options(reading=True) as connection:
        version = _version(connection)
    if version == HEAD:
        return
    with engine.begin() as connection:  # one exclusive transaction: a second process finds it done
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        version = _version(connection)
        if version is not None and version > HEAD:
            raise UsageError(
                f"{shown_url}: its schema ({version}) is newer than this lando-fsm knows ({HEAD}); "
                "use the newer lando-fsm, nothing was changed"
            )
        if version != HEAD:
            _upgrade(connection)


def _version(connection: Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if version is None else str(version)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - half a second to import, needed once in a schema's life
    from alembic.config import Config  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config = Config()
    config.set_main_option("script_location", "lando.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)


@contextlib.contextmanager
def errors(path: Path | None = None) -> Iterator[None]:
    """Turn errors of the driver into StoreUnavailable or UsageError, with the file's name."""
    where = f"{path}: " if path is not None else "the database: "
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"{where}{error.strerror or error}") from error
    except ModuleNotFoundError as error:
        raise UsageError(
            f"database.url: {error.name} is not installed; pip install 'psycopg[binary]'"
        ) from error
    except sa.exc.ArgumentError as error:
        raise UsageError(f"database.url: {error}") from error
    except sa.exc.OperationalError as error:
        kind = StoreLocked if is_locked(error.orig) else StoreUnavailable
        raise kind(f"{where}{error.orig}{_advice(str(error.orig))}") from error
    except sa.exc.DatabaseError as error:
        if type(error) is not sa.exc.DatabaseError:
            raise  # the value or the statement is wrong, not the database
        raise StoreUnavailable(f"{where}{error.orig}") from error


def _advice(message: str) -> str:
    if "readonly" in message or "unable to open" in message:
        return " (is its directory writable?)"
    if "full" in message:
        return " (make room on the disk; nothing is lost)"
    return ""
