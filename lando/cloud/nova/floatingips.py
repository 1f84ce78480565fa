"""Floating IPs. They are Neutron's, have no metadata, and outlive their server: each carries our marks.

https://docs.openstack.org/api-ref/network/v2/#floating-ips-floatingips
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keystoneauth1.exceptions import HttpError

from lando.cloud import CloudError
from lando.cloud.nova import failures, marks
from lando.cloud.nova.names import Names, Wanted
from lando.cloud.nova.wire import Wire

_NO_ROUTE = "ExternalGatewayForFloatingIPNotFound"
_FIELDS = ["id", "floating_ip_address", "description", "port_id"]


@dataclass(frozen=True)
class FloatingIp:
    """A floating IP of the project; the marks are None for one that is not ours."""

    id: str
    address: str
    mark: str | None = None
    deployment: str | None = None
    server_port: str | None = None
    """The port of the server that it leads to; None while it leads nowhere."""


class FloatingIps:
    """The project's floating IPs. Safe to use from several threads.

    Args:
        wire: to ask on.
        names: what the pool's name stands for.
    """

    def __init__(self, wire: Wire, names: Names) -> None:
        self._wire = wire
        self._names = names

    def create(self, pool: Wanted, mark: str, deployment: str) -> FloatingIp:
        """The floating IP of a mark, allocated unless there is one: repeat it when the answer was lost.

        Args:
            pool: the external network.
            mark: public, of the create request that the server comes from.
            deployment: what the sweeper knows its own by.

        Raises:
            QuotaExceeded, NoCapacity: there is none to be had now.
            CloudError: also otherwise; it may have been allocated unless the error is of a definite kind.
        """
        network = self._names.external_network(pool)
        description = marks.description(mark, deployment)
        with self._wire.errors(f"allocating a floating IP of {pool.name}"):
            found = self._list(description=description)
            found = [each for each in found if (each.mark, each.deployment) == (mark, deployment)]
            if not found:
                wish = {"floating_network_id": network.id, "description": description}
                answer = self._wire.network("POST", "/floatingips", json={"floatingip": wish})
                return _floating_ip(answer["floatingip"])
        keep, *twins = sorted(found, key=lambda each: (each.server_port is None, each.id))
        for twin in twins:
            self.delete(twin.id)
        return keep

    def attach(self, floating_ip_id: str, server_id: str) -> FloatingIp:
        """Lead a floating IP to a server: to the first of its ports that the external network reaches.

        Raises:
            CloudError: among others when the server has no port yet; try again.
        """
        with self._wire.errors(f"attaching floating IP {floating_ip_id} to server {server_id}"):
            ports = self._wire.network("GET", "/ports", params={"device_id": server_id})["ports"]
            for port in ports:
                try:
                    return self._lead_to(floating_ip_id, port["id"])
                except HttpError as error:
                    if failures.failure(error).kind != _NO_ROUTE or port is ports[-1]:
                        raise
        raise CloudError(f"attaching floating IP {floating_ip_id}: server {server_id} has no port yet")

    def _lead_to(self, floating_ip_id: str, port_id: str) -> FloatingIp:
        body = {"floatingip": {"port_id": port_id}}
        answer = self._wire.network("PUT", f"/floatingips/{floating_ip_id}", json=body)
        return _floating_ip(answer["floatingip"])

    def delete(self, floating_ip_id: str) -> None:
        """Release it; one that is absent is success."""
        with self._wire.errors(f"releasing floating IP {floating_ip_id}"):
            try:
                self._wire.network("DELETE", f"/floatingips/{floating_ip_id}")
            except HttpError as error:
                if failures.failure(error).kind != "FloatingIPNotFound":
                    raise

    def all(self) -> list[FloatingIp]:
        """Every floating IP of the project, ours or not."""
        with self._wire.errors("listing floating IPs"):
            return self._list()

    def _list(self, **filters: str) -> list[FloatingIp]:
        rows = self._wire.network("GET", "/floatingips", params={"fields": _FIELDS, **filters})["floatingips"]
        return [_floating_ip(row) for row in rows]


def _floating_ip(row: Mapping[str, Any]) -> FloatingIp:
    found = marks.of_description(row.get("description") or "")
    return FloatingIp(
        id=row["id"],
        address=row["floating_ip_address"],
        mark=found.mark,
        deployment=found.deployment,
        server_port=row.get("port_id"),
    )
