"""The control API, by which a test in another process does what the Python attributes of the fake do.

GET /state                       calls, faults, servers, floating IPs
POST /faults, DELETE /faults     a fault, as the fields of ``Fault``
PUT /knobs, /quotas, /settings   values to change
POST /revoke                     revoke all tokens
POST /stop/SERVICE, /start/SERVICE
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.fake_openstack.cloud import Server
from tests.support.fake_openstack.faults import Calls, Fault, Faults
from tests.support.fake_openstack.http_service import Answer, Failure, Request, Route, Service

if TYPE_CHECKING:
    from tests.support.fake_openstack import OpenStackFake


class Control(Service):
    """The service of the control API; not a service of OpenStack."""

    name = "control"

    def __init__(self, fake: OpenStackFake) -> None:
        super().__init__(Faults(), Calls())
        self._fake = fake
        self.routes = [
            Route("GET", "/state", self.state),
            Route("POST", "/faults", self.add_fault),
            Route("DELETE", "/faults", self.clear_faults),
            Route("PUT", "/{what}", self.set_values),
            Route("POST", "/revoke", self.revoke),
            Route("POST", "/stop/{service}", self.stop),
            Route("POST", "/start/{service}", self.start),
        ]

    def failure(self, failure: Failure) -> Answer:
        """See ``Service.failure``."""
        return Answer(failure.status, {"error": failure.message})

    def state(self, request: Request) -> Answer:
        """The state of the cloud, and the counters of calls."""
        cloud = self._fake.cloud
        with cloud.lock:
            document = {
                "calls": self._fake.calls.by_label(),
                "faults": self._fake.faults.describe(),
                "servers": [_describe(server) for server in cloud.servers.values()],
                "ended": [_describe(server) for server in cloud.ended.values()],
                "floating_ips": [
                    {"id": each.id, "address": each.address, "description": each.description}
                    for each in cloud.floating_ips.values()
                ],
            }
        return Answer(200, document)

    def add_fault(self, request: Request) -> Answer:
        """Add a fault."""
        try:
            self._fake.faults.add(Fault(**json.loads(request.body)))
        except (TypeError, ValueError) as error:
            raise Failure(400, str(error)) from error
        return Answer(204)

    def clear_faults(self, request: Request) -> Answer:
        """Remove all faults."""
        self._fake.faults.clear()
        return Answer(204)

    def set_values(self, request: Request, what: str) -> Answer:
        """Change some knobs, quotas or settings."""
        cloud = self._fake.cloud
        known = {"knobs": vars(cloud.knobs), "quotas": cloud.quotas, "settings": vars(cloud.settings)}
        if what not in known:
            raise Failure(404, f"no {what}; there are {', '.join(known)}")
        values = json.loads(request.body)
        unknown = values.keys() - known[what].keys()
        if unknown:
            raise Failure(400, f"{what} has no {', '.join(sorted(unknown))}")
        with cloud.lock:
            known[what].update(values)
        return Answer(204)

    def revoke(self, request: Request) -> Answer:
        """Revoke all tokens."""
        self._fake.revoke_tokens()
        return Answer(204)

    def stop(self, request: Request, service: str) -> Answer:
        """Stop a service."""
        self._listener(service).stop()
        return Answer(204)

    def start(self, request: Request, service: str) -> Answer:
        """Start a stopped service."""
        self._listener(service).start()
        return Answer(204)

    def _listener(self, service: str) -> Any:
        try:
            return self._fake.listeners[service]
        except KeyError:
            raise Failure(404, f"no {service}; there are {', '.join(self._fake.listeners)}") from None


def _describe(server: Server) -> dict[str, Any]:
    return {
        "id": server.id,
        "name": server.name,
        "status": server.status,
        "task_state": server.task_state,
        "metadata": server.metadata,
        "tags": server.tags,
        "request": server.request,
        "fault": server.fault and server.fault[1],
    }
