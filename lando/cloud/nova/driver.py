"""Servers of OpenStack, behind the interface of ``lando.cloud.interface``.

The API: https://docs.openstack.org/api-ref/compute/. A job costs three calls, beside the list that all share:
the create, the delete, and the question whether the server is gone, asked once the list lacks it.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from keystoneauth1.exceptions import ClientException, HttpError
from novaclient.client import Client

from lando.cloud.interface import (
    CONSOLE_BYTES,
    Ambiguous,
    CloudError,
    Quota,
    Refused,
    Server,
    ServerRequest,
    ServerStatus,
    Share,
    Size,
)
from lando.cloud.nova import classify, failures, tags
from lando.cloud.nova.account import Account
from lando.cloud.nova.floating_ips import FloatingIps
from lando.cloud.nova.lookup import Flavor, Image, Names, Network, Wanted
from lando.cloud.nova.session import Wire
from lando.cloud.nova.tags import Marks

MICROVERSION = "2.69"
"""The lowest that has what is needed: tags at the create (2.52), and servers in a part of the cloud that does
not answer listed as UNKNOWN (2.69) rather than left out, as if they were gone. Stein has it (2019)."""

SETTLE_SECONDS = 60.0
"""A create that Nova's API has not entered in its database by then never will be."""

MAX_USER_DATA = 65_535
"""Characters of base64: https://docs.openstack.org/api-ref/compute/#create-server, user_data."""

ASK_AGAIN_SECONDS = 60.0
"""After which a deletion that was accepted, and has not come about, is asked for anew."""

CONSOLE_LINES = 1000

_STATUSES: dict[str, ServerStatus] = {
    "BUILD": "BUILD",
    "ACTIVE": "ACTIVE",
    "SHUTOFF": "SHUTOFF",
    "ERROR": "ERROR",
    # Deleted, but kept for a while by clouds that can undelete: nothing runs any more.
    "SOFT_DELETED": "SHUTOFF",
    "DELETED": "SHUTOFF",
}
"""Of all others (REBOOT, PAUSED, MIGRATING…), nobody can tell by the status whether the work goes on."""


@dataclass(frozen=True)
class ServerSettings:
    """What servers are made of where a job does not say otherwise: the configuration's ``vm_settings``."""

    image: str
    flavor: str
    key_name: str | None = None
    networks: Sequence[str] = ()
    """In this order; none: the project's only one."""
    security_groups: Sequence[str] = ()
    """None: the project's default."""
    availability_zone: str | None = None
    config_drive: bool = False
    volume_size: int | None = None
    """GB of a volume to boot from; None: from the flavor's own disk."""
    floating_ip_pool: str | None = None


@dataclass(frozen=True)
class _Parts:
    """What a server is made of, as Nova knows it."""

    flavor: str
    image: str
    networks: tuple[str, ...]


