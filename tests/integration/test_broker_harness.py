"""The broker that the other tests use."""

from __future__ import annotations

import ipaddress
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pika
import pika.exceptions
import pytest

from tests.support import rabbitmq_server as broker
from tests.support.local_site import wait_for
from tests.support.rabbitmq_guard import processes
from tests.support.rabbitmq_server import Broker, VirtualHost

CHECKOUT = Path(__file__).parents[2]
LISTENING = "0A"


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """The addresses and ports that processes listen on. Source: proc_pid_net(5) and proc_pid_fd(5)."""
    sockets = {os.readlink(fd) for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = fields = line.split()
            if state == LISTENING and f"socket:[{fields[9]}]" in sockets:
                address, port = local.split(":")
                found.add((_address(address), int(port, 16)))
    return found


def _address(words: str) -> str:
    """Groups of four bytes, in this machine's byte order."""
    raw = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    return str(ipaddress.ip_address(raw))


def declare(here: VirtualHost) -> None:
    names = here.names
    with here.connect(here.daemon) as connection:
        channel = connection.channel()
        channel.queue_declare(names.queue, durable=True, arguments={"x-queue-type": "quorum"})
        for exchange in (names.commands, names.reports):
            channel.exchange_declare(exchange, "direct", durable=True)
            channel.queue_bind(names.queue, exchange, names.queue)


def publish(here: VirtualHost, account: broker.Account, exchange: str) -> None:
    with here.connect(account) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            exchange, here.queue_name, b"{}", pika.BasicProperties(delivery_mode=2), mandatory=True
        )


def test_accounts_have_their_permissions_in_a_virtual_host_of_the_tests_own(
    least_privilege: VirtualHost,
) -> None:
    names = least_privilege.names
    declare(least_privilege)
    publish(least_privilege, least_privilege.client, names.commands)
    publish(least_privilege, least_privilege.worker, names.reports)
    wait_for(lambda: least_privilege.messages() == 2, "two messages")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
        publish(least_privilege, least_privilege.worker, names.commands)

    assert isinstance(least_privilege.broker, Broker)
    other = least_privilege.broker.virtual_host()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        other.messages()
    stranger = VirtualHost(other.broker, other.name, other.queue_name, *[least_privilege.daemon] * 4)
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        stranger.connect(stranger.daemon)

    other.close()
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        other.connect(other.admin)


def test_admin_may_publish_as_any_user(least_privilege: VirtualHost) -> None:
    declare(least_privilege)
    with least_privilege.connect(least_privilege.admin) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", "lando", b"{}", pika.BasicProperties(user_id="somebody"), mandatory=True)


def test_broker_listens_on_loopback_only(least_privilege: VirtualHost) -> None:
    here = least_privilege.broker
    assert isinstance(here, Broker)
    found = listening(here.processes())
    assert {("127.0.0.1", here.port), ("127.0.0.1", here.tls_port)} < found
    assert len(found) >= 4, found  # AMQP, with TLS, Erlang's distribution, its port mapper
    assert all(ipaddress.ip_address(address).is_loopback for address, _ in found), found


def test_broker_keeps_its_messages_when_it_is_paused_stopped_and_killed(private_broker: Broker) -> None:
    here = private_broker.virtual_host()
    declare(here)
    publish(here, here.client, here.names.commands)
    private_broker.pause()
    assert not private_broker.is_up()
    private_broker.resume()
    assert private_broker.is_up()

    for end in (private_broker.stop, private_broker.kill):
        assert private_broker.processes()
        end()
        assert not private_broker.processes()
        assert not private_broker.is_up()
        private_broker.start()
        assert wait_for(here.messages, "the message") == 1

    private_broker.pause()
    private_broker.stop()
    assert not private_broker.processes()


