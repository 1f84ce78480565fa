"""A real RabbitMQ for tests: private servers, and virtual hosts on them with accounts of their own."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pika
import pika.exceptions
import pytest
import yaml

from lando.workqueue.rabbitmq.names import (
    QueueNames,
    client_permissions,
    daemon_permissions,
    worker_permissions,
)
from tests.support.rabbitmq_guard import GUARD_PID, SERVER_PID, processes
from tests.support.shared_servers import locked, session_process

URL = "LANDO_TEST_AMQP_URL"
"""Environment variable: an administrator's account on a broker to be used by the tests that can."""
REQUIRED = "LANDO_TEST_BROKER_REQUIRED"
"""Environment variable: when set, a test that finds no RabbitMQ fails instead of being skipped."""

HOST = "127.0.0.1"
PATIENCE = 60.0
TRIES = 3
ELECTION = 1.0
"""Seconds in which a quorum queue of one node elects its leader, where it does."""
QUEUE_NAME = "lando"

# What Debian puts on PATH runs only as root, and then as another user; this is what it calls.
DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
MORE_PATH = "/usr/local/sbin:/usr/sbin"

ERLANG_ARGUMENTS = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
LOOPBACK_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"

SETTINGS = """
listeners.tcp.1 = {host}:{port}
default_user = nobody
default_pass = {password}
log.console = false
raft.wal_max_size_bytes = 67108864
"""
TLS_SETTINGS = """
listeners.ssl.1 = {host}:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {server}
ssl_options.keyfile = {server_key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
"""


def server_program() -> Path | None:
    """The rabbitmq-server of this machine."""
    if DEBIAN.exists():
        return DEBIAN
    found = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:{MORE_PATH}")
    return Path(found) if found else None


def require_server() -> None:
    """Skip the test where there is no rabbitmq-server; fail it where one is required."""
    if server_program() is None:
        give_up("no rabbitmq-server on this machine; install it (apt-get install rabbitmq-server)")


def give_up(reason: str) -> None:
    """Skip the test, or fail it where a broker is required."""
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason} ({REQUIRED} is set)", pytrace=False)
    pytest.skip(reason)


