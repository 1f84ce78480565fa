"""Keystone v3: version discovery, tokens and their catalog.

https://docs.openstack.org/api-ref/identity/v3/
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from tests.support.fake_openstack.cloud import Cloud, new_hex_id, new_id
from tests.support.fake_openstack.faults import Calls, Faults
from tests.support.fake_openstack.http_service import Answer, Failure, Request, Route, Service, title

UNAUTHORIZED = "The request you have made requires authentication."
MALFORMED = (
    "Expecting to find {} in request body. The server could not comply with the request since it is either "
    "malformed or otherwise incorrect. The client is assumed to be in error."
)
NOBODY = "http://127.0.0.1:9"
"""An address at which nothing answers."""
NO_SUCH_TOKEN = "Could not recognize Fernet token"
NOWHERE = (
    "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n"
    "<p>The requested URL was not found on the server. If you entered the URL manually please check your "
    "spelling and try again.</p>\n"
)


def timestamp(at: float) -> str:
    """A time as Keystone writes it: whole seconds, with a fraction of zeros."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


class Keystone(Service):
    """The identity service.

    Args:
        endpoints: the URL of each service, by type, for the catalog.
    """

    name = "identity"
    version = "/v3"

    def __init__(
        self, cloud: Cloud, endpoints: Callable[[], dict[str, str]], faults: Faults, calls: Calls
    ) -> None:
        super().__init__(faults, calls)
        self._cloud = cloud
        self._endpoints = endpoints
        self._role_ids = {"reader": new_hex_id(), "member": new_hex_id()}
        self._service_ids: dict[str, str] = {}
        self.routes = [
            Route("GET", "/", self.versions, open_to_all=True),
            Route("GET", "/v3", self.version_3, open_to_all=True),
            Route("POST", "/auth/tokens", self.issue, open_to_all=True),
            Route("GET", "/auth/tokens", self.show),
            Route("DELETE", "/auth/tokens", self.revoke),
        ]

    def admit(self, request: Request, route: Route | None) -> None:
        """Refuse requests without a valid token, except to get one."""
        if route is not None and not route.open_to_all:
            with self._cloud.lock:
                if not self._cloud.is_valid(request.headers.get("X-Auth-Token")):
                    raise Failure(401, UNAUTHORIZED)

    def nowhere(self, request: Request) -> Answer:
        """See ``Service.nowhere``."""
        return Answer(404, text=NOWHERE, content_type="text/html; charset=utf-8")

    def failure(self, failure: Failure) -> Answer:
        """See ``Service.failure``."""
        error = {"code": failure.status, "message": failure.message, "title": title(failure.status)}
        return Answer(failure.status, {"error": error})

    def complete(self, request: Request, answer: Answer) -> Answer:
        """See ``Service.complete``."""
        answer.headers.setdefault("Vary", "X-Auth-Token")
        answer.headers["x-openstack-request-id"] = f"req-{new_id()}"
        if answer.status == 401:
            answer.headers["WWW-Authenticate"] = f'Keystone uri="{request.base}/v3"'
        return answer

    def versions(self, request: Request) -> Answer:
        """The versions, with status 300."""
        document = {"versions": {"values": [self._version(request)]}}
        return Answer(300, document, headers={"Location": f"{request.base}/v3/"})

    def version_3(self, request: Request) -> Answer:
        """The only version."""
        return Answer(200, {"version": self._version(request)})

    @staticmethod
    def _version(request: Request) -> dict[str, Any]:
        media_type = {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}
        return {
            "id": "v3.14",
            "status": "stable",
            "updated": "2020-04-07T00:00:00Z",
            "links": [{"rel": "self", "href": f"{request.base}/v3/"}],
            "media-types": [media_type],
        }

    def issue(self, request: Request) -> Answer:
        """Issue a token for a password or an application credential."""
        auth = _auth(request)
        identity = auth["identity"]
        [method] = identity["methods"]
        with self._cloud.lock:
            if method == "password":
                self._check_password(identity["password"]["user"])
                self._check_scope(auth.get("scope"))
            elif method == "application_credential":
                self._check_application_credential(identity["application_credential"])
            else:
                raise Failure(401, "Attempted to authenticate with an unsupported method.")
            token = self._cloud.issue_token()
            return self._describe(token, method, 201)

    def _check_password(self, user: dict[str, Any]) -> None:
        account = self._cloud.account
        known = user.get("id") == account.user_id or (
            user.get("name") == account.username
            and _names(user.get("domain"), account.domain_id, account.user_domain_name)
        )
        attempts = self._cloud.settings.lockout_attempts
        if attempts is not None and account.wrong_passwords >= attempts:
            raise Failure(401, UNAUTHORIZED)
        if not known or user.get("password") != account.password:
            account.wrong_passwords += 1
            raise Failure(401, UNAUTHORIZED)
        account.wrong_passwords = 0

    def _check_scope(self, scope: dict[str, Any] | None) -> None:
        if scope is None:  # the user's default project
            return
        account = self._cloud.account
        project = scope.get("project", {})
        known = project.get("id") == account.project_id or (
            project.get("name") == account.project_name
            and _names(project.get("domain"), account.domain_id, account.project_domain_name)
        )
        if not known:
            raise Failure(401, UNAUTHORIZED)

    def _check_application_credential(self, given: dict[str, Any]) -> None:
        account = self._cloud.account
        known = given.get("id") == account.application_credential_id or (
            given.get("name") == account.application_credential_name
            and (given.get("user") or {}).get("name") == account.username
        )
        if not known:
            named = given.get("id") or given.get("name")
            raise Failure(404, f"Could not find Application Credential: {named}.")
        if given.get("secret") != account.application_credential_secret:
            raise Failure(401, UNAUTHORIZED)

    def show(self, request: Request) -> Answer:
        """Describe a token."""
        token = request.headers.get("X-Subject-Token", "")
        with self._cloud.lock:
            if not self._cloud.is_valid(token):
                raise Failure(404, NO_SUCH_TOKEN)
            return self._describe(token, "password", 200)

    def revoke(self, request: Request) -> Answer:
        """Revoke a token."""
        token = request.headers.get("X-Subject-Token", "")
        with self._cloud.lock:
            if self._cloud.tokens.pop(token, None) is None:
                raise Failure(404, NO_SUCH_TOKEN)
        return Answer(204, content_type="")

    def _describe(self, token: str, method: str, status: int) -> Answer:
        account = self._cloud.account
        issued, expires = self._cloud.tokens[token]
        roles = ("member",) if method == "application_credential" else ("reader", "member")
        described: dict[str, Any] = {
            "methods": [method],
            "user": {
                "domain": {"id": account.domain_id, "name": account.user_domain_name},
                "id": account.user_id,
                "name": account.username,
                "password_expires_at": None,
            },
            "audit_ids": [secrets.token_urlsafe(16)],
            "expires_at": timestamp(expires),
            "issued_at": timestamp(issued),
            "project": {
                "domain": {"id": account.domain_id, "name": account.project_domain_name},
                "id": account.project_id,
                "name": account.project_name,
            },
            "is_domain": False,
            "roles": [{"id": self._role_ids[name], "name": name} for name in roles],
            "catalog": [self._catalog_entry(*each) for each in self._endpoints().items()],
        }
        if method == "application_credential":
            described["application_credential"] = {
                "id": account.application_credential_id,
                "name": account.application_credential_name,
                "restricted": True,
            }
        return Answer(status, {"token": described}, headers={"X-Subject-Token": token})

    def _catalog_entry(self, service_type: str, url: str) -> dict[str, Any]:
        names = {
            **{"identity": "keystone", "image": "glance", "compute": "nova", "network": "neutron"},
            "volumev3": "cinder",
        }
        settings = self._cloud.settings
        addresses = {**dict.fromkeys(settings.other_regions, NOBODY), settings.region: url}
        endpoints = [
            {
                "id": self._service_ids.setdefault(f"{region} {service_type} {interface}", new_hex_id()),
                "interface": interface,
                "region_id": region,
                "url": address,
                "region": region,
            }
            for region, address in addresses.items()
            for interface in ("public", "internal", "admin")
        ]
        return {
            "endpoints": endpoints,
            "id": self._service_ids.setdefault(service_type, new_hex_id()),
            "type": service_type,
            "name": names[service_type],
        }


def _auth(request: Request) -> dict[str, Any]:
    try:
        document = json.loads(request.body)
    except ValueError:
        raise Failure(400, MALFORMED.format("valid JSON")) from None
    if "auth" not in document:
        raise Failure(400, MALFORMED.format("auth"))
    auth: dict[str, Any] = document["auth"]
    return auth


def _names(domain: dict[str, Any] | None, domain_id: str, name: str) -> bool:
    given = domain or {}
    return given.get("id") == domain_id or given.get("name") == name
