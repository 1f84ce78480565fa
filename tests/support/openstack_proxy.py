"""Stands between a daemon and its OpenStack, the fake or a real one: counts calls, and has them go wrong.

The daemon's auth_url is the proxy's. In what passes through, the catalog above all, every address of the
cloud is replaced by one of the proxy, so that whoever logs in here finds all services here.
"""

from __future__ import annotations

import json
import re
import threading
import time
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.support.fake_openstack.faults import Calls, Fault, Faults
from tests.support.fake_openstack.http_service import Answer, Listener, Request, Service, page

PATIENCE = 120.0
"""Seconds that the cloud may take for an answer."""
KINDS = {409: "conflictingRequest", 429: "overLimit", 503: "serviceUnavailable"}
"""Nova's names of what is answered."""

_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}")
_VERSION = re.compile(r"^/v[0-9.]+(?=/.)")
_OF_ONE_CONNECTION = {"connection", "content-length", "transfer-encoding", "host", "accept-encoding"}
_SET_ANEW = _OF_ONE_CONNECTION | {"content-type", "date", "server"}
_LOST = Fault("*", ending="close")


class CloudProxy(Service):
    """A running proxy, on a free port of loopback; ``close`` ends it.

    ``faults`` are those of the fake, and ``calls`` counts under the same labels: ``POST compute /servers``.

    Args:
        auth_url: the cloud's own.
        seed: makes random faults the same again.
    """

    name = "proxy"

    def __init__(self, auth_url: str, seed: int = 0) -> None:
        super().__init__(Faults(seed), Calls())
        self._version = urlsplit(auth_url).path
        self._clouds = {"identity": _base(auth_url)}
        """The address of each service, by type; the catalog has the others."""
        self._hidden: dict[str, float] = {}
        """Servers that no list shows before this time."""
        self._lock = threading.Lock()
        self._listener = Listener(self)

    def close(self) -> None:
        """Stop answering."""
        self._listener.stop()

    @property
    def auth_url(self) -> str:
        """Keystone's address, as the daemon is to have it."""
        return f"{self._listener.url}/identity{self._version}"

    def handle(self, request: Request) -> tuple[Answer, Fault | None]:
        """See ``Service.handle``."""
        _, service, path = request.path.split("/", 2)
        path = f"/{path}"
        label = f"{request.method} {service} {_ID.sub('{id}', _VERSION.sub('', path).rstrip('/') or '/')}"
        self.calls.add(label)
        fault = self.faults.strike(label)
        try:
            if fault is None:
                return self._pass_on(service, path, label, request), None
            return self._suffer(fault, service, path, label, request), fault
        except ConnectionRefusedError:
            return page(503, "No server is available to handle this request."), None
        except (OSError, HTTPException):
            return Answer(502), _LOST

    def _suffer(self, fault: Fault, service: str, path: str, label: str, request: Request) -> Answer:
        answer = Answer(200)
        for _ in range({"none": 0, "once": 1, "twice": 2}[fault.work]):
            answer = self._pass_on(service, path, label, request)
        if fault.surface_after and answer.status < 300:
            server = json.loads(answer.text or "")["server"]["id"]
            with self._lock:
                self._hidden[server] = time.monotonic() + fault.surface_after
        time.sleep(fault.hang)
        if fault.status is None:
            return answer
        if fault.html:
            answer = page(fault.status, fault.message)
        else:
            words = {"code": fault.status, "message": fault.message}
            answer = Answer(fault.status, {KINDS.get(fault.status, "computeFault"): words})
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = fault.retry_after
        return answer

    def _pass_on(self, service: str, path: str, label: str, request: Request) -> Answer:
        query = urlencode(request.query, doseq=True)
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in _OF_ONE_CONNECTION
        }
        connection = HTTPConnection(urlsplit(self._clouds[service]).netloc, timeout=PATIENCE)
        try:
            connection.request(
                request.method, f"{path}?{query}" if query else path, request.body or None, headers
            )
            found = connection.getresponse()
            text = found.read().decode()
        finally:
            connection.close()
        if label == "POST identity /auth/tokens" and found.status == 201:
            self._learn(json.loads(text)["token"]["catalog"])
        elif label == "GET compute /servers/detail" and found.status == 200:
            text = self._without_hidden(text)
        return Answer(
            found.status,
            text=self._led_here(text),
            content_type=found.headers.get("Content-Type", ""),
            headers={
                name: self._led_here(value)
                for name, value in found.headers.items()
                if name.lower() not in _SET_ANEW
            },
        )

    def _learn(self, catalog: list[dict[str, Any]]) -> None:
        for service in catalog:
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == "public":
                    self._clouds[service["type"]] = _base(endpoint["url"])

    def _led_here(self, text: str) -> str:
        for service, base in list(self._clouds.items()):
            text = text.replace(base, f"{self._listener.url}/{service}")
        return text

    def _without_hidden(self, text: str) -> str:
        now = time.monotonic()
        with self._lock:
            hidden = {server for server, until in self._hidden.items() if until > now}
        if not hidden:
            return text
        listed = json.loads(text)
        listed["servers"] = [server for server in listed["servers"] if server["id"] not in hidden]
        return json.dumps(listed)


def _base(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
