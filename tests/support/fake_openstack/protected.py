"""Authentication in front of Nova, Neutron and Glance, as keystonemiddleware does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.support.fake_openstack.cloud import Cloud, new_id
from tests.support.fake_openstack.faults import Calls, Fault, Faults
from tests.support.fake_openstack.http_service import Answer, Failure, Request, Route, Service
from tests.support.fake_openstack.keystone import UNAUTHORIZED


class ProtectedService(Service):
    """A service that requires a token.

    Args:
        identity_url: Keystone's URL, part of the answer 401.
    """

    def __init__(self, cloud: Cloud, identity_url: Callable[[], str], faults: Faults, calls: Calls) -> None:
        super().__init__(faults, calls)
        self._cloud = cloud
        self._identity_url = identity_url

    def handle(self, request: Request) -> tuple[Answer, Fault | None]:
        """See ``Service.handle``."""
        if self._cloud.settings.drops_queries:
            request = replace(request, query={})
        return super().handle(request)

    def admit(self, request: Request, route: Route | None) -> None:
        """See ``Service.admit``."""
        if route is not None and route.open_to_all:
            return
        with self._cloud.lock:
            if self._cloud.is_valid(request.headers.get("X-Auth-Token")):
                return
        raise Failure(401, UNAUTHORIZED, answer=self.unauthorized())

    def unauthorized(self) -> Answer:
        """The answer to a token that is missing, wrong, revoked or expired."""
        error = {"code": 401, "title": "Unauthorized", "message": UNAUTHORIZED}
        uri = {"WWW-Authenticate": f'Keystone uri="{self._identity_url()}"'}
        return Answer(401, {"error": error}, headers=uri)


def request_id() -> str:
    """A new request id, in the form that OpenStack's services use."""
    return f"req-{new_id()}"
