"""The OpenStack driver fulfils the interface of a cloud, on the fake OpenStack and on a real one.

LANDO_TEST_OPENSTACK describes the real one: JSON, or the path of a JSON file, with auth_url, username,
password, project_name, image, flavor, network, key_name, external_network; and, for tests that an ordinary
account cannot do, an ``admin`` (username, password, project_name) who sets quotas, and ``knobs``, the file by
which the hypervisor is made to fail builds.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.cloud.interface import (
    Ambiguous,
    CloudError,
    QuotaExceeded,
    RateLimited,
    Refused,
    Server,
    ServerRequest,
    Size,
    Unreachable,
)
from lando.cloud.nova import checks as checking
from lando.cloud.nova.account import (
    Account,
    from_clouds_yaml,
    from_environment,
    with_application_credential,
    with_password,
)
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.errors import UsageError
from lando.redaction import Secret
from tests.support.fake_openstack import Fault, OpenStackFake
from tests.support.fake_openstack.certificate import self_signed

PATIENCE = 120.0
"""Seconds in which a real cloud boots or deletes a server that boots from a small image."""


def a_request(deployment: str = "tests", **wishes: Any) -> ServerRequest:
    defaults: dict[str, Any] = {
        "name": "lando-contract-1",
        "mark": uuid.uuid4().hex,
        "deployment": deployment,
        "job_id": str(uuid.uuid4()),
        "attempt": 1,
        "user_data": b"#!/bin/bash\necho started\nsleep 600\n",
    }
    return ServerRequest(**(defaults | wishes))


def until(what: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.2)
    return found


# where


@dataclass
class Project:
    """A project of a cloud, with its account and the names of what is in it."""

    account: Account
    settings: ServerSettings
    pool: str
    deployment: str
    fake: OpenStackFake | None = None
    lab: dict[str, Any] | None = None

    def cloud(self, **changes: Any) -> NovaCloud:
        return connect(self.account, replace(self.settings, **changes))

    def request(self, **wishes: Any) -> ServerRequest:
        return a_request(self.deployment, **wishes)

    def ours(self, cloud: NovaCloud) -> list[Server]:
        return [server for server in cloud.servers() if server.deployment == self.deployment]

    def clean(self) -> None:
        cloud = self.cloud()

        def empty() -> bool:
            servers = self.ours(cloud)
            for server in servers:
                cloud.delete(server.id)
            return not servers

        until(empty)
        for floating_ip in cloud.floating_ips.all():
            if floating_ip.deployment == self.deployment:
                cloud.floating_ips.delete(floating_ip.id)

    @contextmanager
    def quota(self, **quota: int) -> Iterator[None]:
        """Set a quota within the block, such as ``instances=1``."""
        if self.fake is not None:
            before = dict(self.fake.quotas)
            self.fake.quotas.update(quota)
            yield
            self.fake.quotas.update(before)
            return
        if not self.lab or "admin" not in self.lab:
            pytest.skip("LANDO_TEST_OPENSTACK has no admin, who could set quotas")
        admin = connect(lab_account(self.lab | self.lab["admin"]), self.settings)
        project = self.cloud().session.keystoneauth.get_project_id()
        before = admin.nova.quotas.get(project).to_dict()
        admin.nova.quotas.update(project, **quota)
        try:
            yield
        finally:
            admin.nova.quotas.update(project, **{name: before[name] for name in quota})

    @contextmanager
    def application_credential(self) -> Iterator[tuple[str, Secret]]:
        """The id and the secret of an application credential."""
        if self.fake is not None:
            account = self.fake.cloud.account
            yield account.application_credential_id, Secret(account.application_credential_secret)
            return
        session = self.cloud().session.keystoneauth
        address = f"{self.account.auth_url}/users/{session.get_user_id()}/application_credentials"
        wish = {"application_credential": {"name": self.deployment}}
        made = session.post(address, json=wish).json()["application_credential"]
        yield made["id"], Secret(made["secret"])
        session.delete(f"{address}/{made['id']}")

    @contextmanager
    def failing_builds(self) -> Iterator[None]:
        """Within the block every build fails."""
        if self.fake is not None:
            self.fake.knobs.spawn_fail_every = 1
            yield
            self.fake.knobs.spawn_fail_every = 0
            return
        if not self.lab or "knobs" not in self.lab:
            pytest.skip("LANDO_TEST_OPENSTACK has no knobs to make builds fail")
        knobs = Path(self.lab["knobs"])
        replace_file(knobs, '{"spawn_fail_every": 1}')
        try:
            yield
        finally:
            replace_file(knobs, "{}")


def replace_file(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.rename(path)


def lab_account(lab: dict[str, Any]) -> Account:
    return with_password(
        where="LANDO_TEST_OPENSTACK",
        auth_url=lab["auth_url"],
        username=lab["username"],
        password=Secret(lab["password"]),
        project_name=lab["project_name"],
        user_domain_name=lab.get("user_domain_name", "Default"),
        project_domain_name=lab.get("project_domain_name", "Default"),
        region=lab.get("region_name"),
    )


def lab_project() -> Project:
    described = os.environ.get("LANDO_TEST_OPENSTACK")
    if not described:
        pytest.skip("LANDO_TEST_OPENSTACK describes no cloud")
    lab = json.loads(described if described.lstrip().startswith("{") else Path(described).read_text())
    settings = ServerSettings(
        image=lab["image"], flavor=lab["flavor"], key_name=lab["key_name"], networks=(lab["network"],)
    )
    return Project(lab_account(lab), settings, lab["external_network"], deployment_of_test(), lab=lab)


@contextmanager
def fake_project(certificate: tuple[Path, Path] | None = None) -> Iterator[Project]:
    with OpenStackFake(certificate=certificate) as fake:
        account = lab_account(fake.cloud_settings)
        settings = ServerSettings("lando-worker", "m1.tiny", key_name="lando", networks=("selfservice",))
        yield Project(account, settings, "ext-net", deployment_of_test(), fake=fake)


def deployment_of_test() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["fake", "lab"])
def project(request: pytest.FixtureRequest) -> Iterator[Project]:
    with ExitStack() as stack:
        here = stack.enter_context(fake_project()) if request.param == "fake" else lab_project()
        yield here
        here.clean()


@pytest.fixture
def fake() -> Iterator[Project]:
    """The fake OpenStack, for what a real cloud does too rarely."""
    with fake_project() as here:
        yield here


# a server, from create to delete


def test_a_server_is_created_listed_with_its_tags_booted_and_deleted(project: Project) -> None:
    cloud, request = project.cloud(), project.request()
    created = cloud.create(request)
    assert created == Server(
        created.id, request.name, "BUILD", request.mark, project.deployment, request.job_id, request.attempt
    )
    [listed] = project.ours(cloud)
    assert listed.size == cloud.size(None)
    assert replace(listed, status="BUILD", address=None, size=Size()) == created

    booted = until(lambda: (found := cloud.get(created.id)) and found.status == "ACTIVE" and found)
    assert booted.address
    assert replace(booted, status="BUILD", address=None, size=Size()) == created
    until(lambda: cloud.console_log(created.id))

    until(lambda: cloud.delete(created.id))
    assert cloud.get(created.id) is None
    assert cloud.delete(created.id), "harmless"
    assert project.ours(cloud) == []
    assert cloud.console_log(created.id) == ""


def test_what_people_see_of_a_server_in_other_tools(project: Project) -> None:
    cloud, request = project.cloud(config_drive=True), project.request()
    created = cloud.create(request)
    until(lambda: (found := cloud.get(created.id)) and found.status == "ACTIVE")
    row = cloud.nova.servers.get(created.id).to_dict()
    assert sorted(cloud.nova.servers.tag_list(created.id)) == sorted(
        [
            f"lando_deployment={project.deployment}",
            f"lando_job_id={request.job_id}",
            "lando_attempt=1",
            f"lando_mark={request.mark}",
        ]
    )
    assert row["key_name"] == project.settings.key_name
    assert row["config_drive"] in (True, "True")


def test_two_servers_of_one_name_are_told_apart_by_their_marks(project: Project) -> None:
    cloud = project.cloud()
    twins = [project.request(), project.request()]
    ids = {request.mark: cloud.create(request).id for request in twins}
    assert {server.mark: server.id for server in project.ours(cloud)} == ids


def test_servers_of_others_have_no_tags(project: Project) -> None:
    cloud = project.cloud()
    parts = cloud._resolve(project.request())
    theirs = cloud.nova.servers.create(
        "lando-contract-1", parts.image, parts.flavor, nics=[{"net-id": parts.networks[0]}], meta={"a": "b"}
    )
    try:
        [seen] = [server for server in cloud.servers() if server.id == theirs.id]
        assert (seen.mark, seen.deployment, seen.job_id, seen.attempt) == (None, None, None, None)
    finally:
        cloud.delete(theirs.id)
        until(lambda: cloud.get(theirs.id) is None)


def test_what_never_existed_is_absent(project: Project) -> None:
    cloud, nobody = project.cloud(), str(uuid.uuid4())
    assert cloud.get(nobody) is None
    assert cloud.delete(nobody)
    assert cloud.console_log(nobody) == ""


def test_a_failed_build_is_listed_with_its_fault(project: Project) -> None:
    cloud = project.cloud()
    with project.failing_builds():
        created = cloud.create(project.request())
        failed = until(lambda: next((s for s in project.ours(cloud) if s.status == "ERROR"), None))
    assert failed.id == created.id
    assert failed.fault
    assert cloud.console_log(created.id) == ""


def test_a_server_of_images_and_flavors_that_the_job_names(project: Project) -> None:
    cloud = project.cloud(flavor="no-such-flavor", image="no-such-image")
    wishes = {"flavor": project.settings.flavor, "image": project.settings.image}
    assert cloud.create(project.request(**wishes)).status == "BUILD"


def test_a_server_without_a_named_network_gets_the_projects_only_one(project: Project) -> None:
    cloud = project.cloud(networks=())
    created = cloud.create(project.request())
    assert until(lambda: (found := cloud.get(created.id)) and found.status != "BUILD" and found).address


# what is refused


REFUSED_BY_SITE: dict[str, dict[str, Any]] = {
    "vm_settings.default_flavor_name": {"flavor": "m1.tini"},
    "vm_settings.worker_image_name": {"image": "no-such-image"},
    "vm_settings.network_name": {"networks": ("no-such-network",)},
    "vm_settings.ssh_key_name": {"key_name": "no-such-key"},
    "vm_settings.security_groups": {"security_groups": ("no-such-group",)},
    "vm_settings.availability_zone": {"availability_zone": "no-such-zone"},
}


@pytest.mark.parametrize("setting", REFUSED_BY_SITE)
def test_a_wrong_name_in_the_configuration_is_refused_as_the_sites(project: Project, setting: str) -> None:
    cloud = project.cloud(**REFUSED_BY_SITE[setting])
    with pytest.raises(Refused) as refused:
        cloud.create(project.request())
    assert refused.value.origin == "site"
    assert setting in str(refused.value)
    assert project.ours(cloud) == []


@pytest.mark.parametrize("key", ["flavor", "image"])
def test_a_wrong_name_in_the_job_file_is_refused_as_the_jobs(project: Project, key: str) -> None:
    cloud = project.cloud()
    with pytest.raises(Refused) as refused:
        cloud.create(project.request(**{key: "no-such-thing"}))
    assert refused.value.origin == "job"
    assert f"{key} in the job file: the cloud has no" in str(refused.value)
    assert "no-such-thing" in str(refused.value)
    assert project.ours(cloud) == []


def test_the_nearest_name_is_suggested(project: Project) -> None:
    flavor = project.settings.flavor
    with pytest.raises(Refused, match=f"did you mean {flavor}\\?"):
        project.cloud().create(project.request(flavor=flavor + "y"))


def test_a_start_up_script_that_is_too_large_is_refused_as_the_jobs(project: Project) -> None:
    cloud = project.cloud()
    with pytest.raises(Refused, match="start-up script") as refused:
        cloud.create(project.request(user_data=b"#" * 49_150))
    assert refused.value.origin == "job"
    assert cloud.create(project.request(user_data=b"#" * 49_149)).status == "BUILD"


def test_a_wrong_password_is_refused_and_not_shown(project: Project) -> None:
    secret = "not-the-password"
    wrong = replace(project.account, options={**project.account.options, "password": secret})
    cloud = connect(wrong, project.settings)
    for call in (cloud.servers, cloud.quota, lambda: cloud.create(project.request())):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.origin == "site"
        assert "check user, password, project and domains" in str(refused.value)
        assert secret not in str(refused.value)


def test_a_cloud_that_is_too_old_is_refused_with_both_versions(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = "2.96"  # the newest that novaclient knows
    monkeypatch.setattr("lando.cloud.nova.driver.MICROVERSION", newest)
    monkeypatch.setattr("lando.cloud.nova.checks.MICROVERSION", newest)
    try:
        project.cloud().servers()
        pytest.skip("this cloud is not older than novaclient")
    except Refused:
        pass
    with pytest.raises(Refused, match=r"2\.1 to 2\.\d+") as checked:
        checking.microversion(project.cloud())
    with pytest.raises(Refused, match=r"maximum is 2\.\d+.*too old") as created:
        project.cloud().create(project.request())
    for refused in (checked, created):
        assert refused.value.origin == "site"
        assert newest in str(refused.value)


# quota


def test_a_used_up_quota_is_quota_exceeded(project: Project) -> None:
    cloud = project.cloud()
    used = cloud.quota().servers.used
    with project.quota(instances=used + 1):
        assert cloud.quota().servers.left == 1
        created = cloud.create(project.request())
        until(lambda: cloud.quota().servers.left == 0)  # Nova counts it once a host is chosen
        with pytest.raises(QuotaExceeded, match="instances"):
            cloud.create(project.request())
        until(lambda: cloud.delete(created.id))
        until(lambda: cloud.quota().servers.left == 1)


def test_a_quota_of_no_servers_is_refused_as_the_sites(project: Project) -> None:
    with project.quota(instances=0), pytest.raises(Refused, match="no quota of instances") as refused:
        project.cloud().create(project.request())
    assert refused.value.origin == "site"


def test_a_flavor_larger_than_the_whole_quota_is_refused_where_it_is_set(project: Project) -> None:
    cloud = project.cloud()
    with project.quota(ram=1):
        with pytest.raises(Refused, match="whole quota") as by_site:
            cloud.create(project.request())
        with pytest.raises(Refused, match="flavor in the job file") as by_job:
            cloud.create(project.request(flavor=project.settings.flavor))
    assert (by_site.value.origin, by_job.value.origin) == ("site", "job")


def test_the_quota_counts_a_new_server(project: Project) -> None:
    cloud = project.cloud()
    before = cloud.quota()
    size = cloud.size(None)
    assert size == cloud.size(project.settings.flavor)
    created = cloud.create(project.request())
    until(lambda: cloud.quota().servers.used == before.servers.used + 1)
    after = cloud.quota()
    assert after.cores.used == before.cores.used + size.cores
    assert after.ram.used == before.ram.used + size.ram
    (listed,) = [server for server in cloud.servers() if server.id == created.id]
    assert listed.size == size, "a list tells what each server takes"


# floating IPs


def test_a_floating_ip_is_allocated_once_attached_and_released(project: Project) -> None:
    cloud, request = project.cloud(floating_ip_pool=project.pool), project.request()
    pool = cloud.floating_ips
    allocated = pool.allocate(request.mark, project.deployment)
    assert (allocated.mark, allocated.deployment) == (request.mark, project.deployment)
    assert allocated.server_port is None
    assert pool.allocate(request.mark, project.deployment) == allocated
    assert allocated in pool.all()

    server = cloud.create(request)
    until(lambda: (found := cloud.get(server.id)) and found.address)
    assert pool.attach(server.id, request.mark, project.deployment) == allocated.address
    until(lambda: (found := cloud.get(server.id)) and found.address == allocated.address)
    assert pool.attach(server.id, request.mark, project.deployment) == allocated.address, "harmless"
    assert pool.allocate(request.mark, project.deployment).server_port

    until(lambda: cloud.delete(server.id))
    until(lambda: allocated in pool.all())  # it outlives its server
    pool.release(request.mark)
    assert allocated.id not in {each.id for each in pool.all()}
    pool.release(request.mark)  # harmless
    pool.delete(allocated.id)


def test_only_the_floating_ips_of_a_mark_are_released(project: Project) -> None:
    pool = project.cloud(floating_ip_pool=project.pool).floating_ips
    mark, other = uuid.uuid4().hex, uuid.uuid4().hex
    ours, theirs = (pool.allocate(each, project.deployment) for each in (mark, other))
    pool.release(mark)
    assert theirs in pool.all() and ours not in pool.all()


def test_a_floating_ip_is_not_attached_before_the_server_has_a_port(project: Project) -> None:
    pool = project.cloud(floating_ip_pool=project.pool).floating_ips
    with pytest.raises(CloudError, match="no port yet"):
        pool.attach(str(uuid.uuid4()), uuid.uuid4().hex, project.deployment)


def test_a_pool_that_does_not_exist_is_refused_as_the_sites(project: Project) -> None:
    for name in ("no-such-pool", project.settings.networks[0]):
        pool = project.cloud(floating_ip_pool=name).floating_ips
        with pytest.raises(
            Refused, match=f"floating_ip_pool_name: .* no external network named {name}"
        ) as refused:
            pool.allocate(uuid.uuid4().hex, project.deployment)
        assert refused.value.origin == "site"


# sessions


def test_a_revoked_token_is_replaced(project: Project) -> None:
    cloud = project.cloud()
    cloud.servers()
    session = cloud.session.keystoneauth
    token = session.get_token()
    session.delete(
        f"{project.account.auth_url}/auth/tokens", headers={"X-Subject-Token": str(token)}, authenticated=True
    )
    created = cloud.create(project.request())  # Nova may believe the old one for a while yet
    assert [server.id for server in project.ours(cloud)] == [created.id]


def test_calls_come_from_several_threads(project: Project) -> None:
    cloud = project.cloud()
    request = project.request()
    created = cloud.create(request)
    calls: list[Callable[[], Any]] = [
        cloud.servers,
        lambda: cloud.get(created.id),
        cloud.quota,
        cloud.image,
        cloud.floating_ips.all,
    ]
    fresh = project.cloud()  # whose names and token all threads want at once
    calls.append(lambda: fresh._resolve(request))
    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(call) for call in calls * 3]:
            done.result()
    logins = sum(n for call, n in fresh.session.calls.counts().items() if call.endswith("/auth/tokens"))
    assert logins == 1
    assert sum("/images" in call for call in fresh.session.calls.counts().elements()) == 1


def test_a_job_costs_three_calls_of_nova(project: Project) -> None:
    cloud, lister = project.cloud(), project.cloud()
    cloud._resolve(project.request())
    before = cloud.session.calls.counts()
    created = cloud.create(project.request())
    while not cloud.delete(created.id):
        until(lambda: created.id not in {server.id for server in lister.servers()})
    calls = cloud.session.calls.counts() - before
    assert sorted(call.rpartition("/v2.1")[0].split()[0] + call.rpartition("/v2.1")[2] for call in calls) == [
        "DELETE/servers/ID",
        "GET/servers/ID",
        "POST/servers",
    ]
    assert sum(calls.values()) == 3


def test_an_application_credential_opens_the_same_project(project: Project) -> None:
    with project.application_credential() as (credential_id, secret):
        account = with_application_credential("tests", project.account.auth_url, credential_id, secret)
        created = connect(account, project.settings).create(project.request())
    assert [server.id for server in project.ours(project.cloud())] == [created.id]


def test_an_account_of_clouds_yaml_and_of_variables(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(project.account.options)
    password = options.pop("password").reveal()
    region = {"region_name": project.account.region} if project.account.region else {}
    (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"here": {"auth": options, **region}}}))
    (tmp_path / "secure.yaml").write_text(json.dumps({"clouds": {"here": {"auth": {"password": password}}}}))
    files = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml")}
    variables = {f"OS_{name.upper()}": value for name, value in options.items()}
    for account in (
        from_clouds_yaml("here", tmp_path / "clouds.yaml"),
        from_environment({"OS_CLOUD": "here", **files}),
        from_environment({**variables, "OS_PASSWORD": password}),
    ):
        assert password not in repr(account)
        assert connect(account, project.settings).image().name == project.settings.image


def test_an_invalid_account_is_an_error_that_does_not_show_its_password(tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.yaml"
    for text, told in (
        ("clouds: {there: {}}", "no cloud named here; it has there"),
        ("clouds: {here: {auth: {password: kumquat}}}", "auth_url: missing"),
        ("clouds: {here: {auth: {auth_url: cloud}}}", "auth_url: expected an address"),
        ("clouds: {here: {auth: {auth_url: 'http://c'}, cacert: nowhere.pem}}", "no such file"),
        ("clouds: {here: {profile: acme, auth: {auth_url: 'http://c'}}}", "vendor profiles"),
        ("clouds:\n  here: {auth: {password: 'kumquat}}", "clouds.yaml:2: is not YAML"),
        ("[]", "expected the key clouds"),
    ):
        clouds.write_text(text)
        with pytest.raises(UsageError, match=re.escape(told)) as wrong:
            from_clouds_yaml("here", clouds)
        assert "kumquat" not in str(wrong.value)
    clouds.write_text("clouds: {here: {auth_type: v9magic, auth: {auth_url: 'http://c'}}}")
    with pytest.raises(UsageError, match="v9magic"):
        connect(from_clouds_yaml("here", clouds), ServerSettings("image", "flavor"))
    with pytest.raises(UsageError, match="OS_AUTH_URL is not set"):
        from_environment({"OS_PASSWORD": "kumquat"})


# checks


def test_every_check_passes(project: Project) -> None:
    cloud = project.cloud(floating_ip_pool=project.pool)
    for name, check in checking.CHECKS.items():
        print(f"{name}: {check(cloud)}")


@pytest.mark.parametrize(
    ("check", "setting", "wrong"),
    [
        ("flavor", "default_flavor_name", {"flavor": "no-such"}),
        ("image", "worker_image_name", {"image": "no-such"}),
        ("network", "network_name", {"networks": ("no-such",)}),
        ("key pair", "ssh_key_name", {"key_name": "no-such"}),
        ("external network", "floating_ip_pool_name", {"floating_ip_pool": "no-such"}),
    ],
)
def test_a_check_names_the_setting(project: Project, check: str, setting: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=f"vm_settings.{setting}: .*no-such"):
        checking.CHECKS[check](project.cloud(**wrong))


def test_a_quota_too_small_for_one_server_fails_its_check(project: Project) -> None:
    with project.quota(cores=0), pytest.raises(Refused, match="may have 0 cores in all"):
        checking.quota_left(project.cloud())


# faults, which a real cloud has too rarely


CREATE = "POST compute /servers"
LIST = "GET compute /servers/detail"


def definite(fake: Project, kind: type[CloudError], **fault: Any) -> CloudError:
    """The error of a create to which this fault happens. No server may have been created."""
    fake.fake.faults.add(Fault(CREATE, **fault))
    with pytest.raises(kind) as raised:
        fake.cloud().create(fake.request())
    assert type(raised.value) is kind
    assert fake.fake.servers == []
    return raised.value


@pytest.mark.parametrize("status", [429, 413])
def test_a_rate_limit_says_how_long_to_wait(fake: Project, status: int) -> None:
    error = definite(fake, RateLimited, status=status, retry_after="7", message="Slow down.")
    assert error.retry_after == 7.0
    assert "Slow down." in str(error)


def test_a_rate_limit_may_name_a_date(fake: Project) -> None:
    date = formatdate(time.time() + 90, usegmt=True)
    error = definite(fake, RateLimited, status=429, retry_after=date, html=True)
    assert error.retry_after is not None
    assert 80 <= error.retry_after <= 100


def test_a_service_that_answers_503_is_unreachable(fake: Project) -> None:
    error = definite(fake, Unreachable, status=503, retry_after="3")
    assert isinstance(error, Unreachable)
    assert (error.retry_after, error.sent) == (3.0, True)


def test_a_service_that_refuses_connections_is_unreachable(fake: Project) -> None:
    cloud = fake.cloud()
    cloud._resolve(fake.request())
    fake.fake.stop("compute")
    with pytest.raises(Unreachable, match="Connection refused"):
        cloud.create(fake.request())
    with pytest.raises(Unreachable, match=r"listing servers: .*Connection refused"):
        cloud.servers()
    fake.fake.start("compute")
    assert cloud.create(fake.request()).status == "BUILD"


LOST: dict[str, dict[str, Any]] = {
    "closed": {"ending": "close"},
    "reset": {"ending": "reset"},
    "cut": {"status": 202, "ending": "cut"},
    "500": {"status": 500},
    "502": {"status": 502, "html": True},
    "503": {"status": 503, "html": True},
    "504": {"status": 504, "html": True},
    "501 of Nova": {"status": 501},
    "502 of Nova": {"status": 502},
    "504 of Nova": {"status": 504},
    "conflict": {"status": 409},
    "page of conflict": {"status": 409, "html": True},
    "page of success": {"status": 200, "html": True},
    "page of refusal": {"status": 400, "html": True},
    "page of absence": {"status": 404, "html": True},
    "page of prohibition": {"status": 403, "html": True},
}


@pytest.mark.parametrize("done", [True, False], ids=["done", "not done"])
@pytest.mark.parametrize("how", LOST)
def test_a_create_without_a_definite_answer_is_ambiguous_and_found_by_its_mark(
    fake: Project, how: str, done: bool
) -> None:
    cloud, request = fake.cloud(), fake.request()
    fake.fake.faults.add(Fault(CREATE, times=1, work="once" if done else "none", **LOST[how]))
    with pytest.raises(Ambiguous):
        cloud.create(request)
    assert fake.fake.calls.count(CREATE) == 1
    expected = [request.mark] if done else []
    assert [server.mark for server in fake.ours(cloud)] == expected


def test_a_create_whose_answer_is_late_is_not_sent_again(
    fake: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lando.cloud.nova.session.ANSWER_SECONDS", 0.5)
    cloud, request = fake.cloud(), fake.request()
    fake.fake.faults.add(Fault(CREATE, work="once", hang=1.0))
    with pytest.raises(Ambiguous, match="timed out while waiting for the answer"):
        cloud.create(request)
    until(lambda: [server.mark for server in fake.ours(cloud)] == [request.mark])
    assert fake.fake.calls.count(CREATE) == 1


def test_duplicates_of_one_create_are_all_found(fake: Project) -> None:
    cloud, request = fake.cloud(), fake.request()
    fake.fake.faults.add(Fault(CREATE, work="twice", ending="close"))
    with pytest.raises(Ambiguous):
        cloud.create(request)
    assert [server.mark for server in fake.ours(cloud)] == [request.mark] * 2


@pytest.mark.parametrize("fault", [{"status": 500}, {"ending": "close"}, {"status": 502, "html": True}])
def test_a_login_that_fails_has_created_nothing(fake: Project, fault: dict[str, Any]) -> None:
    cloud = fake.cloud()
    cloud._resolve(fake.request())
    fake.fake.revoke_tokens()
    fake.fake.faults.add(Fault("POST identity /auth/tokens", **fault))
    with pytest.raises(Unreachable, match="logging in as user lando"):
        cloud.create(fake.request())
    assert fake.fake.servers == []


def test_a_login_page_instead_of_keystone_is_refused_as_the_sites(fake: Project) -> None:
    fake.fake.faults.add(Fault("* identity *", status=200, html=True))
    with pytest.raises(Refused, match="auth_url") as refused:
        fake.cloud().create(fake.request())
    assert refused.value.origin == "site"


def test_a_token_that_expires_meanwhile_is_renewed(fake: Project) -> None:
    cloud = fake.cloud()
    cloud.servers()
    for call in (cloud.servers, lambda: cloud.create(fake.request()), cloud.quota, cloud.floating_ips.all):
        fake.fake.revoke_tokens()
        call()
    assert len(fake.fake.servers) == 1


def test_a_cloud_that_refuses_even_new_tokens_is_refused_as_the_sites(fake: Project) -> None:
    fake.fake.faults.add(Fault("* compute *", status=401))
    with pytest.raises(Refused, match="even a new token") as refused:
        fake.cloud().servers()
    assert refused.value.origin == "site"


@pytest.mark.parametrize("status", [404, 500, 502])
def test_only_a_404_of_nova_itself_makes_a_server_absent(fake: Project, status: int) -> None:
    cloud = fake.cloud()
    created = cloud.create(fake.request())
    fake.fake.faults.add(Fault("GET compute /servers/*", status=status, html=True))
    with pytest.raises(Ambiguous):
        cloud.get(created.id)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 503, "retry_after": "5"}, Unreachable),
        ({"status": 429, "retry_after": "5"}, RateLimited),
        ({"status": 409, "message": "The server is locked."}, CloudError),
        ({"work": "once", "ending": "close"}, Ambiguous),
    ],
)
def test_a_delete_that_fails_can_be_repeated(
    fake: Project, fault: dict[str, Any], kind: type[CloudError]
) -> None:
    cloud = fake.cloud()
    created = cloud.create(fake.request())
    fake.fake.faults.add(Fault("DELETE compute *", times=1, **fault))
    with pytest.raises(CloudError) as raised:
        cloud.delete(created.id)
    assert type(raised.value) is kind
    cloud.delete(created.id)
    until(lambda: cloud.get(created.id) is None)


def test_a_soft_deleted_server_still_exists_and_is_then_deleted_by_force(fake: Project) -> None:
    fake.fake.settings.soft_delete = True
    cloud = fake.cloud()
    created = cloud.create(fake.request())
    until(lambda: (found := cloud.get(created.id)) and found.status == "ACTIVE")
    cloud.delete(created.id)
    kept = until(lambda: (found := cloud.get(created.id)) and found.status == "SHUTOFF" and found)
    assert kept.mark == created.mark
    until(lambda: cloud.delete(created.id))
    assert cloud.get(created.id) is None


def test_a_list_of_several_pages_is_complete(fake: Project) -> None:
    fake.fake.settings.page_cap = 2
    fake.fake.quotas["instances"] = -1
    cloud = fake.cloud()
    ids = {cloud.create(fake.request()).id for _ in range(5)}
    assert {server.id for server in cloud.servers()} == ids
    assert len(cloud.servers()) == 5
    fake.fake.settings.page_cap = 5
    assert {server.id for server in cloud.servers()} == ids


def test_a_list_costs_one_call(fake: Project) -> None:
    cloud = fake.cloud()
    cloud.create(fake.request())
    fake.fake.calls.clear()
    assert len(cloud.servers()) == 1
    assert fake.fake.calls.count("*") == 1


def test_servers_of_a_cell_that_is_down(fake: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud, stranger = fake.cloud(), fake.cloud()
    created = cloud.create(fake.request())
    partial = {"id": created.id, "status": "UNKNOWN", "created": "2026-01-01T00:00:00Z", "links": []}
    for each in (cloud, stranger):
        monkeypatch.setattr(each, "_rows", lambda: [partial])
    [known] = cloud.servers()
    assert (known.status, known.mark, known.deployment) == ("UNKNOWN", created.mark, created.deployment)
    with pytest.raises(Ambiguous, match="a part of the cloud does not answer"):
        stranger.servers()


def test_an_image_that_was_replaced_is_looked_up_again(fake: Project) -> None:
    cloud = fake.cloud()
    cloud.create(fake.request())
    [old] = fake.fake.cloud.images
    fake.fake.cloud.images[:] = [type(old)(old.name)]
    cloud.create(fake.request())
    assert len(fake.fake.servers) == 2


def test_two_images_of_one_name_are_refused_and_an_id_selects_one(fake: Project) -> None:
    [image] = fake.fake.cloud.images
    twin = type(image)(image.name)
    fake.fake.cloud.images.append(twin)
    with pytest.raises(Refused, match="2 active images named lando-worker") as refused:
        fake.cloud().create(fake.request())
    assert refused.value.origin == "site"
    assert image.id in str(refused.value)
    assert fake.cloud(image=twin.id).create(fake.request()).status == "BUILD"
    twin.status = "queued"  # still being uploaded: it is not the one that is meant
    assert fake.cloud().create(fake.request()).status == "BUILD"


def test_the_create_request_has_all_settings(fake: Project) -> None:
    cloud = fake.cloud(security_groups=("default",), availability_zone="nova", networks=("selfservice",))
    request = fake.request(volume_size=30)
    [flavor] = [each for each in fake.fake.cloud.flavors if each.name == fake.settings.flavor]
    [image] = fake.fake.cloud.images
    asked = fake.fake.server(cloud.create(request).id).request
    assert base64.b64decode(asked["user_data"]) == request.user_data
    assert asked["flavorRef"] == flavor.id
    assert asked["imageRef"] == ""
    assert asked["block_device_mapping_v2"] == [
        {
            "boot_index": 0,
            "uuid": image.id,
            "source_type": "image",
            "destination_type": "volume",
            "volume_size": 30,
            "delete_on_termination": True,
        }
    ]
    assert asked["security_groups"] == [{"name": "default"}]
    assert asked["availability_zone"] == "nova"
    assert [network["uuid"] for network in asked["networks"]] == [
        network.id for network in fake.fake.cloud.networks if network.name == "selfservice"
    ]


REFUSALS: list[tuple[int, str, dict[str, Any], str, str]] = [
    (
        400,
        "Flavor's disk is too small for requested image.",
        {"image": "lando-worker"},
        "job",
        "image in the",
    ),
    (400, "Flavor's disk is too small for requested image.", {}, "site", "vm_settings.default_flavor_name"),
    (400, "Volume is smaller than the image.", {"volume_size": 1}, "job", "volume_size in the job file"),
    (400, "Something new.", {"flavor": "m1.tiny"}, "job", "flavor in the job file"),
    (400, "Something new.", {}, "site", "Something new."),
    (403, "Only volume-backed servers are allowed for flavors with zero disk.", {}, "site", "default_flavor"),
    (403, "Policy doesn't allow os_compute_api:servers:create.", {"flavor": "m1.tiny"}, "site", "the right"),
    (404, "The resource could not be found.", {"flavor": "m1.tiny"}, "site", "could not be found"),
    (409, "Multiple possible networks found.", {}, "site", "vm_settings.network_name"),
]


@pytest.mark.parametrize(("status", "words", "wishes", "names", "told"), REFUSALS)
def test_a_refusal_is_attributed_to_the_job_or_the_site(
    fake: Project, status: int, words: str, wishes: dict[str, Any], names: str, told: str
) -> None:
    fake.fake.faults.add(Fault(CREATE, status=status, message=words))
    with pytest.raises(Refused) as refused:
        fake.cloud().create(fake.request(**wishes))
    assert refused.value.origin == names
    assert told in str(refused.value)
    assert words in str(refused.value)


def test_a_project_without_any_quota_is_refused_as_the_sites_even_for_a_flavor_of_the_job(
    fake: Project,
) -> None:
    fake.fake.quotas.update(instances=0, cores=0, ram=0)
    with pytest.raises(Refused, match="has no quota of") as refused:
        fake.cloud().create(fake.request(flavor="m1.tiny"))
    assert refused.value.origin == "site"


def test_nothing_secret_is_logged_at_debug_level(fake: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    request = fake.request()
    cloud = fake.cloud()
    cloud.create(request)
    for secret in (base64.b64encode(request.user_data).decode(), cloud.account.options["password"].reveal()):
        assert secret not in caplog.text
    assert cloud.session.keystoneauth.get_token() not in caplog.text


def test_a_floating_ip_whose_allocation_was_lost_is_found_by_its_mark(fake: Project) -> None:
    pool, mark = fake.cloud(floating_ip_pool=fake.pool).floating_ips, uuid.uuid4().hex
    fake.fake.faults.add(Fault("POST network /floatingips", times=1, work="twice", ending="close"))
    with pytest.raises(Ambiguous):
        pool.allocate(mark, fake.deployment)
    twins = pool.all()
    assert [each.mark for each in twins] == [mark, mark]
    kept = pool.allocate(mark, fake.deployment)
    assert kept in twins
    assert pool.all() == [kept]


def test_a_used_up_quota_of_floating_ips_is_quota_exceeded(fake: Project) -> None:
    fake.fake.quotas["floatingip"] = 1
    pool = fake.cloud(floating_ip_pool=fake.pool).floating_ips
    pool.allocate(uuid.uuid4().hex, fake.deployment)
    with pytest.raises(QuotaExceeded):
        pool.allocate(uuid.uuid4().hex, fake.deployment)


def test_a_clock_that_differs_fails_its_check(fake: Project) -> None:
    cloud = fake.cloud()
    fake.fake.settings.clock_skew = -600.0
    with pytest.raises(CloudError, match=r"(599|600|601) s behind this machine's"):
        checking.clock_skew(cloud)


@pytest.mark.parametrize("days", [1, -1], ids=["valid", "expired"])
def test_a_certificate_that_is_not_trusted_or_has_expired_is_refused_as_the_sites(
    tmp_path: Path, days: int
) -> None:
    certificate, key = self_signed(tmp_path, days)
    with fake_project((certificate, key)) as fake:
        trusting = connect(replace(fake.account, cacert=certificate), fake.settings)
        for cloud, why in ((fake.cloud(), "self-signed"), (trusting, "expired" if days < 0 else "")):
            if not why:
                assert cloud.create(fake.request()).status == "BUILD"
                continue
            with pytest.raises(Refused, match=f"the certificate is refused: .*{why}") as refused:
                cloud.create(fake.request())
            assert refused.value.origin == "site"


def test_a_cloud_without_the_region_is_refused_as_the_sites(fake: Project) -> None:
    lost = connect(replace(fake.account, region="Atlantis"), fake.settings)
    with pytest.raises(Refused, match="region") as refused:
        lost.create(fake.request())
    assert refused.value.origin == "site"


def test_an_error_is_not_mistaken_for_one_that_is_being_handled(fake: Project) -> None:
    cloud, lost = fake.cloud(), connect(replace(fake.account, region="Atlantis"), fake.settings)
    fake.fake.faults.add(Fault(CREATE, status=400, message="Invalid key_name provided."))
    with pytest.raises(Refused, match="region"):
        try:
            cloud.create(fake.request())
        except Refused:
            lost.servers()


def test_nothing_is_written_to_the_home_directory(
    fake: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cloud = fake.cloud(floating_ip_pool=fake.pool)
    cloud.create(fake.request())
    for check in checking.CHECKS.values():
        check(cloud)
    assert list(tmp_path.iterdir()) == []
