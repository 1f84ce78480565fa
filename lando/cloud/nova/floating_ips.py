"""Floating IPs: Neutron's, which outlive the server that they are associated with.

https://docs.openstack.org/api-ref/network/v2/#floating-ips-floatingips
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keystoneauth1.exceptions import HttpError

from lando.cloud.interface import CloudError, FloatingIp
from lando.cloud.nova import failures, tags
from lando.cloud.nova.lookup import ConfiguredName, NameLookup
from lando.cloud.nova.session import Session

POOL_SETTING = "vm_settings.floating_ip_pool_name"

_NO_ROUTE = "ExternalGatewayForFloatingIPNotFound"
_FIELDS = tuple(("fields", name) for name in ("id", "floating_ip_address", "description", "port_id"))


class FloatingIps:
    """See ``FloatingIpPool``. Safe to use from several threads.

    Args:
        session: for Neutron.
        lookup: finds the pool.
        pool: the external network; None: none are allocated, but existing ones can be released.
    """

    def __init__(self, session: Session, lookup: NameLookup, pool: str | None) -> None:
        self._session = session
        self._lookup = lookup
        self._pool = pool
        self.allocates = pool is not None

    def attach(self, server_id: str, mark: str, deployment: str) -> str:
        """See ``FloatingIpPool.attach``: to the server's first port with a route to the external network.

        Raises:
            QuotaExceeded, NoCapacity: none is available now.
            CloudError: among others while the server has no port; repeat the call later.
        """
        found = self.allocate(mark, deployment)
        if found.server_port is not None:
            return found.address
        action = f"attaching floating IP {found.address} to server {server_id}"
        query = (("device_id", server_id), ("fields", "id"))
        ports = self._session.neutron_rows(action, "/ports", "ports", query)
        with self._session.errors(action):
            for port in ports:
                try:
                    self._associate(found.id, port["id"])
                except HttpError as error:
                    if failures.read(error).error_name != _NO_ROUTE or port is ports[-1]:
                        raise
                else:
                    return found.address
        raise CloudError(f"attaching floating IP {found.address}: server {server_id} has no port yet")

    def allocate(self, mark: str, deployment: str) -> FloatingIp:
        """The floating IP of a mark; one is allocated if there is none, and duplicates are released.

        Raises:
            CloudError: one may have been allocated, unless the error is of a definite kind.
        """
        wanted = ConfiguredName(self._pool or "", POOL_SETTING)
        network = self._lookup.external_network(wanted)
        found = self._with_mark(mark)
        if not found:
            body = {"floating_network_id": network.id, "description": tags.description(mark, deployment)}
            with self._session.errors(f"allocating a floating IP of {wanted.name}"):
                answer = self._session.neutron("POST", "/floatingips", json={"floatingip": body})
                return _floating_ip(answer["floatingip"])
        keep, *duplicates = sorted(found, key=lambda each: (each.server_port is None, each.id))
        for duplicate in duplicates:
            self.delete(duplicate.id)
        return keep

    def _with_mark(self, mark: str) -> list[FloatingIp]:
        # The deployment is not compared: it may have been renamed, and marks are random.
        return [each for each in self.all() if each.mark == mark]

    def _associate(self, floating_ip_id: str, port_id: str) -> None:
        body = {"floatingip": {"port_id": port_id}}
        self._session.neutron("PUT", f"/floatingips/{floating_ip_id}", json=body)

    def release(self, mark: str) -> None:
        """See ``FloatingIpPool.release``."""
        for each in self._with_mark(mark):
            self.delete(each.id)

    def delete(self, floating_ip_id: str) -> None:
        """See ``FloatingIpPool.delete``."""
        with self._session.errors(f"releasing floating IP {floating_ip_id}"):
            try:
                self._session.neutron("DELETE", f"/floatingips/{floating_ip_id}")
            except HttpError as error:
                if failures.read(error).error_name != "FloatingIPNotFound":
                    raise

    def all(self) -> list[FloatingIp]:
        """See ``FloatingIpPool.all``."""
        action = "listing floating IPs"
        # Without the filter an administrator's account gets those of all projects.
        query = (*_FIELDS, *self._session.own_project(action))
        rows = self._session.neutron_rows(action, "/floatingips", "floatingips", query)
        with self._session.errors(action):
            return [_floating_ip(row) for row in rows]


def _floating_ip(row: Mapping[str, Any]) -> FloatingIp:
    found = tags.from_description(row.get("description") or "")
    return FloatingIp(
        id=row["id"],
        address=row["floating_ip_address"],
        mark=found.mark,
        deployment=found.deployment,
        server_port=row.get("port_id"),
    )
