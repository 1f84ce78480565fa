"""The state of the cloud, and how servers change in time. The services read and change this state."""

from __future__ import annotations

import heapq
import ipaddress
import itertools
import logging
import secrets
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

_log = logging.getLogger(__name__)

NO_VOLUMES = "Build of instance {} aborted: publicURL endpoint for volumev3 service not found"
NO_NETWORK = "Build of instance {} aborted: Failed to allocate the network(s), not rescheduling."

HOST_ID = "5c0f3b2a94d1d8a7a9f1e6d2b4c8097e1f6a3d5b7c9e0f1a2b3c4d5e"


def new_id() -> str:
    """An id of the form that Nova, Neutron and Glance use."""
    return str(uuid.uuid4())


def new_hex_id() -> str:
    """An id of the form that Keystone uses."""
    return uuid.uuid4().hex


@dataclass
class Account:
    """The one project and its one user."""

    username: str = "lando"
    password: str = "kumquat"
    project_name: str = "lando"
    user_domain_name: str = "Default"
    project_domain_name: str = "Default"
    application_credential_id: str = field(default_factory=new_hex_id)
    application_credential_name: str = "lando-fsm"
    application_credential_secret: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    user_id: str = field(default_factory=new_hex_id)
    project_id: str = field(default_factory=new_hex_id)
    domain_id: str = "default"
    wrong_passwords: int = 0
    """Since the last right one."""


@dataclass
class Settings:
    """Settings of the cloud; a test may change them at any time."""

    region: str = "RegionOne"
    other_regions: tuple[str, ...] = ()
    """Regions that the catalog lists before this one; nothing answers there."""
    token_seconds: float = 3600.0
    """How long a token is valid."""
    min_microversion: str = "2.1"
    max_microversion: str = "2.93"
    page_cap: int = 1000
    """Most servers in one answer (Nova's ``api.max_limit``)."""
    names_page_cap: int = 1000
    """The same for flavors and key pairs, for which the real Nova has the same limit."""
    network_page_cap: int | None = None
    """The same for Neutron's lists (``pagination_max_limit``); None: there is none."""
    image_page_cap: int = 1000
    """The same for images (Glance's ``api_limit_max``)."""
    drops_queries: bool = False
    """Whether something in front of the services drops the query of every request."""
    compute_without_version: bool = False
    """Whether the catalog has Nova's address without ``/v2.1``."""
    lockout_attempts: int | None = None
    """The account is locked after so many wrong passwords in a row (Keystone's ``lockout_failure_attempts``,
    without a ``lockout_duration``)."""
    build_seconds: float = 0.05
    """From BUILD to ACTIVE."""
    delete_seconds: float = 0.05
    """From the answer to a delete until the server is gone."""
    soft_delete: bool = False
    """Whether deleted servers are kept as SOFT_DELETED (Nova's ``reclaim_instance_interval``)."""
    address_seconds: float = 0.0
    """From the association of a floating IP until the server shows it."""
    clock_skew: float = 0.0
    """Seconds that the cloud's clock is ahead."""
    has_volumes: bool = True
    """Whether the catalog has a volume service; without one, a server that boots from a volume ends in
    ERROR."""
    has_quota_details: bool = True
    """Whether Neutron has the extension ``quota_details``."""


@dataclass
class Knobs:
    """Faults of servers, not of calls. Each knob counts for itself, from 1."""

    spawn_delay: float = 0.0
    """Seconds by which a build takes longer."""
    spawn_fail_every: int = 0
    """Every nth build ends in ERROR."""
    spawn_hang_every: int = 0
    """Every nth build stays in BUILD."""
    never_run_userdata_every: int = 0
    """The user data of every nth server, which is ACTIVE, never run."""
    userdata_delay: float = 0.0
    """Seconds from ACTIVE until the user data run."""
    die_after_s: float | None = None
    """Seconds from ACTIVE until a server is SHUTOFF."""
    die_every: int = 0
    """With ``die_after_s``: only every nth server dies."""
    destroy_delay: float = 0.0
    """Seconds by which deleting takes longer."""
    max_vms: int | None = None
    """A build fails if there are already this many servers."""


@dataclass
class Flavor:
    """Sizes in MB (ram) and GB (disk)."""

    name: str
    vcpus: int
    ram: int
    disk: int
    id: str = field(default_factory=new_id)


@dataclass
class Image:
    """An image; the minimum sizes have the units of ``Flavor``."""

    name: str
    min_disk: int = 1
    min_ram: int = 256
    status: str = "active"
    visibility: str = "public"
    """Or ``community``; or ``shared``: by another project, and this one has not accepted it."""
    hidden: bool = False
    id: str = field(default_factory=new_id)
    created: float = field(default_factory=time.time)


