"""Cinder v3: the project's limits and their use. Its other calls are Nova's.

https://docs.openstack.org/api-ref/block-storage/v3/
"""

from __future__ import annotations

from typing import Any

from tests.support.fake_openstack.http_service import Answer, Failure, Request, Route
from tests.support.fake_openstack.protected import ProtectedService, request_id

GB_OF_BACKUPS = 1000


class Cinder(ProtectedService):
    """The volume service."""

    name = "volumev3"
    version = "/v3"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.routes = [Route("GET", "/{project}/limits", self.limits)]

    def nowhere(self, request: Request) -> Answer:
        """See ``Service.nowhere``."""
        raise Failure(404, "The resource could not be found.")

    def failure(self, failure: Failure) -> Answer:
        """See ``Service.failure``."""
        names = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 503: "serviceUnavailable"}
        error = {"code": failure.status, "message": failure.message}
        return Answer(failure.status, {names.get(failure.status, "computeFault"): error})

    def complete(self, request: Request, answer: Answer) -> Answer:
        """See ``Service.complete``."""
        answer.headers["x-openstack-request-id"] = request_id()
        return answer

    def limits(self, request: Request, project: str) -> Answer:
        """What the project may have, and has."""
        if project != self._cloud.account.project_id:
            raise Failure(400, "Malformed request url")
        with self._cloud.lock:
            sizes = self._cloud.volume_sizes()
            absolute = {
                "maxTotalVolumes": self._cloud.quotas["volumes"],
                "maxTotalSnapshots": 10,
                "maxTotalVolumeGigabytes": self._cloud.quotas["gigabytes"],
                "maxTotalBackups": 10,
                "maxTotalBackupGigabytes": GB_OF_BACKUPS,
                "totalVolumesUsed": len(sizes),
                "totalGigabytesUsed": sum(sizes),
                "totalSnapshotsUsed": 0,
                "totalBackupsUsed": 0,
                "totalBackupGigabytesUsed": 0,
            }
        return Answer(200, {"limits": {"rate": [], "absolute": absolute}})
