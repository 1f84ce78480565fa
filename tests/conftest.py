from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from lando.cli.main import main
from tests.support import postgres_server as postgres
from tests.support import rabbitmq_server as broker
from tests.support.local_site import CONFIG, QUICK, Gate, LocalSite
from tests.support.postgres_server import Database, Postgres
from tests.support.rabbitmq_server import Broker, VirtualHost
from tests.support.shared_servers import SESSION, session_directory

pytest.register_assert_rewrite("tests.support.openstack_scenarios", "tests.support.openstack_site")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[LocalSite]:
    here = LocalSite(tmp_path)
    yield here
    here.close()


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[LocalSite]:
    """A site with a CWL runner that costs nothing."""
    here = LocalSite(tmp_path, config=QUICK)
    yield here
    here.close()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    here = Gate(tmp_path)
    yield here
    here.close()


@dataclass(frozen=True)
class Said:
    """What came of a command."""

    code: int
    out: str
    err: str


Commands = Callable[..., Said]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs ``lando-fsm`` in this process, for a state directory ``tmp_path/state`` that is not there yet."""
    config = tmp_path / "landoconfig.yml"
    config.write_text(CONFIG.format(max_workers=2))
    monkeypatch.setenv("LANDO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LANDO_CONFIG", str(config))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Said:
        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["lando-fsm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


# How fast examples are made, and tests run, is the machine's matter: it may be busy.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure(config: pytest.Config) -> None:
    """Have the session's servers stopped at the end, however the session ends."""
    if hasattr(config, "workerinput"):  # a process of pytest-xdist; its parent does it
        return
    directory = Path(tempfile.mkdtemp(prefix="lando-test-"))
    os.environ[SESSION] = str(directory)

    def clean() -> None:
        broker.stop_shared(directory)
        postgres.stop_shared(directory)
        shutil.rmtree(directory, ignore_errors=True)

    config.add_cleanup(clean)


@pytest.fixture
def least_privilege() -> Iterator[VirtualHost]:
    """A virtual host, with accounts of least privilege, on the session's own broker."""
    broker.require_server()
    here = broker.shared(session_directory()).virtual_host()
    yield here
    here.close()


@pytest.fixture
def virtual_host(request: pytest.FixtureRequest) -> Iterator[VirtualHost]:
    """Where LANDO_TEST_AMQP_URL says (one account for everybody), else the same as ``least_privilege``."""
    url = os.environ.get(broker.URL)
    if not url:
        yield request.getfixturevalue("least_privilege")
        return
    here = broker.at_url(url)
    yield here
    here.close()


@pytest.fixture
def private_broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker of the test's own, with TLS, to stop, kill and pause; for tests that need that."""
    broker.require_server()
    here = Broker(tmp_path / "rabbitmq", tls=True)
    try:
        here.start()
        yield here
    finally:
        here.stop()


@pytest.fixture
def postgres_database() -> Iterator[Database]:
    """A database of the test's own on PostgreSQL, with the schema and no rows."""
    here = postgres.shared(session_directory()).create()
    yield here
    here.remove()


@pytest.fixture(scope="session")
def _used_in_turn() -> Iterator[Database]:
    """The tests of this process use it one after the other: that costs less than one each."""
    here = postgres.shared(session_directory()).create()
    yield here
    here.remove()


@pytest.fixture
def postgres_url(_used_in_turn: Database) -> str:
    """The URL of a database on PostgreSQL, with the schema and no rows; its tables must stay as they are."""
    _used_in_turn.clear()
    return _used_in_turn.url


@pytest.fixture
def private_postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A running PostgreSQL of the test's own, to stop, kill and pause; for tests that need that."""
    postgres.require_server()
    here = Postgres(tmp_path / "postgres")
    with here.running():
        yield here


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the large tests saw; here, since a parallel run loads no conftest further down."""
    reports = terminalreporter.getreports("passed")
    lines = [value for report in reports for name, value in report.user_properties if name == "seen"]
    if lines:
        terminalreporter.section("what was seen")
        for line in lines:
            terminalreporter.write_line(line)
