"""Neutron v2.0: networks, ports, security groups and quotas, read-only; floating IPs.

https://docs.openstack.org/api-ref/network/v2/
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

from tests.support.fake_openstack.cloud import FloatingIp, Network, Port
from tests.support.fake_openstack.http_service import Answer, Failure, Request, Route
from tests.support.fake_openstack.protected import ProtectedService, request_id

QUOTAS = (
    *("network", "subnet", "subnetpool", "port", "router", "floatingip", "rbac_policy"),
    *("security_group", "security_group_rule"),
)
LIST_PARAMETERS = {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}


class Neutron(ProtectedService):
    """The network service. Lists are in order of the ids, as Neutron's are where it cuts them into pages."""

    name = "network"
    version = r"/v2\.0"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.routes = [
            Route("GET", "/", self.versions, open_to_all=True),
            Route("GET", "/networks", self.networks),
            Route("GET", "/networks/{network}", self.network),
            Route("GET", "/ports", self.ports),
            Route("GET", "/ports/{port}", self.port),
            Route("GET", "/security-groups", self.security_groups),
            Route("GET", "/floatingips", self.floating_ips),
            Route("POST", "/floatingips", self.create_floating_ip),
            Route("GET", "/floatingips/{floating_ip}", self.floating_ip),
            Route("PUT", "/floatingips/{floating_ip}", self.update_floating_ip),
            Route("DELETE", "/floatingips/{floating_ip}", self.delete_floating_ip),
            Route("GET", "/quotas/{project}", self.quotas),
            Route("GET", "/quotas/{project}/details", self.quota_details),
            Route("GET", "/quotas/{project}/details.json", self.quota_details),
        ]

    def nowhere(self, request: Request) -> Answer:
        """See ``Service.nowhere``."""
        raise Failure(404, "The resource could not be found.", kind="HTTPNotFound")

    def failure(self, failure: Failure) -> Answer:
        """See ``Service.failure``."""
        error = {"type": failure.kind, "message": failure.message, "detail": ""}
        return Answer(failure.status, {"NeutronError": error})

    def complete(self, request: Request, answer: Answer) -> Answer:
        """See ``Service.complete``."""
        if request.path != "/":
            answer.headers["X-Openstack-Request-Id"] = request_id()
        return answer

    def versions(self, request: Request) -> Answer:
        """The only version."""
        links = [{"rel": "self", "href": f"{request.base}/v2.0/"}]
        return Answer(200, {"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]})

    # networks, ports, security groups

    def networks(self, request: Request) -> Answer:
        """The networks that the project may use."""
        with self._cloud.lock:
            shown = [self._show_network(network) for network in self._cloud.networks]
        return self._listed("networks", shown, request)

    def network(self, request: Request, network: str) -> Answer:
        """One network."""
        with self._cloud.lock:
            return Answer(200, {"network": self._show_network(self._network(network))})

    def ports(self, request: Request) -> Answer:
        """The ports of servers."""
        with self._cloud.lock:
            shown = [self._show_port(port) for port in self._cloud.ports()]
        return self._listed("ports", shown, request)

    def port(self, request: Request, port: str) -> Answer:
        """One port."""
        with self._cloud.lock:
            return Answer(200, {"port": self._show_port(self._port(port))})

    def security_groups(self, request: Request) -> Answer:
        """The security groups, without their rules."""
        with self._cloud.lock:
            project = self._cloud.account.project_id
            shown: list[dict[str, Any]] = [
                {
                    "id": group_id,
                    "name": name,
                    "stateful": True,
                    "tenant_id": project,
                    "project_id": project,
                    "description": name,
                    "security_group_rules": [],
                    "tags": [],
                }
                for group_id, name in self._cloud.groups()
            ]
        return self._listed("security_groups", shown, request)

    def _listed(self, collection: str, shown: list[dict[str, Any]], request: Request) -> Answer:
        """A list, or a page of it: ``limit``, ``marker`` and the links that follow from them."""
        rows = sorted(_matching(shown, request), key=lambda row: str(row["id"]))
        limit, cap = int(request.one("limit") or 0), self._cloud.settings.network_page_cap
        limit = limit if cap is None else min(cap, limit) or cap
        if not limit:
            return Answer(200, {collection: _with_fields(rows, request)})
        marker = request.one("marker")
        rows = [row for row in rows if marker is None or str(row["id"]) > marker]
        document: dict[str, Any] = {collection: _with_fields(rows[:limit], request)}
        if len(rows) >= limit:
            query = {**request.query, "marker": [rows[limit - 1]["id"]]}
            href = f"{request.url}?{urlencode(query, doseq=True)}"
            document[f"{collection}_links"] = [{"rel": "next", "href": href}]
        return Answer(200, document)

    def _network(self, network_id: str) -> Network:
        for network in self._cloud.networks:
            if network.id == network_id:
                return network
        raise Failure(404, f"Network {network_id} could not be found.", kind="NetworkNotFound")

    def _port(self, port_id: str) -> Port:
        for port in self._cloud.ports():
            if port.id == port_id:
                return port
        raise Failure(404, f"Port {port_id} could not be found.", kind="PortNotFound")

    def _show_network(self, network: Network) -> dict[str, Any]:
        # An external network belongs to the cloud's administrator.
        owner = "0" * 32 if network.external else self._cloud.account.project_id
        shown = {
            "id": network.id,
            "name": network.name,
            "tenant_id": owner,
            "admin_state_up": True,
            "mtu": 1500,
            "status": "ACTIVE",
            "subnets": [network.subnet_id],
            "shared": network.shared,
            "project_id": owner,
            "router:external": network.external,
            "availability_zone_hints": [],
            "availability_zones": [],
            "ipv4_address_scope": None,
            "ipv6_address_scope": None,
            "description": "",
            "port_security_enabled": True,
            "tags": [],
            "created_at": _timestamp(network.created),
            "updated_at": _timestamp(network.created),
            "revision_number": 2,
        }
        return {**shown, "is_default": False} if network.external else shown

    def _show_port(self, port: Port) -> dict[str, Any]:
        project = self._cloud.account.project_id
        return {
            "id": port.id,
            "name": "",
            "network_id": port.network.id,
            "tenant_id": project,
            "mac_address": port.mac,
            "admin_state_up": True,
            "status": "ACTIVE",
            "device_id": port.server_id,
            "device_owner": "compute:nova",
            "fixed_ips": [{"subnet_id": port.network.subnet_id, "ip_address": port.address}],
            "project_id": project,
            "port_security_enabled": True,
            "security_groups": [self._cloud.groups()[0][0]],
            "binding:vnic_type": "normal",
            "allowed_address_pairs": [],
            "extra_dhcp_opts": [],
            "description": "",
            "tags": [],
            "created_at": _timestamp(port.created),
            "updated_at": _timestamp(port.created),
            "revision_number": 3,
        }

    # floating IPs

    def floating_ips(self, request: Request) -> Answer:
        """The floating IPs of the project."""
        with self._cloud.lock:
            shown = [self._show_floating_ip(each) for each in self._cloud.floating_ips.values()]
        return self._listed("floatingips", shown, request)

    def floating_ip(self, request: Request, floating_ip: str) -> Answer:
        """One floating IP."""
        with self._cloud.lock:
            return Answer(200, {"floatingip": self._show_floating_ip(self._floating_ip(floating_ip))})

    def create_floating_ip(self, request: Request) -> Answer:
        """Allocate a floating IP; associate it if the request has a port."""
        asked = _body(request, {"floating_network_id", "port_id", "description", "tenant_id", "project_id"})
        if "floating_network_id" not in asked:
            raise Failure(
                400, "Failed to parse request. Required attribute 'floating_network_id' not specified"
            )
        _check_id("floating_network_id", asked["floating_network_id"])
        _check_description(asked)
        with self._cloud.lock:
            self._check_quota()
            network = self._network(asked["floating_network_id"])
            if not network.external:
                raise Failure(
                    400,
                    f"Bad floatingip request: Network {network.id} is not a valid external network.",
                    kind="BadRequest",
                )
            port = self._free_port(asked["port_id"]) if asked.get("port_id") else None
            address = network.take_address()
            if address is None:
                message = f"No more IP addresses available on network {network.id}."
                raise Failure(409, message, kind="IpAddressGenerationFailure")
            made = FloatingIp(network, address, description=asked.get("description", ""))
            self._cloud.floating_ips[made.id] = made
            self._associate(made, port)
            return Answer(201, {"floatingip": self._show_floating_ip(made)})

    def update_floating_ip(self, request: Request, floating_ip: str) -> Answer:
        """Associate a floating IP with a port; without a port in the request, disassociate it."""
        asked = _body(request, {"port_id", "description", "floating_network_id"})
        if "floating_network_id" in asked:
            raise Failure(400, "Cannot update read-only attribute floating_network_id")
        _check_description(asked)
        with self._cloud.lock:
            changed = self._floating_ip(floating_ip)
            changed.description = asked.get("description", changed.description)
            if "port_id" in asked or not asked:
                port_id = asked.get("port_id")
                self._associate(changed, self._free_port(port_id, changed) if port_id else None)
            changed.updated = self._cloud.now()
            changed.revision += 1
            return Answer(200, {"floatingip": self._show_floating_ip(changed)})

    def delete_floating_ip(self, request: Request, floating_ip: str) -> Answer:
        """Release a floating IP."""
        with self._cloud.lock:
            gone = self._floating_ip(floating_ip)
            del self._cloud.floating_ips[gone.id]
            gone.network.used.discard(gone.address)
        return Answer(204, content_type="")

    def _floating_ip(self, floating_ip: str) -> FloatingIp:
        try:
            return self._cloud.floating_ips[floating_ip]
        except KeyError:
            message = f"Floating IP {floating_ip} could not be found"
            raise Failure(404, message, kind="FloatingIPNotFound") from None

    def _check_quota(self) -> None:
        if 0 <= self._cloud.quotas["floatingip"] <= len(self._cloud.floating_ips):
            raise Failure(409, "Quota exceeded for resources: ['floatingip'].", kind="OverQuota")

    def _free_port(self, port_id: str, floating_ip: FloatingIp | None = None) -> Port:
        _check_id("port_id", port_id)
        port = self._port(port_id)
        for other in self._cloud.floating_ips.values():
            if other.port is port and other is not floating_ip:
                raise Failure(
                    409,
                    f"Cannot associate floating IP {other.address} ({other.id}) with port {port.id} using "
                    f"fixed IP {port.address}, as that fixed IP already has a floating IP on external "
                    f"network {other.network.id}.",
                    kind="FloatingIPPortAlreadyAssociated",
                )
        return port

    def _associate(self, floating_ip: FloatingIp, port: Port | None) -> None:
        if floating_ip.port is not port:
            floating_ip.associated = self._cloud.now()
        floating_ip.port = port

    def _show_floating_ip(self, floating_ip: FloatingIp) -> dict[str, Any]:
        port = floating_ip.port
        project = self._cloud.account.project_id
        return {
            "id": floating_ip.id,
            "tenant_id": project,
            "floating_ip_address": floating_ip.address,
            "floating_network_id": floating_ip.network.id,
            "router_id": self._cloud.router_id if port else None,
            "port_id": port.id if port else None,
            "fixed_ip_address": port.address if port else None,
            "status": "DOWN",  # ACTIVE only with an L3 agent, after some time
            "project_id": project,
            "description": floating_ip.description,
            "port_details": self._port_details(port) if port else None,
            "tags": [],
            "created_at": _timestamp(floating_ip.created),
            "updated_at": _timestamp(floating_ip.updated),
            "revision_number": floating_ip.revision,
        }

    @staticmethod
    def _port_details(port: Port) -> dict[str, Any]:
        return {
            "name": "",
            "network_id": port.network.id,
            "mac_address": port.mac,
            "admin_state_up": True,
            "status": "ACTIVE",
            "device_id": port.server_id,
            "device_owner": "compute:nova",
        }

    # quotas

    def quotas(self, request: Request, project: str) -> Answer:
        """The project's limits."""
        with self._cloud.lock:
            return Answer(200, {"quota": {name: self._cloud.quotas[name] for name in QUOTAS}})

    def quota_details(self, request: Request, project: str) -> Answer:
        """The limits and the usage, which is 0 of what cannot be made here."""
        if not self._cloud.settings.has_quota_details:
            return self.nowhere(request)
        with self._cloud.lock:
            used = {"floatingip": len(self._cloud.floating_ips), "port": len(self._cloud.ports())}
            details = {
                name: {"limit": self._cloud.quotas[name], "used": used.get(name, 0), "reserved": 0}
                for name in QUOTAS
            }
        return Answer(200, {"quota": details})


def _timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _matching(shown: Iterable[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    """Those that match all filters."""
    filters = {name: values for name, values in request.query.items() if name not in LIST_PARAMETERS}
    chosen = []
    for each in shown:
        unknown = filters.keys() - each.keys()
        if unknown and "is_default" not in unknown:
            raise Failure(400, f"{sorted(unknown)} is invalid attribute for filtering")
        if all(str(each.get(name)).lower() in _lower(values) for name, values in filters.items()):
            chosen.append(each)
    return chosen


def _with_fields(rows: list[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    fields = request.query.get("fields")
    return [{name: row[name] for name in fields if name in row} for row in rows] if fields else rows


def _lower(values: list[str]) -> list[str]:
    return [value.lower() for value in values]


def _body(request: Request, known: set[str]) -> dict[str, Any]:
    try:
        asked: dict[str, Any] = json.loads(request.body)["floatingip"]
    except ValueError:
        message = "Malformed request body: Cannot understand JSON."
        raise Failure(400, message, kind="MalformedRequestBody") from None
    except (KeyError, TypeError):
        raise Failure(400, "Unable to find 'floatingip' in request body") from None
    unknown = asked.keys() - known
    if unknown:
        message = f"Unrecognized attribute(s) '{', '.join(sorted(unknown))}'"
        raise Failure(400, message)
    return asked


def _check_id(field: str, value: Any) -> None:
    try:
        uuid.UUID(value)
    except (ValueError, TypeError, AttributeError):
        message = f"Invalid input for {field}. Reason: '{value}' is not a valid UUID."
        raise Failure(400, message) from None


def _check_description(asked: dict[str, Any]) -> None:
    description = asked.get("description", "")
    if len(description) > 255:
        message = f"Invalid input for description. Reason: '{description}' exceeds maximum length of 255."
        raise Failure(400, message)
