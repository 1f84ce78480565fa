"""The script of rabbitmq-setup on a real broker, and the permissions of the accounts that it creates."""

from __future__ import annotations

import base64
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
import yaml
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ProbableAuthenticationError

from lando.workqueue.rabbitmq.names import QueueNames
from tests.conftest import SESSION
from tests.support.rabbitmq_server import Broker, require_server, shared

ODD = "tä 'sk\" $(false) `x` \\1 END_OF_DEFINITIONS"
PASSWORD = "pä'ss \"$HOME` \\"
"""What every account has, followed by its name."""


@pytest.fixture
def broker() -> Broker:
    """The session's own broker: the script must not change another one."""
    require_server()
    return shared(Path(os.environ[SESSION]))


class Installation:
    """A configuration, and the script that ``lando-fsm rabbitmq-setup`` prints for it."""

    def __init__(self, root: Path, broker: Broker, queue: str, virtual_host: str) -> None:
        self.root = root
        self.broker = broker
        self.virtual_host = virtual_host
        self.names = QueueNames(queue)
        self.daemon, self.client, self.worker = (f"{virtual_host} {who}" for who in "dcw")
        shared = {
            "host": broker.host,
            "port": broker.port,
            "virtual_host": virtual_host,
            "queue_name": queue,
        }
        self._write("workerconfig.yml", **shared, **_account(self.client))
        self._write(
            "landoconfig.yml",
            **shared,
            **_account(self.daemon),
            **{f"worker_{key}": value for key, value in _account(self.worker).items()},
        )
        (root / "tmp").mkdir()
        self.environment = {**broker.environment, "TMPDIR": str(root / "tmp")}

    def _write(self, name: str, **work_queue: Any) -> None:
        path = self.root / name
        path.write_text(yaml.safe_dump({"work_queue": work_queue}, allow_unicode=True))
        path.chmod(0o600)

    def printed(self, *arguments: str) -> str:
        return subprocess.run(
            [
                Path(sys.executable).with_name("lando-fsm"),
                "-c",
                "landoconfig.yml",
                "rabbitmq-setup",
                *arguments,
            ],
            cwd=self.root,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            timeout=30,
            check=True,
        ).stdout

    def piped_to(self, *shell: str, script: str | None = None) -> subprocess.CompletedProcess[str]:
        """``lando-fsm rabbitmq-setup | SHELL``."""
        return subprocess.run(
            shell,
            input=script or self.printed(),
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    def before_rabbitmqctl(self, commands: str) -> None:
        """Make the shell run this before each rabbitmqctl of the script."""
        path = self.environment["PATH"]
        ours = self.root / "bin" / "rabbitmqctl"
        ours.parent.mkdir()
        ours.write_text(f'#!/bin/sh\n{commands}\nexec {shutil.which("rabbitmqctl", path=path)} "$@"\n')
        ours.chmod(0o755)
        self.environment["PATH"] = f"{ours.parent}:{path}"

    def close(self) -> None:
        """Remove what was created. Names are passed in base64, so that none needs quoting."""
        names = (self.virtual_host, self.daemon, self.client, self.worker)
        virtual_host, *users = (
            f'base64:decode("{base64.b64encode(name.encode()).decode()}")' for name in names
        )
        self.broker.evaluate(
            f'catch rabbit_vhost:delete({virtual_host}, <<"tests">>), '
            f'[catch rabbit_auth_backend_internal:delete_user(User, <<"tests">>) '
            f"|| User <- [{', '.join(users)}]], ok"
        )

    def connect(self, name: str, password: str | None = None) -> pika.BlockingConnection:
        parameters = pika.ConnectionParameters(
            host=self.broker.host,
            port=self.broker.port,
            virtual_host=self.virtual_host,
            credentials=pika.PlainCredentials(name, password or _account(name)["password"]),
            socket_timeout=10,
            blocked_connection_timeout=10,
        )
        return pika.BlockingConnection(parameters)

    def may(self, name: str, action: Callable[[BlockingChannel], object]) -> bool:
        """Whether the broker permits it to this account; any other error is raised."""
        connection = self.connect(name)
        try:
            channel = connection.channel()
            channel.confirm_delivery()
            action(channel)
        except ChannelClosedByBroker as error:
            assert error.reply_code == 403, error
            return False
        finally:
            connection.close()
        return True

    def declare_all(self) -> None:
        """Declare, as the daemon, the exchanges that clients and workers publish to."""
        connection = self.connect(self.daemon)
        channel = connection.channel()
        names = self.names
        for exchange in (names.commands, names.reports, names.dead_letters):
            channel.exchange_declare(exchange, "direct", durable=True)
        for queue in (names.queue, names.dead_letters):
            arguments = {"x-dead-letter-exchange": names.dead_letters} if queue == names.queue else {}
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", **arguments})
        for exchange in (names.commands, names.reports):
            channel.queue_bind(names.queue, exchange, names.queue)
        channel.queue_bind(names.dead_letters, names.dead_letters, names.queue)
        channel.queue_declare(names.lock, exclusive=True)
        connection.close()


def _account(name: str) -> dict[str, str]:
    return {"username": name, "password": PASSWORD + name}


Make = Callable[..., Installation]


@pytest.fixture
def make(tmp_path: Path, broker: Broker) -> Iterator[Make]:
    with contextlib.ExitStack() as made:

        def installation(queue: str, virtual_host: str) -> Installation:
            here = Installation(tmp_path, broker, queue, virtual_host)
            made.callback(here.close)
            return here

        yield installation


@pytest.fixture
def installation(make: Make, request: pytest.FixtureRequest) -> Installation:
    return make(queue="lando", virtual_host=request.node.name)


def publishes(exchange: str, routing_key: str) -> Callable[[BlockingChannel], object]:
    return lambda channel: channel.basic_publish(exchange, routing_key, b"{}", mandatory=True)


def may_only_publish_to(here: Installation, name: str, allowed: str) -> None:
    names = here.names
    for exchange in ("", names.commands, names.reports, names.dead_letters, "amq.direct", "amq.fanout"):
        if exchange != allowed:
            assert not here.may(name, publishes(exchange, names.queue)), exchange
    assert here.may(name, publishes(allowed, names.queue)), "and it arrives, or mandatory would return it"
    for queue in (names.queue, names.dead_letters):
        assert not here.may(name, lambda channel, queue=queue: channel.basic_get(queue))
        assert not here.may(name, lambda channel, queue=queue: channel.basic_consume(queue, print))
        assert not here.may(name, lambda channel, queue=queue: channel.queue_purge(queue))
        assert not here.may(name, lambda channel, queue=queue: channel.queue_delete(queue))
        assert not here.may(name, lambda channel, queue=queue: channel.queue_bind(queue, allowed, "other"))
    for own in ("", f"{names.queue}.mine", names.lock):
        assert not here.may(name, lambda channel, own=own: channel.queue_declare(own, exclusive=True))
    assert not here.may(name, lambda channel: channel.exchange_declare("mine"))
    for exchange in (allowed, names.dead_letters):
        assert not here.may(name, lambda channel, exchange=exchange: channel.exchange_delete(exchange))
        assert not here.may(name, lambda channel, exchange=exchange: channel.exchange_bind(exchange, allowed))


def test_each_account_has_its_permissions_and_no_others(installation: Installation) -> None:
    here = installation
    done = here.piped_to("sh")
    assert (done.returncode, done.stdout, done.stderr) == (0, "The accounts are there.\n", "")
    here.declare_all()
    may_only_publish_to(here, here.client, here.names.commands)
    may_only_publish_to(here, here.worker, here.names.reports)
    assert here.may(here.daemon, lambda channel: channel.basic_get(here.names.queue, auto_ack=True))
    assert here.may(here.daemon, publishes(here.names.dead_letters, here.names.queue))
    for other in ("other", "lando.other", "landox", "xlando", "lando-commands", ""):
        assert not here.may(here.daemon, lambda channel, other=other: channel.queue_declare(other))
    for exchange in ("", "amq.direct"):
        assert not here.may(here.daemon, publishes(exchange, here.names.queue))
    for name in (here.daemon, here.client, here.worker):
        with pytest.raises(ProbableAuthenticationError):
            here.connect(name, "another password")
    tags = dict(line.split("\t") for line in here.broker.ctl("--silent", "list_users").splitlines())
    assert tags[here.daemon] == tags[here.client] == tags[here.worker] == "[]"


def test_odd_names_and_passwords(make: Make) -> None:
    here = make(queue=ODD, virtual_host=ODD)
    for shell in (("sh",), ("bash",)):
        done = here.piped_to(*shell)
        assert (done.returncode, done.stderr) == (0, "")
    here.declare_all()
    assert here.may(here.client, publishes(here.names.commands, ODD))
    assert not here.may(here.client, publishes(here.names.reports, ODD))
    assert here.may(here.worker, publishes(here.names.reports, ODD))
    assert not here.may(here.worker, publishes(here.names.commands, ODD))
    assert here.broker.ctl("--silent", "list_vhosts", "name").splitlines().count(ODD) == 1


def described(here: Installation) -> str:
    """What the broker lists for the virtual host; other virtual hosts come and go."""
    said = here.broker.ctl("--silent", "list_vhosts", "name", "description", "tags")
    (line,) = [line for line in said.splitlines() if line.split("\t")[0] == here.virtual_host]
    return line


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_running_the_script_again_changes_nothing(installation: Installation, shell: str) -> None:
    """A shell reads the script while it runs it: a command that reads standard input would read the rest."""
    here = installation
    here.broker.ctl(
        "--silent", "add_vhost", here.virtual_host, "--description", "a description", "--tags", "kept"
    )
    before = described(here)
    for _ in range(2):
        done = here.piped_to(shell)
        assert (done.returncode, done.stdout, done.stderr) == (0, "The accounts are there.\n", "")
    assert "a description" in before
    assert described(here) == before
    here.declare_all()
    assert here.may(here.client, publishes(here.names.commands, here.names.queue))
    assert list((here.root / "tmp").iterdir()) == [], "no file stays"


def test_an_account_with_more_permissions_loses_them(installation: Installation) -> None:
    here = installation
    here.broker.ctl("--silent", "add_vhost", here.virtual_host)
    here.broker.ctl("--silent", "add_user", here.client, "another")
    here.broker.ctl("--silent", "set_user_tags", here.client, "administrator")
    here.broker.ctl("--silent", "set_permissions", "-p", here.virtual_host, here.client, ".*", ".*", ".*")
    assert here.piped_to("sh").returncode == 0
    here.declare_all()
    may_only_publish_to(here, here.client, here.names.commands)
    assert f"{here.client}\t[]" in here.broker.ctl("--silent", "list_users").splitlines()


def test_a_virtual_host_called_like_a_column(make: Make) -> None:
    here = make(queue="lando", virtual_host="name")
    assert here.piped_to("sh").returncode == 0
    here.declare_all()


def test_the_definitions_file(installation: Installation) -> None:
    here = installation
    here.printed("--definitions", "made.json")
    here.broker.ctl("--silent", "import_definitions", str(here.root / "made.json"))
    here.declare_all()
    may_only_publish_to(here, here.worker, here.names.reports)


@pytest.mark.parametrize("failing", ["list_vhosts", "import_definitions"])
def test_rabbitmqctl_that_fails_ends_the_script(installation: Installation, failing: str) -> None:
    here = installation
    here.before_rabbitmqctl(f'case "$*" in *{failing}*) echo broken >&2; exit 69;; esac')
    done = here.piped_to("sh")
    assert (done.returncode, done.stdout, done.stderr) == (69, "", "broken\n")
    assert list((here.root / "tmp").iterdir()) == [], "no file stays"


def test_what_others_on_the_brokers_machine_can_see(make: Make) -> None:
    """Everybody can see arguments; the file is readable by the account that Debian runs rabbitmqctl as."""
    here = make(queue="secret-queue", virtual_host="secret-vhost")
    here.before_rabbitmqctl(
        'echo "$*"; for last; do :; done; if [ -e "$last" ]; then stat -c "%a %u" "$last"; fi'
    )
    done = here.piped_to("sh")
    assert done.returncode == 0
    assert "secret" not in done.stdout + done.stderr
    modes = [line for line in done.stdout.splitlines() if line.startswith("600 ")]
    assert modes == [f"600 {_reader()}"] * 2


def _reader() -> int:
    try:
        return os.getuid() or pwd.getpwnam("rabbitmq").pw_uid
    except KeyError:
        return 0
