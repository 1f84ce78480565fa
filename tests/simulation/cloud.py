"""The simulated cloud: what it has at a time follows from times alone, so that calls may overlap."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from lando.cloud.interface import (
    Ambiguous,
    FloatingIp,
    Quota,
    QuotaExceeded,
    RateLimited,
    Refused,
    Server,
    ServerRequest,
    ServerStatus,
    Share,
    Size,
    Unreachable,
)
from tests.simulation.outages import Kind, Outages
from tests.simulation.world import World

NEVER = float("inf")
PATIENCE = 60.0
"""Seconds that the driver waits for an answer."""
LACKING = ("0", "3", "7")
"""Ends of the ids of the servers that an incomplete list lacks."""
FAILED_BUILD = "Build of instance aborted: Failed to provision"
NO_NETWORK = "Build of instance aborted: Failed to allocate the network(s), not rescheduling."
NO_HOST = "No valid host was found. There are not enough hosts available."
BUILD = (5.0, 40.0)
"""Seconds from the create to ACTIVE or ERROR."""
START = (20.0, 60.0)
"""Seconds from ACTIVE to the worker's first report."""
SLOWEST_BOOT = BUILD[1] + START[1]
SETTLE = 30.0
"""Nova's driver has the same: a create that was not answered is listed within this time, usually."""