@dataclass
class Network:
    """A network with one subnet."""

    name: str
    cidr: str
    external: bool = False
    shared: bool = False
    id: str = field(default_factory=new_id)
    subnet_id: str = field(default_factory=new_id)
    created: float = field(default_factory=time.time)
    used: set[str] = field(default_factory=set)
    """Addresses in use."""

    def take_address(self) -> str | None:
        """An address that is free; None if all are in use."""
        hosts = itertools.islice(ipaddress.ip_network(self.cidr).hosts(), 10, None)
        address = next((str(host) for host in hosts if str(host) not in self.used), None)
        if address is not None:
            self.used.add(address)
        return address


@dataclass
class KeyPair:
    """A key pair of the user."""

    name: str
    public_key: str
    type: str = "ssh"
    number: int = 1
    created: float = field(default_factory=time.time)


@dataclass
class Port:
    """A port of a server in a network."""

    server_id: str
    network: Network
    address: str
    id: str = field(default_factory=new_id)
    mac: str = field(default_factory=lambda: "fa:16:3e:" + ":".join(secrets.token_hex(1) for _ in range(3)))
    created: float = field(default_factory=time.time)


@dataclass
class FloatingIp:
    """An address of an external network; it outlives the server whose port it is associated with."""

    network: Network
    address: str
    description: str = ""
    port: Port | None = None
    id: str = field(default_factory=new_id)
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    associated: float = 0.0
    revision: int = 0


@dataclass
class Server:
    """A server. ``request`` is the body of its create request."""

    name: str
    request: dict[str, Any]
    flavor: Flavor
    image: Image | None
    networks: list[Network]
    user_data: bytes | None
    id: str = field(default_factory=new_id)
    metadata: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    description: str | None = None
    vm_state: str = "building"
    task_state: str | None = "scheduling"
    power_state: int = 0
    fault: tuple[float, str] | None = None
    """Time and message of the error, in ERROR."""
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    launched: float | None = None
    terminated: float | None = None
    listed_from: float = 0.0
    """No list shows it before this time."""
    cell_is_down: bool = False
    """Its cell does not answer: lists leave it out, or show only its id."""
    ports: list[Port] = field(default_factory=list)
    volumes: list[tuple[str, int]] = field(default_factory=list)
    """Id and GB."""
    console: str = ""
    """The console output, unless it runs processes."""

    @property
    def status(self) -> str:
        """The status in the API."""
        return {
            "building": "BUILD",
            "active": "ACTIVE",
            "stopped": "SHUTOFF",
            "error": "ERROR",
            "deleted": "DELETED",
            "soft-delete": "SOFT_DELETED",
        }[self.vm_state]


class Machines(Protocol):
    """What servers run."""

    def run(self, server: Server) -> None:
        """Start a server's user data."""
        ...

    def end(self, server: Server) -> None:
        """Stop everything that it started; returns afterwards."""
        ...

    def runs(self, server: Server) -> bool:
        """Whether it is still running."""
        ...

    def console(self, server: Server) -> str:
        """The output so far."""
        ...


class Records:
    """Machines that run nothing."""

    def run(self, server: Server) -> None:
        """Write a login prompt to the console."""
        server.console += f"{server.name} login: \n"

    def end(self, server: Server) -> None:
        """Does nothing."""

    def runs(self, server: Server) -> bool:
        """True: it does not stop by itself."""
        return True

    def console(self, server: Server) -> str:
        """The text that a test or ``run`` has set."""
        return server.console


