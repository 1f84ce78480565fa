"""Opens the database: durable connections, and a schema that is up to date.

PostgreSQL: ``lando.postgres.opening``. SQLite: https://www.sqlite.org/pragma.html (WAL, synchronous=FULL,
foreign keys); transactions are begun by us, since the driver begins late and never IMMEDIATE (SQLAlchemy,
"SQLite: serializable isolation").
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from lando.errors import DatabaseOutage, DatabaseUnusable, LandoError, UsageError
from lando.postgres import failures as postgres_failures
from lando.postgres import opening
from lando.postgres.address import Address, address_of
from lando.sqlite.failures import damage, is_damage, is_outage, refusal, sentence
from lando.sqlite.opening import BUSY_TIMEOUT, make_durable
from lando.sqlite.quick_check import quick_check
from lando.sqlite.same_file import SameFile
from lando.store.schema import Schema, read_schema, upgrade

SQLITE = "sqlite:///"
READING: dict[str, Any] = {"reading": True, "postgresql_readonly": True}
"""Options of a connection that does not write."""
POOL = 3
"""Connections to PostgreSQL that a process has at most."""
_MIGRATION_LOCK = 0x6C616E646F


class StoreUnavailable(LandoError):
    """The database cannot be read or written at the moment; nothing was changed."""


class StoreOutage(StoreUnavailable, DatabaseOutage):
    """Another process holds its lock, its disk is full or fails, or its server does not answer."""


class OldServer(StoreOutage):
    """It was the primary, and is not any more. If the URL names others, the next connection is to one of
    them."""


class StoreConflict(StoreOutage):
    """Another transaction changed the same rows: the whole transaction can be tried again at once."""


class StoreUnusable(StoreUnavailable, DatabaseUnusable):
    """It is damaged, or was removed or replaced."""


class StoreForbidden(StoreUnavailable, UsageError):
    """This account may not read or write its file, or the server refuses it (exit code 2)."""


class StoreReplaced(StoreUnusable):
    """Its files were removed or replaced. What was opened can still be read; see ``Store.save``."""


def parsed(url: str) -> sa.URL:
    """A database's URL. The path of an SQLite file is taken as it is: SQLAlchemy would read ``%20`` as a
    space, and what follows a ``?`` as options.

    Args:
        url: SQLAlchemy's form, ``sqlite:///…`` or ``postgresql+psycopg://…``.
    """
    if url.startswith(SQLITE):
        return sa.URL.create("sqlite", database=url.removeprefix(SQLITE))
    return sa.make_url(url)


def sqlite_path(url: sa.URL) -> Path | None:
    """The file of an SQLite database; None where the database has none."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def connect(
    url: str, patience: float = BUSY_TIMEOUT, state_dir: Path | None = None
) -> tuple[Engine, SameFile | None]:
    """An engine on an up-to-date schema; makes a missing SQLite file (0600), migrates an older schema.

    The second value tells whether SQLite's files are still those that were opened.

    Args:
        url: SQLAlchemy's form, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        patience: seconds that SQLite waits for a lock of another process.
        state_dir: of the daemon; see ``Store``.

    Raises:
        UsageError: the schema is too new for this program.
        StoreUnavailable: the database cannot be opened.
    """
    with errors():
        address = parsed(url)
    path, same_file = sqlite_path(address), None
    with errors(address):
        if path is not None:
            _make_private(path)
            same_file = SameFile(path)
        engine = make_engine(address, patience, same_file)
        if path is None and state_dir is not None:
            _refuse_old_servers(engine, state_dir)
        try:
            try:
                _migrate(engine)
            except OldServer:
                _migrate(engine)
        except BaseException:
            engine.dispose()
            raise
    return engine, same_file


def make_engine(
    url: sa.URL,
    patience: float = BUSY_TIMEOUT,
    same_file: SameFile | None = None,
    connections: int = POOL,
) -> Engine:
    """The one place where connections are set up; none is made yet.

    Args:
        url: as ``parsed`` returns it.
        patience: seconds that SQLite waits for a lock of another process.
        same_file: refuses SQLite's files where they are not those that were opened.
        connections: how many there may be at once to PostgreSQL.
    """
    if url.get_backend_name() == "postgresql":
        return _postgres_engine(url, connections)
    arguments = {"timeout": patience, "check_same_thread": False}
    engine = sa.create_engine(url, connect_args=arguments, hide_parameters=True)
    _tune_sqlite(engine, patience, same_file)
    return engine


def stored_schema(url: str) -> Schema:
    """The schema of the database; nothing is created or migrated.

    Raises:
        StoreUnavailable: the database cannot be read.
    """
    with errors():
        address = parsed(url)
    engine = make_engine(address)
    try:
        with errors(address), engine.connect().execution_options(**READING) as connection:
            return read_schema(connection)
    finally:
        engine.dispose()


def refuse_damage(path: Path) -> bool:
    """Look for damage in an SQLite file, for ten seconds at most.

    Returns:
        Whether all was looked at.

    Raises:
        StoreUnusable: it is damaged.
        StoreUnavailable: it cannot be read.
    """
    with errors(path):
        found, is_all = quick_check(path)
    if found is not None:
        raise StoreUnusable(f"{path}: {damage(found)}")
    return is_all


