"""OpenStack's own APIs, for the lab's contents and for tests: plain requests of keystoneauth."""

from __future__ import annotations

from typing import Any

from keystoneauth1.identity import v3
from keystoneauth1.session import Session

from tests.openstack.lab.place import AUTH_URL, SECRET

PREFIXES = {"network": "/v2.0", "image": "/v2"}
"""Of the paths, where the catalogue's address is not that of a version."""


class Api:
    """The services as a user sees them; the project has the user's name."""

    def __init__(self, user: str) -> None:
        auth = v3.Password(
            auth_url=AUTH_URL,
            username=user,
            password=SECRET,
            project_name=user,
            user_domain_name="Default",
            project_domain_name="Default",
        )
        self.session = Session(auth=auth, timeout=60)

    def __call__(self, method: str, service: str, path: str, **options: Any) -> Any:
        """The JSON of the answer; an error is keystoneauth's."""
        where = {"service_type": service, "interface": "public"}
        answer = self.session.request(
            PREFIXES.get(service, "") + path, method, endpoint_filter=where, **options
        )
        return answer.json() if answer.content else None

    def all(self, service: str, kind: str, **filters: str) -> list[dict[str, Any]]:
        """What there is of a kind, as ``servers/detail``; not more than a page."""
        key = kind.partition("/")[0].removeprefix("os-").replace("-", "_")
        found: list[dict[str, Any]] = self("GET", service, f"/{kind}", params=filters)[key]
        return found

    def find(self, service: str, kind: str, name: str) -> dict[str, Any] | None:
        """The one of this name."""
        return next((item for item in self.all(service, kind) if item["name"] == name), None)

    def ensure(self, service: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
        """The one of this name, made if there is none."""
        if found := self.find(service, kind, name):
            return found
        single = kind.removesuffix("s")
        made: dict[str, Any] = self("POST", service, f"/{kind}", json={single: {"name": name, **more}})[
            single
        ]
        return made
