"""The PostgreSQL database that is copied to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from lando.errors import LandoError, UsageError
from lando.postgres.address import address_of
from lando.store.copying.mark import DOCS, CopyMark, mark_value, to_mark
from lando.store.copying.rows import CHUNK, Checksum, Column, CopiedTable, Row
from lando.store.daemon_session import HOLDERS, TRY_LOCK, Holder
from lando.store.database import READING, connect, errors, make_engine, parsed
from lando.store.facts import COPY_FACT, DAEMON_FACT
from lando.store.schema import HEAD, VERSION_TABLES, read_schema
from lando.store.tables import FACTS, METADATA

_FOUND = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relname
"""
"""Tables and views, but those of extensions."""
SHOWN = 5
"""How many tables are named of a database that is not empty."""

Driver = psycopg.Connection[Any]


class TargetInUse(UsageError):
    """The database holds something else."""


class Target:
    """The database, connected; see ``prepare``.

    Args:
        url: its address, in SQLAlchemy's form.

    Raises:
        UsageError: the address is wrong, or the server refuses it.
        StoreUnavailable: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._url = parsed(url)
        self._text = url
        self.shown = str(address_of(self._url))
        self._engine = make_engine(self._url)
        self._lock: sa.Connection | None = None
        with errors(self._url), self._engine.connect():
            pass

    def hold(self) -> None:
        """Take the lock of the database's one daemon, and keep it until ``close``.

        Raises:
            TargetInUse: a daemon, or another copy, has it.
        """
        with errors(self._url):
            self._lock = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            if self._lock.exec_driver_sql(TRY_LOCK).scalar():
                return
            holders = [Holder(*row).described for row in self._lock.exec_driver_sql(HOLDERS)]
        named = "; ".join(holders) or "a session that has just ended"
        raise TargetInUse(f"{self.shown}: a daemon, or another copy, uses it ({named}); stop it first")

    def close(self) -> None:
        """Close all connections, and with them the lock."""
        if self._lock is not None:
            self._lock.close()
        self._engine.dispose()

    def mark(self) -> CopyMark | None:
        """What the database says about its being a copy; None if nothing."""
        with self._reading() as connection:
            if not sa.inspect(connection).has_table(FACTS.name):
                return None
            query = sa.select(FACTS.c.value).where(FACTS.c.name == COPY_FACT)
            text = connection.execute(query).scalar()
        return to_mark(None if text is None else json.loads(text))

    def refuse_contents(self) -> None:
        """Refuse a database that is not empty; one with the schema of this program and no rows is.

        Raises:
            TargetInUse: names what is in it.
        """
        with self._reading() as connection:
            found = list(connection.execute(sa.text(_FOUND)).scalars())
            known = {*METADATA.tables, *VERSION_TABLES}
            others = [name for name in found if name not in known]
            held = [name for name in found if name in known - VERSION_TABLES]
            rows = {name: self._count(connection, name) for name in held}
        filled = [f"{name}: {count} rows" for name, count in rows.items() if count]
        if others or filled:
            listed = [*filled, *others]
            more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
            raise TargetInUse(
                f"{self.shown}: is not empty ({', '.join(listed[:SHOWN])}{more}); name a new database: {DOCS}"
            )

    def prepare(self, mark: CopyMark) -> None:
        """Make or migrate the schema, say what this is going to be, and take its triggers out of action: what
        they would write is copied.

        Args:
            mark: before the first row.
        """
        engine, _ = connect(self._text)
        engine.dispose()
        with self._writing() as connection:
            version = read_schema(connection).version
            if version != HEAD:
                raise UsageError(
                    f"{self.shown}: its schema ({version}) is not the one that is copied ({HEAD}): use one "
                    "lando-fsm for all of the copy"
                )
            self._set_mark(connection, mark)
            self._alter_triggers(connection, "DISABLE")

    def checksum(self, table: CopiedTable) -> Checksum:
        """Of all rows that are there."""
        found = Checksum()
        names = sql.SQL(", ").join(sql.Identifier(name) for name in table.names)
        query = sql.SQL("SELECT {} FROM {}").format(names, sql.Identifier(table.name))
        if table.name == FACTS.name:
            query += sql.SQL(" WHERE name <> {}").format(COPY_FACT)
        query += sql.SQL(" ORDER BY {}").format(sql.SQL(", ").join(map(_in_order, table.key_columns)))
        with self._driver() as driver, driver.cursor("rows") as cursor:
            cursor.execute(query, binary=True)
            while rows := cursor.fetchmany(CHUNK):
                found.add(rows)
        return found

    def append(self, table: CopiedTable, rows: Sequence[Row]) -> None:
        """Write rows, in one transaction.

        Raises:
            LandoError: one of them is refused.
        """
        names = sql.SQL(", ").join(sql.Identifier(name) for name in table.names)
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), names)
        with self._driver(table.name) as driver, driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def clear(self, tables: Iterable[CopiedTable], mark: CopyMark) -> None:
        """Remove all rows, and say that the copy begins again."""
        names = ", ".join(f'"{table.name}"' for table in tables)
        with self._writing() as connection:
            connection.execute(sa.text(f"TRUNCATE {names}"))
            self._set_mark(connection, mark)

    def set_numbers(self, last: dict[str, int]) -> None:
        """Have the next row of each table numbered after these.

        Args:
            last: by table.
        """
        with self._writing() as connection:
            for name, number in last.items():
                for column in METADATA.tables[name].primary_key:
                    values = {"table": f'"{name}"', "column": column.name}
                    find = sa.text("SELECT pg_get_serial_sequence(:table, :column)")
                    sequence = connection.execute(find, values).scalar()
                    if sequence is None:
                        continue
                    highest = connection.execute(sa.select(sa.func.max(column))).scalar()
                    if most := max(number, highest or 0):
                        set_value = sa.text("SELECT setval(CAST(:sequence AS regclass), :most)")
                        connection.execute(set_value, {"sequence": sequence, "most": most})

    def complete(self, mark: CopyMark) -> None:
        """Say that the copy is complete: from now on a daemon may use it."""
        with self._writing() as connection:
            self._alter_triggers(connection, "ENABLE")
            self._set_mark(connection, mark)

    def reopen(self, mark: CopyMark) -> None:
        """Say that the copy is incomplete again."""
        with self._writing() as connection:
            self._set_mark(connection, mark)

    def analyze(self) -> None:
        """Have the planner know the tables before their first use."""
        with self._writing() as connection:
            for table in METADATA.sorted_tables:
                connection.execute(sa.text(f'ANALYZE "{table.name}"'))

    def last_daemon(self) -> Any:
        """The fact about the daemon that used it last."""
        with self._reading() as connection:
            query = sa.select(FACTS.c.value).where(FACTS.c.name == DAEMON_FACT)
            text = connection.execute(query).scalar()
        return None if text is None else json.loads(text)

    def _count(self, connection: sa.Connection, name: str) -> int:
        query = sa.select(sa.func.count()).select_from(METADATA.tables[name])
        if name == FACTS.name:
            query = query.where(FACTS.c.name != COPY_FACT)
        return int(connection.execute(query).scalar_one())

    def _set_mark(self, connection: sa.Connection, mark: CopyMark) -> None:
        connection.execute(sa.delete(FACTS).where(FACTS.c.name == COPY_FACT))
        connection.execute(sa.insert(FACTS).values(name=COPY_FACT, value=json.dumps(mark_value(mark))))

    def _alter_triggers(self, connection: sa.Connection, how: str) -> None:
        for table in METADATA.sorted_tables:  # USER: not those of foreign keys
            connection.execute(sa.text(f'ALTER TABLE "{table.name}" {how} TRIGGER USER'))

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with errors(self._url), self._engine.connect().execution_options(**READING) as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with errors(self._url), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _driver(self, table: str = "") -> Iterator[Driver]:
        """The driver's own connection, in a transaction, for COPY."""
        with self._writing() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            try:
                yield driver
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                words = " ".join(str(error).split())
                raise LandoError(
                    f"{self.shown}: refuses a row of table {table}: {words}; correct or remove it with "
                    "sqlite3, and copy again"
                ) from error
            except psycopg.Error as error:
                raise sa.exc.DBAPIError("COPY", None, error) from error


def _in_order(column: Column) -> sql.Composable:
    """As SQLite sorts: texts by their bytes."""
    name = sql.Identifier(column.name)
    return sql.SQL('{} COLLATE "C"').format(name) if column.kind == "text" else name