def _make_private(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def refuse_difference(same_file: SameFile | None) -> None:
    """Refuse files that are not those that were opened.

    Raises:
        StoreReplaced: they were removed or replaced.
        OSError: they cannot be examined at present.
    """
    difference = None if same_file is None else same_file.difference()
    if difference is not None:
        raise StoreReplaced(difference)


def _postgres_engine(url: sa.URL, connections: int) -> Engine:
    engine = sa.create_engine(
        url,
        connect_args=opening.connect_args(url),
        hide_parameters=True,
        isolation_level=opening.ISOLATION,
        pool_size=connections,
        max_overflow=0,
        # A command that goes on for long outlives the server; a daemon, which has one connection, must know.
        pool_pre_ping=connections > 1,
        use_native_hstore=False,  # asks each new server whether it has that type
    )

    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        opening.refuse_unfit(connection, address_of(url))

    return engine


def _refuse_old_servers(engine: Engine, state_dir: Path) -> None:
    from lando.store.seen_server import SeenServer, file_in  # noqa: PLC0415 - for PostgreSQL only
    from lando.store.server_check import ServerCheck  # noqa: PLC0415

    seen = SeenServer(file_in(state_dir), str(address_of(engine.url)))
    ServerCheck(engine, seen).attach_reader(engine)


def _tune_sqlite(engine: Engine, patience: float, same_file: SameFile | None) -> None:
    @sa.event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        make_durable(connection, patience)
        connection.execute("PRAGMA foreign_keys=ON")
        refuse_difference(same_file)  # a later connection may be to another file than the first

    @sa.event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        reading = connection.get_execution_options().get("reading", False)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _migrate(engine: Engine) -> None:
    with engine.connect().execution_options(**READING) as connection:
        schema = read_schema(connection)
    schema.refuse_unusable(_name(engine.url))
    if not schema.is_pending:
        return
    is_postgres = engine.dialect.name == "postgresql"
    # What the process that was first has committed must be seen by the one that waited for it.
    options = {"isolation_level": "READ COMMITTED"} if is_postgres else {}
    with engine.execution_options(**options).begin() as connection:  # a second process finds it done
        if is_postgres:
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        schema = read_schema(connection)
        schema.refuse_unusable(_name(engine.url))
        if schema.is_pending:
            upgrade(connection)


def _name(url: sa.URL) -> str:
    path = sqlite_path(url)
    return str(address_of(url) if path is None else path)


@contextlib.contextmanager
def errors(place: sa.URL | Path | None = None) -> Iterator[None]:
    """Turn errors of the driver into StoreUnavailable or UsageError, with the database's name.

    Args:
        place: the database: its URL, or the file of an SQLite database; None where it is not known yet.
    """
    if isinstance(place, sa.URL) and place.get_backend_name() == "postgresql":
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            found = _of_postgres(error, address_of(place))
            if found is None:  # the value or the statement is wrong, not the database
                _leave_out_rows(error)
                raise
            raise found from error
        return
    with _errors_of_sqlite(sqlite_path(place) if isinstance(place, sa.URL) else place):
        yield


def _leave_out_rows(error: sa.exc.SQLAlchemyError) -> None:
    """PostgreSQL's details may have a whole row, with the secrets of a job's body."""
    for each in (error, getattr(error, "orig", None)):
        if each is not None and each.args:
            words = re.sub(r"\nDETAIL: .*?(?=\n[A-Z]+: |\n\[SQL|\Z)", "", str(each.args[0]), flags=re.DOTALL)
            each.args = (words, *each.args[1:])


def _of_postgres(error: sa.exc.SQLAlchemyError, where: Address) -> LandoError | None:
    if isinstance(error, sa.exc.TimeoutError):
        return StoreOutage(f"{where}: all connections of this process were in use for too long")
    found = postgres_failures.failure(error.orig if isinstance(error, sa.exc.DBAPIError) else None, where)
    return None if found is None else _KINDS[found.kind](found.sentence)


_KINDS: dict[str, type[StoreUnavailable]] = {
    "outage": StoreOutage,
    "conflict": StoreConflict,
    "forbidden": StoreForbidden,
    "unusable": StoreUnusable,
}


@contextlib.contextmanager
def _errors_of_sqlite(path: Path | None) -> Iterator[None]:
    where = f"{path}: " if path is not None else "the database: "
    try:
        yield
    except OSError as error:
        kind = StoreOutage if is_outage(error) else StoreUnavailable
        raise kind(f"{where}{error.strerror or error}") from error
    except sa.exc.ArgumentError as error:
        raise UsageError(f"database.url: {error}") from error
    except (sa.exc.OperationalError, sqlite3.OperationalError) as error:
        cause = error.orig if isinstance(error, sa.exc.OperationalError) else error
        is_refused = path is not None and refusal(cause, path) is not None
        kind = StoreOutage if is_outage(cause) else StoreForbidden if is_refused else StoreUnavailable
        raise kind(f"{where}{sentence(cause, path)}") from error
    except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
        if type(error) not in (sa.exc.DatabaseError, sqlite3.DatabaseError):
            raise  # the value or the statement is wrong, not the database
        cause = error.orig if isinstance(error, sa.exc.DatabaseError) else error
        kind = StoreUnusable if is_damage(cause) else StoreUnavailable
        raise kind(f"{where}{sentence(cause)}") from error