class NovaCloud:
    """A project of an OpenStack cloud. Safe to use from several threads.

    Args:
        account: how to log in; nothing is sent before the first call.
        settings: what servers are made of.
        settle_time: see ``Cloud.settle_time``.

    Raises:
        UsageError: the account is incomplete.
    """

    has_quota = True

    def __init__(
        self, account: Account, settings: ServerSettings, settle_time: float = SETTLE_SECONDS
    ) -> None:
        self.account = account
        self.settings = settings
        self.settle_time = settle_time
        self.wire = Wire(account)
        self.nova = novaclient(MICROVERSION, self.wire)
        self.names = Names(self.wire, self.nova)
        self.floating_ips = FloatingIps(self.wire, self.names, settings.floating_ip_pool)
        self._marks: dict[str, Marks] = {}
        self._soft_deleted: set[str] = set()
        self._deleted_at: dict[str, float] = {}

    # create

    def create(self, request: ServerRequest) -> Server:
        """Ask for a server; see ``Cloud.create``. The server listed later is the judge of what became of it.

        Raises:
            Refused, QuotaExceeded, RateLimited, NoCapacity, Unreachable: definitely nothing was created.
            Ambiguous: nobody knows.
        """
        if len(base64.b64encode(request.user_data)) > MAX_USER_DATA:
            raise Refused(
                f"the start-up script has {len(request.user_data):,} bytes; "
                f"as base64, Nova takes {MAX_USER_DATA:,} characters",
                "job",
            )
        parts = self._parts(request)
        try:
            return self._post(request, parts)
        except Refused:
            # A name may stand for something else by now, as when the image was replaced.
            parts_now = self._parts(request)
            if parts_now == parts:
                raise
        return self._post(request, parts_now)

    def _parts(self, request: ServerRequest) -> _Parts:
        """Look up what the server is made of.

        Raises:
            CloudError: of a definite kind, since nothing was sent that creates.
        """
        try:
            self.external_network()  # a server that can get no floating IP is not wanted
            return _Parts(
                flavor=self.flavor(request.flavor).id,
                image=self.image(request.image).id,
                networks=tuple(network.id for network in self.networks()),
            )
        except Ambiguous as error:
            raise classify.nothing_sent(error) from error

    def flavor(self, name: str | None = None) -> Flavor:
        """The flavor that a job names, or the site's default."""
        if name is not None:
            return self.names.flavor(Wanted(name, "flavor in the job file", "job"))
        return self.names.flavor(Wanted(self.settings.flavor, "vm_settings.default_flavor_name"))

    def image(self, name: str | None = None) -> Image:
        """The image that a job names, or the site's default."""
        if name is not None:
            return self.names.image(Wanted(name, "image in the job file", "job"))
        return self.names.image(Wanted(self.settings.image, "vm_settings.worker_image_name"))

    def networks(self) -> list[Network]:
        """The networks that servers are connected to; none: Nova takes the project's only one."""
        return [
            self.names.network(Wanted(name, "vm_settings.network_name")) for name in self.settings.networks
        ]

    def external_network(self) -> Network | None:
        """The network that floating IPs come from; None: servers get none."""
        pool = self.settings.floating_ip_pool
        if pool is None:
            return None
        return self.names.external_network(Wanted(pool, "vm_settings.floating_ip_pool_name"))

    def size(self, flavor: str | None) -> Size:
        """See ``Cloud.size``.

        Raises:
            Refused: there is no such flavor.
        """
        found = self.flavor(flavor)
        return Size(1, found.cores, found.ram)

    def _post(self, request: ServerRequest, parts: _Parts) -> Server:
        settings = self.settings
        volume = request.volume_size or settings.volume_size
        with self.wire.calls.watched() as sent:
            try:
                created = self.nova.servers.create(
                    request.name,
                    None if volume else parts.image,
                    parts.flavor,
                    userdata=request.user_data,
                    meta=tags.metadata(request),
                    tags=tags.tags(request),
                    nics=[{"net-id": network} for network in parts.networks] or "auto",
                    key_name=settings.key_name,
                    security_groups=settings.security_groups or None,
                    availability_zone=settings.availability_zone,
                    config_drive=settings.config_drive or None,
                    block_device_mapping_v2=None if volume is None else [_boot_volume(volume, parts)],
                )
                # Not created.id and the like: novaclient asks again for what an answer lacks.
                server_id = str(created.to_dict()["id"])
            except Exception as error:
                raise self._refusal(error, request, sent) from error
        server = Server(
            id=server_id,
            name=request.name,
            status="BUILD",
            mark=request.mark,
            deployment=request.deployment,
            job_id=request.job_id,
            attempt=request.attempt,
        )
        self._marks[server_id] = _marks_of(server)
        return server

    def _refusal(self, error: Exception, request: ServerRequest, sent: Sequence[str]) -> CloudError:
        """What a create that failed means.

        Args:
            sent: the kinds of the calls that were sent for it, a login among them where it was needed.
        """
        doing = f"creating server {request.name}"
        posted = any(call.startswith("POST ") and call.endswith("/servers") for call in sent)
        if not isinstance(error, ClientException):
            unclear = Ambiguous(f"{doing}: the answer lacks what it should have ({error!r})")
            return unclear if posted else classify.nothing_sent(unclear)
        failed = failures.failure(error)
        if failed.status in (400, 404):
            self.names.forget()
        return classify.of_create(failed, doing, self.account, request, posted)

    # look

    def get(self, server_id: str) -> Server | None:
        """See ``Cloud.get``: only Nova's own word for it makes a server absent, not a proxy's 404."""
        with self.wire.errors(f"asking for server {server_id}"):
            try:
                row = self.nova.servers.get(server_id).to_dict()
            except HttpError as error:
                failed = failures.failure(error)
                if failed.status == 404 and failed.kind == "itemNotFound":
                    self._forget(server_id)
                    return None
                raise
            if row.get("status") == "SOFT_DELETED" and server_id not in self._soft_deleted:
                self._soft_deleted.add(server_id)
                self._deleted_at.pop(server_id, None)  # it is to be asked for in another way
            return self._server(row)

    def servers(self) -> list[Server]:
        """See ``Cloud.servers``.

        The list is neither filtered nor limited, for from such ones Nova leaves out what a part of the cloud
        that does not answer would have to add. Nova itself cuts a list that is longer than its
        ``api.max_limit`` (1000), and says where to go on.

        Raises:
            Ambiguous: among others when there are servers of which nobody knows now whose they are.
        """
        before = set(self._marks)
        with self.wire.errors("listing servers"):
            rows = self._rows()
            servers = [self._server(row) for row in rows]
            unknown = [row["id"] for row in rows if not _whole(row) and row["id"] not in self._marks]
        if unknown:
            raise Ambiguous(
                f"listing servers: a part of the cloud does not answer, and {len(unknown)} servers in it may "
                f"be ours ({', '.join(unknown[:3])}); ask the cloud's administrator about its cells"
            )
        self._marks.update({server.id: _marks_of(server) for server in servers})
        for server_id in before.difference(row["id"] for row in rows):
            self._marks.pop(server_id, None)
        return servers

    def _rows(self) -> list[dict[str, Any]]:
        _, page = self.nova.client.get("/servers/detail")
        rows: list[dict[str, Any]] = list(page["servers"])
        while page["servers"] and any(link["rel"] == "next" for link in page.get("servers_links", ())):
            _, page = self.nova.client.get(f"/servers/detail?marker={rows[-1]['id']}")
            rows += page["servers"]
        return list({row["id"]: row for row in rows}.values())

    def _server(self, row: Mapping[str, Any]) -> Server:
        if not _whole(row):
            found = self._marks.get(row["id"], Marks())
        else:
            found = tags.of_server(row.get("metadata") or {})
        fault = (row.get("fault") or {}).get("message")
        flavor = row.get("flavor") or {}
        return Server(
            id=row["id"],
            name=row.get("name") or "",
            status=_STATUSES.get(row.get("status", ""), "UNKNOWN"),
            mark=found.mark,
            deployment=found.deployment,
            job_id=found.job_id,
            attempt=found.attempt,
            address=_address(row.get("addresses") or {}),
            fault=fault,
            lacks_room=fault is not None and classify.lacks_room(fault),
            size=Size(1, flavor.get("vcpus", 0), flavor.get("ram", 0)),
        )

    def console_log(self, server_id: str) -> str:
        """See ``Cloud.console_log``; "" where there is none (yet), and for a server that is gone."""
        with self.wire.errors(f"reading the console of server {server_id}"):
            try:
                text = str(self.nova.servers.get_console_output(server_id, length=CONSOLE_LINES))
            except HttpError as error:
                # 409: no host has it yet, or it failed before one had; 501: the hypervisor keeps none.
                if failures.failure(error).kind and error.http_status in (404, 409, 501):
                    return ""
                raise
        return text.encode()[-CONSOLE_BYTES:].decode("utf-8", errors="ignore")

    # delete

    def delete(self, server_id: str) -> bool:
        """See ``Cloud.delete``; sent once, and then only asked about, for a good while.

        Raises:
            CloudError: among others while the server is locked, or busy with what Nova does not interrupt.
        """
        if time.monotonic() - self._deleted_at.get(server_id, -math.inf) < ASK_AGAIN_SECONDS:
            return self.get(server_id) is None
        with self.wire.errors(f"deleting server {server_id}"):
            try:
                if server_id in self._soft_deleted:
                    self.nova.servers.force_delete(server_id)
                else:
                    self.nova.servers.delete(server_id)
            except HttpError as error:
                failed = failures.failure(error)
                if failed.status == 404 and failed.kind == "itemNotFound":
                    self._forget(server_id)
                    return True
                raise
        self._deleted_at[server_id] = time.monotonic()
        return False

    def _forget(self, server_id: str) -> None:
        """Nova has no such server any more."""
        self._soft_deleted.discard(server_id)
        self._marks.pop(server_id, None)
        self._deleted_at.pop(server_id, None)

    # quota

    def quota(self) -> Quota:
        """See ``Cloud.quota``: https://docs.openstack.org/api-ref/compute/#limits-limits."""
        with self.wire.errors("asking for the quota"):
            limits = {limit.name: limit.value for limit in self.nova.limits.get().absolute}

            def share(used: str, limit: str) -> Share:
                return Share(limits[used], limits[limit] if limits[limit] >= 0 else None)

            return Quota(
                servers=share("totalInstancesUsed", "maxTotalInstances"),
                cores=share("totalCoresUsed", "maxTotalCores"),
                ram=share("totalRAMUsed", "maxTotalRAMSize"),
            )


