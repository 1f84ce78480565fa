"""A real PostgreSQL for tests: private servers, replicas of them, and databases on them."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from tests.support.postgres_guard import DATA, SERVER_PID, as_account, processes, signal_all
from tests.support.rabbitmq_server import free_ports
from tests.support.shared_servers import locked, session_process

URL = "LANDO_TEST_POSTGRES_URL"
"""Environment variable: an account that may create databases on a server to be used by the tests that can."""
REQUIRED = "LANDO_TEST_POSTGRES_REQUIRED"
"""Environment variable: when set, a test that finds no PostgreSQL fails instead of being skipped."""

HOST = "127.0.0.1"
PATIENCE = 60.0
TRIES = 3
ADMINISTRATOR = "postgres"
OWNER = "lando_tests"
"""The account that owns the databases of tests."""
TEMPLATE = "lando_tests_template"
"""A database with the schema of lando-fsm and no rows."""

DEBIAN = Path("/usr/lib/postgresql")

SETTINGS = """
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
fsync = {durable}
full_page_writes = {durable}
shared_buffers = 32MB
max_wal_size = 256MB
jit = off
timezone = 'Pacific/Marquesas'
deadlock_timeout = 50ms
"""
# A time zone that nobody takes for UTC.

HBA = """
host all all {host}/32 scram-sha-256
host replication all {host}/32 scram-sha-256
"""


@lru_cache
def program(name: str) -> Path | None:
    """A program of the newest PostgreSQL on this machine; Debian's are not on PATH."""
    debian = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    if debian:
        return debian[-1]
    found = shutil.which(name)
    return Path(found) if found else None


def require_server() -> None:
    """Skip the test where there is no PostgreSQL to start; fail it where one is required."""
    if program("initdb") is None:
        give_up("no PostgreSQL server on this machine; install it (apt-get install postgresql)")


