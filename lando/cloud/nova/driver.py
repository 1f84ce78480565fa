"""A project of an OpenStack cloud, with the interface of ``lando.cloud.interface``.

The API: https://docs.openstack.org/api-ref/compute/. A job costs three calls, besides the list of servers
that all jobs share: create, delete, and one get, which confirms that a server that the list lacks is gone.
"""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from keystoneauth1.exceptions import ClientException, HttpError

from lando.cloud.interface import (
    CONSOLE_BYTES,
    MAX_USER_DATA,
    Ambiguous,
    CloudError,
    Quota,
    Refused,
    Server,
    ServerRequest,
    ServerStatus,
    Size,
)
from lando.cloud.nova import classify, failures, services, tags
from lando.cloud.nova.account import Account
from lando.cloud.nova.client import nova_client, nova_rows
from lando.cloud.nova.floating_ips import POOL_SETTING, FloatingIps
from lando.cloud.nova.lookup import NAMES_SECONDS, ConfiguredName, Flavor, Image, NameLookup, Network
from lando.cloud.nova.quotas import Quotas
from lando.cloud.nova.server_settings import ServerSettings
from lando.cloud.nova.session import Session
from lando.cloud.nova.tags import Tags

MICROVERSION = "2.69"
"""The lowest that has what is needed: tags in the create request (2.52), and lists in which servers of a cell
that is down have the status UNKNOWN (2.69) instead of being left out. OpenStack Stein has it (2019)."""

SETTLE_SECONDS = 60.0
"""Nova's API has stored the server of a create request by then, or never will."""

DELETE_AGAIN_SECONDS = 60.0
"""A delete request that was accepted is repeated after this time, if the server still exists."""

CONSOLE_LINES = 1000

_STATUSES: dict[str, ServerStatus] = {
    "BUILD": "BUILD",
    "ACTIVE": "ACTIVE",
    "SHUTOFF": "SHUTOFF",
    "ERROR": "ERROR",
    # Deleted, but kept for a while, so that it can be restored: nothing runs any more.
    "SOFT_DELETED": "SHUTOFF",
    "DELETED": "SHUTOFF",
}
"""All others (REBOOT, PAUSED, MIGRATING, …) do not say whether the server still works."""


@dataclass(frozen=True)
class _Resolved:
    """The ids of the flavor, image and networks of a server."""

    flavor: str
    image: str
    networks: tuple[str, ...]


