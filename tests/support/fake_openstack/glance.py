"""Glance v2: images, read-only.

https://docs.openstack.org/api-ref/image/v2/
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

from tests.support.fake_openstack.cloud import Image
from tests.support.fake_openstack.http_service import Answer, Failure, Request, Route, page
from tests.support.fake_openstack.protected import ProtectedService, request_id


class Glance(ProtectedService):
    """The image service. Filters other than name, id and status are answered with 501."""

    name = "image"
    version = "/v2"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.routes = [
            Route("GET", "/", self.versions, open_to_all=True),
            Route("GET", "/versions", self.versions, open_to_all=True),
            Route("GET", "/images", self.index),
            Route("GET", "/images/{image}", self.show),
        ]

    def failure(self, failure: Failure) -> Answer:
        """See ``Service.failure``."""
        return page(failure.status, failure.message)

    def unauthorized(self) -> Answer:
        """Glance's own answer, not keystonemiddleware's."""
        answer = page(
            401,
            "This server could not verify that you are authorized to access the document you requested. "
            "Either you supplied the wrong credentials (e.g., bad password), or your browser does not "
            "understand how to supply the credentials required.",
        )
        answer.headers["WWW-Authenticate"] = f'Keystone uri="{self._identity_url()}"'
        return answer

    def complete(self, request: Request, answer: Answer) -> Answer:
        """See ``Service.complete``."""
        if answer.status != 401 and request.path not in ("/", "/versions"):
            answer.headers["x-openstack-request-id"] = request_id()
        return answer

    def versions(self, request: Request) -> Answer:
        """The versions; with status 300 at the root."""
        links = [{"rel": "self", "href": f"{request.base}/v2/"}]
        versions = [
            {"id": f"v2.{minor}", "status": "CURRENT" if minor == 15 else "SUPPORTED", "links": links}
            for minor in (15, 9, *range(7, -1, -1))
        ]
        return Answer(300 if request.path == "/" else 200, {"versions": versions})

    def index(self, request: Request) -> Answer:
        """Images, the newest first."""
        known = {"name", "id", "status", "limit", "marker", "visibility", "os_hidden", "member_status"}
        if not known >= request.query.keys():
            raise Failure(501, f"the fake has no such filter: {set(request.query) - known}")
        filters = ("name", "id", "status")
        with self._cloud.lock:
            images = sorted(self._cloud.images, key=lambda image: image.created, reverse=True)
            shown = [
                self._show(image)
                for image in images
                if _is_listed(image, request)
                and all(_matches(request.one(name), getattr(image, name)) for name in filters)
            ]
        marker = request.one("marker")
        if marker is not None:
            ids = [each["id"] for each in shown]
            if marker not in ids:
                raise Failure(400, f"Marker image {marker} could not be found.")
            shown = shown[ids.index(marker) + 1 :]
        limit = min(int(request.one("limit") or 25), self._cloud.settings.image_page_cap)
        first = {name: values for name, values in request.query.items() if name != "marker"}
        query = urlencode(first, doseq=True)
        document: dict[str, Any] = {
            "images": shown[:limit],
            "first": f"/v2/images?{query}" if query else "/v2/images",
            "schema": "/v2/schemas/images",
        }
        if 0 < limit <= len(shown):
            following = urlencode({**first, "marker": shown[limit - 1]["id"]}, doseq=True)
            document["next"] = f"/v2/images?{following}"
        return Answer(200, document)

    def show(self, request: Request, image: str) -> Answer:
        """One image."""
        with self._cloud.lock:
            for each in self._cloud.images:
                if each.id == image:
                    return Answer(200, self._show(each))
        raise Failure(404, f"No image found with ID {image}")

    def _show(self, image: Image) -> dict[str, Any]:
        created = datetime.fromtimestamp(image.created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "name": image.name,
            "disk_format": "qcow2",
            "container_format": "bare",
            "visibility": image.visibility,
            "size": 500,
            "virtual_size": 500,
            "status": image.status,
            "checksum": "5e2bf57d3f40c4b6df69daf1936cb766",
            "protected": False,
            "min_ram": image.min_ram,
            "min_disk": image.min_disk,
            "owner": self._cloud.account.project_id,
            "os_hidden": image.hidden,
            "os_hash_algo": "sha512",
            "os_hash_value": "0" * 128,
            "id": image.id,
            "created_at": created,
            "updated_at": created,
            "tags": [],
            "self": f"/v2/images/{image.id}",
            "file": f"/v2/images/{image.id}/file",
            "schema": "/v2/schemas/image",
        }


def _is_listed(image: Image, request: Request) -> bool:
    """Whether the image is visible to the project, and not one that is listed only when asked for."""
    visibility, member_status = request.one("visibility"), request.one("member_status")
    if image.hidden != ((request.one("os_hidden") or "").lower() == "true"):
        return False
    if image.visibility == "shared" and member_status not in ("pending", "all"):
        return False
    if image.visibility == "community" and visibility not in ("community", "all"):
        return False
    return visibility in (None, "all", image.visibility)


def _matches(wanted: str | None, value: str) -> bool:
    """Glance's filters: a value, or several after ``in:``."""
    if wanted is None:
        return True
    return value in wanted[3:].split(",") if wanted.startswith("in:") else value == wanted
