"""Wrong settings of the RabbitMQ queue: each command prints one line that names the setting."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lando.cli import client as client_command
from lando.cli import submit
from lando.cli.main import main as lando_fsm_main
from lando.workqueue.rabbitmq import broker as of_broker
from lando.workqueue.rabbitmq import classify, inspection, publisher
from tests.support.forked_commands import Started
from tests.support.local_site import CONFIG, LocalSite, wait_for, workflow
from tests.support.rabbitmq_server import HOST, Broker, Certificates, VirtualHost, free_ports

WRONG_PASSWORD = "wr0ng-passw0rd"
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (?=ERROR|WARNING)")
"""What lines of a daemon's log begin with."""


class Installation:
    """A site, and a client, with a broker; ``wrong`` goes into ``work_queue`` of both."""

    def __init__(self, site: LocalSite, here: VirtualHost) -> None:
        self.site = site
        self.here = here
        self.client = site.root / "workerconfig.yml"
        self.job = workflow(site.root, "true")
        self.configure()

    @property
    def broker(self) -> Broker:
        assert isinstance(self.here.broker, Broker)
        return self.here.broker

    @property
    def certificates(self) -> Certificates:
        assert self.broker.certificates is not None
        return self.broker.certificates

    def configure(self, **wrong: Any) -> None:
        whole = CONFIG.format(max_workers=2) + "cloud: local\n" + self.here.landoconfig(**wrong)
        for path, text in ((self.site.config, whole), (self.client, self.here.workerconfig(**wrong))):
            path.write_text(text)
            path.chmod(0o600)

    def permit(self, username: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """Give an account other permissions."""
        words = ", ".join(f'<<"{word}">>' for word in (username, self.here.name, configure, write, read, "x"))
        self.broker.evaluate(f"rabbit_auth_backend_internal:set_permissions({words})")

    # what the commands print

    def told(self, process: Started) -> tuple[int, str]:
        """The exit code, and the only line on standard error; INFO lines of a daemon do not count."""
        out, err = process.communicate(timeout=30)
        return process.returncode, self.only_line(out, err)

    def only_line(self, out: str, err: str) -> str:
        self.holds_no_secret(out + err)
        lines = [line for line in err.splitlines() if " INFO " not in line]
        assert len(lines) == 1, (out, err)
        return lines[0]

    def holds_no_secret(self, text: str) -> None:
        assert "Traceback" not in text, text
        passwords = [account.password for account in (self.here.daemon, self.here.client, self.here.worker)]
        assert not any(secret in text for secret in (WRONG_PASSWORD, *passwords)), text

    def queue_line(self) -> str:
        """The queue's line of ``check``, which is wrong."""
        said = self.site.command("check", check=False)
        self.holds_no_secret(said.stdout + said.stderr)
        assert said.returncode == 1
        (line,) = re.findall(r"^queue +wrong +(.*)$", said.stdout, re.MULTILINE)
        return str(line)

    def account_line(self) -> str:
        """The line of ``check`` for the workers' account."""
        said = self.site.command("check", check=False)
        self.holds_no_secret(said.stdout + said.stderr)
        (line,) = re.findall(r"^worker account +(.*)$", said.stdout, re.MULTILINE)
        return str(line)

    def refused_daemon(self) -> str:
        """The error line of a daemon that ends at once with exit code 2."""
        code, line = self.told(self.site.start("daemon"))
        assert code == 2
        return line

    def client_command(self, *arguments: str) -> Started:
        return self.site.start(self.client, *arguments, program="lando-client")


@pytest.fixture
def installation(site: LocalSite, least_privilege: VirtualHost) -> Installation:
    return Installation(site, least_privilege)


Wrong = Callable[[Installation], dict[str, Any]]


def tls(files: Certificates, **more: Path) -> dict[str, str]:
    return {name: str(path) for name, path in {"ca": files.ca, **more}.items()}


WRONG_SETTINGS: dict[str, tuple[Wrong, str]] = {
    "wrong password": (lambda _: {"password": WRONG_PASSWORD}, r"work_queue\.password: "),
    "unknown account": (lambda _: {"username": "nobody-here"}, r"work_queue\.password: .*'nobody-here'"),
    "wrong virtual host": (
        lambda _: {"virtual_host": "nowhere"},
        r"work_queue\.virtual_host: .* no virtual host 'nowhere'",
    ),
    "no permission in the virtual host": (
        lambda _: {"virtual_host": "/"},
        r"work_queue\.virtual_host: the account .* has no permission in the virtual host '/'",
    ),
    "an authority that did not sign": (
        lambda here: {
            "port": here.broker.tls_port,
            "tls": tls(here.certificates, ca=here.certificates.foreign_ca),
        },
        r"work_queue\.tls\.ca: .*certificate",
    ),
    "a certificate for another host": (
        lambda here: {"host": "127.1", "port": here.broker.tls_port, "tls": tls(here.certificates)},
        r"work_queue\.host: .*certificate.*127\.1",
    ),
    "TLS to a plain port": (
        lambda here: {"tls": tls(here.certificates)},
        r"work_queue\.tls: .* does not use TLS",
    ),
    "an authority that is none": (
        lambda here: {"port": here.broker.tls_port, "tls": tls(here.certificates, ca=here.job)},
        r"work_queue\.tls\.ca: contains no PEM certificate",
    ),
    "a key of another certificate": (
        lambda here: {
            "port": here.broker.tls_port,
            "tls": tls(
                here.certificates, certificate=here.certificates.client, key=here.certificates.server_key
            ),
        },
        r"work_queue\.tls\.certificate and tls\.key: .*client\.pem",
    ),
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_every_command_names_a_wrong_setting(installation: Installation, name: str) -> None:
    wrong, says = WRONG_SETTINGS[name]
    installation.configure(**wrong(installation))
    started = {
        "lando-fsm: landoconfig.yml: ": [
            installation.site.start("-c", "landoconfig.yml", "daemon"),
            installation.site.start("-c", "landoconfig.yml", "submit", installation.job),
        ],
        f"lando-client: {installation.client}: ": [
            installation.client_command("start_worker", str(installation.job)),
        ],
    }
    for begins, processes in started.items():
        for process in processes:
            code, line = installation.told(process)
            assert code == 2, line
            assert line.startswith(begins), line
            assert re.search(says, line), line
    assert re.search(says, installation.queue_line())


# errors that are retried


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and sends nothing."""
    with socket.create_server((HOST, 0), backlog=50) as listener:
        yield int(listener.getsockname()[1])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process wait for a second, not for a minute."""
    monkeypatch.setattr(submit.publish, "__defaults__", (1.0,))
    for module in (of_broker, classify, publisher, inspection):
        monkeypatch.setattr(module, "CONNECT_TIMEOUT", 1.0)


UNREACHABLE: dict[str, tuple[Callable[[Installation, int], dict[str, Any]], str]] = {
    "nobody listens": (lambda *_: {"port": free_ports(1)[0]}, r"refused.*work_queue\.host and port"),
    "unknown host": (
        lambda *_: {"host": "no-such-host.invalid"},
        r"the broker, no-such-host\.invalid, cannot be resolved: .*work_queue\.host",
    ),
    "a port that is silent": (
        lambda _, silent: {"port": silent},
        r"did not answer.*work_queue\.host and port",
    ),
    "plain to a TLS port": (
        lambda here, _: {"port": here.broker.tls_port},
        r"work_queue\.port: .*tls",
    ),
}


@pytest.mark.parametrize("name", UNREACHABLE)
def test_commands_exit_with_1_and_the_daemon_retries_if_the_broker_cannot_be_reached(
    installation: Installation,
    silent: int,
    impatient: None,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong, says = UNREACHABLE[name]
    installation.configure(**wrong(installation, silent))
    for key, value in installation.site.environment.items():
        monkeypatch.setenv(key, value)
    daemon = installation.site.start_daemon(ready=False)
    for program, main, arguments in (
        ("lando-fsm", lando_fsm_main, ["submit", str(installation.job)]),
        (
            "lando-client",
            client_command.main,
            [str(installation.client), "start_worker", str(installation.job)],
        ),
    ):
        monkeypatch.setattr("sys.argv", [program, *arguments])
        begun = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            main()
        assert time.monotonic() - begun < 6
        said = capsys.readouterr()
        installation.holds_no_secret(said.out + said.err)
        assert ended.value.code == 1
        *waits, line = said.err.splitlines()
        assert all("retrying for up to 1 s" in each for each in waits)
        assert len(waits) == (name != "a port that is silent")  # there the first try takes all the time
        assert line.startswith(f"{program}: the queue has not confirmed the job: ")
        assert re.search(r"submit it again with --id [0-9a-f-]{36}", line)
        assert re.search(says, line), line
        assert said.out == ""
    wait_for(lambda: "disconnected" in installation.site.daemon_log(), "the daemon to say so")
    assert daemon.poll() is None
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(15) == 0
    log = installation.site.daemon_log()
    installation.holds_no_secret(log)
    told = [line for line in log.splitlines() if "disconnected from the work queue since" in line]
    assert 1 <= len(told) <= 2, log


def test_check_reports_that_the_broker_cannot_be_reached(installation: Installation) -> None:
    installation.configure(port=free_ports(1)[0])
    assert "cannot be reached" in installation.queue_line()


def test_a_daemon_becomes_ready_when_the_broker_comes_up(site: LocalSite, private_broker: Broker) -> None:
    here = Installation(site, private_broker.virtual_host())
    private_broker.stop()
    daemon = site.start_daemon(ready=False)
    wait_for(lambda: "disconnected" in site.daemon_log(), "the daemon to say so")
    time.sleep(2)
    private_broker.start()
    assert daemon.stdout is not None
    assert "ready" in daemon.stdout.readline()
    log = site.daemon_log()
    assert "connected to the work queue after" in log
    assert log.count(" ERROR ") <= 3, log
    job = here.client_command("start_worker", str(here.job)).communicate(timeout=30)[0].strip()
    site.wait(job, "queued", "booting", "running", "terminating", "done", "failed")
    assert here.client_command("shutdown_server").wait(30) == 0
    assert daemon.wait(30) == 0


# a queue that exists already

CLASSIC = {
    "x-queue-type": "classic",
    "x-dead-letter-exchange": "lando.dead-letters",
    "x-dead-letter-routing-key": "lando",
}
"""As a daemon with ``queue_type: classic`` declares it."""


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"durable": True, "arguments": CLASSIC}, r"work_queue\.queue_type: .*classic"),
        ({"durable": True}, r"work_queue\.queue_name: .*x-dead-letter"),
        ({"durable": False}, r"work_queue\.queue_(name|type): "),
        (
            {"durable": True, "arguments": {"x-queue-type": "quorum"}},
            r"work_queue\.queue_name: .*x-dead-letter",
        ),
    ],
    ids=["classic", "somebody's classic", "not durable", "other arguments"],
)
def test_the_daemon_refuses_a_queue_with_other_properties(
    installation: Installation, declared: dict[str, Any], says: str
) -> None:
    here = installation.here
    with here.connect(here.admin) as connection:
        connection.channel().queue_declare(here.queue_name, **declared)
    line = installation.refused_daemon()
    assert re.search(says, line), line


