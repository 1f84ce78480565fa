"""The HTTP server: what it answers, and that nobody can hold it up, or keep the daemon from ending."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

import pytest

from lando.metrics import server
from lando.metrics.server import MetricsServer, Page, text_page
from tests.support.local_site import wait_for
from tests.support.scrape import fetch, free_port

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def broken() -> Page:
    raise RuntimeError("no such thing")


PAGES = {"/metrics": lambda: text_page(HTTPStatus.OK, "lando_x 1"), "/broken": broken}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "POLL", 0.02)
    monkeypatch.setattr(server, "TRY_AGAIN", 0.05)


@contextlib.contextmanager
def serving(host: str = "127.0.0.1", port: int = 0) -> Iterator[MetricsServer]:
    made = MetricsServer(host, port or free_port(host), PAGES)
    try:
        yield made
    finally:
        made.close(2.0)


def is_up(made: MetricsServer) -> bool:
    try:
        return fetch(f"{made.where}/metrics").status == 200
    except OSError:
        return False


@pytest.fixture
def up() -> Iterator[MetricsServer]:
    with serving() as made:
        wait_for(lambda: is_up(made), "the server")
        yield made


@pytest.mark.parametrize("host", LOOPBACK)
def test_answers_at_names_and_addresses(host: str) -> None:
    with serving(host) as made:
        wait_for(lambda: is_up(made), f"the server at {host}")


@pytest.mark.parametrize("path", ["/metrics", "/metrics?name=x"])
def test_get(up: MetricsServer, path: str) -> None:
    answer = fetch(up.where + path)
    assert (answer.status, answer.body) == (200, "lando_x 1\n")
    assert answer.headers["Content-Length"] == "10"
    assert answer.headers["Server"] == "lando-fsm"


def test_head_has_the_same_headers_and_no_body(up: MetricsServer) -> None:
    answer = fetch(f"{up.where}/metrics", "HEAD")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "10", "")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/..%2f..%2fetc/passwd", "/../../etc/passwd", "*"])
def test_nothing_else_is_there(up: MetricsServer, path: str) -> None:
    assert raw(up, f"GET {path} HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.0 404 ")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(up: MetricsServer, method: str) -> None:
    answer = fetch(f"{up.where}/metrics", method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("BREW /metrics HTTP/1.1\r\n\r\n", b"501"),
        ("GET /metrics HTTP/9.9.9\r\n\r\n", b"400"),
        ("\x16\x03\x01\x02\x00\r\n\r\n", b"400"),
        (f"GET /{'a' * 70_000} HTTP/1.1\r\n\r\n", b"414"),
        ("GET /metrics HTTP/1.1\r\n" + "a: b\r\n" * 200 + "\r\n", b"431"),
    ],
)
def test_rubbish_is_refused(up: MetricsServer, request_: str, status: bytes) -> None:
    assert status in raw(up, request_).splitlines()[0]
    assert is_up(up)


def raw(made: MetricsServer, request: str) -> bytes:
    """What comes back, to the end."""
    with connected(made) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(request.encode("latin-1"))
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                found += piece
        return found


def connected(made: MetricsServer) -> socket.socket:
    host, _, port = made.where.removeprefix("http://").rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=10)


def test_a_page_that_fails_is_told_and_logged(up: MetricsServer, caplog: pytest.LogCaptureFixture) -> None:
    answer = fetch(f"{up.where}/broken")
    assert (answer.status, answer.body) == (500, "RuntimeError: no such thing\n")
    assert "this is a bug" in caplog.text
    assert is_up(up)


def test_who_sends_slowly_is_cut_off(up: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also who sends a byte now and then, so that no single wait is long."""
    monkeypatch.setattr(server, "WHOLE_SECONDS", 0.3)
    with connected(up) as slow:
        slow.sendall(b"GET /metrics HTTP/1.1\r\n")
        assert cut_off(slow)
    assert is_up(up)


def cut_off(connection: socket.socket) -> bool:
    """Whether the connection ends while a byte of a header is sent now and then."""
    deadline = time.monotonic() + 10
    connection.settimeout(0.05)
    while time.monotonic() < deadline:
        try:
            connection.sendall(b"x")
            if connection.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_who_sends_nothing_is_cut_off(up: MetricsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._Handler, "timeout", 0.1)
    with connected(up) as silent:
        assert silent.recv(1) == b""


def test_many_connections_take_few_threads(up: MetricsServer) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        many = [stack.enter_context(connected(up)) for _ in range(4 * server.CONNECTIONS)]
        beyond = wait_for(lambda: [each for each in many if is_closed(each)], "those that are too many")
        assert len(many) - len(beyond) <= server.CONNECTIONS
        assert threading.active_count() - before <= server.CONNECTIONS
    wait_for(lambda: is_up(up), "room for others")


def is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0.01)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_port_in_use_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lando")
    port = free_port()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with serving(port=port) as made:
            wait_for(lambda: "Address already in use" in caplog.text, "a warning")
            time.sleep(3 * server.TRY_AGAIN)
            assert caplog.text.count("cannot be served") == 1
            other.close()
            wait_for(lambda: is_up(made), "the server")
    assert f"metrics and health are served at http://127.0.0.1:{port}" in caplog.text


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_there_ends_nothing(host: str, caplog: pytest.LogCaptureFixture) -> None:
    with serving(host, 8421):
        wait_for(lambda: f"cannot be served at http://{host}:8421 (" in caplog.text, "a warning")


def test_it_ends_at_once_with_connections_open(up: MetricsServer) -> None:
    with connected(up), connected(up) as half:
        half.sendall(b"GET /met")
        begun = time.monotonic()
        up.close(2.0)
        assert time.monotonic() - begun < 1.0
        assert not up._thread.is_alive()
        with pytest.raises(OSError):
            connected(up)
