"""Nova v2.1 with microversions: servers, flavors, key pairs, limits, availability zones.

https://docs.openstack.org/api-ref/compute/ and the history of its microversions.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlencode

from tests.support.fake_openstack import create_server, create_server_schema, server_lists
from tests.support.fake_openstack.cloud import HOST_ID, Flavor, KeyPair, Port, Server, new_hex_id
from tests.support.fake_openstack.create_server_schema import Microversion
from tests.support.fake_openstack.http_service import HTML, Answer, Failure, Request, Route, page
from tests.support.fake_openstack.protected import ProtectedService, request_id

FAULT_NAMES = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}

FLAVOR_FILTERS = server_lists.PAGING | {"is_public", "minRam", "minDisk"}

REBOOTS = ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]
PARTIAL: Microversion = (2, 69)
"""Since this one, servers of a cell that is down are shown with what is known of them."""
UNEXPECTED = (
    "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/ and attach the Nova API log "
    "if possible.\n<class 'nova.exception.NovaException'>"
)


class Nova(ProtectedService):
    """The compute service."""

    name = "compute"
    version = r"/v2\.1(?:/[0-9a-f]{32})?"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.routes = [
            Route("GET", "/", self.versions, open_to_all=True),
            Route("GET", "/v2.1", self.version_2_1, open_to_all=True),
            Route("GET", "/servers", self.index),
            Route("POST", "/servers", self.create),
            Route("GET", "/servers/detail", self.detail),
            Route("GET", "/servers/{server}", self.show),
            Route("DELETE", "/servers/{server}", self.delete),
            Route("POST", "/servers/{server}/action", self.act),
            Route("GET", "/servers/{server}/metadata", self.metadata),
            Route("POST", "/servers/{server}/metadata", self.update_metadata),
            Route("GET", "/servers/{server}/tags", self.tags),
            Route("GET", "/flavors", self.flavors),
            Route("GET", "/flavors/detail", self.flavors_in_detail),
            Route("GET", "/flavors/{flavor}", self.flavor),
            Route("GET", "/os-keypairs", self.key_pairs),
            Route("POST", "/os-keypairs", self.create_key_pair),
            Route("GET", "/os-keypairs/{name}", self.key_pair),
            Route("DELETE", "/os-keypairs/{name}", self.delete_key_pair),
            Route("GET", "/limits", self.limits),
            Route("GET", "/os-availability-zone", self.availability_zones),
        ]

    # all calls

    def label(self, request: Request, route: Route | None) -> str:
        """See ``Service.label``; with the name of an action."""
        label = super().label(request, route)
        if label.endswith("/action"):
            with suppress(Failure):
                return f"{label} {_action(request)[0]}"
        return label

    def admit(self, request: Request, route: Route | None) -> None:
        """See ``Service.admit``."""
        if not request.path.startswith("/v2") and request.path != "/":
            # The root application answers every path with the versions there are.
            choices = [{"id": each["id"], "links": each["links"]} for each in self._versions(request)]
            raise Failure(300, "", answer=Answer(300, {"choices": choices}))
        super().admit(request, route)
        if route is None or route.open_to_all:
            return
        self.microversion(request)
        project, own = _project(request).strip("/"), self._cloud.account.project_id
        if project not in ("", own):
            raise Failure(
                400,
                f"Malformed request URL: URL's project_id '{project}' doesn't match Context's project_id "
                f"'{own}'",
            )

    def microversion(self, request: Request) -> Microversion:
        """The requested microversion; 2.1 if there is none.

        Raises:
            Failure: it is invalid, or not supported.
        """
        asked = _asked_microversion(request)
        settings = self._cloud.settings
        if asked is None:
            return (2, 1)
        if asked == "latest":
            return _parsed(settings.max_microversion)
        if not re.fullmatch(r"[1-9]\d*\.(0|[1-9]\d*)", asked):
            raise Failure(
                400,
                f"API Version String {asked} is of invalid format. Must be of format MajorNum.MinorNum.",
            )
        if not _parsed(settings.min_microversion) <= _parsed(asked) <= _parsed(settings.max_microversion):
            raise Failure(
                406,
                f"Version {asked} is not supported by the API. Minimum is {settings.min_microversion} and "
                f"maximum is {settings.max_microversion}.",
            )
        return _parsed(asked)

    def failure(self, failure: Failure) -> Answer:
        """See ``Service.failure``."""
        error: dict[str, Any] = {"code": failure.status, "message": failure.message}
        if failure.status in (413, 429) and "Retry-After" in failure.headers:
            error["retryAfter"] = failure.headers["Retry-After"]
        document = {FAULT_NAMES.get(failure.status, "computeFault"): error}
        return Answer(failure.status, document, content_type="application/json; charset=UTF-8")

    def complete(self, request: Request, answer: Answer) -> Answer:
        """See ``Service.complete``."""
        if request.path == "/":
            return answer
        answer.headers["x-openstack-request-id"] = answer.headers["x-compute-request-id"] = request_id()
        if answer.status == 401 or answer.content_type == HTML:
            return answer
        version = self._answered_microversion(request)
        if version is not None:
            answer.headers["OpenStack-API-Version"] = f"compute {version}"
            answer.headers["X-OpenStack-Nova-API-Version"] = version
            answer.headers["Vary"] = "OpenStack-API-Version, X-OpenStack-Nova-API-Version"
        return answer

    def _answered_microversion(self, request: Request) -> str | None:
        """For the answer's headers: the requested one, even if it is not supported; None if it is invalid."""
        try:
            major, minor = self.microversion(request)
        except Failure as failure:
            return _asked_microversion(request) if failure.status == 406 else None
        return f"{major}.{minor}"

    def nowhere(self, request: Request) -> Answer:
        """See ``Service.nowhere``."""
        return page(404, "The resource could not be found.")

    def hide(self, answer: Answer, seconds: float) -> None:
        """See ``Service.hide``."""
        if isinstance(answer.document, dict) and "server" in answer.document:
            with self._cloud.lock:
                made = self._cloud.servers[answer.document["server"]["id"]]
                made.listed_from = self._cloud.now() + seconds

    def _links(self, request: Request, collection: str, name: str) -> list[dict[str, str]]:
        return [
            {"rel": "self", "href": f"{_versioned(request)}/{collection}/{name}"},
            {"rel": "bookmark", "href": f"{request.base}{_project(request)}/{collection}/{name}"},
        ]

    # versions

    def versions(self, request: Request) -> Answer:
        """All versions."""
        versions = [{**version, "links": version["links"][:1]} for version in self._versions(request)]
        for version in versions:
            del version["media-types"]
        return Answer(200, {"versions": versions})

    def version_2_1(self, request: Request) -> Answer:
        """The version that the fake has."""
        return Answer(200, {"version": self._versions(request)[1]})

    def _versions(self, request: Request) -> list[dict[str, Any]]:
        settings = self._cloud.settings
        return [
            _version(request, "v2.0", "SUPPORTED", ("", ""), "2011-01-21T11:33:21Z"),
            _version(
                request,
                "v2.1",
                "CURRENT",
                (settings.min_microversion, settings.max_microversion),
                "2013-07-23T11:33:21Z",
            ),
        ]

    # servers: create

    def create(self, request: Request) -> Answer:
        """Create a server, or several equal ones."""
        body = _json(request)
        with self._cloud.lock:
            made = create_server.order(self._cloud, body, self.microversion(request))
            for server in made:
                self._cloud.add(server)
        asked = body["server"]
        if asked.get("return_reservation_id"):
            return Answer(202, {"reservation_id": f"r-{made[0].id[:8]}"})
        links = self._links(request, "servers", made[0].id)
        document = {
            "id": made[0].id,
            "links": links,
            "OS-DCF:diskConfig": asked.get("OS-DCF:diskConfig", "MANUAL"),
            "security_groups": asked.get("security_groups", [{"name": "default"}]),
            "adminPass": asked.get("adminPass", new_hex_id()[:12]),
        }
        return Answer(202, {"server": document}, headers={"Location": links[0]["href"]})

    # servers: read

    def index(self, request: Request) -> Answer:
        """Servers: ids and names."""
        return self._list(request, detail=False)

    def detail(self, request: Request) -> Answer:
        """Servers in detail."""
        return self._list(request, detail=True)

    def _list(self, request: Request, detail: bool) -> Answer:
        microversion = self.microversion(request)
        server_lists.check_query(request, microversion)
        if request.one("all_tenants") in ("1", "True", "true", ""):
            policy = f"os_compute_api:servers:{'detail' if detail else 'index'}:get_all_tenants"
            raise Failure(403, f"Policy doesn't allow {policy} to be performed.")
        with self._cloud.lock:
            size = self._page_size(request)
            found = server_lists.select(self._cloud, request, microversion)[:size]
            if detail:
                shown = [self._show(request, server, microversion) for server in found]
            else:
                shown = [self._show_briefly(request, server) for server in found]
            if microversion >= PARTIAL and not request.query:
                shown += self._show_lost(request, detail)
        document: dict[str, Any] = {"servers": shown}
        if size and len(found) == size:
            query = {name: values[-1] for name, values in sorted(request.query.items())}
            query["marker"] = found[-1].id
            path = "servers/detail" if detail else "servers"
            href = f"{_versioned(request)}/{path}?{urlencode(query)}"
            document["servers_links"] = [{"rel": "next", "href": href}]
        return Answer(200, document)

    def _page(
        self, request: Request, shown: list[dict[str, Any]], collection: str, path: str, key: str = "id"
    ) -> dict[str, Any]:
        """A page of a list, whose marker is this key of the last row of the page before."""
        limit, size = request.one("limit"), self._cloud.settings.names_page_cap
        size = size if limit is None else min(int(limit), size)
        marker = request.one("marker")
        if marker is not None:
            keys = [str(each[key]) for each in shown]
            if marker not in keys:
                raise Failure(400, f"marker [{marker}] not found")
            shown = shown[keys.index(marker) + 1 :]
        page: dict[str, Any] = {collection: shown[:size]}
        if 0 < size <= len(shown):
            query = {name: values[-1] for name, values in sorted(request.query.items())}
            query["marker"] = shown[size - 1][key]
            href = f"{_versioned(request)}/{path}?{urlencode(query)}"
            page[f"{collection}_links"] = [{"rel": "next", "href": href}]
        return page

    def _page_size(self, request: Request) -> int:
        limit = request.one("limit")
        cap = self._cloud.settings.page_cap
        return cap if limit is None else min(int(limit), cap)

    def show(self, request: Request, server: str) -> Answer:
        """One server in detail."""
        microversion = self.microversion(request)
        with self._cloud.lock:
            found = self._server(server, even_partly=microversion >= PARTIAL)
            if found.cell_is_down:
                return Answer(200, {"server": self._show_partly(request, found, alone=True)})
            return Answer(200, {"server": self._show(request, found, microversion, alone=True)})

    def _server(self, server_id: str, even_partly: bool = False) -> Server:
        server = self._cloud.servers.get(server_id)
        if server is None:
            raise Failure(404, f"Instance {server_id} could not be found.")
        if server.cell_is_down and not even_partly:
            raise Failure(500, UNEXPECTED)
        return server

    def _show_lost(self, request: Request, detail: bool) -> list[dict[str, Any]]:
        """The servers whose cell is down."""
        lost = [server for server in self._cloud.servers.values() if server.cell_is_down]
        shown = [self._show_partly(request, server) for server in lost]
        brief = ("id", "status", "links")
        return shown if detail else [{name: each[name] for name in brief} for each in shown]

    def _show_partly(self, request: Request, server: Server, alone: bool = False) -> dict[str, Any]:
        """What Nova shows of a server whose cell is down; taken from its source, not observed."""
        shown = {
            "id": server.id,
            "status": "UNKNOWN",
            "tenant_id": self._cloud.account.project_id,
            "created": _isotime(server.created),
            "links": self._links(request, "servers", server.id),
        }
        if not alone:
            return shown
        return {
            **shown,
            "image": self._show_image(request, server),
            "flavor": self._show_flavor_of(request, server, PARTIAL),
            "OS-EXT-AZ:availability_zone": server.request.get("availability_zone", "UNKNOWN"),
            "OS-EXT-STS:power_state": 0,
            "user_id": self._cloud.account.user_id,
            "server_groups": [],
        }

    def _show_briefly(self, request: Request, server: Server) -> dict[str, Any]:
        links = self._links(request, "servers", server.id)
        return {"id": server.id, "name": server.name, "links": links}

    def _show(
        self, request: Request, server: Server, microversion: Microversion, alone: bool = False
    ) -> dict[str, Any]:
        shown: dict[str, Any] = {
            **self._show_briefly(request, server),
            "status": server.status,
            "tenant_id": self._cloud.account.project_id,
            "user_id": self._cloud.account.user_id,
            "metadata": server.metadata,
            "hostId": HOST_ID if server.launched else "",
            "image": self._show_image(request, server),
            "flavor": self._show_flavor_of(request, server, microversion),
            "created": _isotime(server.created),
            "updated": _isotime(server.updated),
            "addresses": self._show_addresses(server),
            "accessIPv4": server.request.get("accessIPv4", ""),
            "accessIPv6": server.request.get("accessIPv6", ""),
            "OS-DCF:diskConfig": server.request.get("OS-DCF:diskConfig", "MANUAL"),
            "OS-EXT-AZ:availability_zone": self._show_zone(server),
            "config_drive": "True" if server.request.get("config_drive") in create_server_schema.TRUE else "",
            "key_name": server.request.get("key_name"),
            "OS-SRV-USG:launched_at": _long_time(server.launched),
            "OS-SRV-USG:terminated_at": _long_time(server.terminated),
            "OS-EXT-STS:task_state": server.task_state,
            "OS-EXT-STS:vm_state": server.vm_state,
            "OS-EXT-STS:power_state": server.power_state,
            "os-extended-volumes:volumes_attached": self._show_volumes(server, microversion),
        }
        if server.ports:
            groups = server.request.get("security_groups", [{"name": "default"}])
            shown["security_groups"] = groups * len(server.ports)  # once for each port
        if server.fault is not None and server.status in ("ERROR", "DELETED"):
            at, message = server.fault
            shown["fault"] = {"code": 500, "created": _isotime(at), "message": message}
        if server.status in ("ACTIVE", "BUILD"):
            shown["progress"] = 0
        return shown | self._show_newer(server, microversion, alone)

    @staticmethod
    def _show_newer(server: Server, microversion: Microversion, alone: bool) -> dict[str, Any]:
        """Fields that microversions have added."""
        added: list[tuple[Microversion, str, Any]] = [
            ((2, 9), "locked", False),
            ((2, 19), "description", server.description),
            ((2, 26), "tags", server.tags),
            ((2, 63), "trusted_image_certificates", None),
            ((2, 73), "locked_reason", None),
            ((2, 90), "OS-EXT-SRV-ATTR:hostname", server.request.get("hostname") or _host_name(server.name)),
        ]
        if alone:
            added.append(((2, 71), "server_groups", []))
        return {name: value for since, name, value in added if microversion >= since}

    def _show_image(self, request: Request, server: Server) -> Any:
        if server.image is None:
            return ""
        link = self._links(request, "images", server.image.id)[1]
        return {"id": server.image.id, "links": [link]}

    def _show_flavor_of(self, request: Request, server: Server, microversion: Microversion) -> dict[str, Any]:
        flavor = server.flavor
        if microversion < (2, 47):
            return {"id": flavor.id, "links": [self._links(request, "flavors", flavor.id)[1]]}
        return {
            "vcpus": flavor.vcpus,
            "ram": flavor.ram,
            "disk": flavor.disk,
            "ephemeral": 0,
            "swap": 0,
            "original_name": flavor.name,
            "extra_specs": {},
        }

    def _show_addresses(self, server: Server) -> dict[str, list[dict[str, Any]]]:
        if server.vm_state == "building":
            return {}
        addresses: dict[str, list[dict[str, Any]]] = {}
        for port in server.ports:
            shown = addresses.setdefault(port.network.name, [])
            shown.append(_show_address(port, port.address, "fixed"))
            shown += [_show_address(port, address, "floating") for address in self._floating(port)]
        return addresses

    def _floating(self, port: Port) -> list[str]:
        latest = self._cloud.now() - self._cloud.settings.address_seconds
        return [
            each.address
            for each in self._cloud.floating_ips.values()
            if each.port is port and each.associated <= latest
        ]

    def _show_zone(self, server: Server) -> str:
        asked: str = server.request.get("availability_zone", "")
        return asked or (self._cloud.availability_zones[0] if server.launched else "")

    @staticmethod
    def _show_volumes(server: Server, microversion: Microversion) -> list[dict[str, Any]]:
        devices = server.request.get("block_device_mapping_v2", [])
        kept = [not device.get("delete_on_termination") for device in devices if _is_volume(device)]
        shown: list[dict[str, Any]] = []
        for (volume, _), keep in zip(server.volumes, kept, strict=False):
            shown.append({"id": volume, "delete_on_termination": not keep})
            if microversion < (2, 3):
                del shown[-1]["delete_on_termination"]
        return shown

    # servers: change

    def delete(self, request: Request, server: str) -> Answer:
        """Start to delete a server; 204 also if that has started."""
        with self._cloud.lock:
            self._cloud.delete(self._server(server))
        return Answer(204)

    def act(self, request: Request, server: str) -> Answer:
        """Carry out one of the few actions that the fake has."""
        name, argument = _action(request)
        actions = {
            "os-getConsoleOutput": self._console_output,
            "os-stop": self._stop,
            "os-start": self._start,
            "reboot": self._reboot,
            "forceDelete": self._force_delete,
        }
        if name not in actions:
            raise Failure(400, f"There is no such action: {name}")
        _check_argument(name, argument)
        with self._cloud.lock:
            found = self._server(server)
            return actions[name](found, argument or {})

    def _console_output(self, server: Server, argument: dict[str, Any]) -> Answer:
        if server.task_state == "scheduling" or server.vm_state == "error":  # on no host
            raise Failure(409, f"Instance {server.id} is not ready")
        text = self._cloud.console(server)
        length = argument.get("length")
        if length is not None:
            text = "\n".join(text.split("\n")[-int(length) :]) if int(length) else ""
        return Answer(200, {"output": re.sub("[\x00-\x08\x0b-\x1f]", "", text)})

    def _stop(self, server: Server, argument: dict[str, Any]) -> Answer:
        self._check_state(server, "stop", ("active", "error"))
        self._cloud.shut_off(server)
        return Answer(202)

    def _start(self, server: Server, argument: dict[str, Any]) -> Answer:
        self._check_state(server, "start", ("stopped",))
        self._cloud.start(server)
        return Answer(202)

    def _reboot(self, server: Server, argument: dict[str, Any]) -> Answer:
        self._check_state(server, "reboot", ("active", "stopped"))
        self._cloud.start(server)
        return Answer(202)

    def _force_delete(self, server: Server, argument: dict[str, Any]) -> Answer:
        self._cloud.delete_now(server)
        return Answer(202)

    @staticmethod
    def _check_state(server: Server, action: str, states: tuple[str, ...]) -> None:
        kind, state = "vm_state", server.vm_state
        if server.task_state == "deleting":
            kind, state = "task_state", "deleting"
        elif state in states:
            return
        elif server.launched is None:
            raise Failure(409, f"Instance {server.id} is in an invalid state for '{action}'")
        raise Failure(409, f"Cannot '{action}' instance {server.id} while it is in {kind} {state}")

    def metadata(self, request: Request, server: str) -> Answer:
        """The metadata of a server."""
        with self._cloud.lock:
            return Answer(200, {"metadata": self._server(server).metadata})

    def update_metadata(self, request: Request, server: str) -> Answer:
        """Add to the metadata of a server, or replace values."""
        new = _json(request).get("metadata", {})
        create_server_schema.check_metadata(new)
        create_server.check_metadata_quota(self._cloud, new)
        with self._cloud.lock:
            found = self._server(server)
            found.metadata = {**found.metadata, **new}
            return Answer(200, {"metadata": found.metadata})

    def tags(self, request: Request, server: str) -> Answer:
        """The tags of a server, since 2.26."""
        if self.microversion(request) < (2, 26):
            raise Failure(404, "The resource could not be found.")
        with self._cloud.lock:
            return Answer(200, {"tags": self._server(server).tags})

    # flavors

    def flavors(self, request: Request) -> Answer:
        """Flavors: ids and names."""
        microversion = self._flavors_microversion(request)
        with self._cloud.lock:
            shown = [self._show_flavor(request, each, microversion) for each in self._flavors()]
        brief = ("id", "name", "links", "description")
        page = self._page(request, shown, "flavors", "flavors")
        page["flavors"] = [{k: each[k] for k in brief if k in each} for each in page["flavors"]]
        return Answer(200, page)

    def flavors_in_detail(self, request: Request) -> Answer:
        """Flavors in detail."""
        microversion = self._flavors_microversion(request)
        with self._cloud.lock:
            shown = [self._show_flavor(request, each, microversion) for each in self._flavors()]
        return Answer(200, self._page(request, shown, "flavors", "flavors/detail"))

    def _flavors_microversion(self, request: Request) -> Microversion:
        microversion = self.microversion(request)
        unknown = [name for name in request.query if name not in FLAVOR_FILTERS]
        if unknown and microversion >= (2, 75):
            raise Failure(400, create_server_schema.unexpected(unknown))
        return microversion

    def _flavors(self) -> list[Flavor]:
        return sorted(self._cloud.flavors, key=lambda flavor: flavor.id)

    def flavor(self, request: Request, flavor: str) -> Answer:
        """One flavor."""
        with self._cloud.lock:
            for each in self._cloud.flavors:
                if each.id == flavor:
                    return Answer(
                        200, {"flavor": self._show_flavor(request, each, self.microversion(request))}
                    )
        raise Failure(404, f"Flavor {flavor} could not be found.")

    def _show_flavor(self, request: Request, flavor: Flavor, microversion: Microversion) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": flavor.id,
            "name": flavor.name,
            "ram": flavor.ram,
            "disk": flavor.disk,
            "swap": 0 if microversion >= (2, 75) else "",
            "OS-FLV-EXT-DATA:ephemeral": 0,
            "OS-FLV-DISABLED:disabled": False,
            "vcpus": flavor.vcpus,
            "os-flavor-access:is_public": True,
            "rxtx_factor": 1.0,
            "links": self._links(request, "flavors", flavor.id),
        }
        if microversion >= (2, 55):
            shown["description"] = None
        if microversion >= (2, 61):
            shown["extra_specs"] = {}
        return shown

    # key pairs

    def key_pairs(self, request: Request) -> Answer:
        """The key pairs of the user."""
        microversion = self.microversion(request)
        with self._cloud.lock:
            shown = [self._show_key_pair(each, microversion) for each in self._cloud.key_pairs]
        brief = ("name", "public_key", "fingerprint", "type")
        if microversion >= (2, 35):
            page = self._page(request, shown, "keypairs", "os-keypairs", "name")
        else:
            page = {"keypairs": shown}
        page["keypairs"] = [{"keypair": {k: x[k] for k in brief if k in x}} for x in page["keypairs"]]
        return Answer(200, page)

    def key_pair(self, request: Request, name: str) -> Answer:
        """One key pair."""
        with self._cloud.lock:
            return Answer(
                200, {"keypair": self._show_key_pair(self._key_pair(name), self.microversion(request))}
            )

    def create_key_pair(self, request: Request) -> Answer:
        """Import a public key. The fake generates none, as Nova since 2.92."""
        asked = _json(request)["keypair"]
        if "public_key" not in asked:
            raise Failure(501, "the fake makes no keys; give a public_key")
        with self._cloud.lock:
            if any(each.name == asked["name"] for each in self._cloud.key_pairs):
                raise Failure(409, f"Key pair '{asked['name']}' already exists.")
            made = KeyPair(asked["name"], asked["public_key"], number=len(self._cloud.key_pairs) + 1)
            self._cloud.key_pairs.append(made)
            microversion = self.microversion(request)
            shown = self._show_key_pair(made, microversion)
        brief = ("name", "public_key", "fingerprint", "user_id", "type")
        document = {"keypair": {k: shown[k] for k in brief if k in shown}}
        return Answer(201 if microversion >= (2, 2) else 200, document)

    def delete_key_pair(self, request: Request, name: str) -> Answer:
        """Delete a key pair; servers that have it keep it."""
        with self._cloud.lock:
            self._cloud.key_pairs.remove(self._key_pair(name))
        return Answer(204 if self.microversion(request) >= (2, 2) else 202)

    def _key_pair(self, name: str) -> KeyPair:
        for each in self._cloud.key_pairs:
            if each.name == name:
                return each
        raise Failure(404, f"Keypair {name} not found for user {self._cloud.account.user_id}")

    def _show_key_pair(self, key_pair: KeyPair, microversion: Microversion) -> dict[str, Any]:
        digest = hashlib.md5(key_pair.public_key.encode()).hexdigest()
        shown = {
            "name": key_pair.name,
            "public_key": key_pair.public_key,
            "fingerprint": ":".join(digest[i : i + 2] for i in range(0, 32, 2)),
            "user_id": self._cloud.account.user_id,
            "created_at": _long_time(key_pair.created),
            "deleted": False,
            "deleted_at": None,
            "id": key_pair.number,
            "updated_at": None,
        }
        return {**shown, "type": key_pair.type} if microversion >= (2, 2) else shown

    # limits, availability zones

    def limits(self, request: Request) -> Answer:
        """The limits and the usage of the project."""
        microversion = self.microversion(request)
        with self._cloud.lock:
            quotas, used = self._cloud.quotas, self._cloud.used()
        absolute = {
            "maxTotalInstances": quotas["instances"],
            "maxTotalCores": quotas["cores"],
            "maxTotalRAMSize": quotas["ram"],
            "maxServerMeta": quotas["metadata_items"],
            "maxTotalKeypairs": quotas["key_pairs"],
            "maxServerGroups": quotas["server_groups"],
            "maxServerGroupMembers": quotas["server_group_members"],
            "totalInstancesUsed": used["instances"],
            "totalCoresUsed": used["cores"],
            "totalRAMUsed": used["ram"],
            "totalServerGroupsUsed": 0,
        }
        if microversion < (2, 57):
            absolute |= {"maxPersonality": 5, "maxPersonalitySize": 10240}
        if microversion < (2, 39):
            absolute["maxImageMeta"] = quotas["metadata_items"]
        if microversion < (2, 36):
            absolute |= {"maxTotalFloatingIps": -1, "totalFloatingIpsUsed": 0}
            absolute |= {"maxSecurityGroups": -1, "totalSecurityGroupsUsed": 0, "maxSecurityGroupRules": -1}
        return Answer(200, {"limits": {"rate": [], "absolute": absolute}})

    def availability_zones(self, request: Request) -> Answer:
        """The names of availability zones."""
        with self._cloud.lock:
            zones = [
                {"zoneName": name, "zoneState": {"available": True}, "hosts": None}
                for name in self._cloud.availability_zones
            ]
        return Answer(200, {"availabilityZoneInfo": zones})


