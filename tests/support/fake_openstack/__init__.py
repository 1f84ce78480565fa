"""A fake OpenStack for tests: the parts of Keystone, Glance, Nova, Neutron and Cinder that a driver needs.

    with OpenStackFake() as fake:
        nova = client.Client("2.67", session=a_session_at(fake.auth_url))
        fake.faults.add(Fault("POST compute /servers", work="once", ending="close"))  # the answer is lost
        ...
        print(fake.calls)

Its answers have the headers and messages of the real services; some 350 of them were compared with the
answers of OpenStack Zed to the same requests; pages, visibility and lockout follow the API reference.
Requests that a driver does not need are answered with 501 or
404. There is one project, one user, who is a member of it, and no administrator. Left out are sorted lists,
transient states of servers (powering-off, rebooting), the ports of routers, Placement, all of Cinder's API
but its limits (after the API reference), and the agents that make a floating IP ACTIVE.

``python -m tests.support.fake_openstack`` runs one for another process.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from tests.support.fake_openstack.cinder import Cinder
from tests.support.fake_openstack.cloud import Cloud, Knobs, Server, Settings
from tests.support.fake_openstack.control import Control
from tests.support.fake_openstack.faults import Calls, Fault, Faults
from tests.support.fake_openstack.glance import Glance
from tests.support.fake_openstack.http_service import Listener
from tests.support.fake_openstack.keystone import Keystone
from tests.support.fake_openstack.neutron import Neutron
from tests.support.fake_openstack.nova import Nova
from tests.support.fake_openstack.processes import Processes

__all__ = ["Fault", "Knobs", "OpenStackFake", "Server", "Settings"]


class OpenStackFake:
    """A running cloud on free ports of loopback; ``close`` stops it and everything that runs on it.

    Args:
        machines: the directory of servers that run their user data as processes of this machine. None: no
            server runs anything.
        certificate: certificate and key, PEM files, for https.
        seed: of random faults.
    """

    def __init__(
        self, machines: Path | None = None, certificate: tuple[Path, Path] | None = None, seed: int = 0
    ) -> None:
        self.cloud = Cloud(Processes(machines) if machines else None)
        self.calls = Calls()
        self.faults = Faults(seed)
        keystone = Keystone(self.cloud, self._endpoints, self.faults, self.calls)
        protected = (self.cloud, lambda: self.auth_url, self.faults, self.calls)
        services = (
            *(keystone, Glance(*protected), Nova(*protected)),
            *(Neutron(*protected), Cinder(*protected)),
        )
        self.listeners = {
            service.name: Listener(service, certificate, lambda: self.cloud.settings.clock_skew)
            for service in services
        }
        """By the type of the service: identity, image, compute, network, volumev3."""
        self._control = Listener(Control(self))

    def __enter__(self) -> OpenStackFake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all services and servers."""
        for listener in (*self.listeners.values(), self._control):
            listener.stop()
        self.cloud.close()

    @property
    def auth_url(self) -> str:
        """Keystone's address."""
        return f"{self.listeners['identity'].url}/v3"

    @property
    def control_url(self) -> str:
        """The URL of the control API; see ``tests.support.fake_openstack.control``."""
        return self._control.url

    @property
    def cloud_settings(self) -> dict[str, str]:
        """The section ``cloud_settings`` of landoconfig.yml for this cloud."""
        account = self.cloud.account
        return {
            "auth_url": self.auth_url,
            "username": account.username,
            "user_domain_name": account.user_domain_name,
            "project_name": account.project_name,
            "project_domain_name": account.project_domain_name,
            "password": account.password,
        }

    @property
    def knobs(self) -> Knobs:
        """Faults of servers."""
        return self.cloud.knobs

    @property
    def settings(self) -> Settings:
        """Settings of the cloud."""
        return self.cloud.settings

    @property
    def quotas(self) -> dict[str, int]:
        """Nova's, Neutron's and Cinder's, by name; -1: unlimited."""
        return self.cloud.quotas

    @property
    def servers(self) -> list[Server]:
        """All servers, including those that no list shows yet."""
        with self.cloud.lock:
            return list(self.cloud.servers.values())

    def server(self, server_id: str) -> Server:
        """A server, which may be deleted."""
        with self.cloud.lock:
            return self.cloud.servers.get(server_id) or self.cloud.ended[server_id]

    def revoke_tokens(self) -> None:
        """Revoke all tokens: the next call with one is answered with 401."""
        with self.cloud.lock:
            self.cloud.tokens.clear()

    def stop(self, service: str) -> None:
        """Make a service refuse connections, and close the open ones."""
        self.listeners[service].stop()

    def start(self, service: str) -> None:
        """Start a stopped service again, on the same port."""
        self.listeners[service].start()

    def shut_off(self, server_id: str) -> None:
        """Turn a server off: SHUTOFF."""
        with self.cloud.lock:
            self.cloud.shut_off(self.cloud.servers[server_id])

    def fail(self, server_id: str, fault: str) -> None:
        """Put a server in ERROR, with this fault."""
        with self.cloud.lock:
            self.cloud.fail(self.cloud.servers[server_id], fault)

    def _endpoints(self) -> dict[str, str]:
        compute = "" if self.cloud.settings.compute_without_version else "/v2.1"
        paths = {"identity": "/v3", "image": "", "compute": compute, "network": ""}
        if self.cloud.settings.has_volumes:
            paths["volumev3"] = f"/v3/{self.cloud.account.project_id}"
        return {name: self.listeners[name].url + path for name, path in paths.items()}