class Timeline:
    """Calls functions when they are due, one after the other, in a thread of its own."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._ended = False
        threading.Thread(target=self._run, name="fake cloud's time", daemon=True).start()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Call a function after some time."""
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), then))
            self._changed.notify()

    def end(self) -> None:
        """Call nothing any more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._ended and (not self._due or self._due[0][0] > time.monotonic()):
                    self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)
                if self._ended:
                    return
                then = heapq.heappop(self._due)[2]
            try:
                then()
            except Exception:
                _log.exception("the fake cloud has a bug")


class Cloud:
    """The state of the cloud. Hold ``lock`` to read or change it."""

    def __init__(self, machines: Machines | None = None) -> None:
        self.lock = threading.RLock()
        self.account = Account()
        self.settings = Settings()
        self.knobs = Knobs()
        self.quotas = {
            **{"instances": 10, "cores": 20, "ram": 51200, "metadata_items": 128, "key_pairs": 100},
            **{"server_groups": 10, "server_group_members": 10},
            **{"floatingip": 50, "port": 500, "network": 100, "subnet": 100, "router": 10},
            **{"security_group": 10, "security_group_rule": 100, "rbac_policy": 10, "subnetpool": -1},
            **{"volumes": -1, "gigabytes": -1},
        }
        """Nova's, Neutron's and Cinder's, by name; -1: unlimited."""
        self.flavors = [
            Flavor("m1.tiny", vcpus=1, ram=512, disk=2),
            Flavor("m1.small", vcpus=1, ram=2048, disk=20),
            Flavor("m1.medium", vcpus=2, ram=4096, disk=40),
        ]
        self.images = [Image("lando-worker")]
        self.networks = [
            Network("selfservice", "10.20.0.0/16"),
            Network("ext-net", "172.24.0.0/16", external=True),
        ]
        self.router_id = new_id()
        self.key_pairs = [KeyPair("lando", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI lando")]
        self.security_groups = ["default"]
        """Names, which several groups may have."""
        self.availability_zones = ["nova"]
        self.servers: dict[str, Server] = {}
        self.ended: dict[str, Server] = {}
        """Servers that were deleted."""
        self.floating_ips: dict[str, FloatingIp] = {}
        self.tokens: dict[str, tuple[float, float]] = {}
        """Of each, the times of issue and expiry."""
        self._machines = machines or Records()
        self._timeline = Timeline()
        self._counted: dict[str, int] = {}

    def now(self) -> float:
        """The cloud's clock."""
        return time.time() + self.settings.clock_skew

    def close(self) -> None:
        """Stop everything that runs."""
        self._timeline.end()
        with self.lock:
            servers = list(self.servers.values())
        for server in servers:
            self._machines.end(server)

    def console(self, server: Server) -> str:
        """The output of the server's console."""
        return self._machines.console(server)

    # tokens

    def issue_token(self) -> str:
        """A new one, for ``settings.token_seconds``."""
        token = "gAAAAAB" + secrets.token_urlsafe(96)
        self.tokens[token] = (self.now(), self.now() + self.settings.token_seconds)
        return token

    def is_valid(self, token: str | None) -> bool:
        """Whether the token is known, not revoked and not expired."""
        return token in self.tokens and self.now() < self.tokens[token][1]

    # servers in time

    def add(self, server: Server) -> None:
        """Start to build a server."""
        self.servers[server.id] = server
        seconds = self.settings.build_seconds + self.knobs.spawn_delay
        self._later(seconds / 2, server, self._give_ports)
        self._later(seconds, server, self._finish_build)

    def _later(self, seconds: float, server: Server, then: Callable[[Server], None]) -> None:
        """Call a function after some time, unless the server is deleted by then, or being deleted."""

        def do() -> None:
            with self.lock:
                if self.servers.get(server.id) is server and server.task_state != "deleting":
                    then(server)

        self._timeline.after(seconds, do)

    def _give_ports(self, server: Server) -> None:
        self._change(server, task_state="spawning")
        if any(network.external for network in server.networks):  # for administrators only
            self.fail(server, NO_NETWORK.format(server.id))
            return
        for network in server.networks:
            address = network.take_address()
            if address is None:
                self.fail(server, NO_NETWORK.format(server.id))
                return
            server.ports.append(Port(server.id, network, address))

    def _finish_build(self, server: Server) -> None:
        if server.vm_state != "building":
            return
        reason = self._why_build_fails(server)
        if reason is not None:
            self.fail(server, reason)
        elif not self._is_nth("spawn_hang_every", self.knobs.spawn_hang_every):
            self._boot(server)

    def _why_build_fails(self, server: Server) -> str | None:
        full = self.knobs.max_vms is not None and self._running() >= self.knobs.max_vms
        if full or self._is_nth("spawn_fail_every", self.knobs.spawn_fail_every):
            return (
                "Exceeded maximum number of retries. Exhausted all hosts available for retrying build "
                f"failures for instance {server.id}."
            )
        volumes = [each for each in self._block_devices(server) if each.get("destination_type") == "volume"]
        if volumes and not self.settings.has_volumes:
            return NO_VOLUMES.format(server.id)
        for volume in volumes:
            over = self._why_volume_is_refused(int(volume["volume_size"]))
            if over is not None:
                return f"Build of instance {server.id} aborted: {over}"
            server.volumes.append((new_id(), int(volume["volume_size"])))
        return None

    def _why_volume_is_refused(self, size: int) -> str | None:
        """Cinder's message, as Nova passes it on."""
        sizes = self.volume_sizes()
        if 0 <= self.quotas["volumes"] <= len(sizes):
            return (
                f"VolumeLimitExceeded: Maximum number of volumes allowed ({self.quotas['volumes']}) exceeded "
                "for quota 'volumes'."
            )
        if 0 <= self.quotas["gigabytes"] < sum(sizes) + size:
            return (
                "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes "
                f"quota. Requested {size}G, quota is {self.quotas['gigabytes']}G and {sum(sizes)}G has been "
                "consumed."
            )
        return None

    def volume_sizes(self) -> list[int]:
        """Of all volumes, GB; each goes with its server."""
        return [size for server in self.servers.values() for _, size in server.volumes]

    @staticmethod
    def _block_devices(server: Server) -> list[dict[str, Any]]:
        devices: list[dict[str, Any]] = server.request.get("block_device_mapping_v2", [])
        return devices

    def _running(self) -> int:
        return sum(server.vm_state in ("active", "stopped") for server in self.servers.values())

    def _is_nth(self, knob: str, every: int) -> bool:
        if not every:
            return False
        self._counted[knob] = self._counted.get(knob, 0) + 1
        return self._counted[knob] % every == 0

    def _boot(self, server: Server) -> None:
        self._change(server, vm_state="active", task_state=None, power_state=1)
        server.launched = self.now()
        if not self._is_nth("never_run_userdata_every", self.knobs.never_run_userdata_every):
            self._later(self.knobs.userdata_delay, server, self._run)
        mortal = not self.knobs.die_every or self._is_nth("die_every", self.knobs.die_every)
        if self.knobs.die_after_s is not None and mortal:
            self._later(self.knobs.die_after_s, server, self.shut_off)

    def _run(self, server: Server) -> None:
        if server.vm_state != "active":
            return

        def run() -> None:
            self._machines.run(server)
            self._later(0.5, server, self._watch)

        threading.Thread(target=run, name=f"boots {server.id}", daemon=True).start()

    def _watch(self, server: Server) -> None:
        """Notice when the machine stops by itself."""
        if server.vm_state != "active":
            return
        if self._machines.runs(server):
            self._later(0.5, server, self._watch)
        else:
            self.shut_off(server)

    def shut_off(self, server: Server) -> None:
        """Turn a server off: SHUTOFF."""
        self._change(server, vm_state="stopped", task_state=None, power_state=4)
        self._in_background(server, lambda: None)

    def start(self, server: Server) -> None:
        """Turn it on again; its user data run again."""
        self._change(server, vm_state="active", task_state=None, power_state=1)
        self._run(server)

    def fail(self, server: Server, reason: str) -> None:
        """Put a server in ERROR."""
        self._change(server, vm_state="error", task_state=None, power_state=0)
        server.fault = (self.now(), reason)
        self._drop_ports(server)

    def delete(self, server: Server) -> None:
        """Start to delete a server; no effect if that has started."""
        if server.task_state == "deleting":
            return
        if self.settings.soft_delete and server.launched is not None:
            self._change(server, vm_state="soft-delete", task_state=None)
            self._in_background(server, lambda: None)
            return
        self.delete_now(server)

    def delete_now(self, server: Server) -> None:
        """Start to delete a server, even with ``soft_delete``."""
        if server.task_state == "scheduling":  # on no host yet: deleted at once
            self._forget(server)
            return
        self._change(server, task_state="deleting")
        seconds = self.settings.delete_seconds + self.knobs.destroy_delay

        def end() -> None:
            self._in_background(server, lambda: self._forget(server))

        self._timeline.after(seconds, end)

    def _in_background(self, server: Server, then: Callable[[], None]) -> None:
        """Stop what runs on it, which may take a while, and then call the function."""

        def end() -> None:
            self._machines.end(server)
            with self.lock:
                then()

        threading.Thread(target=end, name=f"ends {server.id}", daemon=True).start()

    def _forget(self, server: Server) -> None:
        if self.servers.pop(server.id, None) is None:
            return
        self._drop_ports(server)
        server.tags, server.metadata = [], {}
        server.terminated = self.now()
        self._change(server, vm_state="deleted", task_state=None, power_state=0)
        self.ended[server.id] = server

    def _drop_ports(self, server: Server) -> None:
        """Remove the ports; floating IPs remain, without a port."""
        for port in server.ports:
            port.network.used.discard(port.address)
            for floating_ip in self.floating_ips.values():
                if floating_ip.port is port:
                    floating_ip.port = None
                    floating_ip.revision += 1
        server.ports = []

    def _change(self, server: Server, **states: Any) -> None:
        for name, value in states.items():
            setattr(server, name, value)
        server.updated = self.now()

    # security groups

    def groups(self) -> list[tuple[str, str]]:
        """Ids and names of the security groups."""
        return [
            (str(uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {self.security_groups[:n].count(name)}")), name)
            for n, name in enumerate(self.security_groups)
        ]

    # usage

    def used(self) -> dict[str, int]:
        """Usage of Nova's quotas; every listed server counts, also in ERROR and while it is deleted."""
        flavors = [server.flavor for server in self.servers.values()]
        return {
            "instances": len(flavors),
            "cores": sum(flavor.vcpus for flavor in flavors),
            "ram": sum(flavor.ram for flavor in flavors),
        }

    def ports(self) -> list[Port]:
        """All ports of servers."""
        return [port for server in self.servers.values() for port in server.ports]