def connect(account: Account, settings: ServerSettings, settle_time: float | None = None) -> NovaCloud:
    """A driver for the account's project; see ``NovaCloud``. Nothing is sent before the first call."""
    return NovaCloud(account, settings, SETTLE_SECONDS if settle_time is None else settle_time)


def novaclient(microversion: str, wire: Wire) -> Any:
    """novaclient's client, without its habit to write names to ~/.novaclient for its command line."""
    endpoint = wire.endpoint("compute")
    nova = Client(
        microversion,
        session=wire.session,
        endpoint_type=endpoint["interface"],
        region_name=endpoint["region_name"],
    )
    for manager in (
        *(nova.servers, nova.flavors, nova.keypairs),
        *(nova.limits, nova.versions, nova.availability_zones),
    ):
        manager.completion_cache = lambda *_, **__: nullcontext()
    return nova


def _boot_volume(size: int, parts: _Parts) -> dict[str, Any]:
    """A volume of ``size`` GB made of the image, which is deleted with the server."""
    return {
        "boot_index": 0,
        "source_type": "image",
        "uuid": parts.image,
        "destination_type": "volume",
        "volume_size": size,
        "delete_on_termination": True,
    }


def _whole(row: Mapping[str, Any]) -> bool:
    """Whether Nova could read all that it knows of a server; see MICROVERSION."""
    return "metadata" in row


def _marks_of(server: Server) -> Marks:
    return Marks(server.mark, server.deployment, server.job_id, server.attempt)


def _address(addresses: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """The best address: floating, else of IPv4, else of IPv6."""

    def rank(address: Mapping[str, Any]) -> tuple[Literal[0, 1], int]:
        return (0 if address.get("OS-EXT-IPS:type") == "floating" else 1), address.get("version", 4)

    every = [address for network in addresses.values() for address in network]
    return str(min(every, key=rank)["addr"]) if every else None
