"""Whether the services of an OpenStack cloud answer is asked of each, in few calls; on the fake one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.cloud.interface import CloudError, Refused
from lando.cloud.nova.account import with_application_credential, with_password
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.redaction import Secret
from tests.support.fake_openstack import Fault, OpenStackFake

READS = {
    "Keystone": "GET identity /auth/tokens",
    "Nova": "GET compute /limits",
    "Glance": "GET image /images/{id}",
    "Neutron": "GET network /networks/{id}",
}
SETTINGS = ServerSettings("lando-worker", "m1.tiny", networks=("selfservice",))


@pytest.fixture
def fake() -> Iterator[OpenStackFake]:
    with OpenStackFake() as here:
        yield here


def at(fake: OpenStackFake, settings: ServerSettings = SETTINGS) -> NovaCloud:
    given = fake.cloud_settings
    password = Secret(given.pop("password"))
    return connect(with_password("the test", password=password, **given), settings)


@pytest.fixture
def cloud(fake: OpenStackFake) -> NovaCloud:
    """One that has looked up its names."""
    cloud = at(fake)
    cloud.image()
    cloud.networks()
    fake.calls.clear()
    return cloud


def test_each_service_is_asked_once_for_what_creates_need(fake: OpenStackFake, cloud: NovaCloud) -> None:
    cloud.check_services()
    assert fake.calls.by_label() == dict.fromkeys(READS.values(), 1)


def test_what_is_remembered_is_no_answer(fake: OpenStackFake, cloud: NovaCloud) -> None:
    for _ in range(3):
        cloud.check_services()
    assert fake.calls.by_label() == dict.fromkeys(READS.values(), 3)


@pytest.mark.parametrize("service", READS)
@pytest.mark.parametrize(
    "how",
    [
        {"status": 500},
        {"status": 503},
        {"status": 504, "html": True},
        {"status": 200, "html": True},
        {"ending": "close"},
    ],
    ids=["500", "503", "504-of-a-proxy", "page-of-a-portal", "closed"],
)
def test_one_that_does_not_answer_is_named(
    fake: OpenStackFake, cloud: NovaCloud, service: str, how: dict[str, object]
) -> None:
    fake.faults.add(Fault(READS[service], **how))  # type: ignore[arg-type]
    with pytest.raises(CloudError, match=rf"^{service} does not answer: ") as told:
        cloud.check_services()
    assert "logging in" not in str(told.value)
    asked = list(READS.values())
    assert [*fake.calls.by_label()] == asked[: asked.index(READS[service]) + 1], "and none after it"
    fake.faults.clear()
    cloud.check_services()


def test_one_that_is_not_there_is_named(fake: OpenStackFake, cloud: NovaCloud) -> None:
    cloud.check_services()
    fake.stop("network")
    with pytest.raises(CloudError, match=r"^Neutron does not answer: "):
        cloud.check_services()
    fake.start("network")
    cloud.check_services()


def test_one_that_hangs_is_not_waited_for_as_long_as_for_a_list(
    fake: OpenStackFake, cloud: NovaCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lando.cloud.nova.services.SMALL_READ", (10.0, 0.3))
    fake.faults.add(Fault(READS["Nova"], hang=3.0, ending="close"))
    began = time.monotonic()
    with pytest.raises(CloudError, match=r"^Nova does not answer: timed out"):
        cloud.check_services()
    assert time.monotonic() - began < 3.0


def test_what_is_not_there_any_more_is_an_answer(fake: OpenStackFake, cloud: NovaCloud) -> None:
    """Jobs may name an image of their own."""
    fake.cloud.images.clear()
    fake.cloud.networks.clear()
    cloud.check_services()
    assert fake.calls.count(READS["Glance"]) == fake.calls.count(READS["Neutron"]) == 1


def test_what_the_account_may_not_read_and_too_many_calls_are_answers(
    fake: OpenStackFake, cloud: NovaCloud
) -> None:
    fake.faults.add(Fault(READS["Keystone"], status=403))
    fake.faults.add(Fault(READS["Neutron"], status=429, retry_after="60"))
    cloud.check_services()


def test_before_the_names_were_looked_up_a_short_list_is_read(fake: OpenStackFake) -> None:
    cloud = at(fake)
    cloud.check_services()
    assert fake.calls.count("GET image /images") == fake.calls.count("GET network /networks") == 1
    fake.faults.add(Fault("GET network /networks", status=503))
    with pytest.raises(CloudError, match=r"^Neutron does not answer: "):
        cloud.check_services()


def test_a_refused_login_is_told_as_one_and_not_repeated(fake: OpenStackFake, cloud: NovaCloud) -> None:
    fake.cloud.account.password = "changed"
    fake.revoke_tokens()
    for _ in range(3):
        with pytest.raises(Refused, match=r"logging in as user lando.*check user, password") as told:
            cloud.check_services()
        assert told.value.account_wide
    assert fake.calls.count("POST identity /auth/tokens") == 1


def test_a_credential_that_was_deleted_is_no_answer_of_keystone(fake: OpenStackFake) -> None:
    """Keystone answers 404 to a login with it."""
    account = fake.cloud.account
    secret = Secret(account.application_credential_secret)
    credential = with_application_credential(
        "the test", fake.auth_url, account.application_credential_id, secret
    )
    cloud = connect(credential, SETTINGS)
    cloud.check_services()
    account.application_credential_id = "another"
    fake.revoke_tokens()
    with pytest.raises(Refused, match=r"^Keystone does.*Could not find Application Credential"):
        cloud.check_services()


def test_a_revoked_token_is_none_of_a_service_that_is_down(fake: OpenStackFake, cloud: NovaCloud) -> None:
    fake.revoke_tokens()
    cloud.check_services()
    assert fake.calls.count("POST identity /auth/tokens") == 1


def test_cinder_is_asked_where_every_server_has_a_volume(fake: OpenStackFake) -> None:
    fake.settings.has_volumes = False
    at(fake, replace(SETTINGS, volume_size=10)).check_services()
    assert fake.calls.count("* block-storage *") == 0, "it is not in the catalog"