@dataclass
class SimulatedServer:
    """A server, from its create on; times are true seconds."""

    id: str
    request: ServerRequest
    created: float
    listed: float
    built: float
    fault: str | None
    """Why it ends in ERROR; None: it becomes ACTIVE."""
    reports: bool
    """Whether its worker can report."""
    gone: float = NEVER
    deleting: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether a job can run on it."""
        return self.fault is None and self.reports

    def exists(self, now: float) -> bool:
        return now < self.gone


@dataclass(frozen=True)
class Flaws:
    """What is wrong with a job itself, by its id, as the cloud meets it."""

    builds: frozenset[str] = frozenset()
    """Its image never boots: ERROR."""
    silent: frozenset[str] = frozenset()
    """Its image has no worker."""
    refused: frozenset[str] = frozenset()
    """It asks for a flavor that does not exist."""

    def __contains__(self, job: str) -> bool:
        return job in self.builds or job in self.silent or job in self.refused


@dataclass
class SimulatedCloud:
    """See ``lando.cloud.interface.Cloud``.

    Args:
        world: has the time.
        outages: what is broken.
        booted: told of each server that becomes ACTIVE, at the time of its create.
        flaws: of the jobs.
        limit: of the quota of servers.
        has_floating_ips: whether servers get one.
    """

    world: World
    outages: Outages
    booted: Callable[[SimulatedServer], None]
    flaws: Flaws = Flaws()
    limit: int = 100
    has_floating_ips: bool = True
    settle_time: float = SETTLE
    has_quota: bool = True
    project: str | None = "project"
    machines: dict[str, SimulatedServer] = field(default_factory=dict)
    calls: list[tuple[float, str]] = field(default_factory=list)
    """Each call: when, and which."""
    creates: list[tuple[float, str]] = field(default_factory=list)
    """Each create that was sent: when, and the job's id."""
    marks: set[str] = field(default_factory=set)
    """Of all of them."""
    _serial: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.addresses = SimulatedAddresses(self)

    def create(self, request: ServerRequest) -> Server:
        self.ask("create", "keystone", "glance", "neutron", "nova")
        self.creates.append((self.world.now, request.job_id))
        self.marks.add(request.mark)
        if request.job_id in self.flaws.refused:
            raise Refused("Flavor m9.absent could not be found; correct flavor in the job file", "job")
        if self._lasts("creates"):
            if self._chance(0.1):
                self._make(request, late=True)
            raise Ambiguous("creating a server: HTTP 500: Unexpected API Error")
        if self._lasts("quota"):
            raise QuotaExceeded("creating a server: HTTP 403: Quota exceeded for instances")
        if self._lasts("answers") and self._chance(0.5):
            if self._chance(0.7):
                self._make(request, late=self._chance(0.4))
            raise Ambiguous("creating a server: no answer: Read timed out")
        server = self._make(request)
        if self._lasts("slow") and self._chance(0.5):
            self._time_out("create")
        return self._shown(server)

    def _make(self, request: ServerRequest, late: bool = False) -> SimulatedServer:
        now = self.world.now
        built = now + self._between(*BUILD)
        server = SimulatedServer(
            id=f"server-{next(self._serial)}",
            request=request,
            created=now,
            listed=now + (self._between(60.0, 900.0) if late else self._between(0.0, 3.0)),
            built=built,
            fault=self._fault(request.job_id, now, built),
            reports=not (request.job_id in self.flaws.silent or self.outages.lasts("workers", built)),
        )
        self.machines[server.id] = server
        if server.is_sound:
            self.booted(server)
        return server

    def _fault(self, job: str, now: float, built: float) -> str | None:
        for kind, fault in (("builds", FAILED_BUILD), ("neutron", NO_NETWORK), ("capacity", NO_HOST)):
            if self.outages.lasts(kind, now) or self.outages.lasts(kind, built):
                return fault
        return "Image is not bootable" if job in self.flaws.builds else None

    def get(self, server_id: str) -> Server | None:
        self.ask("get", "keystone", "nova")
        server = self.machines.get(server_id)
        return self._shown(server) if server is not None and server.exists(self.world.now) else None

    def delete(self, server_id: str) -> bool:
        self.ask("delete", "keystone", "nova")
        server = self.machines.get(server_id)
        if server is None or not server.exists(self.world.now):
            return True
        if not server.deleting:
            server.deleting = True
            server.gone = self.world.now + self._between(2.0, 30.0)
        return False

    def servers(self) -> list[Server]:
        self.ask("servers", "keystone", "nova")
        now = self.world.now
        for server in [each for each in self.machines.values() if each.gone < now - 3600.0]:
            del self.machines[server.id]
        lacks = self._lasts("lists")
        return [
            self._shown(each)
            for each in self.existing()
            if each.listed <= now and not (lacks and each.id.endswith(LACKING))
        ]

    def console_log(self, server_id: str) -> str:
        self.ask("console_log", "keystone", "nova")
        return ""

    def check_services(self) -> None:
        self.ask("check_services", "keystone", "nova", "glance", "neutron")

    def quota(self, volumes: bool = False) -> Quota:
        self.ask("quota", "keystone", "nova")
        none = Share(0, None)
        used = self.limit if self._lasts("quota") else len(self.existing())
        return Quota(Share(used, self.limit), none, none)

    def size(self, flavor: str | None) -> Size:
        self.ask("size", "keystone", "nova")
        return Size(servers=1)

    @property
    def floating_ips(self) -> SimulatedAddresses | None:
        return self.addresses if self.has_floating_ips else None

    # what is true

    def existing(self) -> list[SimulatedServer]:
        """What exists, listed or not."""
        now = self.world.now
        return [each for each in self.machines.values() if each.created <= now < each.gone]

    def calls_between(self, start: float, end: float) -> Counter[str]:
        """How many calls there were, by their names."""
        return Counter(name for at, name in self.calls if start <= at < end)

    def ask(self, name: str, *services: Kind) -> None:
        """A call takes its time, and needs these services."""
        self.calls.append((self.world.now, name))
        self.world.now += self._between(0.5, 3.0) if name == "create" else self._between(0.05, 0.5)
        for service in services:
            if self._lasts(service):
                raise Unreachable(f"{name}: {service}: HTTP 503: Service Unavailable")
        if self._lasts("login"):
            raise Refused(f"{name}: logging in as lando: HTTP 401", "site", account_wide=True)
        if self._lasts("rate") and self._chance(0.5):
            raise RateLimited(f"{name}: HTTP 429", self._between(1.0, 120.0) if self._chance(0.5) else None)
        if name != "create" and self._lasts("slow") and self._chance(0.5):
            self._time_out(name)

    def _time_out(self, name: str) -> NoReturn:
        self.world.now += PATIENCE
        raise Ambiguous(f"{name}: Request timed out. (timeout=60.0)")

    def _shown(self, server: SimulatedServer) -> Server:
        request, is_built = server.request, self.world.now >= server.built
        status: ServerStatus = "BUILD" if not is_built else "ERROR" if server.fault else "ACTIVE"
        return Server(
            server.id,
            request.name,
            status,
            request.mark,
            request.deployment,
            request.job_id,
            request.attempt,
            address="10.0.0.1" if status == "ACTIVE" else None,
            fault=server.fault if status == "ERROR" else None,
            no_capacity=status == "ERROR" and server.fault in (NO_HOST, NO_NETWORK),
            size=Size(servers=1),
        )

    def _lasts(self, kind: Kind) -> bool:
        return self.outages.lasts(kind, self.world.now)

    def _between(self, least: float, most: float) -> float:
        return self.world.random.uniform(least, most)

    def _chance(self, share: float) -> bool:
        return self.world.random.random() < share


class SimulatedAddresses:
    """See ``lando.cloud.interface.FloatingIpPool``; every server gets one.

    Args:
        cloud: whose they are.
    """

    allocates = True

    def __init__(self, cloud: SimulatedCloud) -> None:
        self._cloud = cloud
        self._serial = itertools.count(1)
        self.by_mark: dict[str, FloatingIp] = {}

    def attach(self, server_id: str, mark: str, deployment: str) -> str:
        self._cloud.ask("attach", "keystone", "neutron")
        if mark not in self.by_mark:
            address = f"198.51.100.{next(self._serial)}"
            self.by_mark[mark] = FloatingIp(address, address, mark, deployment, server_id)
        return self.by_mark[mark].address

    def release(self, mark: str) -> None:
        self._cloud.ask("release", "keystone", "neutron")
        self.by_mark.pop(mark, None)

    def delete(self, floating_ip_id: str) -> None:
        self._cloud.ask("delete_floating_ip", "keystone", "neutron")
        self.by_mark = {mark: each for mark, each in self.by_mark.items() if each.id != floating_ip_id}

    def all(self) -> list[FloatingIp]:
        self._cloud.ask("floating_ips", "keystone", "neutron")
        return list(self.by_mark.values())
