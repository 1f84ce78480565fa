"""The fake OpenStack, called through novaclient and keystoneauth1."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support.fake_openstack import Fault, OpenStackFake
from tests.support.rabbitmq_server import Certificates, make_certificates

pytest.importorskip("novaclient", reason="python-novaclient is not installed")
pytest.importorskip("keystoneauth1", reason="keystoneauth1 is not installed")

from keystoneauth1 import exceptions as keystone
from keystoneauth1 import session as sessions
from keystoneauth1.identity import v3
from novaclient import client, exceptions

MICROVERSION = "2.67"
CREATE = "POST compute /servers"
PATIENCE = 10.0
ACCOUNT = {"auth_url", "username", "password", "project_name", "user_domain_name", "project_domain_name"}
ABSENT = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def fake() -> Iterator[OpenStackFake]:
    with OpenStackFake() as here:
        yield here


def session(fake: OpenStackFake, **account: str) -> Any:
    return sessions.Session(auth=password({**fake.cloud_settings, **account}), timeout=5)


def password(account: dict[str, Any]) -> Any:
    return v3.Password(**account)


def connect(fake: OpenStackFake, microversion: str = MICROVERSION) -> Any:
    return client.Client(microversion, session=session(fake))


@pytest.fixture
def nova(fake: OpenStackFake) -> Any:
    return connect(fake)


def neutron(nova: Any, method: str, path: str, **arguments: Any) -> Any:
    where = {"service_type": "network"}
    answer = nova.client.session.request(f"/v2.0/{path}", method, endpoint_filter=where, **arguments)
    return answer.json() if answer.content else None


def neutron_error(error: Any) -> str:
    """Its message, which keystoneauth does not extract."""
    message: str = error.response.json()["NeutronError"]["message"]
    return message


def create(nova: Any, name: str = "vm", **arguments: Any) -> Any:
    image, flavor, network = nova_names(nova)
    given = {"nics": [{"net-id": network}], "key_name": "lando", **arguments}
    return nova.servers.create(name, given.pop("image", image), given.pop("flavor", flavor), **given)


def nova_names(nova: Any) -> tuple[str, str, str]:
    """Ids of the image, the smallest flavor, and the network."""
    image = nova.glance.find_image("lando-worker").id
    return image, nova.flavors.find(name="m1.tiny").id, nova.neutron.find_network("selfservice").id


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError("the condition did not become true in time")


def wait_until(nova: Any, server_id: str, status: str) -> Any:
    def look() -> Any:
        server = nova.servers.get(server_id)
        return server if server.status == status else None

    return wait_for(look)


def is_gone(nova: Any, server_id: str) -> bool:
    try:
        nova.servers.get(server_id)
    except exceptions.NotFound:
        return True
    return False


# servers


def test_the_life_of_a_server(fake: OpenStackFake, nova: Any) -> None:
    fake.knobs.spawn_delay = 1.0  # a build that takes longer than two calls, on a busy machine, too
    marks = {"lando-job": "j1", "lando-mark": "m1"}
    made = create(nova, userdata="#!/bin/sh\necho hello\n", meta=marks, tags=["lando:m1"])
    assert nova.servers.get(made.id).status == "BUILD"
    assert nova.servers.get(made.id).addresses == {}
    server = wait_until(nova, made.id, "ACTIVE")
    assert (server.name, server.metadata, server.tags) == ("vm", marks, ["lando:m1"])
    [address] = server.addresses["selfservice"]
    assert address["OS-EXT-IPS:type"] == "fixed"
    assert fake.server(made.id).user_data == b"#!/bin/sh\necho hello\n"
    assert "login" in wait_for(server.get_console_output)
    server.delete()
    server.delete()
    assert getattr(nova.servers.get(made.id), "OS-EXT-STS:task_state") == "deleting"
    wait_for(lambda: is_gone(nova, made.id))
    assert nova.servers.list() == []


def test_the_create_request_is_kept(fake: OpenStackFake, nova: Any) -> None:
    image, *_ = nova_names(nova)
    device = {
        **{"uuid": image, "source_type": "image", "destination_type": "volume", "boot_index": 0},
        **{"volume_size": 30, "delete_on_termination": True},
    }
    made = create(nova, image=None, block_device_mapping_v2=[device], config_drive=True)
    asked = fake.server(made.id).request
    assert asked["block_device_mapping_v2"] == [device]
    assert asked["config_drive"] is True
    server = wait_until(nova, made.id, "ACTIVE")
    [volume] = getattr(server, "os-extended-volumes:volumes_attached")
    assert volume["delete_on_termination"] is True
    assert server.image == ""


def test_a_volume_needs_a_volume_service(fake: OpenStackFake, nova: Any) -> None:
    fake.settings.has_volumes = False
    image, *_ = nova_names(nova)
    device = {"uuid": image, "source_type": "image", "destination_type": "volume", "boot_index": 0}
    made = create(nova, image=None, block_device_mapping_v2=[{**device, "volume_size": 30}])
    assert "olume" in wait_until(nova, made.id, "ERROR").fault["message"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ({"image": ABSENT}, 400, "Can not find requested image"),
        ({"image": "lando-worker"}, 400, "imageRef"),
        ({"flavor": "m1.none"}, 400, "Flavor m1.none could not be found."),
        ({"key_name": "nobody"}, 400, "Invalid key_name provided."),
        ({"nics": [{"net-id": ABSENT}]}, 400, f"Network {ABSENT} could not be found."),
        ({"availability_zone": "mars"}, 400, "The requested availability zone is not available"),
        ({"security_groups": ["none"]}, 400, "Unable to find security_group with name or id 'none'"),
        ({"tags": ["a,b"]}, 400, "does not match"),
        ({"meta": {"key": "x" * 256}}, 400, "is too long"),
        ({"userdata": "x" * 49152}, 400, "is too long"),
    ],
)
def test_invalid_create_requests_are_refused_with_novas_messages(
    nova: Any, arguments: dict[str, Any], status: int, words: str
) -> None:
    with pytest.raises(exceptions.ClientException, match=words) as refused:
        create(nova, **arguments)
    assert refused.value.code == status
    assert nova.servers.list() == []


def test_quota(fake: OpenStackFake, nova: Any) -> None:
    fake.quotas["instances"] = 1
    first = create(nova)
    with pytest.raises(
        exceptions.Forbidden, match="Quota exceeded for instances: Requested 1, but already"
    ) as it:
        create(nova)
    assert str(it.value).startswith(
        "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances"
    )
    absolute = {limit.name: limit.value for limit in nova.limits.get().absolute}
    assert (absolute["maxTotalInstances"], absolute["totalInstancesUsed"]) == (1, 1)
    first.delete()
    wait_for(lambda: is_gone(nova, first.id))
    create(nova)


def test_soft_deleted_servers_exist_but_are_not_listed(fake: OpenStackFake, nova: Any) -> None:
    fake.settings.soft_delete = True
    made = create(nova)
    wait_until(nova, made.id, "ACTIVE").delete()
    wait_until(nova, made.id, "SOFT_DELETED")
    assert nova.servers.list() == []
    nova.servers.get(made.id).force_delete()
    wait_for(lambda: is_gone(nova, made.id))


def test_servers_are_listed_whatever_their_metadata(nova: Any) -> None:
    create(nova, name="vm")
    create(nova, name="vm", meta={"other": "thing"})
    assert [server.name for server in nova.servers.list()] == ["vm", "vm"]


# lists


def test_a_list_stops_at_the_page_cap(fake: OpenStackFake, nova: Any) -> None:
    made = [create(nova, name=f"vm-{n}").id for n in range(5)]
    fake.settings.page_cap = 2
    assert len(nova.servers.list()) == 2
    fake.calls.clear()
    assert {server.id for server in nova.servers.list(limit=-1)} == set(made)
    assert fake.calls.count("GET compute /servers/detail") == 4  # the last one is empty


def test_filters_of_lists(fake: OpenStackFake, nova: Any) -> None:
    create(nova, name="vm-1", meta={"job": "1"}, tags=["job:1"])
    create(nova, name="vm-11", meta={"job": "2"}, tags=["job:2"])

    def names(nova: Any = nova, **filters: str) -> list[str]:
        return sorted(server.name for server in nova.servers.list(search_opts=filters))

    assert names(name="vm-1") == ["vm-1", "vm-11"]  # a regular expression
    assert names(name="^vm-1$") == ["vm-1"]
    assert names(tags="job:2") == ["vm-11"]
    assert names(metadata="{'job': '2'}") == ["vm-1", "vm-11"]  # no filter at all
    assert names(colour="red") == ["vm-1", "vm-11"]
    with pytest.raises(exceptions.BadRequest, match="'colour' does not match any of the regexes"):
        names(connect(fake, "2.75"), colour="red")
    with pytest.raises(exceptions.Forbidden, match="all_tenants"):
        names(all_tenants="1")


def test_a_cell_that_is_down_takes_its_servers_out_of_lists(fake: OpenStackFake, nova: Any) -> None:
    lost, other = create(nova).id, create(nova).id
    fake.server(lost).cell_is_down = True
    assert [server.id for server in nova.servers.list()] == [other]
    newer = connect(fake, "2.69")
    assert {server.id: server.status for server in newer.servers.list()}[lost] == "UNKNOWN"
    assert [server.id for server in newer.servers.list(search_opts={"name": "vm"})] == [other]
    assert newer.servers.get(lost).status == "UNKNOWN"
    with pytest.raises(exceptions.ClientException, match="Unexpected API Error"):
        nova.servers.get(lost)


# microversions


def test_a_cloud_that_is_older_than_the_client(fake: OpenStackFake) -> None:
    fake.settings.max_microversion = "2.53"
    nova = connect(fake)
    assert nova.versions.get_current().version == "2.53"
    with pytest.raises(exceptions.NotAcceptable, match=r"Minimum is 2\.1 and maximum is 2\.53"):
        nova.servers.list()


def test_microversions_add_and_remove(fake: OpenStackFake) -> None:
    made = create(connect(fake), tags=["one"])
    old, new = connect(fake, "2.1"), connect(fake, "2.93")
    assert not hasattr(old.servers.get(made.id), "tags")
    assert "id" in old.servers.get(made.id).flavor
    assert new.servers.get(made.id).tags == ["one"]
    assert new.servers.get(made.id).flavor["original_name"] == "m1.tiny"


# accounts and tokens


def test_login_with_an_application_credential(fake: OpenStackFake) -> None:
    account = fake.cloud.account
    auth = v3.ApplicationCredential(
        auth_url=fake.auth_url,
        application_credential_id=account.application_credential_id,
        application_credential_secret=account.application_credential_secret,
    )
    assert client.Client(MICROVERSION, session=sessions.Session(auth=auth)).servers.list() == []


@pytest.mark.parametrize("wrong", ["password", "username", "project_name", "user_domain_name"])
def test_a_login_with_a_wrong_account_is_refused(fake: OpenStackFake, wrong: str) -> None:
    with pytest.raises(keystone.Unauthorized, match="requires authentication"):
        session(fake, **{wrong: "wrong"}).get_token()


def test_revoked_tokens_are_replaced(fake: OpenStackFake, nova: Any) -> None:
    nova.servers.list()
    fake.revoke_tokens()
    nova.servers.list()
    assert fake.calls.count("POST identity /auth/tokens") == 2
    fake.settings.token_seconds = 0.0
    fake.revoke_tokens()
    with pytest.raises(exceptions.Unauthorized):
        nova.servers.list()


def test_the_clouds_clock_may_be_wrong(fake: OpenStackFake, nova: Any) -> None:
    fake.settings.clock_skew = 3600.0
    answer = session(fake).get("/v2.0/networks", endpoint_filter={"service_type": "network"})
    ahead = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    assert 3590 < ahead < 3610


def test_a_cloud_behind_tls(tmp_path: Path) -> None:
    make_certificates(tmp_path / "certificates")
    files = Certificates.within(tmp_path / "certificates")
    with OpenStackFake(certificate=(files.server, files.server_key)) as fake:
        auth = password(fake.cloud_settings)
        nova = client.Client(MICROVERSION, session=sessions.Session(auth=auth, verify=str(files.ca)))
        assert nova.servers.list() == []
        with pytest.raises(keystone.SSLError):
            sessions.Session(auth=password(fake.cloud_settings), verify=str(files.foreign_ca)).get_token()
        assert nova.servers.list() == []


# floating IPs


def test_a_floating_ip_outlives_its_server(fake: OpenStackFake, nova: Any) -> None:
    made = create(nova)
    wait_until(nova, made.id, "ACTIVE")
    [port] = neutron(nova, "GET", f"ports?device_id={made.id}")["ports"]
    [pool] = neutron(nova, "GET", "networks?name=ext-net&router:external=true")["networks"]
    asked = {"floating_network_id": pool["id"], "port_id": port["id"], "description": "ours"}
    mine = neutron(nova, "POST", "floatingips", json={"floatingip": asked})["floatingip"]
    shown = nova.servers.get(made.id).addresses["selfservice"]
    assert mine["floating_ip_address"] in [address["addr"] for address in shown]
    with pytest.raises(keystone.Conflict) as refused:
        neutron(nova, "POST", "floatingips", json={"floatingip": asked})
    assert "already has a floating IP" in neutron_error(refused.value)
    nova.servers.delete(made.id)
    wait_for(lambda: is_gone(nova, made.id))
    [left] = neutron(nova, "GET", "floatingips?description=ours")["floatingips"]
    assert left["port_id"] is None
    neutron(nova, "DELETE", f"floatingips/{mine['id']}")
    with pytest.raises(keystone.NotFound) as absent:
        neutron(nova, "DELETE", f"floatingips/{mine['id']}")
    assert "could not be found" in neutron_error(absent.value)


def test_floating_ips_have_a_quota(fake: OpenStackFake, nova: Any) -> None:
    fake.quotas["floatingip"] = 0
    [pool] = neutron(nova, "GET", "networks?name=ext-net")["networks"]
    with pytest.raises(keystone.Conflict) as refused:
        neutron(nova, "POST", "floatingips", json={"floatingip": {"floating_network_id": pool["id"]}})
    assert "Quota exceeded for resources" in neutron_error(refused.value)


# servers that go wrong


def test_every_second_build_fails(fake: OpenStackFake, nova: Any) -> None:
    fake.knobs.spawn_fail_every = 2
    made = [create(nova).id for _ in range(4)]
    wait_for(lambda: all(server.status != "BUILD" for server in nova.servers.list()))
    failed = [server for server in map(nova.servers.get, made) if server.status == "ERROR"]
    assert len(failed) == 2
    assert failed[0].fault["code"] == 500
    assert "Exceeded maximum number of retries" in failed[0].fault["message"]
    failed[0].delete()
    wait_for(lambda: is_gone(nova, failed[0].id))


def test_a_build_that_hangs_can_be_deleted(fake: OpenStackFake, nova: Any) -> None:
    fake.knobs.spawn_hang_every = 1
    made = create(nova)
    time.sleep(4 * fake.settings.build_seconds)
    assert nova.servers.get(made.id).status == "BUILD"
    made.delete()
    wait_for(lambda: is_gone(nova, made.id))


def test_servers_that_die(fake: OpenStackFake, nova: Any) -> None:
    fake.knobs.die_after_s = 0.05
    wait_until(nova, create(nova).id, "SHUTOFF")
    fake.knobs.die_after_s = None
    made = wait_until(nova, create(nova).id, "ACTIVE")
    fake.shut_off(made.id)
    assert nova.servers.get(made.id).status == "SHUTOFF"
    fake.fail(made.id, "the host burnt down")
    assert nova.servers.get(made.id).fault["message"] == "the host burnt down"


# calls that go wrong


def test_a_lost_request(fake: OpenStackFake, nova: Any) -> None:
    fake.faults.add(Fault(CREATE, ending="close"))
    with pytest.raises(keystone.ConnectFailure):
        create(nova)
    assert fake.servers == []


@pytest.mark.parametrize("ending", ["close", "reset", "cut"])
def test_a_lost_answer(fake: OpenStackFake, nova: Any, ending: Any) -> None:
    fake.faults.add(Fault(CREATE, work="once", ending=ending))
    with pytest.raises(keystone.ClientException):
        create(nova)
    assert len(fake.servers) == 1


def test_a_late_answer(fake: OpenStackFake, nova: Any) -> None:
    names = nova_names(nova)
    fake.faults.add(Fault(CREATE, work="once", hang=0.5))
    with pytest.raises(keystone.ConnectTimeout):
        nova.client.session.timeout = 0.1
        nova.servers.create("vm", *names[:2], nics=[{"net-id": names[2]}])
    assert len(fake.servers) == 1


def test_duplicates_of_which_one_is_listed_late(fake: OpenStackFake, nova: Any) -> None:
    fake.faults.add(Fault(CREATE, work="twice", surface_after=0.5))
    made = create(nova)
    assert len(fake.servers) == 2
    assert [server.id for server in nova.servers.list()] == [made.id]
    wait_for(lambda: len(nova.servers.list()) == 2)


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("html", [False, True])
def test_answers_of_every_kind(fake: OpenStackFake, nova: Any, status: int, html: bool) -> None:
    fake.faults.add(Fault(CREATE, status=status, html=html, message="not today"))
    with pytest.raises(exceptions.ClientException) as refused:
        create(nova)
    assert refused.value.code == status
    assert html or refused.value.message == "not today"
    assert fake.servers == []


def test_an_answer_that_says_when_to_come_back(fake: OpenStackFake, nova: Any) -> None:
    fake.faults.add(Fault(CREATE, status=429, retry_after="7", times=1))
    with pytest.raises(exceptions.RateLimit) as refused:
        create(nova)
    assert refused.value.retry_after == 7
    create(nova)


def test_which_calls_a_fault_happens_to(fake: OpenStackFake, nova: Any) -> None:
    third = fake.faults.add(Fault("GET compute /servers*", nth=3, status=500))
    some = fake.faults.add(Fault("GET compute /flavors*", share=0.5, status=500))
    struck = 0
    for _ in range(5):
        with contextlib.suppress(exceptions.ClientException):
            nova.servers.list()
    for _ in range(40):
        try:
            nova.flavors.list()
        except exceptions.ClientException:
            struck += 1
    assert (third.seen, third.happened) == (5, 1)
    assert 5 < some.happened == struck < 35
    fake.faults.clear()
    nova.flavors.list()


def test_a_fault_without_an_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match="set status or ending"):
        Fault(CREATE)


def test_a_service_that_is_stopped_for_a_while(fake: OpenStackFake, nova: Any) -> None:
    nova.servers.list()
    fake.stop("compute")
    with pytest.raises(keystone.ConnectFailure):
        nova.servers.list()
    nova.neutron.find_network("selfservice")
    fake.start("compute")
    nova.servers.list()


def test_calls_are_counted(fake: OpenStackFake, nova: Any) -> None:
    made = create(nova)
    fake.calls.clear()
    nova.servers.get(made.id)
    nova.servers.list()
    made.delete()
    assert fake.calls.by_label() == {
        "GET compute /servers/{id}": 1,
        "GET compute /servers/detail": 1,
        "DELETE compute /servers/{id}": 1,
    }
    assert fake.calls.count("* compute *") == 3
    assert "      1 GET compute /servers/{id}" in str(fake.calls)


# servers that run


def test_user_data_run_until_the_server_is_deleted(tmp_path: Path) -> None:
    script = f"#!/bin/sh\necho I am up\necho $$ > {tmp_path}/pid\n(setsid sleep 600 &)\nsleep 600\n"
    with OpenStackFake(machines=tmp_path / "machines") as fake:
        nova = connect(fake)
        made = create(nova, userdata=script)
        wait_for((tmp_path / "pid").exists)
        assert "I am up" in wait_for(made.get_console_output)
        pid = int(wait_for((tmp_path / "pid").read_text))
        made.delete()
        wait_for(lambda: is_gone(nova, made.id))
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_server_without_power_is_off_until_it_is_started(tmp_path: Path) -> None:
    with OpenStackFake(machines=tmp_path / "machines") as fake:
        nova = connect(fake)
        made = create(nova, userdata=f"#!/bin/sh\necho up >> {tmp_path}/boots\nsleep 600\n")
        boots = tmp_path / "boots"
        wait_for(boots.exists)
        made.stop()
        wait_until(nova, made.id, "SHUTOFF")
        made.start()
        wait_for(lambda: boots.read_text() == "up\nup\n")


# in a process of its own


@pytest.fixture
def standalone() -> Iterator[dict[str, str]]:
    command = [sys.executable, "-m", "tests.support.fake_openstack"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def control(where: dict[str, str], method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(f"{where['control_url']}{path}", data, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def test_a_fake_in_a_process_of_its_own(standalone: dict[str, str]) -> None:
    account = {name: value for name, value in standalone.items() if name in ACCOUNT}
    nova = client.Client(MICROVERSION, session=sessions.Session(auth=password(account)))
    control(standalone, "POST", "/faults", {"calls": CREATE, "work": "once", "status": 504, "times": 1})
    control(standalone, "PUT", "/quotas", {"instances": 1})
    control(standalone, "PUT", "/knobs", {"spawn_delay": 0.1})
    with pytest.raises(exceptions.ClientException):
        create(nova, userdata="#!/bin/sh\n")
    with pytest.raises(exceptions.Forbidden, match="Quota exceeded"):
        create(nova)
    state = control(standalone, "GET", "/state")
    assert state["calls"][CREATE] == 2
    [server] = state["servers"]
    assert base64.b64decode(server["request"]["user_data"]) == b"#!/bin/sh\n"
    control(standalone, "POST", "/revoke")
    assert len(nova.servers.list()) == 1


# pages, visibility, lockout


def pages(fake: OpenStackFake, service: str, path: str, collection: str) -> list[list[str]]:
    """The ids of each page, by following the links that the service gives."""
    here, found = session(fake), []
    base = fake.listeners[service].url
    address: str | None = f"{base}{path}"
    while address is not None:
        page = here.get(address, headers={"OpenStack-API-Version": "compute 2.69"}).json()
        found.append([row.get("id") or row["keypair"]["name"] for row in page[collection]])
        links = {link["rel"]: link["href"] for link in page.get(f"{collection}_links", ())}
        address = links.get("next") or (f"{base}{page['next']}" if "next" in page else None)
    return found


@pytest.mark.parametrize(
    ("service", "path", "collection"),
    [
        ("network", "/v2.0/networks", "networks"),
        ("image", "/v2/images", "images"),
        ("compute", "/v2.1/flavors/detail", "flavors"),
        ("compute", "/v2.1/os-keypairs", "keypairs"),
    ],
)
def test_lists_are_cut_into_pages_of_the_cap(
    fake: OpenStackFake, service: str, path: str, collection: str
) -> None:
    cloud = fake.cloud
    cloud.images[:] = [replace(cloud.images[0], id=f"image-{n}") for n in range(5)]
    cloud.networks[:] = [replace(cloud.networks[0], id=f"network-{n}") for n in range(5)]
    cloud.flavors[:] = [replace(cloud.flavors[0], id=f"flavor-{n}") for n in range(5)]
    cloud.key_pairs[:] = [replace(cloud.key_pairs[0], name=f"key-{n}") for n in range(5)]
    [whole] = pages(fake, service, path, collection)
    fake.settings.names_page_cap = fake.settings.image_page_cap = fake.settings.network_page_cap = 2
    found = pages(fake, service, path, collection)
    assert [len(page) for page in found] == [2, 2, 1]
    assert [each for page in found for each in page] == whole
    assert pages(fake, service, f"{path}?limit=1", collection)[0] == whole[:1]


def test_images_of_the_community_and_hidden_ones_are_listed_only_when_asked_for(fake: OpenStackFake) -> None:
    [image] = fake.cloud.images
    for change, query in (
        ({"visibility": "community"}, "visibility=community"),
        ({"visibility": "shared"}, "visibility=shared&member_status=all"),
        ({"hidden": True}, "os_hidden=true"),
    ):
        fake.cloud.images[:] = [replace(image, **change)]
        assert pages(fake, "image", "/v2/images", "images") == [[]]
        assert pages(fake, "image", f"/v2/images?{query}", "images") == [[image.id]]


def test_an_account_is_locked_after_wrong_passwords_in_a_row(fake: OpenStackFake) -> None:
    fake.settings.lockout_attempts = 2
    for wrong in ("a", None, "b", "c", None):
        try:
            session(fake, **({"password": wrong} if wrong else {})).get_token()
        except keystone.Unauthorized:
            continue
        assert wrong is None and fake.cloud.account.wrong_passwords == 0
    assert fake.cloud.account.wrong_passwords == 2
    with pytest.raises(keystone.Unauthorized):
        session(fake).get_token()


def test_the_root_of_nova_answers_every_path_with_its_versions(fake: OpenStackFake) -> None:
    answer = session(fake).get(f"{fake.listeners['compute'].url}/servers/detail", raise_exc=False)
    assert answer.status_code == 300
    assert {choice["id"] for choice in answer.json()["choices"]} == {"v2.0", "v2.1"}
