"""What is used up in an OpenStack cloud is told apart from what fails, on the fake one."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.cloud.interface import NoCapacity, QuotaExceeded, Server, ServerRequest
from lando.cloud.nova.account import with_password
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.redaction import Secret
from tests.support.fake_openstack import Fault, OpenStackFake


@pytest.fixture
def fake() -> Iterator[OpenStackFake]:
    with OpenStackFake() as here:
        yield here


@pytest.fixture
def cloud(fake: OpenStackFake) -> NovaCloud:
    given = fake.cloud_settings
    password = Secret(given.pop("password"))
    settings = ServerSettings(
        "lando-worker", "m1.tiny", networks=("selfservice",), floating_ip_pool="ext-net"
    )
    return connect(with_password("the test", password=password, **given), settings)


def a_request(**wishes: Any) -> ServerRequest:
    return ServerRequest(
        **{"name": "lando-test-1", "mark": uuid.uuid4().hex, "deployment": "tests", "job_id": "j"},
        **{"attempt": 1, "user_data": b"#!/bin/bash\n"},
        **wishes,
    )


def built(cloud: NovaCloud, **wishes: Any) -> Server:
    """A new server once it is built, or has failed."""
    created, end = cloud.create(a_request(**wishes)), time.monotonic() + 20
    while time.monotonic() < end:
        found = cloud.get(created.id)
        if found is not None and found.status != "BUILD":
            return found
        time.sleep(0.05)
    raise AssertionError("still BUILD")


def test_volumes_that_are_used_up_are_no_failure_of_the_build(fake: OpenStackFake, cloud: NovaCloud) -> None:
    fake.quotas["volumes"] = 1
    first = built(cloud, volume_size=10)
    assert first.status == "ACTIVE"
    full = built(cloud, volume_size=10)
    assert (full.status, full.no_capacity) == ("ERROR", True)
    assert "Maximum number of volumes allowed (1)" in (full.fault or "")
    while not cloud.delete(first.id):
        time.sleep(0.05)
    fake.quotas["volumes"] = 2
    assert built(cloud, volume_size=10).status == "ACTIVE", "it passes"


def test_gigabytes_that_are_used_up_pass_but_not_a_volume_larger_than_all(
    fake: OpenStackFake, cloud: NovaCloud
) -> None:
    fake.quotas["gigabytes"] = 50
    assert built(cloud, volume_size=30).status == "ACTIVE"
    full = built(cloud, volume_size=30)
    assert (full.status, full.no_capacity) == ("ERROR", True)
    assert "50G and 30G has been consumed" in (full.fault or "")
    never = built(cloud, volume_size=60)
    assert (never.status, never.no_capacity) == ("ERROR", False)


def test_addresses_that_are_used_up_are_no_failure_of_the_build(
    fake: OpenStackFake, cloud: NovaCloud
) -> None:
    network = fake.cloud.networks[0]
    network.cidr = "10.20.0.0/28"  # of which the fake gives away the last four addresses
    states = [built(cloud) for _ in range(5)]
    assert [state.status for state in states] == ["ACTIVE"] * 4 + ["ERROR"]
    assert states[-1].no_capacity and "Failed to allocate the network(s)" in (states[-1].fault or "")


def test_ports_that_are_used_up_are_a_quota(fake: OpenStackFake, cloud: NovaCloud) -> None:
    fake.quotas["port"] = 0
    with pytest.raises(QuotaExceeded, match="Maximum number of ports exceeded"):
        cloud.create(a_request())


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, "Quota exceeded, too many servers in group", QuotaExceeded),
        (400, "PCI device request [] failed", NoCapacity),
        (400, "No fixed IP addresses available for network: selfservice", NoCapacity),
    ],
)
def test_a_create_that_is_refused_for_what_is_used_up_waits(
    fake: OpenStackFake, cloud: NovaCloud, status: int, message: str, kind: type[Exception]
) -> None:
    fake.faults.add(Fault("POST compute /servers", status=status, message=message))
    with pytest.raises(kind, match="creating server"):
        cloud.create(a_request(flavor="m1.tiny", image="lando-worker"))


def test_floating_ips_that_are_used_up_are_told_by_kind(fake: OpenStackFake, cloud: NovaCloud) -> None:
    fake.cloud.networks[1].cidr = "172.24.0.0/28"
    for _ in range(4):
        cloud.floating_ips.allocate(uuid.uuid4().hex, "tests")
    with pytest.raises(NoCapacity, match="No more IP addresses available"):
        cloud.floating_ips.allocate(uuid.uuid4().hex, "tests")
