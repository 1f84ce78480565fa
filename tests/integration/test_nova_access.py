"""How the driver gets to the services: the catalog's regions, the cloud's clock, a proxy.

Of several regions none is taken by chance, since the next token may list them in another order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.cloud.interface import Refused, Unreachable
from lando.cloud.nova import checks
from lando.cloud.nova.account import with_password
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.redaction import Secret
from tests.support.fake_openstack import OpenStackFake
from tests.support.fake_openstack.keystone import NOBODY


@pytest.fixture
def fake() -> Iterator[OpenStackFake]:
    with OpenStackFake() as fake:
        yield fake


def a_cloud(fake: OpenStackFake, region: str | None = None) -> NovaCloud:
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
    fake.settings.other_regions = ("RegionZero",)
    cloud = a_cloud(fake)
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
    fake.settings.other_regions = ("RegionZero",)
    assert a_cloud(fake, "RegionOne").servers() == []


def test_an_only_region_needs_no_name(fake: OpenStackFake) -> None:
    assert a_cloud(fake).servers() == []


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
def test_a_token_lives_by_the_clouds_clock(fake: OpenStackFake, skew: float) -> None:
    """With this machine's clock ahead of the cloud's, each token seems to have expired long ago."""
    fake.settings.clock_skew = skew
    fake.settings.token_seconds = 125.0
    cloud = a_cloud(fake)
    for _ in range(3):
        cloud.servers()
    assert fake.calls.count("POST identity /auth/tokens") == 1
    time.sleep(6.0)  # into the last two minutes, in which keystoneauth renews a token
    cloud.servers()
    assert fake.calls.count("POST identity /auth/tokens") == 2


def test_a_proxy_that_does_not_answer_is_named(fake: OpenStackFake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", NOBODY)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(Unreachable, match=r"the proxy that http_proxy or https_proxy .* names: .*refused"):
        a_cloud(fake).servers()


def test_an_account_of_another_project_is_not_used_while_jobs_have_servers(fake: OpenStackFake) -> None:
    before = a_cloud(fake)
    assert before.project is None
    before.servers()
    project = before.project
    assert project == fake.cloud.account.project_id
    fake.cloud.account.project_id = "staging"
    after = a_cloud(fake)
    after.stay_in(project)
    for call in (after.servers, lambda: after.get("server-1"), lambda: after.delete("server-1")):
        with pytest.raises(
            Refused, match=f"VMs in the project {project}, .* account is of lando .staging."
        ) as no:
            call()
        assert no.value.account_wide
    assert fake.calls.count("* compute /servers*") == 1
    fake.cloud.account.project_id = project
    assert after.servers() == []
