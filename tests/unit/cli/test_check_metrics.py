"""What ``check`` says of metrics, whoever listens there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from lando.cli import check_metrics
from lando.config.metrics import MetricsConfig
from lando.credentials import scrub
from lando.metrics import server
from lando.metrics.server import MetricsServer, text_page
from tests.support.local_site import wait_for
from tests.support.scrape import free_port

READY = {"/health/ready": lambda: text_page(HTTPStatus.OK, "ready")}
NOT_READY = {"/health/ready": lambda: text_page(HTTPStatus.SERVICE_UNAVAILABLE, "queue: away\ncloud: silent")}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "POLL", 0.02)
    monkeypatch.setattr(check_metrics, "TIMEOUT", 0.3)


def serving(port: int, pages: server.Pages) -> Iterator[None]:
    made = MetricsServer("127.0.0.1", port, pages)
    wait_for(lambda: answers(port), "the server")
    yield
    made.close(2.0)


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def ready(port: int) -> Iterator[None]:
    yield from serving(port, READY)


@pytest.fixture
def not_ready(port: int) -> Iterator[None]:
    yield from serving(port, NOT_READY)


@pytest.fixture
def another(port: int) -> Iterator[None]:
    with socket.create_server(("127.0.0.1", port)):
        yield


def told(port: int, is_daemon_here: bool, host: str = "127.0.0.1") -> tuple[str, str]:
    return check_metrics.answer(MetricsConfig(host, port), is_daemon_here)


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_daemon_that_is_ready(port: int, host: str) -> None:
    assert told(port, True, host) == (
        "ok",
        f"the daemon answers at http://{host}:{port}/metrics and is ready",
    )


@pytest.mark.usefixtures("ready")
def test_a_daemon_of_somebody_else(port: int) -> None:
    verdict, message = told(port, False)
    assert verdict == "warning"
    assert "of another state directory" in message


@pytest.mark.usefixtures("not_ready")
def test_a_daemon_that_is_not_ready(port: int) -> None:
    verdict, message = told(port, True)
    assert verdict == "warning"
    assert message.endswith("and is not ready, queue: away; cloud: silent")


@pytest.mark.usefixtures("another")
@pytest.mark.parametrize("is_daemon_here", [True, False])
def test_a_program_that_says_nothing(port: int, is_daemon_here: bool) -> None:
    verdict, message = told(port, is_daemon_here)
    assert verdict == "warning"
    assert ("does not answer" if is_daemon_here else "Address already in use") in message


def test_nobody_listens(port: int) -> None:
    assert told(port, False) == ("ok", f"at http://127.0.0.1:{port} once a daemon runs")
    verdict, message = told(port, True)
    assert verdict == "warning"
    assert "does not answer" in message


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_of_this_machine(host: str) -> None:
    verdict, message = told(8421, False, host)
    assert verdict == "warning"
    assert f"http://{host}:8421 (" in message
    assert scrub(message) == message, "what is printed is masked"
