"""Cinder's and Neutron's quotas are read where servers use them and the cloud tells them; on the fake one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.cloud.interface import CloudError, Quota, ServerRequest, Share, Size
from lando.cloud.nova import checks, quotas
from lando.cloud.nova.account import with_password
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.redaction import Secret
from tests.support.fake_openstack import Fault, OpenStackFake

PLAIN = ServerSettings("lando-worker", "m1.tiny", networks=("selfservice",))
VOLUMES = replace(PLAIN, volume_size=10)
POOL = replace(PLAIN, floating_ip_pool="ext-net")
OF_CINDER, OF_NEUTRON = "GET volumev3 /{id}/limits", "GET network /quotas/{id}/details"


@pytest.fixture
def fake() -> Iterator[OpenStackFake]:
    with OpenStackFake() as here:
        here.quotas.update(volumes=4, gigabytes=100, port=7, floatingip=2)
        yield here


def at(fake: OpenStackFake, settings: ServerSettings) -> NovaCloud:
    given = fake.cloud_settings
    password = Secret(given.pop("password"))
    return connect(with_password("the test", password=password, **given), settings)


def more(quota: Quota) -> tuple[Share | None, ...]:
    return quota.volumes, quota.gigabytes, quota.ports, quota.floating_ips


def test_only_what_servers_use_is_read(fake: OpenStackFake) -> None:
    plain = at(fake, PLAIN)
    assert more(plain.quota()) == (None, None, None, None)
    assert plain.size(None) == Size(1, 1, 512)
    assert fake.calls.count(OF_CINDER) == fake.calls.count(OF_NEUTRON) == 0
    assert more(plain.quota(volumes=True)) == (Share(0, 4), Share(0, 100), None, None), "a job asks for one"
    assert more(at(fake, VOLUMES).quota()) == (Share(0, 4), Share(0, 100), None, None)
    assert at(fake, VOLUMES).size(None) == Size(1, 1, 512, volumes=1, gigabytes=10)
    assert more(at(fake, POOL).quota()) == (None, None, Share(0, 7), Share(0, 2))
    assert at(fake, POOL).size(None) == Size(1, 1, 512, ports=1, floating_ips=1)


def test_each_read_is_one_call(fake: OpenStackFake) -> None:
    cloud = at(fake, replace(VOLUMES, floating_ip_pool="ext-net"))
    cloud.quota()
    fake.calls.clear()
    cloud.quota()
    assert fake.calls.by_label() == {"GET compute /limits": 1, OF_CINDER: 1, OF_NEUTRON: 1}


def test_use_and_no_limit_are_told(fake: OpenStackFake) -> None:
    cloud = at(fake, replace(VOLUMES, floating_ip_pool="ext-net"))
    made = cloud.create(ServerRequest("lando-test-1", "mark", "tests", "j", 1, b"#!/bin/bash\n"))
    end = time.monotonic() + 20
    while fake.server(made.id).status == "BUILD":
        assert time.monotonic() < end
        time.sleep(0.02)
    cloud.floating_ips.attach(made.id, "mark", "tests")
    assert more(cloud.quota()) == (Share(1, 4), Share(10, 100), Share(1, 7), Share(1, 2))
    said = "3 of 4 volumes left, 90 of 100 GB of volumes left, 6 of 7 ports left, 1 of 2 floating IPs left"
    assert str(cloud.quota()).endswith(said)
    fake.quotas.update(volumes=-1, floatingip=-1)
    assert more(cloud.quota()) == (Share(1, None), Share(10, 100), Share(1, 7), Share(1, None))


def test_reserved_counts_as_used() -> None:
    assert quotas._with_reserved({"limit": 5, "used": 2, "reserved": 1}) == Share(3, 5)


def without_cinder(fake: OpenStackFake) -> None:
    fake.settings.has_volumes = False


def without_extension(fake: OpenStackFake) -> None:
    fake.settings.has_quota_details = False


def failing(call: str, **how: object) -> Callable[[OpenStackFake], None]:
    return lambda fake: fake.faults.add(Fault(call, **how)) and None  # type: ignore[arg-type, func-returns-value]


@pytest.mark.parametrize(
    ("settings", "spoil", "call"),
    [
        (VOLUMES, without_cinder, OF_CINDER),
        (VOLUMES, failing(OF_CINDER, status=403), OF_CINDER),
        (VOLUMES, failing(OF_CINDER, status=404, html=True), OF_CINDER),
        (VOLUMES, failing(OF_CINDER, status=200, html=True), OF_CINDER),
        (VOLUMES, failing(OF_CINDER, hang=1.0, ending="close"), OF_CINDER),
        (VOLUMES, lambda fake: fake.stop("volumev3"), OF_CINDER),
        (POOL, without_extension, OF_NEUTRON),
        (POOL, failing(OF_NEUTRON, status=403), OF_NEUTRON),
        (POOL, failing(OF_NEUTRON, status=500), OF_NEUTRON),
    ],
)
def test_one_that_is_not_told_is_done_without_and_not_asked_at_every_look(
    fake: OpenStackFake,
    settings: ServerSettings,
    spoil: Callable[[OpenStackFake], None],
    call: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(quotas, "SMALL_READ", (5.0, 0.3))
    now = 0.0
    cloud = at(fake, settings)
    cloud._quotas._clock = lambda: now
    spoil(fake)
    for _ in range(5):
        quota = cloud.quota()
        assert more(quota) == (None, None, None, None)
        assert quota.servers == Share(0, 10)
    assert fake.calls.count(call) <= 1
    assert caplog.records == []
    now += quotas.AGAIN_SECONDS
    fake.settings.has_volumes = fake.settings.has_quota_details = True
    fake.start("volumev3")
    fake.faults.clear()
    cloud.session.log_in()  # with the catalog of today
    assert more(cloud.quota()) != (None, None, None, None)


def test_the_quota_of_nova_is_required(fake: OpenStackFake) -> None:
    fake.faults.add(Fault("GET compute /limits", status=503))
    with pytest.raises(CloudError, match="asking for the quota"):
        at(fake, POOL).quota()


def test_check_tells_them_and_what_is_too_little(fake: OpenStackFake) -> None:
    assert "4 of 4 volumes left, 100 of 100 GB of volumes left" in checks.quota_left(at(fake, VOLUMES))
    fake.quotas.update(gigabytes=5)
    with pytest.raises(CloudError, match=r"may have 5 GB of volumes in all, and .* needs 10"):
        checks.quota_left(at(fake, VOLUMES))
    fake.quotas.update(floatingip=0)
    with pytest.raises(CloudError, match=r"may have 0 floating IPs in all, and .* needs 1"):
        checks.quota_left(at(fake, POOL))