class NovaCloud:
    """A project of an OpenStack cloud. Safe to use from several threads.

    Args:
        account: how to log in; nothing is sent before the first call.
        settings: what servers are made of.
        settle_time: see ``Cloud.settle_time``.
        names: seconds for which the ids of images, flavors and networks may be used without a look.

    Raises:
        UsageError: the account is incomplete.
    """

    has_quota = True

    def __init__(
        self,
        account: Account,
        settings: ServerSettings,
        settle_time: float = SETTLE_SECONDS,
        names: float = NAMES_SECONDS,
    ) -> None:
        self.account = account
        self.settings = settings
        self.settle_time = settle_time
        self.session = Session(account)
        self.nova = nova_client(MICROVERSION, self.session)
        self.lookup = NameLookup(self.session, self.nova, names)
        self.floating_ips = FloatingIps(self.session, self.lookup, settings.floating_ip_pool)
        self._quotas = Quotas(self.session, self.nova, floating_ips=self.floating_ips.allocates)
        self._tags: dict[str, Tags] = {}
        self._soft_deleted: set[str] = set()
        self._deleted_at: dict[str, float] = {}

    @property
    def project(self) -> str | None:
        """See ``Cloud.project``: that of the last login."""
        return self.session.project

    def stay_in(self, project: str) -> None:
        """Refuse every call, once a login shows that the account is another project's.

        Args:
            project: the id of the one that has servers of jobs.
        """
        self.session.only_project = project

    def create(self, request: ServerRequest) -> Server:
        """Create a server; see ``Cloud.create``. Returns before it is built, which may fail: see ``servers``.

        Raises:
            Refused, QuotaExceeded, RateLimited, NoCapacity, Unreachable: definitely nothing was created.
            Ambiguous: it is not known whether a server was created.
        """
        if len(base64.b64encode(request.user_data)) > MAX_USER_DATA:
            raise Refused(
                f"the start-up script has {len(request.user_data):,} bytes; "
                f"Nova accepts at most {MAX_USER_DATA:,} characters of base64",
                "job",
            )
        resolved = self._resolve(request)
        try:
            return self._post(request, resolved)
        except Refused:
            # The cached ids may be out of date, as when the image was replaced by a new one of the same name.
            resolved_again = self._resolve(request)
            if resolved_again == resolved:
                raise
        return self._post(request, resolved_again)

    def _resolve(self, request: ServerRequest) -> _Resolved:
        """Look up what the server needs.

        Raises:
            CloudError: of a definite kind, because no create request was sent.
        """
        try:
            self.external_network()  # fails here rather than when the server needs a floating IP
            return _Resolved(
                flavor=self.flavor(request.flavor).id,
                image=self.image(request.image).id,
                networks=tuple(network.id for network in self.networks()),
            )
        except Ambiguous as error:
            raise classify.not_sent(error) from error

    def flavor(self, name: str | None = None) -> Flavor:
        """The flavor of this name in a job file; None: the default flavor."""
        if name is not None:
            return self.lookup.flavor(ConfiguredName(name, "flavor in the job file", "job"))
        return self.lookup.flavor(ConfiguredName(self.settings.flavor, "vm_settings.default_flavor_name"))

    def image(self, name: str | None = None) -> Image:
        """The image of this name in a job file; None: the worker image."""
        if name is not None:
            return self.lookup.image(ConfiguredName(name, "image in the job file", "job"))
        return self.lookup.image(self._worker_image)

    @property
    def _worker_image(self) -> ConfiguredName:
        return ConfiguredName(self.settings.image, "vm_settings.worker_image_name")

    def networks(self) -> list[Network]:
        """The networks of servers; if none are configured, Nova uses the project's only one."""
        return [self.lookup.network(name) for name in self._networks]

    @property
    def _networks(self) -> list[ConfiguredName]:
        return [ConfiguredName(name, "vm_settings.network_name") for name in self.settings.networks]

    def external_network(self) -> Network | None:
        """The network that has the floating IPs; None: servers get none."""
        pool = self.settings.floating_ip_pool
        if pool is None:
            return None
        return self.lookup.external_network(ConfiguredName(pool, POOL_SETTING))

    def size(self, flavor: str | None) -> Size:
        """See ``Cloud.size``.

        Raises:
            Refused: there is no such flavor.
        """
        found, settings = self.flavor(flavor), self.settings
        size = Size(1, found.cores, found.ram)
        if settings.volume_size is not None:
            size += Size(volumes=1, gigabytes=settings.volume_size)
        if self.floating_ips.allocates:
            size += Size(ports=max(1, len(settings.networks)), floating_ips=1)
        return size

    def _post(self, request: ServerRequest, resolved: _Resolved) -> Server:
        settings = self.settings
        volume = request.volume_size or settings.volume_size
        with self.session.calls.recorded() as sent:
            try:
                created = self.nova.servers.create(
                    request.name,
                    None if volume else resolved.image,
                    resolved.flavor,
                    userdata=request.user_data,
                    meta=tags.metadata(request),
                    tags=tags.server_tags(request),
                    nics=[{"net-id": network} for network in resolved.networks] or "auto",
                    key_name=settings.key_name,
                    security_groups=settings.security_groups or None,
                    availability_zone=settings.availability_zone,
                    config_drive=settings.config_drive or None,
                    block_device_mapping_v2=None if volume is None else [_boot_volume(volume, resolved)],
                )
                # Not created.id: novaclient sends a get for an attribute that the answer lacks.
                server_id = str(created.to_dict()["id"])
            except Exception as error:
                raise self._create_error(error, request, sent) from error
        server = Server(
            id=server_id,
            name=request.name,
            status="BUILD",
            mark=request.mark,
            deployment=request.deployment,
            job_id=request.job_id,
            attempt=request.attempt,
        )
        self._tags[server_id] = _tags_of(server)
        return server

    def _create_error(self, error: Exception, request: ServerRequest, sent: Sequence[str]) -> CloudError:
        """The error of a create that failed.

        Args:
            error: what novaclient or keystoneauth raised.
            request: what was to be created.
            sent: the names of the calls that were sent, including a login if one was needed.
        """
        action = f"creating server {request.name}"
        posted = any(call.startswith("POST ") and call.endswith("/servers") for call in sent)
        if not isinstance(error, ClientException):
            unexpected = classify.unexpected_answer(action, error)
            return unexpected if posted else classify.not_sent(unexpected)
        failed = failures.read(error)
        if failed.status in (400, 404):
            self.lookup.forget()
        return classify.create_error(failed, action, self.account, request, posted)

    def get(self, server_id: str) -> Server | None:
        """See ``Cloud.get``."""
        with self.session.errors(f"asking for server {server_id}"):
            try:
                row = self.nova.servers.get(server_id).to_dict()
            except HttpError as error:
                if _is_not_found(error):
                    self._forget(server_id)
                    return None
                raise
            if row.get("status") == "SOFT_DELETED" and server_id not in self._soft_deleted:
                self._soft_deleted.add(server_id)
                self._deleted_at.pop(server_id, None)  # the next delete must be a forced one
            return self._server(row)

    def servers(self) -> list[Server]:
        """See ``Cloud.servers``.

        The request has neither a filter nor a limit, because Nova leaves servers of a cell that is down out
        of such lists. Nova splits a list that is longer than its ``api.max_limit`` (1000) into pages.

        Raises:
            Ambiguous: among others when the tags of a server in a cell that is down are not known.
        """
        before = set(self._tags)
        rows = self._rows()
        with self.session.errors("listing servers"):
            servers = [self._server(row) for row in rows]
            unknown = [row["id"] for row in rows if not _is_complete(row) and row["id"] not in self._tags]
        if unknown:
            raise Ambiguous(
                f"listing servers: a part of the cloud does not answer, and {len(unknown)} servers in it may "
                f"be lando's ({', '.join(unknown[:3])}); ask the cloud's administrator about its cells"
            )
        self._tags.update({server.id: _tags_of(server) for server in servers})
        for server_id in before.difference(row["id"] for row in rows):
            self._tags.pop(server_id, None)
        return servers

    def _rows(self) -> list[dict[str, Any]]:
        return nova_rows(self.session, self.nova, "listing servers", "/servers/detail", "servers")

    def _server(self, row: Mapping[str, Any]) -> Server:
        if not _is_complete(row):
            found = self._tags.get(row["id"], Tags())
        else:
            found = tags.from_metadata(row.get("metadata") or {})
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
            address=_best_address(row.get("addresses") or {}),
            fault=None if fault is None else failures.without_secrets(str(fault)),
            no_capacity=fault is not None and classify.is_no_capacity(fault),
            size=Size(1, int(flavor.get("vcpus") or 0), int(flavor.get("ram") or 0)),
        )

    def console_log(self, server_id: str) -> str:
        """See ``Cloud.console_log``; "" if there is none yet, and for a server that does not exist."""
        with self.session.errors(f"reading the console of server {server_id}"):
            try:
                text = str(self.nova.servers.get_console_output(server_id, length=CONSOLE_LINES))
            except HttpError as error:
                # 409: the server is on no host, or not yet; 501: the hypervisor has no console logs.
                if failures.read(error).error_name and error.http_status in (404, 409, 501):
                    return ""
                raise
        return failures.without_secrets(text.encode()[-CONSOLE_BYTES:].decode("utf-8", errors="ignore"))

    def delete(self, server_id: str) -> bool:
        """See ``Cloud.delete``. A repeated call only gets the server, until DELETE_AGAIN_SECONDS have passed.

        Raises:
            CloudError: among others while the server is locked, or in a state in which Nova deletes none.
        """
        if time.monotonic() - self._deleted_at.get(server_id, -math.inf) < DELETE_AGAIN_SECONDS:
            return self.get(server_id) is None
        with self.session.errors(f"deleting server {server_id}"):
            try:
                if server_id in self._soft_deleted:
                    self.nova.servers.force_delete(server_id)
                else:
                    self.nova.servers.delete(server_id)
            except HttpError as error:
                if _is_not_found(error):
                    self._forget(server_id)
                    return True
                raise
        self._deleted_at[server_id] = time.monotonic()
        return False

    def _forget(self, server_id: str) -> None:
        """Forget a server that does not exist any more."""
        self._soft_deleted.discard(server_id)
        self._tags.pop(server_id, None)
        self._deleted_at.pop(server_id, None)

    def check_services(self) -> None:
        """See ``Cloud.check_services``."""
        services.check(
            self.session,
            self.nova,
            image=self.lookup.last_image_id(self._worker_image),
            network=next(iter(map(self.lookup.last_network_id, self._networks)), None),
            volumes=self.settings.volume_size is not None,
        )

    def quota(self, volumes: bool = False) -> Quota:
        """See ``Cloud.quota``."""
        return self._quotas.read(volumes=volumes or self.settings.volume_size is not None)


