"""A small OpenStack for tests: Keystone, Glance, Nova and Neutron, as far as a driver for VMs needs them.

    with OpenStackFake() as fake:
        nova = client.Client("2.67", session=a_session_at(fake.auth_url))
        fake.faults.add(Fault("POST compute /servers", work="once", ending="close"))  # its answer is lost
        ...
        print(fake.calls)

It answers as the real services do, header by header and word by word; some 350 answers to the same requests
were compared with those of OpenStack Zed. What a driver does not need it answers with 501 or 404, never with
a guess. There is one project, one user who is a member of it, and no administrator. Left out: sorted lists,
the states that a server passes through for moments (powering-off, rebooting), the ports that routers use up,
Placement, Cinder's own API, and agents that would make a floating IP ACTIVE.

``python -m tests.support.fake_openstack`` runs one for another process.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

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
    """A running cloud, on free ports of loopback; ``close`` ends it and everything that runs on it.

    Args:
        machines: a directory: servers run their user data as processes of this machine, and keep their
            files there. None: servers are records.
        certificate: certificate and key, PEM files, to be reached by https.
        seed: makes random faults the same again.
    """

    def __init__(
        self, machines: Path | None = None, certificate: tuple[Path, Path] | None = None, seed: int = 0
    ) -> None:
        self.cloud = Cloud(Processes(machines) if machines else None)
        self.calls = Calls()
        self.faults = Faults(seed)
        keystone = Keystone(self.cloud, self._endpoints, self.faults, self.calls)
        protected = (self.cloud, lambda: self.auth_url, self.faults, self.calls)
        services = (keystone, Glance(*protected), Nova(*protected), Neutron(*protected))
        self.listeners = {
            service.name: Listener(service, certificate, lambda: self.cloud.settings.clock_skew)
            for service in services
        }
        """By the type of their service: identity, image, compute, network."""
        self._control = Listener(Control(self))

    def __enter__(self) -> OpenStackFake:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering, and end what runs."""
        for listener in (*self.listeners.values(), self._control):
            listener.stop()
        self.cloud.close()

    @property
    def auth_url(self) -> str:
        """Keystone's address."""
        return f"{self.listeners['identity'].url}/v3"

    @property
    def control_url(self) -> str:
        """Where another process may ask for faults; see ``tests.support.fake_openstack.control``."""
        return self._control.url

    @property
    def cloud_settings(self) -> dict[str, str]:
        """How to get in, by the keys of landoconfig.yml's section of this name."""
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
        """What goes wrong with servers."""
        return self.cloud.knobs

    @property
    def settings(self) -> Settings:
        """How the cloud is run."""
        return self.cloud.settings

    @property
    def quotas(self) -> dict[str, int]:
        """Nova's and Neutron's, by name; -1 for none."""
        return self.cloud.quotas

    @property
    def servers(self) -> list[Server]:
        """Those that there are, listed or not yet."""
        with self.cloud.lock:
            return list(self.cloud.servers.values())

    def server(self, server_id: str) -> Server:
        """One of them, or one that was deleted."""
        with self.cloud.lock:
            return self.cloud.servers.get(server_id) or self.cloud.ended[server_id]

    def revoke_tokens(self) -> None:
        """Make all tokens void: the next call with one is answered with 401."""
        with self.cloud.lock:
            self.cloud.tokens.clear()

    def stop(self, service: str) -> None:
        """Have a service refuse connections, and drop those there are."""
        self.listeners[service].stop()

    def start(self, service: str) -> None:
        """Have it answer again, where it did."""
        self.listeners[service].start()

    def shut_off(self, server_id: str) -> None:
        """Take a server's power: SHUTOFF."""
        with self.cloud.lock:
            self.cloud.shut_off(self.cloud.servers[server_id])

    def fail(self, server_id: str, words: str) -> None:
        """Put a server in ERROR, with these words as its fault."""
        with self.cloud.lock:
            self.cloud.fail(self.cloud.servers[server_id], words)

    def _endpoints(self) -> dict[str, str]:
        paths = {"identity": "/v3", "image": "", "compute": "/v2.1", "network": ""}
        return {name: self.listeners[name].url + path for name, path in paths.items()}
