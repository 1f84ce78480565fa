"""What waiting can heal on a real broker is waited for, from the first connection on, and named rightly:
limits, a virtual host that is down, certificates that are out of date or being replaced."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lando.errors import UsageError
from lando.redaction import Secret
from lando.workqueue.interface import QueueUnavailable
from lando.workqueue.rabbitmq import topology, upkeep
from lando.workqueue.rabbitmq.broker import Broker
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.settings import Tls
from tests.support import rabbitmq_server as servers
from tests.support.local_site import wait_for, workflow
from tests.support.rabbitmq_server import VirtualHost, make_certificates, require_server
from tests.support.rabbitmq_site import BrokerSite


@contextlib.contextmanager
def reading(broker: Broker, here: VirtualHost) -> Iterator[RabbitMQQueue]:
    queue = RabbitMQQueue(broker, here.names)
    try:
        yield queue
    finally:
        queue.close()


def why_not(queue: RabbitMQQueue, patience: float = 15.0) -> str:
    """Receive until it fails for another reason than that it still connects; why it did."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            queue.receive(500, 0.05)
        except QueueUnavailable as error:
            if "connecting to" not in str(error):
                return str(error)
    raise AssertionError(f"it is connected, or connects, after {patience:g} s")


def is_connected(queue: RabbitMQQueue) -> bool:
    with contextlib.suppress(QueueUnavailable):
        queue.receive(500, 0.05)
        return True
    return False


def evaluate(here: VirtualHost, expression: str) -> None:
    assert isinstance(here.broker, servers.Broker)
    here.broker.evaluate(expression)


def limit_virtual_host(here: VirtualHost, what: str) -> Callable[[], None]:
    host = f'<<"{here.name}">>'
    evaluate(here, f'ok = rabbit_vhost_limit:set({host}, [{{<<"{what}">>, 0}}], <<"tests">>)')
    return lambda: evaluate(here, f'rabbit_vhost_limit:clear({host}, <<"tests">>)')


def limit_user(here: VirtualHost, what: str, limit: int = 0) -> Callable[[], None]:
    user, limits = f'<<"{here.daemon.username}">>', f'<<"{{\\"{what}\\": {limit}}}">>'
    evaluate(here, f'ok = rabbit_auth_backend_internal:set_user_limits({user}, {limits}, <<"tests">>)')
    return lambda: evaluate(
        here, f'rabbit_auth_backend_internal:clear_user_limits({user}, <<"all">>, <<"tests">>)'
    )


def stop_virtual_host(here: VirtualHost) -> Callable[[], None]:
    evaluate(here, f'rabbit_vhost_sup_sup:stop_and_delete_vhost(<<"{here.name}">>)')
    return lambda: evaluate(here, f'rabbit_vhost_sup_sup:start_vhost(<<"{here.name}">>)')


