"""Answers HTTP: ``/metrics``, ``/health/live``, ``/health/ready``, and nothing else.

Few connections at a time, each of few seconds, with one request each: whoever opens many, or sends slowly, is
in the way of nobody but others who ask. The address may be in use, or not be there yet, as when the network
starts later: then it is tried again.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

from lando.message_limits import REASON, shorten

log = logging.getLogger("lando")

CONNECTIONS = 8
"""At a time. Further ones are closed at once."""
WHOLE_SECONDS = 10.0
"""Seconds that a connection has in all."""
IDLE_SECONDS = 5.0
"""Seconds within which its next bytes must come, or be taken."""
POLL = 0.25
"""Seconds between two looks for connections that take too long, and whether to end."""
TRY_AGAIN = 10.0
"""Seconds until an address is tried again that could not be used."""
SERVER_NAME = "lando-fsm"
"""What the answers' header ``Server`` says, by which ``lando-fsm check`` knows its own daemon."""


class Page(NamedTuple):
    """An answer."""

    status: HTTPStatus
    content_type: str
    body: bytes


Pages = dict[str, Callable[[], Page]]


def text_page(status: HTTPStatus, text: str) -> Page:
    """An answer for people."""
    return Page(status, "text/plain; charset=utf-8", f"{text}\n".encode())


class MetricsServer:
    """Serves in threads of its own until ``close``.

    Args:
        host: a name or an address, also of IPv6.
        port: of TCP.
        pages: what is answered, by path.
    """

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        self._host = host
        self._port = port
        self._pages = pages
        self._closed = threading.Event()
        self._http: _HttpServer | None = None
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    @property
    def where(self) -> str:
        """Its address."""
        return url(self._host, self._port)

    def close(self, timeout: float) -> None:
        """Stop answering; wait for so many seconds at most. Connections that are open end by themselves."""
        self._closed.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        told = ""
        while not self._closed.is_set():
            try:
                http = _HttpServer(self._host, self._port, self._pages)
            except OSError as error:
                reason = error.strerror or str(error)
                if reason != told:
                    # Not the address and then a colon: that looks like a password, which the log masks.
                    log.warning(
                        "metrics cannot be served at %s (%s); all else goes on; tried again in %.0f s",
                        self.where,
                        reason,
                        TRY_AGAIN,
                    )
                told = reason
                self._closed.wait(TRY_AGAIN)
                continue
            log.info("metrics and health are served at %s", self.where)
            try:
                http.serve(self._closed)
            except Exception:
                log.exception("serving metrics failed; this is a bug in lando-fsm")
                self._closed.wait(TRY_AGAIN)
            finally:
                http.server_close()


def url(host: str, port: int) -> str:
    """The address that a host and a port have."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _HttpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True  # after a restart; a port that another process listens on is refused still
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        self.pages = pages
        self._open: dict[socket.socket, float] = {}
        """When each connection was opened."""
        self._lock = threading.Lock()
        super().__init__(address, _Handler)  # type: ignore[arg-type]
        self.timeout = POLL

    def serve(self, closed: threading.Event) -> None:
        """Until it is closed."""
        while not closed.is_set():
            self.handle_request()
            self._end_slow_ones()

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, unless there are too many."""
        with self._lock:
            is_one_too_many = len(self._open) >= CONNECTIONS
            if not is_one_too_many:
                self._open[request] = time.monotonic()
        if is_one_too_many:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # there are no threads to be had
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """The connection ends."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def _end_slow_ones(self) -> None:
        """Their threads wait for bytes: they get an error."""
        before = time.monotonic() - WHOLE_SECONDS
        with self._lock:
            for request in [request for request, since in self._open.items() if since < before]:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that breaks is nobody's mistake."""
        log.debug("a connection for metrics broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request: HTTP/1.0, so that the connection ends with the answer."""

    timeout = IDLE_SECONDS
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    server: _HttpServer

    def version_string(self) -> str:
        """The header ``Server``."""
        return SERVER_NAME

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        make = self.server.pages.get(path)
        if make is None:
            known = ", ".join(self.server.pages)
            self._send(text_page(HTTPStatus.NOT_FOUND, f"not here; there is {known}"))
            return
        try:
            page = make()
        except Exception as error:
            log.exception("metrics could not be collected; this is a bug in lando-fsm")
            reason = shorten(f"{type(error).__name__}: {error}", REASON)
            page = text_page(HTTPStatus.INTERNAL_SERVER_ERROR, reason)
        self._send(page)

    do_HEAD = do_GET

    def _refuse(self) -> None:
        self._send(text_page(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD"), Allow="GET, HEAD")

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _send(self, page: Page, **headers: str) -> None:
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)