def give_up(reason: str) -> None:
    """Skip the test, or fail it where PostgreSQL is required."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)


class Postgres:
    """A PostgreSQL server of our own: port, account, files, on loopback only.

    Its files are not below ``root``, which the server's account may not enter, but in a directory of its own,
    which ``remove`` removes, or the server's guard when its owner has ended.

    Args:
        root: a directory; a Postgres of the same directory, in another process, too, is the same server.
        durable: with fsync, which is slower; without it ``kill`` loses nothing either, but a machine that
            stops may.
        settings: lines of postgresql.conf, ``max_connections = 5`` say.
        copy_of: a running server, of which this becomes a streaming replica.
        owner: the process with which it ends, however that ends; this one unless given.
    """

    host = HOST

    def __init__(
        self,
        root: Path,
        durable: bool = False,
        settings: str = "",
        copy_of: Postgres | None = None,
        owner: int | None = None,
    ) -> None:
        self.root = root.resolve()
        self.owner = owner or os.getpid()
        self._guard: subprocess.Popen[bytes] | None = None
        self._record = self.root / "server.json"
        if not self._record.exists():
            self._prepare(durable, settings, copy_of)
        record = json.loads(self._record.read_text())
        self.directory = Path(record["directory"])
        self.port: int = record["port"]
        self.password: str = record["password"]

    # life

    def start(self) -> None:
        """Start it, or start it again with the data it had; returns when it accepts connections."""
        assert not self.processes(), "it is running"
        server = program("postgres")
        assert server is not None, "no PostgreSQL"
        guard = Path(__file__).with_name("postgres_guard.py")
        command = [
            sys.executable,
            guard,
            self.directory,
            str(self.owner),
            _account(),
            server,
            "-D",
            self.data,
        ]
        with (self.directory / "console").open("ab") as console:
            self._guard = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True
            )
        deadline = time.monotonic() + PATIENCE
        while not self.is_up():
            assert self._guard.poll() is None and time.monotonic() < deadline, self.log()[-3000:]
            time.sleep(0.02)

    @contextlib.contextmanager
    def running(self) -> Iterator[Postgres]:
        """Start it; stop and remove it at the end."""
        try:
            self.start()
            yield self
        finally:
            self.remove()

    def stop(self, mode: str = "fast") -> None:
        """Stop it; returns when no process of it is left. It may be paused, or not running.

        Args:
            mode: ``fast`` ends its sessions in good order; ``immediate`` recovers at the next start.
        """
        self.resume()
        self._signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        self._wait_until_gone()

    def kill(self) -> None:
        """Kill all its processes with -9; returns when none is left."""
        self._signal(signal.SIGKILL)
        signal_all(self.directory, signal.SIGKILL)
        self._wait_until_gone()

    def restart(self, mode: str = "fast") -> None:
        """Stop it and start it again."""
        self.stop(mode)
        self.start()

    def pause(self) -> None:
        """Hold it where it is: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)  # first, so that it starts no further process
        signal_all(self.directory, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        signal_all(self.directory, signal.SIGCONT)

    def promote(self) -> None:
        """Make a replica the primary; returns when it is."""
        self.execute("SELECT pg_promote(true, 60)")

    def remove(self) -> None:
        """Stop it and remove its files."""
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)
        self._record.unlink()

    def is_up(self) -> bool:
        """Whether it accepts connections."""
        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def processes(self) -> list[int]:
        """Its processes."""
        return processes(self.directory)

    def log(self) -> str:
        """Everything it said so far."""
        return (self.directory / "console").read_text(errors="replace")

    @property
    def data(self) -> Path:
        """Its data directory, with postgresql.conf, pg_hba.conf and standby.signal."""
        return self.directory / DATA

    # administration

    def connect(self, database: str = "postgres", **more: Any) -> psycopg.Connection[Any]:
        """The administrator's connection, which commits each statement; the caller closes it."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=ADMINISTRATOR,
            password=self.password,
            dbname=database,
            autocommit=True,
            **more,
        )

    def execute(self, *statements: str | sql.Composed, database: str = "postgres") -> list[Any]:
        """Execute statements as the administrator; the rows of the last one."""
        return _execute(self.connect(database), statements)

    def url(self, database: str, user: str = ADMINISTRATOR, password: str | None = None) -> str:
        """SQLAlchemy's form, with the password; the administrator's unless another account is named."""
        secret = self.password if password is None else password
        address = sa.URL.create("postgresql+psycopg", user, secret, self.host, self.port, database)
        return address.render_as_string(hide_password=False)

    def server(self) -> Server:
        """What makes databases on it."""
        return Server(sa.make_url(self.url("postgres")), self.password)

    # how

    def _prepare(self, durable: bool, settings: str, copy_of: Postgres | None) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="lando-postgres-"))
        if account := _account():
            shutil.chown(self.directory, account, account)
        (port,) = free_ports(1)
        (self.directory / "console").touch()
        if copy_of is None:
            password = secrets.token_hex(16)
            self._initialize(password)
        else:
            password = copy_of.password
            self._copy(copy_of)
        with (self.data / "postgresql.conf").open("a") as file:
            values = {"host": HOST, "port": port, "durable": "on" if durable else "off"}
            file.write(SETTINGS.format(**values) + settings)
        record = {"directory": str(self.directory), "port": port, "password": password}
        self._record.write_text(json.dumps(record))

    def _initialize(self, password: str) -> None:
        secret = self.directory / "password"
        secret.write_text(password)
        secret.chmod(0o644)
        options = f"-U {ADMINISTRATOR} -A scram-sha-256 -E UTF8 --no-sync --locale=C.UTF-8".split()
        if self._version() >= 15:  # text in the order of a language, as on most machines
            options += ["--locale-provider=icu", "--icu-locale=en-US"]
        self._run("initdb", *options, f"--pwfile={secret}", "-D", str(self.data))
        secret.unlink()
        (self.data / "pg_hba.conf").write_text(HBA.format(host=HOST))

    def _copy(self, primary: Postgres) -> None:
        source = f"host={HOST} port={primary.port} user={ADMINISTRATOR} password={primary.password}"
        options = ["-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]
        self._run("pg_basebackup", "-d", source, *options, "-D", str(self.data))

    def _version(self) -> int:
        found = re.search(r"(\d+)", self._run("postgres", "--version"))
        assert found
        return int(found[1])

    def _run(self, name: str, *arguments: str) -> str:
        path = program(name)
        assert path is not None, f"no {name}"
        done = subprocess.run(
            [path, *arguments],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            **as_account(_account()),
        )
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        return str(done.stdout)

    def _signal(self, number: int) -> None:
        try:
            pid = int((self.directory / SERVER_PID).read_text())
        except FileNotFoundError:
            return
        if pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes of PostgreSQL are left: {left}"
            time.sleep(0.01)
        if self._guard is not None:
            self._guard.wait()


def _account() -> str:
    """The account that the server runs as; empty for this one."""
    if os.getuid() != 0:
        return ""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _execute(connection: psycopg.Connection[Any], statements: tuple[str | sql.Composed, ...]) -> list[Any]:
    rows: list[Any] = []
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
    return rows


@dataclass(frozen=True)
class Database:
    """A database of a test's own. ``url`` is its owner's, in SQLAlchemy's form, with the password."""

    server: Server
    name: str
    url: str

    def execute(self, *statements: str) -> list[Any]:
        """Execute statements in it as the administrator; the rows of the last one."""
        return self.server.execute(*statements, database=self.name)

    def clear(self) -> None:
        """Remove all rows, and end the sessions that are left in it."""
        tables = ", ".join(table for (table,) in self.execute(_TABLES))
        self.execute(_END_OTHERS, f"TRUNCATE {tables} RESTART IDENTITY")

    def remove(self) -> None:
        """Remove it, and end the sessions that are left in it."""
        self.server.remove(self.name)