OBSTACLES: dict[str, tuple[Callable[[VirtualHost], Callable[[], None]], str]] = {
    "connections of the virtual host": (
        lambda here: limit_virtual_host(here, "max-connections"),
        r"the virtual host 'test-.*' of the broker at .* no more connections .*\(max-connections: 0\)",
    ),
    "queues of the virtual host": (
        lambda here: limit_virtual_host(here, "max-queues"),
        r"the virtual host 'test-.*' of the broker at .* may have no more queues .*\(max-queues: 0\)",
    ),
    "connections of the account": (
        lambda here: limit_user(here, "max-connections"),
        r"the account 'test-.*-daemon' on the broker at .* no more connections .*\(max-connections: 0\)",
    ),
    "channels of the account": (
        lambda here: limit_user(here, "max-channels"),
        r"the account 'test-.*-daemon' on the broker at .* no more channels .*\(max-channels: 0\)",
    ),
    "the virtual host is down": (
        stop_virtual_host,
        r"the virtual host 'test-.*' of the broker at .* is down",
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_at_the_first_connection_is_named_and_waited_for(
    least_privilege: VirtualHost, name: str
) -> None:
    here = least_privilege
    obstruct, named = OBSTACLES[name]
    daemon = Broker(
        here.broker.host, here.broker.port, here.name, here.daemon.username, Secret(here.daemon.password)
    )
    lift = obstruct(here)
    try:
        with reading(daemon, here) as queue:
            assert servers.re.search(named, why_not(queue))
            lift()
            wait_for(lambda: is_connected(queue), "the queue to be connected", 20)
    finally:
        lift()


def test_a_limit_of_channels_does_not_end_a_session_that_has_its_own(
    least_privilege: VirtualHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At this limit the broker ends the connection that opens one more channel."""
    here = least_privilege
    verified: list[float] = []

    def declaring(*arguments: Any) -> Any:
        verified.append(time.monotonic())
        return topology.declare(*arguments)

    monkeypatch.setattr(upkeep, "PERIOD", 0.2)
    monkeypatch.setattr(upkeep, "declare", declaring)
    daemon = Broker(
        here.broker.host, here.broker.port, here.name, here.daemon.username, Secret(here.daemon.password)
    )
    with reading(daemon, here) as queue:
        wait_for(lambda: is_connected(queue) and verified, "the queue to be verified", 20)
        lift = limit_user(here, "max-channels", 1)
        try:
            enough = len(verified) + 4
            while len(verified) < enough:
                queue.receive(500, 0.05)  # raises once the session has failed
        finally:
            lift()


def test_a_daemon_that_starts_waits_and_all_programs_say_for_what(
    least_privilege: VirtualHost, tmp_path: Path
) -> None:
    site = BrokerSite(tmp_path / "site", least_privilege)
    says = "may have no more connections at present (max-connections: 0)"
    lift = limit_virtual_host(least_privilege, "max-connections")
    try:
        daemon = site.start_daemon(ready=False)
        client = site.client.start("start_worker", workflow(site.root, "true"))
        assert client.stderr is not None and says in client.stderr.readline()
        wait_for(lambda: says in site.daemon_log(), "the daemon to say why it waits")

        def status() -> str:
            said = site.command("status")
            return f"{said.stdout}{said.stderr}"

        wait_for(lambda: says in status(), "status to say it", 20)
        checked = site.command("check", check=False)
        assert says in next(line for line in checked.stdout.splitlines() if line.startswith("queue "))
        assert checked.returncode == 1
        assert daemon.poll() is None and "is ready" not in site.daemon_log()
        lift()
        assert daemon.stdout is not None and "is ready" in daemon.stdout.readline()
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
        site.wait_all_ended([out.strip()], 60)
    finally:
        lift()
        site.close()


# certificates


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Broker]:
    """A broker with TLS, whose certificate the tests replace."""
    require_server()
    with servers.Broker(tmp_path_factory.mktemp("encrypted") / "rabbitmq", tls=True).running() as broker:
        yield broker


@pytest.fixture
def secured(encrypted: servers.Broker) -> Iterator[VirtualHost]:
    here = encrypted.virtual_host()
    yield here
    here.close()


def install(broker: servers.Broker, directory: Path) -> None:
    """Give the broker another certificate and authority, without a restart; its connections end."""
    assert broker.certificates is not None
    for ours, name in (
        *((broker.certificates.ca, "ca.pem"), (broker.certificates.server, "server.pem")),
        (broker.certificates.server_key, "server.key.pem"),
    ):
        shutil.copy(directory / name, ours)
    broker.evaluate('ssl:clear_pem_cache(), rabbit_networking:close_all_user_connections(<<"x">>, "x"), ok')


def certified(broker: servers.Broker, here: VirtualHost, tls: Tls) -> Broker:
    assert broker.tls_port is not None
    daemon = here.daemon
    return replace(
        Broker(broker.host, broker.tls_port, here.name, daemon.username, Secret(daemon.password)),
        tls=tls,
        prefix="c.yml: work_queue.",
    )


def sign(directory: Path, holder: str, valid: str) -> None:
    """Sign a holder's certificate again: it ended yesterday, or will begin in 2050."""
    if valid == "ended":
        command = f"x509 -req -days -1 -in {holder}.csr -CA ca.pem -CAkey ca.key.pem -CAcreateserial"
    else:
        (directory / "index").touch()
        (directory / "ca.cnf").write_text(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nrand_serial=yes\nnew_certs_dir=.\npolicy=p\n"
            "default_md=sha256\n[p]\ncommonName=supplied\n"
        )
        command = (
            f"ca -batch -notext -config ca.cnf -in {holder}.csr -cert ca.pem -keyfile ca.key.pem "
            "-startdate 20500101000000Z -enddate 20510101000000Z"
        )
    extensions = f"-extfile {holder}.ext -out {holder}.pem"
    subprocess.run(
        ["openssl", *f"{command} {extensions}".split()], cwd=directory, capture_output=True, check=True
    )


def test_a_renewed_authority_is_read_without_a_restart(
    encrypted: servers.Broker, secured: VirtualHost, tmp_path: Path
) -> None:
    old, new, ca = tmp_path / "old", tmp_path / "new", tmp_path / "ca.pem"
    make_certificates(old)
    make_certificates(new)
    install(encrypted, old)
    shutil.copy(old / "ca.pem", ca)
    with reading(certified(encrypted, secured, Tls(ca)), secured) as queue:
        wait_for(lambda: is_connected(queue), "the queue to be connected", 20)
        ca.unlink()
        queue.rewind()
        assert "c.yml: work_queue.tls.ca" in (said := why_not(queue)) and "No such file" in said
        ca.write_text((new / "ca.pem").read_text()[:200])
        wait_for(lambda: "contains no PEM certificate, or only a part of one" in why_not(queue), "that", 20)
        ca.write_text("")
        wait_for(lambda: "no start line" in why_not(queue), "that an empty file trusts nobody", 20)
        install(encrypted, new)
        ca.write_text((old / "ca.pem").read_text() + (new / "ca.pem").read_text())
        wait_for(lambda: is_connected(queue), "the queue to be connected", 20)
    ca.write_text("")
    with reading(certified(encrypted, secured, Tls(ca)), secured) as queue, pytest.raises(UsageError):
        queue.receive(1, 1.0)


@pytest.mark.parametrize("valid", ["ended", "not begun"])
def test_a_certificate_that_is_out_of_date_is_waited_for(
    encrypted: servers.Broker, secured: VirtualHost, tmp_path: Path, valid: str
) -> None:
    new = tmp_path / "new"
    make_certificates(new)
    shutil.copytree(new, tmp_path / "good")
    sign(new, "server", valid)
    install(encrypted, new)
    with reading(certified(encrypted, secured, Tls(new / "ca.pem")), secured) as queue:
        said = why_not(queue)
        assert ("has expired; renew it" if valid == "ended" else "is not valid yet; check the clocks") in said
        install(encrypted, tmp_path / "good")
        wait_for(lambda: is_connected(queue), "the queue to be connected", 20)


@pytest.mark.parametrize("valid", ["ended", "not begun"])
def test_a_client_certificate_that_is_out_of_date_is_waited_for(
    encrypted: servers.Broker, secured: VirtualHost, tmp_path: Path, valid: str
) -> None:
    new = tmp_path / "new"
    make_certificates(new)
    install(encrypted, new)
    shutil.copy(new / "client.pem", tmp_path / "good.pem")
    sign(new, "client", valid)
    tls = Tls(new / "ca.pem", new / "client.pem", new / "client.key.pem")
    with reading(certified(encrypted, secured, tls), secured) as queue:
        refused = "refuses the client certificate, since it has expired or is not valid yet"
        wait_for(lambda: refused in why_not(queue), "the broker's reason, which the end may overtake", 20)
        shutil.copy(tmp_path / "good.pem", new / "client.pem")
        wait_for(lambda: is_connected(queue), "the queue to be connected", 20)
