"""Floating IPs. They are Neutron's, have no metadata, and outlive their server: each carries our marks.

https://docs.openstack.org/api-ref/network/v2/#floating-ips-floatingips
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keystoneauth1.exceptions import HttpError

from lando.cloud.interface import CloudError, FloatingIp
from lando.cloud.nova import failures, tags
from lando.cloud.nova.lookup import Names, Wanted
from lando.cloud.nova.session import Wire

_NO_ROUTE = "ExternalGatewayForFloatingIPNotFound"
_FIELDS = ["id", "floating_ip_address", "description", "port_id"]


class FloatingIps:
    """See ``FloatingIpPool``. Safe to use from several threads.

    Args:
        wire: to ask on.
        names: what the pool's name stands for.
        pool: the external network; None: what there is can be released, and nothing allocated.
    """

    def __init__(self, wire: Wire, names: Names, pool: str | None) -> None:
        self._wire = wire
        self._names = names
        self._pool = pool
        self.hands_out = pool is not None

    def attach(self, server_id: str, mark: str, deployment: str) -> str:
        """See ``FloatingIpPool.attach``: to the server's first port that the external network reaches.

        Raises:
            QuotaExceeded, NoCapacity: there is none to be had now.
            CloudError: also otherwise, as when the server has no port yet; try again.
        """
        found = self.allocate(mark, deployment)
        if found.server_port is not None:
            return found.address
        with self._wire.errors(f"attaching floating IP {found.address} to server {server_id}"):
            ports = self._wire.network("GET", "/ports", params={"device_id": server_id})["ports"]
            for port in ports:
                try:
                    self._lead_to(found.id, port["id"])
                except HttpError as error:
                    if failures.failure(error).kind != _NO_ROUTE or port is ports[-1]:
                        raise
                else:
                    return found.address
        raise CloudError(f"attaching floating IP {found.address}: server {server_id} has no port yet")

    def allocate(self, mark: str, deployment: str) -> FloatingIp:
        """The floating IP of a mark, allocated unless there is one; superfluous ones are released.

        Raises:
            CloudError: it may have been allocated unless the error is of a definite kind.
        """
        wanted = Wanted(self._pool or "", "vm_settings.floating_ip_pool_name")
        network = self._names.external_network(wanted)
        with self._wire.errors(f"allocating a floating IP of {wanted.name}"):
            found = self._of(mark)
            if not found:
                description = tags.description(mark, deployment)
                wish = {"floating_network_id": network.id, "description": description}
                answer = self._wire.network("POST", "/floatingips", json={"floatingip": wish})
                return _floating_ip(answer["floatingip"])
        keep, *twins = sorted(found, key=lambda each: (each.server_port is None, each.id))
        for twin in twins:
            self.delete(twin.id)
        return keep

    def _of(self, mark: str) -> list[FloatingIp]:
        """Those of a mark, which is random: whatever the deployment was called when they were allocated."""
        return [each for each in self._list() if each.mark == mark]

    def _lead_to(self, floating_ip_id: str, port_id: str) -> None:
        body = {"floatingip": {"port_id": port_id}}
        self._wire.network("PUT", f"/floatingips/{floating_ip_id}", json=body)

    def release(self, mark: str) -> None:
        """See ``FloatingIpPool.release``."""
        with self._wire.errors("listing floating IPs"):
            found = self._of(mark)
        for each in found:
            self.delete(each.id)

    def delete(self, floating_ip_id: str) -> None:
        """See ``FloatingIpPool.delete``."""
        with self._wire.errors(f"releasing floating IP {floating_ip_id}"):
            try:
                self._wire.network("DELETE", f"/floatingips/{floating_ip_id}")
            except HttpError as error:
                if failures.failure(error).kind != "FloatingIPNotFound":
                    raise

    def all(self) -> list[FloatingIp]:
        """See ``FloatingIpPool.all``."""
        with self._wire.errors("listing floating IPs"):
            return self._list()

    def _list(self) -> list[FloatingIp]:
        rows = self._wire.network("GET", "/floatingips", params={"fields": _FIELDS})["floatingips"]
        return [_floating_ip(row) for row in rows]


def _floating_ip(row: Mapping[str, Any]) -> FloatingIp:
    found = tags.of_description(row.get("description") or "")
    return FloatingIp(
        id=row["id"],
        address=row["floating_ip_address"],
        mark=found.mark,
        deployment=found.deployment,
        server_port=row.get("port_id"),
    )
