"""Lists in pages, names, logins and addresses of an OpenStack cloud, on the fake one."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.cloud.interface import Ambiguous, CloudError, RateLimited, Refused, ServerRequest
from lando.cloud.nova import checks as checking
from lando.cloud.nova.account import Account, with_application_credential, with_password
from lando.cloud.nova.driver import NovaCloud, connect
from lando.cloud.nova.server_settings import ServerSettings
from lando.redaction import Secret
from tests.support.fake_openstack import Fault, OpenStackFake

SETTINGS = ServerSettings("lando-worker", "m1.tiny", key_name="lando", networks=("selfservice",))


@pytest.fixture
def fake() -> Iterator[OpenStackFake]:
    with OpenStackFake() as here:
        here.quotas.update(instances=-1, cores=-1, ram=-1)
        yield here


def account(fake: OpenStackFake, **changes: Any) -> Account:
    given = fake.cloud_settings | changes
    password = Secret(given.pop("password"))
    return with_password("cloud_settings", password=password, **given)


def a_cloud(fake: OpenStackFake, names: float = 300.0, **settings: Any) -> NovaCloud:
    return connect(account(fake), replace(SETTINGS, **settings), names=names)


def a_request(**wishes: Any) -> ServerRequest:
    defaults: dict[str, Any] = {
        **{"name": "lando-test-1", "mark": uuid.uuid4().hex, "deployment": "tests"},
        **{"job_id": str(uuid.uuid4()), "attempt": 1, "user_data": b"#!/bin/bash\n"},
    }
    return ServerRequest(**(defaults | wishes))


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call, or the CloudError that it raised; it must have ended by then."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except CloudError as error:
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, f"the call has not ended within {seconds} s"
    return results[0]


# pages


def another(fake: OpenStackFake, kind: str, number: int) -> None:
    """One more flavor, image, network, key pair or security group, which nobody wants."""
    cloud = fake.cloud
    if kind == "security_groups":
        cloud.security_groups.append(f"other-{number}")
        return
    things: list[Any] = getattr(cloud, kind)
    things.insert(0, replace(things[0], **{"name": f"other-{number}"} | _new_id(things[0])))


def _new_id(thing: Any) -> dict[str, str]:
    return {"id": str(uuid.uuid4())} if hasattr(thing, "id") else {}


@pytest.mark.parametrize("cap", [1, 2, 5])
@pytest.mark.parametrize("kind", ["flavors", "images", "networks", "key_pairs", "security_groups"])
def test_a_name_is_found_on_whatever_page_it_is(fake: OpenStackFake, kind: str, cap: int) -> None:
    for number in range(9):
        another(fake, kind, number)
    fake.settings.names_page_cap = fake.settings.network_page_cap = fake.settings.image_page_cap = cap
    cloud = a_cloud(
        fake, security_groups=("default", "other-8") if kind == "security_groups" else ("default",)
    )
    assert cloud.create(a_request()).status == "BUILD"
    for check in checking.CHECKS.values():
        check(cloud)


def test_the_suggestion_for_a_wrong_name_is_from_all_pages(fake: OpenStackFake) -> None:
    for number in range(9):
        another(fake, "images", number)
    fake.settings.image_page_cap = 2
    with pytest.raises(Refused, match="did you mean lando-worker"):
        a_cloud(fake, image="lando-workr").create(a_request())


@pytest.mark.parametrize("others", [3, 4, 5, 12])
def test_a_floating_ip_is_found_and_released_on_whatever_page_it_is(fake: OpenStackFake, others: int) -> None:
    fake.settings.network_page_cap = 3
    pool = a_cloud(fake, floating_ip_pool="ext-net").floating_ips
    for _ in range(others):
        pool.allocate(uuid.uuid4().hex, "others")
    marks = [uuid.uuid4().hex for _ in range(4)]
    ours = [pool.allocate(mark, "tests") for mark in marks]
    assert [pool.allocate(mark, "tests") for mark in marks] == ours, "found, not allocated again"
    assert len(pool.all()) == others + 4
    for mark in marks:
        pool.release(mark)
    assert len(fake.cloud.floating_ips) == others
    assert {each.deployment for each in pool.all()} == {"others"}


def test_a_port_is_found_on_a_page_of_its_own(fake: OpenStackFake) -> None:
    fake.settings.network_page_cap = 1
    cloud = a_cloud(fake, floating_ip_pool="ext-net")
    servers = [cloud.create(a_request()) for _ in range(3)]
    while not all(server.ports for server in fake.servers):
        pass
    for server in servers:
        assert server.mark is not None
        cloud.floating_ips.attach(server.id, server.mark, "tests")
    assert len({each.port.server_id for each in fake.cloud.floating_ips.values() if each.port}) == 3


def test_a_list_of_servers_costs_a_call_a_page(fake: OpenStackFake) -> None:
    fake.settings.page_cap = 2
    cloud = a_cloud(fake)
    for _ in range(5):
        cloud.create(a_request())
    fake.calls.clear()
    assert len(cloud.servers()) == 5
    assert fake.calls.count("GET compute /servers/detail") == 3


def test_lists_that_do_not_advance_are_errors_after_two_pages(fake: OpenStackFake) -> None:
    cloud = a_cloud(fake, floating_ip_pool="ext-net")
    for _ in range(3):
        cloud.floating_ips.allocate(uuid.uuid4().hex, "tests")
        cloud.create(a_request())
        another(fake, "images", 1)
    fake.settings.network_page_cap = fake.settings.image_page_cap = 2
    fake.settings.page_cap = fake.settings.names_page_cap = 2
    fake.settings.drops_queries = True
    cloud.lookup.forget()
    fake.calls.clear()
    for call in (cloud.servers, cloud.floating_ips.all, cloud.flavor, cloud.networks):
        error = within(10.0, call)
        assert type(error) is Ambiguous
        assert "the list has no end: page 2 repeats an earlier one" in str(error)
    for label in ("GET compute /servers/detail", "GET network /floatingips"):
        assert fake.calls.count(label) == 2


# names


def test_community_hidden_and_shared_images_are_found_by_their_ids(fake: OpenStackFake) -> None:
    [image] = fake.cloud.images
    for change in ({"visibility": "community"}, {"visibility": "shared"}, {"hidden": True}):
        fake.cloud.images[:] = [replace(image, **change)]
        with pytest.raises(Refused, match="no active image named lando-worker"):
            a_cloud(fake).create(a_request())
        assert a_cloud(fake, image=image.id).create(a_request()).status == "BUILD"
        assert a_cloud(fake, image=image.id.upper().replace("-", "")).image().name == "lando-worker"
        assert checking.CHECKS["image"](a_cloud(fake, image=image.id)) == f"lando-worker ({image.id})"


def test_an_id_of_an_image_that_is_not_active_is_refused_with_its_status(fake: OpenStackFake) -> None:
    [image] = fake.cloud.images
    image.status = "queued"
    with pytest.raises(Refused, match=f"lando-worker \\({image.id}\\) is queued, not active") as refused:
        a_cloud(fake).create(a_request(image=image.id))
    assert refused.value.origin == "job"


def test_an_image_whose_name_looks_like_an_id_is_found_by_it(fake: OpenStackFake) -> None:
    name = str(uuid.uuid4())
    fake.cloud.images[0].name = name
    assert a_cloud(fake, image=name).create(a_request()).status == "BUILD"


def test_what_was_replaced_or_renamed_is_noticed_once_the_name_is_too_old(
    fake: OpenStackFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    cloud = a_cloud(fake, names=300.0)
    monkeypatch.setattr(cloud.lookup, "_clock", lambda: now)
    things: list[tuple[list[Any], Callable[[], str]]] = [
        (fake.cloud.images, lambda: cloud.image().id),
        (fake.cloud.flavors, lambda: cloud.flavor().id),
        (fake.cloud.networks, lambda: cloud.networks()[0].id),
    ]
    for all_of_kind, look_up in things:
        old = look_up()
        new = replace(all_of_kind[0], id=str(uuid.uuid4()))
        all_of_kind[0].name = "of last month"
        all_of_kind.append(new)
        now += 299.0
        assert look_up() == old
        now += 1.0
        assert look_up() == new.id
        new.name = "renamed"
        now += 300.0
        with pytest.raises(Refused, match="the cloud has no"):
            look_up()


def test_names_are_looked_up_once_within_their_time(fake: OpenStackFake) -> None:
    cloud = a_cloud(fake)
    for _ in range(5):
        cloud.create(a_request())
    for label in ("GET image /images", "GET compute /flavors/detail", "GET network /networks"):
        assert fake.calls.count(label) == 1


# security groups


def test_a_security_group_that_is_not_unique_is_the_sites_and_check_sees_it(fake: OpenStackFake) -> None:
    fake.cloud.security_groups += ["web", "web", "db"]
    cloud = a_cloud(fake, security_groups=("db", "web"))
    for call in (lambda: cloud.create(a_request()), lambda: checking.security_groups(cloud)):
        with pytest.raises(Refused, match=r"vm_settings\.security_groups") as refused:
            call()
        assert refused.value.origin == "site"
    assert "has 2 security groups named web" in str(refused.value)
    by_id = [group_id for group_id, name in fake.cloud.groups() if name == "web"][1]
    clear = a_cloud(fake, security_groups=("db", by_id))
    assert clear.create(a_request()).status == "BUILD"
    assert checking.security_groups(clear) == f"db, {by_id}"


def test_nova_names_the_ambiguous_group_in_the_newer_words_too(fake: OpenStackFake) -> None:
    words = "Multiple security groups found matching 'web'. Use an ID to be more specific."
    fake.faults.add(Fault("POST compute /servers", status=409, message=words))
    with pytest.raises(Refused, match=r"vm_settings\.security_groups"):
        a_cloud(fake, security_groups=("web",)).create(a_request())


# logins


def test_an_account_with_a_lockout_survives_a_wrong_password_for_a_day(
    fake: OpenStackFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    fake.settings.lockout_attempts = 5
    wrong = connect(account(fake, password="not-the-password"), SETTINGS)
    monkeypatch.setattr(wrong.session.keystoneauth._login, "_clock", lambda: now)
    while now < 86_400.0:
        for call in (wrong.servers, lambda: wrong.create(a_request())):
            with pytest.raises(Refused, match="check user, password"):
                call()
        now += 60.0
    logins = fake.calls.count("POST identity /auth/tokens")
    print(f"{logins} logins in a day with a wrong password, of {2 * 1440} calls")
    assert logins == 4
    assert connect(account(fake), SETTINGS).servers() == []


def test_a_deleted_application_credential_backs_off_too(fake: OpenStackFake) -> None:
    gone = with_application_credential("cloud_settings", fake.auth_url, uuid.uuid4().hex, Secret("secret"))
    cloud = connect(gone, SETTINGS)
    for _ in range(5):
        with pytest.raises(Refused, match=r"Could not find Application Credential.*check user, password"):
            cloud.servers()
    assert fake.calls.count("POST identity /auth/tokens") == 1


def test_a_login_that_is_refused_while_servers_run_says_when_the_next_one_is(fake: OpenStackFake) -> None:
    cloud = a_cloud(fake)
    cloud.create(a_request())
    right, fake.cloud.account.password = fake.cloud.account.password, "changed"
    fake.revoke_tokens()
    for _ in range(3):
        with pytest.raises(Refused) as refused:
            cloud.create(a_request())
    assert "the next one is at" in str(refused.value)
    assert fake.calls.count("POST identity /auth/tokens") == 2
    assert len(fake.servers) == 1
    fake.cloud.account.password = right
    assert a_cloud(fake).create(a_request()).status == "BUILD", "a restart logs in at once"


@pytest.mark.parametrize("suffix", ["", "/v3", "/identity"])
def test_an_address_that_answers_401_to_everything_is_refused_and_does_not_hang(
    fake: OpenStackFake, suffix: str
) -> None:
    fake.faults.add(Fault("* identity *", status=401))
    url = fake.auth_url.removesuffix("/v3") + suffix
    for call in (lambda cloud: cloud.servers(), lambda cloud: cloud.create(a_request())):
        error = within(10.0, lambda call=call: call(connect(account(fake, auth_url=url), SETTINGS)))
        assert isinstance(error, Refused)
        assert "HTTP 401" in str(error) and "check" in str(error)


# addresses and headers


def test_an_address_of_compute_without_a_version_works_and_check_tells(fake: OpenStackFake) -> None:
    fake.settings.compute_without_version = True
    cloud = a_cloud(fake)
    created = cloud.create(a_request())
    assert [server.id for server in cloud.servers()] == [created.id]
    with pytest.raises(checking.CheckWarning, match=r"lacks the API's version: http://.*/v2\.1/ is used"):
        checking.microversion(cloud)
    fake.settings.compute_without_version = False
    assert checking.microversion(a_cloud(fake)).startswith("2.69 (the cloud has")


def test_a_service_that_answers_with_its_versions_is_told_in_a_sentence(
    fake: OpenStackFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.settings.compute_without_version = True
    monkeypatch.setattr("lando.cloud.nova.session.with_compute_version", lambda address: address)
    for call in (a_cloud(fake).servers, a_cloud(fake).quota, lambda: a_cloud(fake).create(a_request())):
        with pytest.raises(CloudError, match=r"HTTP 300.*that is not OpenStack") as raised:
            call()
        assert "KeyError" not in str(raised.value)


def test_an_answer_that_lacks_a_key_is_told_in_a_sentence(
    fake: OpenStackFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = a_cloud(fake)
    monkeypatch.setattr(cloud.session, "neutron", lambda *_, **__: {"other": []})
    with pytest.raises(Ambiguous, match="the answer is not as expected: it has no 'floatingips'"):
        cloud.floating_ips.all()


@pytest.mark.parametrize("value", ["-1", "0", "soon", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT", "²"])
def test_odd_values_of_retry_after_end_in_a_rate_limit_of_an_hour_at_most(
    fake: OpenStackFake, value: str
) -> None:
    cloud = a_cloud(fake)
    cloud.image()
    fake.faults.add(Fault("* compute *", status=429, retry_after=value.encode().decode("latin-1")))
    for call in (cloud.servers, cloud.quota):
        with pytest.raises(RateLimited) as raised:
            call()
        assert raised.value.retry_after is None or 0 < raised.value.retry_after <= 3600.0


# answers without an end


@contextmanager
def a_service_that_sends(body: Callable[[], Iterator[bytes]], chunked: bool) -> Iterator[str]:
    """The address of a service that begins a good answer, and goes on with its body as long as it is read."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 99999999"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + length
        with suppress(OSError), connection:
            connection.recv(65_536)
            connection.sendall(head + b"\r\n\r\n")
            for part in body():
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listening.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/v3"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def drops() -> Iterator[bytes]:
    while True:
        yield b" "
        time.sleep(0.02)


def a_flood() -> Iterator[bytes]:
    while True:
        yield b" " * 65_536


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("body", [drops, a_flood])
def test_an_answer_that_does_not_end_is_an_error(
    monkeypatch: pytest.MonkeyPatch, body: Callable[[], Iterator[bytes]], chunked: bool
) -> None:
    monkeypatch.setattr("lando.cloud.nova.session.WHOLE_SECONDS", 0.5)
    monkeypatch.setattr("lando.cloud.nova.session.MAX_ANSWER", 10**6)
    with a_service_that_sends(body, chunked) as url:
        cloud = connect(
            with_password("the test", url, "lando", Secret("s"), "lando", "Default", "Default"), SETTINGS
        )
        error = within(10.0, cloud.servers)
    assert isinstance(error, CloudError)
    assert "the answer" in str(error)