def test_tls_with_the_certificates_made(least_privilege: VirtualHost) -> None:
    here = least_privilege.broker
    assert isinstance(here, Broker)
    files = here.certificates
    assert files is not None

    def s_client(*more: str | Path) -> str:
        done = subprocess.run(
            [*("openssl", "s_client", "-connect", f"localhost:{here.tls_port}"), *more],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return done.stdout + done.stderr

    assert "Verify return code: 0 (ok)" in s_client("-CAfile", files.ca, "-verify_hostname", "localhost")
    assert "Verify return code: 0 (ok)" in s_client("-CAfile", files.ca, "-verify_ip", "127.0.0.1")
    assert "Verify return code: 0" not in s_client("-CAfile", files.foreign_ca)
    assert "Verify return code: 0" in s_client(
        "-CAfile", files.ca, "-cert", files.client, "-key", files.client_key
    )


def test_a_given_broker_is_left_as_it_was(least_privilege: VirtualHost) -> None:
    admin = least_privilege.admin
    place = f"{least_privilege.broker.host}:{least_privilege.broker.port}/{least_privilege.name}"
    here = broker.at_url(f"amqp://{admin.username}:{admin.password}@{place}")
    declare(here)
    publish(here, here.client, here.names.commands)
    wait_for(lambda: here.messages() == 1, "the message")
    here.close()
    assert isinstance(least_privilege.broker, Broker)
    left = least_privilege.broker.ctl("list_exchanges", "-q", "-p", least_privilege.name, "name")
    assert "lando" not in left
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        here.messages()


def test_without_a_broker_tests_are_skipped_or_fail_if_one_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker, "server_program", lambda: None)
    monkeypatch.delenv(broker.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no rabbitmq-server on this machine"):
        broker.require_server()
    monkeypatch.setenv(broker.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="no rabbitmq-server on this machine"):
        broker.require_server()


def test_broker_ends_with_its_owner(tmp_path: Path) -> None:
    broker.require_server()
    script = (
        "import sys, pathlib, tests.support.rabbitmq_server\n"
        "tests.support.rabbitmq_server.Broker(pathlib.Path(sys.argv[1])).start(); print('up', flush=True)\n"
        "sys.stdin.read()\n"
    )
    root = tmp_path / "rabbitmq"
    owner = subprocess.Popen(
        [sys.executable, "-c", script, root], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"up\n"
        assert processes(root)
    finally:
        owner.kill()
        owner.communicate()
    wait_for(lambda: not processes(root), "the broker to end")


SESSION = """
import os, pathlib, time
import pytest

@pytest.mark.parametrize("number", range(2))
def test_broker(least_privilege, number):
    pathlib.Path(f"seen-{number}").write_text(str(least_privilege.broker.root))
    while not all(pathlib.Path(f"seen-{each}").exists() for each in range(2)):
        time.sleep(0.05)
    assert "wait" not in os.environ.get("THEN") or time.sleep(60)
    assert "fail" not in os.environ.get("THEN")
"""


@pytest.mark.parametrize(
    ("then", "code", "end"),
    [
        ("fail", pytest.ExitCode.TESTS_FAILED, lambda _: None),
        ("wait", pytest.ExitCode.INTERRUPTED, lambda group: os.killpg(group, signal.SIGINT)),
    ],
    ids=["failure", "Ctrl-C"],
)
def test_a_session_shares_one_broker_and_leaves_none(
    tmp_path: Path, then: str, code: int, end: Callable[[int], None]
) -> None:
    broker.require_server()
    (tmp_path / "test_session.py").write_text(SESSION)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "LANDO"))}
    options = "-n2 -p tests.conftest -p no:cacheprovider --rootdir=."
    session = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options.split()],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(CHECKOUT), "THEN": then},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        seen = [tmp_path / "seen-0", tmp_path / "seen-1"]
        wait_for(lambda: all(path.exists() and path.read_text() for path in seen), "both to have a broker")
        root, other = (Path(path.read_text()) for path in seen)
        end(session.pid)
        said = session.communicate(timeout=60)[0]
    finally:
        session.kill()
        session.communicate()
    assert session.returncode == code, said
    assert root == other
    assert not processes(root)
    assert not root.exists()
