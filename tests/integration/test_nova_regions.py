"""A catalog with several regions: none is taken by chance, as the next token may have another order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.cloud.interface import Refused
from lando.cloud.nova import checks
from lando.cloud.nova.account import with_password
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.redaction import Secret
from tests.support.fake_openstack import OpenStackFake


@pytest.fixture
def fake() -> Iterator[OpenStackFake]:
    with OpenStackFake() as fake:
        fake.settings.other_regions = ("RegionZero",)
        yield fake


def a_cloud(fake: OpenStackFake, region: str | None) -> NovaCloud:
    settings = fake.cloud_settings
    account = with_password(
        "landoconfig.yml",
        settings["auth_url"],
        settings["username"],
        Secret(settings["password"]),
        settings["project_name"],
        settings["user_domain_name"],
        settings["project_domain_name"],
        region=region,
    )
    return connect(account, ServerSettings("lando-worker", "m1.tiny"))


def test_without_a_region_a_service_of_several_regions_is_not_used(fake: OpenStackFake) -> None:
    cloud = a_cloud(fake, None)
    for call in (cloud.servers, cloud.image, cloud.floating_ips.all, cloud.flavor):
        with pytest.raises(
            Refused, match="several regions: RegionOne, RegionZero; set region_name"
        ) as refused:
            call()
        assert refused.value.account_wide
    assert fake.calls.count("* compute *") == 0
    wrong = [result for result in checks.results(cloud) if result.verdict == "wrong"]
    assert any("set region_name" in result.message for result in wrong)


def test_with_a_region_its_services_are_used_wherever_the_catalog_lists_it(fake: OpenStackFake) -> None:
    assert a_cloud(fake, "RegionOne").servers() == []


def test_an_only_region_needs_no_name(fake: OpenStackFake) -> None:
    fake.settings.other_regions = ()
    assert a_cloud(fake, None).servers() == []