def connect(
    account: Account,
    settings: ServerSettings,
    settle_time: float | None = None,
    names: float = NAMES_SECONDS,
) -> NovaCloud:
    """The project of an account; see ``NovaCloud``. Nothing is sent before the first call."""
    return NovaCloud(account, settings, SETTLE_SECONDS if settle_time is None else settle_time, names)


def _boot_volume(size: int, resolved: _Resolved) -> dict[str, Any]:
    """A volume of ``size`` GB with the image, which is deleted together with the server."""
    return {
        "boot_index": 0,
        "source_type": "image",
        "uuid": resolved.image,
        "destination_type": "volume",
        "volume_size": size,
        "delete_on_termination": True,
    }


def _is_complete(row: Mapping[str, Any]) -> bool:
    """Whether the server is in a cell that answers; see MICROVERSION."""
    return "metadata" in row


def _is_not_found(error: HttpError) -> bool:
    """Whether Nova itself says that the server does not exist: a proxy's 404 does not count."""
    failed = failures.read(error)
    return failed.status == 404 and failed.error_name == "itemNotFound"


def _tags_of(server: Server) -> Tags:
    return Tags(server.mark, server.deployment, server.job_id, server.attempt)


def _best_address(addresses: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """The best address: floating, else of IPv4, else of IPv6."""

    def rank(address: Mapping[str, Any]) -> tuple[Literal[0, 1], int]:
        return (0 if address.get("OS-EXT-IPS:type") == "floating" else 1), address.get("version", 4)

    every = [address for network in addresses.values() for address in network]
    return str(min(every, key=rank)["addr"]) if every else None