# permissions


@pytest.mark.parametrize("right", ["configure", "write", "read"])
def test_a_daemon_without_a_permission_names_the_account(installation: Installation, right: str) -> None:
    username = installation.here.daemon.username
    installation.permit(username, **{right: "^$"})
    line = installation.refused_daemon()
    assert f"work_queue.username: the account '{username}' lacks a permission: " in line
    assert "rabbitmq-setup" in line


def test_a_client_without_permission_to_publish_names_the_account(installation: Installation) -> None:
    assert installation.site.start_daemon()
    username = installation.here.client.username
    installation.permit(username, write="^$")
    code, line = installation.told(installation.client_command("start_worker", str(installation.job)))
    assert code == 2
    assert line.startswith(
        f"lando-client: {installation.client}: work_queue.username: the account '{username}'"
    )


def test_check_reports_missing_and_excessive_permissions_of_the_workers_account(
    installation: Installation,
) -> None:
    worker = installation.here.worker.username
    assert installation.account_line().startswith(f"ok       '{worker}' can log in")
    installation.site.start_daemon()
    assert installation.account_line() == f"ok       '{worker}' may send reports, and nothing else"
    installation.permit(worker, configure="^$", write="^$", read="^$")
    assert re.match(rf"warning +'{worker}': may not report; .*rabbitmq-setup", installation.account_line())
    installation.permit(worker)
    assert re.match(
        rf"warning +'{worker}' may send commands and publish to any queue and read queues",
        installation.account_line(),
    )
    installation.configure(worker_password=WRONG_PASSWORD)
    assert re.match(r"wrong +.*work_queue\.worker_password: ", installation.account_line())


# the queue does not exist yet


def test_a_client_waits_until_a_daemon_has_created_the_queue(installation: Installation) -> None:
    waiting = installation.client_command("start_worker", str(installation.job))
    assert waiting.stderr is not None
    first = waiting.stderr.readline()
    assert "the queue has not confirmed the job yet: " in first
    assert "retrying for up to 30 s" in first
    assert "a daemon creates it when it first starts" in first
    installation.site.start_daemon()
    out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 0, err
    assert err == ""
    installation.site.wait(out.strip(), "queued", "booting", "running", "terminating", "done", "failed")