def _version(
    request: Request, name: str, status: str, microversions: tuple[str, str], updated: str
) -> dict[str, Any]:
    number = "2.1" if name == "v2.1" else "2"
    media_type = f"application/vnd.openstack.compute+json;version={number}"
    return {
        "id": name,
        "status": status,
        "version": microversions[1],
        "min_version": microversions[0],
        "updated": updated,
        "links": [
            {"rel": "self", "href": f"{request.base}/v{number}/"},
            {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
        ],
        "media-types": [{"base": "application/json", "type": media_type}],
    }


def _asked_microversion(request: Request) -> str | None:
    for each in request.headers.get("OpenStack-API-Version", "").split(","):
        service, _, version = each.strip().partition(" ")
        if service == "compute":
            return version.strip()
    return request.headers.get("X-OpenStack-Nova-API-Version")


def _parsed(microversion: str) -> Microversion:
    major, _, minor = microversion.partition(".")
    return int(major), int(minor)


def _json(request: Request) -> dict[str, Any]:
    try:
        document = json.loads(request.body)
    except ValueError:
        raise Failure(400, "Malformed request body") from None
    if not isinstance(document, dict):
        raise Failure(400, f"{document!r} is not of type 'object'")
    return document


def _action(request: Request) -> tuple[str, Any]:
    """The one key of an action's body, and its value."""
    try:
        [(name, argument)] = json.loads(request.body).items()
    except (ValueError, AttributeError):
        raise Failure(400, "Malformed request body") from None
    return name, argument


def _check_argument(action: str, argument: Any) -> None:
    if action == "reboot" and argument["type"] not in REBOOTS:
        raise create_server_schema.invalid(
            "type", argument["type"], f"{argument['type']!r} is not one of {REBOOTS}"
        )
    length = argument.get("length") if action == "os-getConsoleOutput" else None
    if length is not None and not re.fullmatch(r"-?\d+", str(length)):
        raise create_server_schema.invalid("length", length, f"{length!r} does not match '^-?[0-9]+$'")


def _project(request: Request) -> str:
    """The project's id in the path, if it has one."""
    found = re.match(r"/v2\.1(/[0-9a-f]{32})/", request.path)
    return found[1] if found else ""


def _versioned(request: Request) -> str:
    return f"{request.base}/v2.1{_project(request)}"


def _show_address(port: Port, address: str, kind: str) -> dict[str, Any]:
    return {
        "version": 4,
        "addr": address,
        "OS-EXT-IPS:type": kind,
        "OS-EXT-IPS-MAC:mac_addr": port.mac,
    }


def _is_volume(device: dict[str, Any]) -> bool:
    return device.get("destination_type") == "volume"


def _host_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.-]", "", re.sub("[ _]", "-", name.lower()))


def _isotime(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _long_time(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")
