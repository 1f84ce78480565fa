"""A project of an OpenStack where the system is tested: the fake's, or a real one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from lando.cloud.nova.account import with_password
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.redaction import Secret
from tests.support.fake_openstack import OpenStackFake

SERVICES = {"keystone": "identity", "nova-api": "compute", "neutron-server": "network"}


class Facility(Protocol):
    """How to get in, and what can be made to go wrong there."""

    floating_ip_pool_name: str

    @property
    def cloud_settings(self) -> dict[str, str]:
        """The section of landoconfig.yml."""
        ...

    @property
    def vm_settings(self) -> dict[str, str]:
        """The same, in the original's keys; without ``floating_ip_pool_name``."""
        ...

    def knobs(self, **knobs: Any) -> AbstractContextManager[None]:
        """Meanwhile, this goes wrong with servers; see ``tests.support.fake_openstack.Knobs``."""
        ...

    def quota(self, **quota: int) -> AbstractContextManager[None]:
        """Meanwhile, Nova enforces this quota, as ``instances=5``."""
        ...

    def stopped(self, service: str) -> AbstractContextManager[None]:
        """Meanwhile, a service (``nova-api``, say) is not there."""
        ...

    def revoke_tokens(self) -> None:
        """Every token that anybody holds is void."""
        ...


def connect_to(facility: Facility) -> NovaCloud:
    """The driver, on a connection of its own."""
    account, vm = facility.cloud_settings, facility.vm_settings
    return connect(
        with_password(
            "the test",
            account["auth_url"],
            account["username"],
            Secret(account["password"]),
            account["project_name"],
            account["user_domain_name"],
            account["project_domain_name"],
        ),
        ServerSettings(
            vm["worker_image_name"],
            vm["default_favor_name"],
            networks=(vm["network_name"],),
            floating_ip_pool=facility.floating_ip_pool_name,
        ),
    )


class FakeFacility:
    """A fake cloud, whose servers are processes of this machine; ``close`` ends it and them.

    Args:
        machines: the directory for its servers' files.
    """

    floating_ip_pool_name = "ext-net"

    def __init__(self, machines: Path) -> None:
        self.fake = OpenStackFake(machines)
        self.fake.quotas.update(instances=40, cores=80, floatingip=40)

    def close(self) -> None:
        """End it."""
        self.fake.close()

    @property
    def cloud_settings(self) -> dict[str, str]:
        """See ``Facility``; likewise below."""
        return self.fake.cloud_settings

    @property
    def vm_settings(self) -> dict[str, str]:
        return {
            "worker_image_name": "lando-worker",
            "ssh_key_name": "lando",
            "network_name": "selfservice",
            "default_favor_name": "m1.tiny",
        }

    @contextmanager
    def knobs(self, **knobs: Any) -> Iterator[None]:
        before = {name: getattr(self.fake.knobs, name) for name in knobs}
        vars(self.fake.knobs).update(knobs)
        try:
            yield
        finally:
            vars(self.fake.knobs).update(before)

    @contextmanager
    def quota(self, **quota: int) -> Iterator[None]:
        before = dict(self.fake.quotas)
        self.fake.quotas.update(quota)
        try:
            yield
        finally:
            self.fake.quotas.update(before)

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        self.fake.stop(SERVICES[service])
        try:
            yield
        finally:
            self.fake.start(SERVICES[service])

    def revoke_tokens(self) -> None:
        self.fake.revoke_tokens()