_TABLES = (
    "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
    "AND tablename NOT IN ('alembic_version', 'oldest_version')"
)
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Server:
    """Where databases are made: our own server, or that of LANDO_TEST_POSTGRES_URL.

    Args:
        administrator: the URL of an account that may create databases and accounts.
        password: of the account ``lando``, which owns them.
    """

    def __init__(self, administrator: sa.URL, password: str) -> None:
        self._administrator = administrator
        self.password = password

    def create(self, migrated: bool = True) -> Database:
        """A new database: with the schema of lando-fsm, or empty."""
        name = f"lando_test_{secrets.token_hex(6)}"
        template = TEMPLATE if migrated else "template0"
        self.execute(f"CREATE DATABASE {name} OWNER {OWNER} TEMPLATE {template}")
        return Database(self, name, self.url(name))

    def remove(self, name: str) -> None:
        """Remove what ``create`` made."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, database: str) -> str:
        """A database's URL, of the account that owns it."""
        address = self._administrator.set(username=OWNER, password=self.password, database=database)
        return address.render_as_string(hide_password=False)

    def execute(self, *statements: str, database: str | None = None) -> list[Any]:
        """Execute statements as the administrator; the rows of the last one."""
        address = self._administrator.set(drivername="postgresql", database=database or "postgres")
        text = address.render_as_string(hide_password=False)
        return _execute(psycopg.connect(text, autocommit=True), statements)

    def prepare(self) -> None:
        """Make the account and the template, where they are missing."""
        from lando.store import database  # noqa: PLC0415 - what is broken in it fails tests, not the collection

        verb = "ALTER" if self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{OWNER}'") else "CREATE"
        self.execute(f"{verb} ROLE {OWNER} LOGIN PASSWORD '{self.password}'")
        if self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{TEMPLATE}'"):
            return
        self.execute(f"CREATE DATABASE {TEMPLATE} OWNER {OWNER} TEMPLATE template0")
        engine, _ = database.connect(self.url(TEMPLATE))
        engine.dispose()  # a database that is in use is no template


# The one server that all processes of a test session share.


def shared(directory: Path) -> Server:
    """The server of LANDO_TEST_POSTGRES_URL, else the session's own, started by whoever needs it first.

    Skips the test where there is none.
    """
    if not os.environ.get(URL):
        require_server()
    with locked(directory, "postgres"):
        if url := os.environ.get(URL):
            return _given(sa.make_url(url), directory / "postgres-password")
        here = Postgres(directory / "postgres", owner=session_process())
        if not here.processes():
            here.start()
            here.server().prepare()
        return here.server()


def _given(administrator: sa.URL, password: Path) -> Server:
    """Somebody's server. A template that is there may be another version's; so one session at a time."""
    if password.exists():
        return Server(administrator, password.read_text())
    server = Server(administrator, secrets.token_hex(16))
    server.remove(TEMPLATE)
    server.prepare()
    password.write_text(server.password)
    return server


def stop_shared(directory: Path) -> None:
    """Remove the session's server, if anybody needed it."""
    with locked(directory, "postgres"):
        if (directory / "postgres" / "server.json").exists():
            Postgres(directory / "postgres").remove()
