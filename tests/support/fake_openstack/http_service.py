"""HTTP services: a port for each, routes, answers, errors and injected faults."""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.fake_openstack.faults import Calls, Fault, Faults

HOST = "127.0.0.1"

JSON = "application/json"
HTML = "text/html; charset=UTF-8"


@dataclass(frozen=True)
class Request:
    """A request."""

    method: str
    base: str
    """The service's URL, such as http://127.0.0.1:8774."""
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes

    @property
    def url(self) -> str:
        """The URL without the query."""
        return self.base + self.path

    def one(self, name: str) -> str | None:
        """The last value of a query parameter."""
        return self.query[name][-1] if name in self.query else None


@dataclass
class Answer:
    """An answer: a document, sent as JSON, or a text."""

    status: int
    document: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    content_type: str = JSON
    """"" for none."""

    def payload(self) -> bytes:
        """The body; empty if there is none."""
        if self.text is not None:
            return self.text.encode()
        return b"" if self.document is None else json.dumps(self.document).encode()


class Failure(Exception):
    """An error, which the service answers in its own form.

    Args:
        kind: the type of the error, in Neutron's answers.
        answer: sent in its place, as by a middleware in front of the service.
    """

    def __init__(
        self, status: int, message: str, kind: str = "HTTPBadRequest", answer: Answer | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.answer = answer
        self.headers: dict[str, str] = {}


def title(status: int) -> str:
    """The reason phrase of a status code."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def page(status: int, message: str) -> Answer:
    """An error as an HTML page, as proxies and WSGI libraries answer it."""
    line = f"{status} {title(status)}"
    text = (
        f"<html>\n <head>\n  <title>{line}</title>\n </head>\n <body>\n"
        f"  <h1>{line}</h1>\n  {message}<br /><br />\n\n\n\n </body>\n</html>"
    )
    return Answer(status, text=text, content_type=HTML)


Handler = Callable[..., Answer]


class Route:
    """A method, a path such as ``/servers/{server}`` (``{x}`` is one segment), and its handler.

    Args:
        open_to_all: whether no token is required.
    """

    def __init__(self, method: str, template: str, handler: Handler, open_to_all: bool = False) -> None:
        self.method = method
        self.template = template
        self.handler = handler
        self.open_to_all = open_to_all
        self._pattern = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", template))

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The variable segments of the path; None if the route does not match."""
        found = self._pattern.fullmatch(path) if method == self.method else None
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


class Service:
    """One of OpenStack's services.

    Args:
        faults: happen to its calls.
        calls: counts them.
    """

    name = ""
    """Its type in the catalog."""
    version = ""
    """A regular expression of the version in paths, which labels do not have."""

    def __init__(self, faults: Faults, calls: Calls) -> None:
        self.faults = faults
        self.calls = calls
        self.routes: list[Route] = []

    def handle(self, request: Request) -> tuple[Answer, Fault | None]:
        """Answer a request, with the fault that happened to it."""
        route, parts = self._route(request)
        label = f"{request.method} {self.name} {self.label(request, route)}"
        self.calls.add(label)
        fault = self.faults.strike(label)
        if fault is None:
            return self._carry_out(request, route, parts), None
        answer = self._carry_out_with_fault(request, route, parts, fault)
        time.sleep(fault.hang)
        return answer, fault

    def _carry_out_with_fault(
        self, request: Request, route: Route | None, parts: dict[str, str], fault: Fault
    ) -> Answer:
        answer = Answer(200)
        if fault.work != "none":
            answer = self._carry_out(request, route, parts)
            last = self._carry_out(request, route, parts) if fault.work == "twice" else answer
            if fault.surface_after:
                self.hide(last, fault.surface_after)
        if fault.status is None:
            return answer
        failure = Failure(fault.status, fault.message, kind="InjectedByTheTest")
        if fault.retry_after is not None:
            failure.headers["Retry-After"] = fault.retry_after
        if not fault.html:
            answer = self.failure(failure)
            answer.headers |= failure.headers
            return self.complete(request, answer)
        answer = page(fault.status, fault.message)
        answer.headers |= failure.headers
        return answer

    def _carry_out(self, request: Request, route: Route | None, parts: dict[str, str]) -> Answer:
        try:
            self.admit(request, route)
            answer = route.handler(request, **parts) if route else self.nowhere(request)
        except Failure as failure:
            answer = failure.answer or self.failure(failure)
            answer.headers |= failure.headers
        return self.complete(request, answer)

    def _route(self, request: Request) -> tuple[Route | None, dict[str, str]]:
        path = self.shorten(request.path)
        for route in self.routes:
            parts = route.match(request.method, path)
            if parts is not None:
                return route, parts
        return None, {}

    def shorten(self, path: str) -> str:
        """The path without its version."""
        if path.endswith("/"):
            path = path.rstrip("/") or "/"
        found = re.match(f"(?:{self.version})(?=/.)", path) if self.version else None
        return path[found.end() :] if found else path

    # Overridden by services.

    def label(self, request: Request, route: Route | None) -> str:
        """The path of a call, without version and ids."""
        return re.sub(r"{\w+}", "{id}", route.template) if route else self.shorten(request.path)

    def admit(self, request: Request, route: Route | None) -> None:
        """Refuse a call that is not permitted.

        Raises:
            Failure: it is refused.
        """

    def nowhere(self, request: Request) -> Answer:
        """The answer to an unknown path."""
        raise Failure(404, "The resource could not be found.")

    def failure(self, failure: Failure) -> Answer:
        """An error in the form of the service."""
        raise NotImplementedError

    def complete(self, request: Request, answer: Answer) -> Answer:
        """Add the headers that every answer of the service has."""
        return answer

    def hide(self, answer: Answer, seconds: float) -> None:
        """Keep the server that a call created out of lists for some seconds."""


class Listener:
    """A service on a port of loopback; it can be stopped, and started again on the same port.

    Args:
        certificate: certificate and key, PEM, for https.
        skew: returns the seconds by which the service's clock is ahead.
    """

    def __init__(
        self,
        service: Service,
        certificate: tuple[Path, Path] | None = None,
        skew: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.service = service
        self.skew = skew
        self._tls = _tls(certificate) if certificate else None
        self._scheme = "https" if certificate else "http"
        self._port = 0
        self._server: _Server | None = None
        self.start()

    @property
    def url(self) -> str:
        """The URL of the service."""
        return f"{self._scheme}://{HOST}:{self._port}"

    def start(self) -> None:
        """Accept connections, on the same port as before if it was stopped."""
        if self._server is None:
            self._server = _Server((HOST, self._port), self, self._tls)
            self._port = self._server.server_address[1]
            serving = threading.Thread(
                target=self._server.serve_forever, name=f"fake {self.service.name}", daemon=True
            )
            serving.start()

    def stop(self) -> None:
        """Refuse connections, and close the open ones."""
        server, self._server = self._server, None
        if server is not None:
            server.socket.shutdown(socket.SHUT_RDWR)  # ends serve_forever
            server.server_close()
            server.drop_connections()


def _tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], listener: Listener, tls: ssl.SSLContext | None) -> None:
        self.listener = listener
        self.tls = tls
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(address, _Connection)

    def serve_forever(self, poll_interval: float = 0.0) -> None:
        """Until the socket is shut down; unlike the inherited method, it then returns at once."""
        while True:
            try:
                request, address = self.get_request()
            except OSError:
                return
            self.process_request(request, address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in its own thread, including the TLS handshake, which may fail."""
        with self._connections_lock:
            self._connections.add(request)
        try:
            if self.tls is None:
                super().finish_request(request, client_address)
                return
            with self.tls.wrap_socket(request, server_side=True) as encrypted:
                super().finish_request(encrypted, client_address)
        except (OSError, ValueError):
            pass  # the client closed the connection, or the listener was stopped
        finally:
            with self._connections_lock:
                self._connections.discard(request)

    def drop_connections(self) -> None:
        """Close all connections."""
        with self._connections_lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def answer(self) -> None:
        """Handle a request."""
        length = int(self.headers.get("Content-Length") or 0)
        parts = urlsplit(self.path)
        request = Request(
            method=self.command,
            base=self.server.listener.url,
            path=parts.path,
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=self.headers,
            body=self.rfile.read(length),
        )
        answer, fault = self.server.listener.service.handle(request)
        if fault is not None and fault.ending in ("close", "reset"):
            self._end(reset=fault.ending == "reset")
        else:
            self._send(answer, cut=fault is not None and fault.ending == "cut")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer

    def _send(self, answer: Answer, cut: bool) -> None:
        payload = answer.payload()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.content_type:
            self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(payload)))
        if cut:
            payload = payload[: len(payload) // 2]
            self.close_connection = True
        # Head and body in one packet: in two, the second waits for the first one's acknowledgement.
        self._headers_buffer: list[bytes]
        self._headers_buffer += [b"\r\n", payload if self.command != "HEAD" else b""]
        self.flush_headers()

    def _end(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def date_time_string(self, timestamp: float | None = None) -> str:
        """For the header Date."""
        return formatdate((timestamp or time.time()) + self.server.listener.skew(), usegmt=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: calls are counted."""
