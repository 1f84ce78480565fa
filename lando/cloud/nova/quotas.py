"""Reads the project's quota: Nova's, and where servers use it, Cinder's and Neutron's.

https://docs.openstack.org/api-ref/compute/#limits-limits,
https://docs.openstack.org/api-ref/block-storage/v3/#limits-limits,
https://docs.openstack.org/api-ref/network/v2/#show-quota-details-for-a-tenant

Cinder's and Neutron's only spare the cloud servers that end in ERROR. Where they cannot be read, jobs start
without them, and what is used up shows when a server is created.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from lando.cloud.interface import CloudError, Quota, Share
from lando.cloud.nova.session import SMALL_READ, Session

AGAIN_SECONDS = 600.0
"""A service that did not say its quota is asked again after this time."""

_log = logging.getLogger(__name__)


class Quotas:
    """The quotas of the project.

    Args:
        session: sends the calls.
        nova: novaclient's client.
        floating_ips: whether servers have one; then Neutron's quota is read.
        clock: seconds that only increase.
    """

    def __init__(
        self,
        session: Session,
        nova: Any,
        floating_ips: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._nova = nova
        self._floating_ips = floating_ips
        self._clock = clock
        self._next: dict[str, float] = {}

    def read(self, volumes: bool) -> Quota:
        """Ask for all that matters.

        Args:
            volumes: whether servers have volumes; then Cinder's quota is read.

        Raises:
            CloudError: Nova's could not be had.
        """
        with self._session.errors("asking for the quota"):
            limits = {limit.name: limit.value for limit in self._nova.limits.get().absolute}
            servers = _share(limits, "totalInstancesUsed", "maxTotalInstances")
            cores = _share(limits, "totalCoresUsed", "maxTotalCores")
            ram = _share(limits, "totalRAMUsed", "maxTotalRAMSize")
        more: dict[str, Share] = {}
        if volumes:
            more |= self._try("Cinder", self._of_cinder)
        if self._floating_ips:
            more |= self._try("Neutron", self._of_neutron)
        return Quota(servers, cores, ram, **more)

    def _try(self, service: str, read: Callable[[], dict[str, Share]]) -> dict[str, Share]:
        if self._clock() < self._next.get(service, 0.0):
            return {}
        try:
            with self._session.errors(f"asking {service} for its quota"):
                return read()
        except CloudError as error:
            self._next[service] = self._clock() + AGAIN_SECONDS
            _log.debug("%s; asked again in %g s", error, AGAIN_SECONDS)
            return {}

    def _of_cinder(self) -> dict[str, Share]:
        limits = self._session.cinder("GET", "/limits", timeout=SMALL_READ)["limits"]["absolute"]
        return {
            "volumes": _share(limits, "totalVolumesUsed", "maxTotalVolumes"),
            "gigabytes": _share(limits, "totalGigabytesUsed", "maxTotalVolumeGigabytes"),
        }

    def _of_neutron(self) -> dict[str, Share]:
        project = self._session.keystoneauth.get_project_id()
        quota = self._session.neutron("GET", f"/quotas/{project}/details", timeout=SMALL_READ)["quota"]
        return {"ports": _with_reserved(quota["port"]), "floating_ips": _with_reserved(quota["floatingip"])}


def _share(limits: dict[str, int], used: str, limit: str) -> Share:
    return Share(limits[used], limits[limit] if limits[limit] >= 0 else None)


def _with_reserved(row: dict[str, int]) -> Share:
    return Share(row["used"] + row["reserved"], row["limit"] if row["limit"] >= 0 else None)