class Broker:
    """A rabbitmq-server of our own: node, ports, Erlang port mapper, cookie and files, on loopback only.

    Args:
        root: its directory; a Broker of the same directory, in another process, too, is the same server.
        tls: listen on a second port, with TLS.
        owner: the process with which it ends, however that ends; this one unless given.
    """

    host = HOST

    def __init__(self, root: Path, tls: bool = False, owner: int | None = None) -> None:
        self.root = root.resolve()
        self.owner = owner or os.getpid()
        self.certificates: Certificates | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        if not self._ports_file.exists():
            self._prepare(tls)
        self._read_ports()

    # life

    def start(self) -> None:
        """Start it, or start it again with the data it had; returns when it accepts AMQP connections."""
        program = server_program()
        assert program is not None, "no rabbitmq-server"
        assert not self.processes(), "it is running"
        fresh = not self._data.exists()
        for _ in range(TRIES):
            self._guard = self._start_guarded(program)
            if self._comes_up():
                if not fresh:
                    self._see_to_leaders()
                return
            self._wait_until_gone()
            if fresh:  # nobody knows its ports yet: take others, in case one was taken meanwhile
                shutil.rmtree(self._data, ignore_errors=True)
                self._choose_ports(tls=self.tls_port is not None)
        raise AssertionError(f"rabbitmq-server does not start:\n{self.log()[-3000:]}")

    def _see_to_leaders(self) -> None:
        """Some versions leave a queue without a leader when a client speaks to it before its election.

        https://github.com/rabbitmq/rabbitmq-server/issues/10070
        """
        time.sleep(ELECTION)
        self.evaluate(
            "[ra:trigger_election({Name, Node}) || "
            "Queue <- rabbit_amqqueue:list_by_type(rabbit_quorum_queue), "
            "{Name, Node} <- [amqqueue:get_pid(Queue)], "
            "ra_leaderboard:lookup_leader(Name) =:= undefined]"
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[Broker]:
        """Start it, and stop it at the end."""
        try:
            self.start()
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop it in good order; returns when no process of it is left. It may be paused, or not running."""
        self._signal(GUARD_PID, signal.SIGTERM)
        self._wait_until_gone()

    def kill(self) -> None:
        """Kill it with -9; returns when no process of it is left."""
        self._signal_node(signal.SIGKILL)
        self._wait_until_gone()

    def pause(self) -> None:
        """Hold it where it is: connections stay, nothing answers. Returns when every thread has stopped."""
        self._signal_node(signal.SIGSTOP)
        node = Path("/proc") / (self.root / SERVER_PID).read_text().strip() / "task"
        deadline = time.monotonic() + PATIENCE
        while any(stat.read_text().rpartition(")")[2].split()[0] != "T" for stat in node.glob("*/stat")):
            assert time.monotonic() < deadline, "the broker does not stop"
            time.sleep(0.01)

    def resume(self) -> None:
        """Let it go on."""
        self._signal_node(signal.SIGCONT)

    def is_up(self) -> bool:
        """Whether it answers to AMQP within a second."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(b"AMQP\x00\x00\x09\x01")
                return connection.recv(1) == b"\x01"  # a method frame: connection.start
        except OSError:
            return False

    def processes(self) -> list[int]:
        """Its processes: the node, its helpers, its port mapper, and what guards them."""
        return processes(self.root)

    # administration

    def ctl(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` says; costs most of a second."""
        assert self.processes(), "it is not running"  # rabbitmqctl would leave a port mapper behind
        return self._run("rabbitmqctl", *arguments)

    def evaluate(self, expression: str) -> str:
        """The value of an Erlang expression on the node. Quick where Erlang brings ``erl_call``."""
        erl_call = shutil.which("erl_call")
        if erl_call is None:
            return self.ctl("eval", f"{expression}.")
        node = self.environment["RABBITMQ_NODENAME"]
        # Two of one name at a time are refused; erl_call's own "random" names are alike within a second.
        name = f"tests-{secrets.token_hex(4)}"
        command = (erl_call, "-h", name, "-sname", node, "-timeout", "30", "-e")
        said = self._run(*command, input=f"{expression}.\n")
        value = re.fullmatch(r"\{ok, (.*)\}\s*", said, re.DOTALL)
        assert value, (expression, said)
        return value[1]

    def virtual_host(self, queue_name: str = QUEUE_NAME) -> VirtualHost:
        """A new virtual host, with accounts of least privilege."""
        name = f"test-{secrets.token_hex(4)}"
        accounts = {
            role: Account(f"{name}-{role}", secrets.token_urlsafe(16))
            for role in ("daemon", "client", "worker", "admin")
        }
        definitions = base64.b64encode(json.dumps(_definitions(name, accounts, queue_name)).encode()).decode()
        self.evaluate(f'ok = rabbit_definitions:import_raw(base64:decode("{definitions}"))')
        return VirtualHost(self, name, queue_name, **accounts)

    def remove_virtual_host(self, name: str) -> None:
        """Remove what ``virtual_host`` made."""
        users = ", ".join(f'<<"{name}-{role}">>' for role in ("daemon", "client", "worker", "admin"))
        self.evaluate(
            f'rabbit_vhost:delete(<<"{name}">>, <<"tests">>), '
            f'[rabbit_auth_backend_internal:delete_user(User, <<"tests">>) || User <- [{users}]], ok'
        )

    def log(self) -> str:
        """Everything it said so far."""
        texts = [path.read_text(errors="replace") for path in sorted((self.root / "log").glob("*.log"))]
        return "\n".join([*texts, (self.root / "console").read_text(errors="replace")])

    @property
    def environment(self) -> dict[str, str]:
        """What makes RabbitMQ's commands, ``rabbitmqctl`` among them, speak of this server."""
        inherited = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("RABBITMQ_", "ERL_", "NOTIFY_SOCKET"))
        }
        program = server_program()
        commands = f"{program.parent}:" if program else ""
        return {
            **inherited,
            "HOME": str(self.root),  # holds the cookie
            "PATH": f"{commands}{os.environ['PATH']}",
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": "lando@localhost",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._data),
            "RABBITMQ_LOG_BASE": str(self.root / "log"),
            "RABBITMQ_PID_FILE": str(self.root / "node.pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.root / "enabled_plugins"),
            # The machine's own settings, all of them, are for its own broker.
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.root / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.root / "conf.d" / "*.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.root / "advanced.config"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{ERLANG_ARGUMENTS} {LOOPBACK_ONLY}",
            "RABBITMQ_CTL_ERL_ARGS": f"+S 1:1 {LOOPBACK_ONLY}",
        }

    # how

    @property
    def _data(self) -> Path:
        return self.root / "data"

    @property
    def _ports_file(self) -> Path:
        return self.root / "ports.json"

    def _prepare(self, tls: bool) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "enabled_plugins").write_text("[].")
        (self.root / "console").touch()
        cookie = self.root / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(20))
        cookie.chmod(0o400)
        if tls:
            make_certificates(self.root / "certificates")
        self._choose_ports(tls)

    def _choose_ports(self, tls: bool) -> None:
        port, tls_port, distribution, epmd = free_ports(4)
        settings = SETTINGS.format(host=HOST, port=port, password=secrets.token_hex(16))
        if tls:
            certificates = Certificates.within(self.root / "certificates")
            settings += TLS_SETTINGS.format(host=HOST, port=tls_port, **asdict(certificates))
        (self.root / "rabbitmq.conf").write_text(settings)
        self._ports_file.write_text(json.dumps([port, tls_port if tls else None, distribution, epmd]))
        self._read_ports()

    def _read_ports(self) -> None:
        self.port: int
        self.tls_port: int | None
        self.port, self.tls_port, self._distribution_port, self._epmd_port = json.loads(
            self._ports_file.read_text()
        )
        if self.tls_port is not None:
            self.certificates = Certificates.within(self.root / "certificates")

    def _start_guarded(self, program: Path) -> subprocess.Popen[bytes]:
        guard = Path(__file__).with_name("rabbitmq_guard.py")
        with (self.root / "console").open("ab") as console:
            return subprocess.Popen(
                [sys.executable, guard, self.root, str(self.owner), program],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,  # Ctrl-C is for the tests, which then stop it
            )

    def _comes_up(self) -> bool:
        assert self._guard is not None
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._guard.poll() is None:
            if self.is_up():
                return True
            time.sleep(0.05)
        self.stop()
        return False

    def _signal_node(self, number: int) -> None:
        # The node's process group, not the guard: that must notice when the owner ends.
        self._signal(SERVER_PID, number, group=True)

    def _signal(self, file: str, number: int, group: bool = False) -> None:
        try:
            pid = int((self.root / file).read_text())
        except FileNotFoundError:
            return
        if pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(pid, number)

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while left := self.processes():
            assert time.monotonic() < deadline, f"processes of the broker are left: {left}"
            time.sleep(0.02)
        if self._guard is not None:
            self._guard.wait()

    def _run(self, *command: str, input: str | None = None) -> str:
        done = subprocess.run(
            command,
            env=self.environment,
            input=input,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


def free_ports(count: int) -> tuple[int, ...]:
    """Ports that nobody listens on just now.

    Below the range that outgoing connections take theirs from: a client that tries to reconnect to a stopped
    broker could otherwise get the broker's port as its own, and so connect to itself.
    """
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    with contextlib.ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind((HOST, random.randrange(10240, highest)))
                ports.append(probe.getsockname()[1])
        return tuple(ports)


@dataclass(frozen=True)
class Foreign:
    """Somebody's broker, at LANDO_TEST_AMQP_URL, where nothing but AMQP can be used."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True)
class Account:
    """Of the broker."""

    username: str
    password: str


@dataclass
class VirtualHost:
    """A virtual host of a test's own. ``admin`` may do everything in it, in anybody's name."""

    broker: Broker | Foreign
    name: str
    queue_name: str
    daemon: Account
    client: Account
    worker: Account
    admin: Account

    @property
    def names(self) -> QueueNames:
        """What the daemon declares here."""
        return QueueNames(self.queue_name)

    def landoconfig(self, **more: Any) -> str:
        """The section ``work_queue`` of landoconfig.yml, with more keys or other values."""
        workers = {"worker_username": self.worker.username, "worker_password": self.worker.password}
        return self._work_queue(self.daemon, **{**workers, **more})

    def workerconfig(self, **more: Any) -> str:
        """The configuration of a client."""
        return self._work_queue(self.client, **more)

    def _work_queue(self, account: Account, **more: Any) -> str:
        where = {"host": self.broker.host, "port": self.broker.port, "virtual_host": self.name}
        if isinstance(self.broker, Foreign) and self.broker.tls:
            where["tls"] = True
        section = {**where, **asdict(account), "queue_name": self.queue_name, **more}
        return yaml.safe_dump({"work_queue": section}, sort_keys=False)

    def parameters(self, account: Account) -> pika.ConnectionParameters:
        """For a connection of pika's."""
        encrypted = isinstance(self.broker, Foreign) and self.broker.tls
        return pika.ConnectionParameters(
            host=self.broker.host,
            port=self.broker.port,
            virtual_host=self.name,
            credentials=pika.PlainCredentials(account.username, account.password),
            ssl_options=pika.SSLOptions(ssl.create_default_context(), self.broker.host)
            if encrypted
            else None,
            heartbeat=0,  # a test sits still for as long as it likes
        )

    def connect(self, account: Account) -> pika.BlockingConnection:
        """A connection; the caller closes it (``with``)."""
        return pika.BlockingConnection(self.parameters(account))

    def messages(self, queue: str | None = None) -> int:
        """How many messages are ready in a queue, the installation's unless named."""
        with self.connect(self.admin) as connection:
            declared = connection.channel().queue_declare(queue or self.queue_name, passive=True)
            return int(declared.method.message_count)

    def close(self) -> None:
        """Remove it and its accounts; on somebody's broker, what the daemon declared."""
        if isinstance(self.broker, Broker):
            if self.broker.processes():
                self.broker.resume()
                self.broker.remove_virtual_host(self.name)
            return
        names = self.names
        with self.connect(self.admin) as connection:
            channel = connection.channel()
            for queue in names.queues:
                channel.queue_delete(queue)
            for exchange in (names.commands, names.reports, names.dead_letters):
                channel.exchange_delete(exchange)


def at_url(url: str) -> VirtualHost:
    """The virtual host of an amqp or amqps URL: one account for everybody, a queue name of our own."""
    parts = urlsplit(url)
    tls = parts.scheme == "amqps"
    account = Account(unquote(parts.username or "guest"), unquote(parts.password or "guest"))
    broker = Foreign(parts.hostname or "localhost", parts.port or (5671 if tls else 5672), tls)
    queue_name = f"lando-test-{secrets.token_hex(4)}"
    return VirtualHost(broker, unquote(parts.path[1:]) or "/", queue_name, *[account] * 4)


def _definitions(virtual_host: str, accounts: dict[str, Account], queue_name: str) -> dict[str, Any]:
    names = QueueNames(queue_name)
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    permissions = {
        "daemon": asdict(daemon_permissions(names)),
        "client": asdict(client_permissions(names)),
        "worker": asdict(worker_permissions(names)),
        "admin": everything,
    }
    return {
        "vhosts": [{"name": virtual_host}],
        "users": [
            {
                "name": account.username,
                "password": account.password,
                "tags": "impersonator" if role == "admin" else "",
            }
            for role, account in accounts.items()
        ],
        "permissions": [
            {"user": account.username, "vhost": virtual_host, **permissions[role]}
            for role, account in accounts.items()
        ],
    }


@dataclass(frozen=True)
class Certificates:
    """Files in PEM; ``foreign_ca`` is an authority that signed nothing here."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    foreign_ca: Path

    @classmethod
    def within(cls, directory: Path) -> Certificates:
        """The files of a directory."""
        names = ("ca", "server", "server.key", "client", "client.key", "foreign")
        return cls(*(directory / f"{name}.pem" for name in names))


def make_certificates(directory: Path, address: str = HOST) -> None:
    """Make them, by the command ``openssl``; the holders are at ``address``, too."""
    directory.mkdir()
    for authority in ("ca", "foreign"):
        _openssl(directory, f"req -x509 -days 30 -subj /CN={authority} -out {authority}.pem", authority)
    for holder in ("server", "client"):
        _openssl(directory, f"req -subj /CN={holder} -out {holder}.csr", holder)
        (directory / f"{holder}.ext").write_text(f"subjectAltName=IP:127.0.0.1,IP:{address},DNS:localhost\n")
        _openssl(
            directory,
            f"x509 -req -days 30 -in {holder}.csr -CA ca.pem -CAkey ca.key.pem -CAcreateserial"
            f" -extfile {holder}.ext -out {holder}.pem",
        )


def _openssl(directory: Path, command: str, new_key: str | None = None) -> None:
    key = f" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {new_key}.key.pem" if new_key else ""
    done = subprocess.run(
        ["openssl", *f"{command}{key}".split()], cwd=directory, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# The one server that all processes of a test session share.


def shared(directory: Path) -> Broker:
    """The session's broker, with TLS, started by whoever needs it first; ``stop_shared`` ends it."""
    with locked(directory, "rabbitmq"):
        broker = Broker(directory / "rabbitmq", tls=True, owner=session_process())
        if not broker.processes():
            broker.start()
        return broker


def stop_shared(directory: Path) -> None:
    """Stop the session's broker, if anybody needed it."""
    with locked(directory, "rabbitmq"):
        if (directory / "rabbitmq").exists():
            Broker(directory / "rabbitmq").stop()
