"""The lab as tests use it: what is in the project, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.openstack.lab import contents, knobs, life, services, tokens
from tests.openstack.lab.api import Api
from tests.openstack.lab.place import AMQP_URL, AUTH_URL, SECRET, SERVERS_NETWORK_ADDRESS
from tests.openstack.lab.processes import is_up

PATIENCE = 120.0


class LabCloud:
    """The cloud of the lab that this process runs in.

    ``lando`` and ``admin`` are its APIs, as the project's user and as an administrator; ``amqp_url`` is an
    account on its broker, an administrator's of a virtual host.
    """

    amqp_url = AMQP_URL

    def __init__(self) -> None:
        self.lando = Api(contents.PROJECT)
        self.admin = Api("admin")
        self.project_id = self.lando.session.get_project_id()
        self.driver = life.driver()

    # how landoconfig.yml names it

    @property
    def cloud_settings(self) -> dict[str, str]:
        """Its section of this name."""
        return {
            "auth_url": AUTH_URL,
            "username": contents.PROJECT,
            "user_domain_name": "Default",
            "project_name": contents.PROJECT,
            "project_domain_name": "Default",
            "password": SECRET,
        }

    @property
    def vm_settings(self) -> dict[str, str]:
        """Its section of this name, in the original's keys; without ``floating_ip_pool_name``."""
        return {
            "worker_image_name": contents.IMAGE,
            "ssh_key_name": contents.KEY_PAIR,
            "network_name": contents.NETWORK,
            "default_favor_name": self.driver.flavor,
        }

    floating_ip_pool_name = contents.EXTERNAL_NETWORK

    @property
    def worker_host(self) -> str:
        """The broker as servers see it."""
        return SERVERS_NETWORK_ADDRESS if self.driver.guests else "127.0.0.1"

    # what is there

    def servers(self) -> list[dict[str, Any]]:
        """The project's, whoever made them, in detail."""
        return self.lando.all("compute", "servers/detail")

    def floating_ips(self) -> list[dict[str, Any]]:
        """The project's, whoever made them."""
        return self.lando.all("network", "floatingips")

    def create_server(self, name: str, user_data: str | None = None) -> str:
        """A server of somebody else, in the project; its id."""
        [image] = self.lando.all("image", "images", name=contents.IMAGE)
        flavor = self.lando.find("compute", "flavors", self.driver.flavor)
        assert flavor
        server = {"name": name, "imageRef": image["id"], "flavorRef": flavor["id"], "user_data": user_data}
        wish = {"server": {key: value for key, value in server.items() if value}}
        made: str = self.lando("POST", "compute", "/servers", json=wish)["server"]["id"]
        return made

    def server(self, server_id: str) -> dict[str, Any]:
        """In detail."""
        shown: dict[str, Any] = self.lando("GET", "compute", f"/servers/{server_id}")["server"]
        return shown

    def delete_server(self, server_id: str) -> None:
        """Ask for it."""
        self.lando("DELETE", "compute", f"/servers/{server_id}")

    def assert_clean(self, *but: str) -> None:
        """No server and no floating IP is left in the project, but for the servers with these ids."""
        left = [f"server {server['name']}" for server in self.servers() if server["id"] not in but]
        left += [f"floating IP {address['floating_ip_address']}" for address in self.floating_ips()]
        assert not left, f"left in the cloud: {', '.join(left)}"

    def clear(self) -> None:
        """Everything as it was when the lab came up."""
        knobs.write({})
        for name in services.COMMANDS:
            if name in services.API_PORTS and not is_up(name):
                services.restart_service(name)
        contents.remove_servers()

    # what goes wrong

    @contextmanager
    def knobs(self, **settings: Any) -> Iterator[None]:
        """Meanwhile, the hypervisor's knobs are these; see ``lab/plugins/process_driver.py``."""
        before = knobs.read()
        knobs.write(before | settings)
        try:
            yield
        finally:
            knobs.write(before)

    @contextmanager
    def quota(self, **quota: int) -> Iterator[None]:
        """Meanwhile, Nova enforces this quota of the project, as ``instances=5``."""
        path = f"/os-quota-sets/{self.project_id}"
        before = self.admin("GET", "compute", path)["quota_set"]
        self.admin("PUT", "compute", path, json={"quota_set": quota})
        try:
            yield
        finally:
            self.admin("PUT", "compute", path, json={"quota_set": {name: before[name] for name in quota}})

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """Meanwhile, a service (``nova-api``, ``keystone``, ``neutron-server``, …) is not there."""
        services.stop_service(service)
        try:
            yield
        finally:
            services.restart_service(service)

    def revoke_tokens(self) -> None:
        """Every token that anybody holds is void."""
        tokens.revoke_all()


def until(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s"
        time.sleep(0.2)
    return answer
