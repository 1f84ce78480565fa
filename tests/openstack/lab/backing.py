"""What the services stand on: MariaDB, memcached and RabbitMQ."""

from __future__ import annotations

import shutil
import socket
import subprocess

import pika
import pika.exceptions

from tests.openstack.lab.place import ETC, HOME, LOG, MEMCACHED_PORT, SECRET, LabError, clean_environment
from tests.openstack.lab.processes import run, start, wait
from tests.openstack.lab.steps import once

RABBITMQ = "/usr/lib/rabbitmq/bin"
OPENSTACK_AMQP_URL = f"amqp://openstack:{SECRET}@127.0.0.1:5672/openstack"
LOOPBACK_ONLY = "-kernel inet_dist_use_interface {127,0,0,1}"


def start_all() -> None:
    """Start them; ``wait_for_database`` and ``wait_for_broker`` say when they can be used."""
    with once("mariadb") as first:
        if first:
            shutil.rmtree(HOME / "mariadb", ignore_errors=True)
            run(
                "mariadb-install-db",
                "--no-defaults",
                "--user=root",
                f"--datadir={HOME / 'mariadb'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            )
    start("mariadb", ["mariadbd", f"--defaults-file={ETC / 'mariadb.cnf'}"])
    start("memcached", ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(MEMCACHED_PORT), "-m", "64"])
    start("epmd", ["epmd", "-address", "127.0.0.1"])
    start("rabbitmq", [f"{RABBITMQ}/rabbitmq-server"], rabbitmq_environment())


def wait_for_database() -> None:
    """Until it answers."""
    wait(
        "mariadb",
        lambda: (
            subprocess.run(
                sql_command("SELECT 1"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=60,
                check=False,
            ).returncode
            == 0
        ),
    )


def sql(statements: str, database: str = "") -> None:
    """Carry out SQL."""
    run(*sql_command(statements, database))


def sql_command(statements: str, database: str = "") -> list[str]:
    """The client's command line."""
    command = [
        "mariadb",
        "--no-defaults",
        "--user=root",
        "--protocol=tcp",
        "--host=127.0.0.1",
        "-e",
        statements,
    ]
    return [*command, database] if database else command


def wait_for_broker() -> None:
    """Until it answers and has the accounts: OpenStack's, and our tests'."""
    wait("rabbitmq", has_started)
    with once("broker") as first:
        if first:
            for name in ("openstack", "lando"):
                rabbitmqctl("add_vhost", name)
                rabbitmqctl("add_user", name, SECRET)
                rabbitmqctl("set_permissions", "-p", name, name, ".*", ".*", ".*")
            rabbitmqctl("set_user_tags", "lando", "administrator", "impersonator")


def is_consumed(queue: str) -> bool:
    """Whether one of OpenStack's services reads this queue."""
    try:
        with pika.BlockingConnection(pika.URLParameters(OPENSTACK_AMQP_URL)) as connection:
            return connection.channel().queue_declare(queue, passive=True).method.consumer_count > 0
    except pika.exceptions.ChannelClosedByBroker:
        return False  # it is not there yet


def has_started() -> bool:
    """Whether the broker is ready; waits for one that is starting, but not for one that is not yet."""
    try:
        rabbitmqctl("await_startup", "--timeout", "60")
    except LabError:
        return False
    return True


def rabbitmqctl(*arguments: str) -> None:
    """The broker's own tool."""
    run(f"{RABBITMQ}/rabbitmqctl", *arguments, environment=rabbitmq_environment())


def rabbitmq_environment() -> dict[str, str]:
    """Everything in the lab's directory."""
    home = HOME / "rabbitmq"
    return clean_environment(
        HOME=str(home),
        RABBITMQ_NODENAME="lab@localhost",
        RABBITMQ_MNESIA_BASE=str(home / "mnesia"),
        RABBITMQ_LOG_BASE=str(LOG),
        RABBITMQ_CONFIG_FILE=str(ETC / "rabbitmq.conf"),
        RABBITMQ_CONF_ENV_FILE="/dev/null",
        RABBITMQ_ENABLED_PLUGINS_FILE=str(ETC / "rabbitmq.plugins"),
        RABBITMQ_PID_FILE=str(home / "pid"),
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=LOOPBACK_ONLY,
        RABBITMQ_CTL_ERL_ARGS=LOOPBACK_ONLY,
        ERL_EPMD_ADDRESS="127.0.0.1",
    )


def forget_cache() -> None:
    """Empty memcached, by which Keystone and those who ask it remember valid tokens."""
    with socket.create_connection(("127.0.0.1", MEMCACHED_PORT), 10) as connection:
        connection.sendall(b"flush_all\r\n")
        assert connection.recv(16) == b"OK\r\n"
