"""rabbitmq-setup: hashes instead of passwords, the least each account needs, one clients' file for good."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lando.config.site_config import load
from lando.workqueue.rabbitmq.accounts import password_hash
from tests.conftest import Commands, Said

WORK_QUEUE = {
    "host": "broker.example.org",
    "username": "lando",
    "password": "hunter2-queue",
    "worker_username": "lobot",
    "worker_password": "hunter2-worker",
    "queue_name": "tasks",
}
CLIENT = {"host": "broker.example.org", "username": "ann", "password": "hunter2-ann", "queue_name": "tasks"}


def written(path: Path, work_queue: Mapping[str, Any] | None, **more: Any) -> Path:
    given = {key: value for key, value in {**(work_queue or {}), **more}.items() if value is not None}
    path.write_text(yaml.safe_dump({"work_queue": given} if given else {}, allow_unicode=True))
    path.chmod(0o600)
    return path


class Printer:
    """``lando-fsm rabbitmq-setup`` for a configuration in ``root``."""

    def __init__(self, root: Path, command: Commands) -> None:
        self.root = root
        self.config = written(root / "landoconfig.yml", WORK_QUEUE)
        self.clients_file = root / "workerconfig.yml"
        self._command = command

    def configure(self, **more: Any) -> None:
        written(self.config, WORK_QUEUE, **more)

    def configure_clients(self, **more: Any) -> None:
        written(self.clients_file, CLIENT, **more)

    def run(self, *arguments: str | Path) -> Said:
        return self._command("-c", self.config, "rabbitmq-setup", *arguments)

    def definitions(self) -> dict[str, Any]:
        said = self.run("--definitions", "-")
        assert said.code == 0, said.err
        found = json.loads(said.out)
        assert isinstance(found, dict)
        return found

    def refused(self) -> str:
        said = self.run()
        assert (said.code, said.out) == (2, "")
        assert "hunter2" not in said.err
        return said.err


@pytest.fixture
def printer(tmp_path: Path, command: Commands) -> Printer:
    return Printer(tmp_path, command)


def by(key: str, entries: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    return {entry[key]: entry for entry in entries}


def belongs_to(hashed: str, password: str) -> bool:
    raw = base64.b64decode(hashed, validate=True)
    return raw[4:] == hashlib.sha256(raw[:4] + password.encode("utf-8")).digest()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_hash_is_the_one_of_the_brokers_documentation() -> None:
    """https://www.rabbitmq.com/docs/passwords#computing-password-hash"""
    found = password_hash("test12", bytes.fromhex("908DC60A"))
    assert found == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"


def test_a_hash_is_salted_anew_each_time_and_still_the_passwords() -> None:
    hashes = {password_hash("pässword") for _ in range(20)}
    assert len(hashes) == 20
    assert all(belongs_to(hashed, "pässword") for hashed in hashes)
    assert not any(belongs_to(hashed, "password") for hashed in hashes)


def test_three_accounts_without_tags_in_one_virtual_host(printer: Printer) -> None:
    printer.configure(virtual_host="landö")
    printer.configure_clients(virtual_host="landö")
    found = printer.definitions()
    assert list(found) == ["vhosts", "users", "permissions"], (
        "queues and exchanges are the daemon's to declare"
    )
    assert found["vhosts"] == [{"name": "landö"}]
    users = by("name", found["users"])
    for name, password in (("lando", "hunter2-queue"), ("lobot", "hunter2-worker"), ("ann", "hunter2-ann")):
        assert belongs_to(users[name]["password_hash"], password)
        assert users[name]["hashing_algorithm"] == "rabbit_password_hashing_sha256"
        assert users[name]["tags"] == ""
    assert len(users) == 3
    assert {(entry["user"], entry["vhost"]) for entry in found["permissions"]} == {
        (name, "landö") for name in users
    }


@pytest.mark.parametrize("queue", ["tasks", "a.b+c", "tä sk's (x|y) $[1]"])
def test_the_least_that_each_needs(printer: Printer, queue: str) -> None:
    printer.configure(queue_name=queue)
    printer.configure_clients(queue_name=queue)
    ours = {queue, *(f"{queue}.{part}" for part in ("commands", "reports", "dead-letters", "daemon"))}
    others = {
        "",
        "amq.default",
        "amq.gen-x",
        "other",
        f"x{queue}",
        f"{queue}x",
        queue.replace(".", "x") + "2",
    }
    permissions = by("user", printer.definitions()["permissions"])

    def allowed(user: str, what: str) -> set[str]:
        return {name for name in ours | others if re.search(permissions[user][what], name)} - {""}

    assert allowed("lando", "configure") == allowed("lando", "write") == allowed("lando", "read") == ours
    assert allowed("ann", "write") == {f"{queue}.commands"}
    assert allowed("lobot", "write") == {f"{queue}.reports"}
    for user in ("ann", "lobot"):
        assert permissions[user]["configure"] == permissions[user]["read"] == "^$"


def test_no_password_is_printed(printer: Printer) -> None:
    printer.configure_clients()
    for arguments in ((), ("--definitions", "-"), ("--definitions", "made.json")):
        said = printer.run(*arguments)
        assert said.code == 0
        assert "hunter2" not in said.out + said.err
    assert "hunter2" not in Path("made.json").read_text()


def test_the_script_says_what_each_account_is_for(printer: Printer) -> None:
    printer.configure_clients()
    comments = [line for line in printer.run().out.splitlines() if line.startswith("#   Account ")]
    assert comments == [
        "#   Account lando: the daemon; makes, reads and writes tasks and what belongs to it",
        "#   Account ann: who submits jobs; may only publish to tasks.commands",
        "#   Account lobot: the workers on VMs; may only publish to tasks.reports",
    ]


def test_a_definitions_file_is_private_and_complete(printer: Printer) -> None:
    printer.configure_clients()
    made = printer.root / "made.json"
    made.write_text("of old")
    made.chmod(0o644)
    said = printer.run("--definitions", made)
    assert (said.code, said.out) == (0, "")
    assert "rabbitmqctl import_definitions" in said.err
    assert mode(made) == 0o600
    assert set(by("name", json.loads(made.read_text())["users"])) == {"lando", "lobot", "ann"}
    assert {path.name for path in printer.root.iterdir()} == {
        "landoconfig.yml",
        "workerconfig.yml",
        "made.json",
    }


def test_the_clients_file_is_written_once(printer: Printer) -> None:
    first = printer.run("--definitions", "-")
    assert f"wrote {printer.clients_file}" in first.err
    assert "give it to those who submit jobs" in first.err
    assert mode(printer.clients_file) == 0o600
    kept = printer.clients_file.read_bytes()
    client = load(printer.clients_file, client=True).work_queue
    assert client is not None
    broker = client.broker
    assert (broker.host, broker.port, broker.virtual_host) == ("broker.example.org", 5672, "/")
    assert (broker.username, client.queue_name, broker.tls) == ("tasks-client", "tasks", None)
    assert len(client.broker.password.reveal()) >= 24

    second = printer.run("--definitions", "-")
    assert second.err == ""
    assert printer.clients_file.read_bytes() == kept
    for said in (first, second):
        users = by("name", json.loads(said.out)["users"])
        assert belongs_to(users["tasks-client"]["password_hash"], client.broker.password.reveal())
        assert client.broker.password.reveal() not in said.out + said.err


def test_two_clients_files_have_two_passwords(printer: Printer) -> None:
    files = [printer.root / name for name in ("one.yml", "two.yml")]
    assert [printer.run("--client-config", file).code for file in files] == [0, 0]
    passwords = [yaml.safe_load(file.read_text())["work_queue"]["password"] for file in files]
    assert passwords[0] != passwords[1]
    assert not printer.clients_file.exists()


def test_the_clients_file_holds_odd_names_and_what_tls_needs(printer: Printer) -> None:
    ca = printer.root / "ca.pem"
    ca.write_text("a certificate")
    odd = "nü 'x\" #1: \\"
    printer.configure(queue_name=odd, virtual_host=odd, tls={"ca": "ca.pem"}, port=5673)
    said = printer.run()
    assert said.code == 0
    assert f"tls.ca is {ca}" in said.err
    client = load(printer.clients_file, client=True).work_queue
    assert client is not None and client.broker.tls is not None
    broker, tls = client.broker, client.broker.tls
    assert (client.queue_name, broker.virtual_host, broker.username) == (odd, odd, f"{odd}-client")
    assert (broker.port, tls.ca, tls.certificate) == (5673, ca, None)


def test_tls_by_the_systems_authorities_reaches_the_clients_file(printer: Printer) -> None:
    printer.configure(tls=True)
    assert printer.run().code == 0
    client = load(printer.clients_file, client=True).work_queue
    assert client is not None and client.broker.tls is not None
    assert (client.broker.port, client.broker.tls.ca) == (5671, None)


def test_who_writes_this_machines_address_is_told(printer: Printer) -> None:
    printer.configure(host="127.0.0.1")
    assert "host is 127.0.0.1; clients on other machines need the broker's name" in printer.run().err


def test_the_configuration_as_a_url(printer: Printer) -> None:
    config = {key: value for key, value in WORK_QUEUE.items() if key.startswith("worker_")}
    written(printer.config, config, url="amqps://lando:hunter2-queue@broker/v%2F1", queue_name="tasks")
    assert printer.definitions()["vhosts"] == [{"name": "v/1"}]
    client = load(printer.clients_file, client=True).work_queue
    assert client is not None and client.broker.tls is not None
    assert (client.broker.host, client.broker.port, client.broker.virtual_host) == ("broker", 5671, "v/1")


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"host": "elsewhere"}, "host"),
        ({"port": 5673}, "port"),
        ({"virtual_host": "v"}, "virtual_host"),
        ({"queue_name": "jobs"}, "queue_name"),
    ],
)
def test_a_clients_file_of_another_broker(printer: Printer, changed: dict[str, Any], key: str) -> None:
    printer.configure_clients(**changed)
    said = printer.refused()
    assert said.count("\n") == 1, "one line"
    assert f"{printer.clients_file}: work_queue.{key}: is {changed[key]}, but {printer.config} has " in said


def test_every_difference_is_told(printer: Printer) -> None:
    printer.configure_clients(virtual_host="v", queue_name=None)
    lines = printer.refused().splitlines()
    assert ["work_queue.virtual_host" in lines[0], "work_queue.queue_name" in lines[1]] == [True, True]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"host": "localhost"}, {"host": "broker.example.org", "port": 5673}),
        ({"host": "127.0.0.1"}, {"host": "10.0.0.1"}),
        ({"worker_host": "10.0.0.1"}, {"host": "10.0.0.1"}),
        ({}, {"tls": True}),
    ],
)
def test_one_broker_may_have_several_addresses(
    printer: Printer, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    printer.configure(**ours)
    printer.configure_clients(**theirs)
    assert printer.run().code == 0


@pytest.mark.parametrize(
    ("ours", "theirs", "setting"),
    [
        ({"worker_username": "lando"}, {}, "landoconfig.yml: work_queue.worker_username: is lando, as is"),
        ({}, {"username": "lando"}, "workerconfig.yml: work_queue.username: is lando, as is"),
        ({}, {"username": "lobot"}, "workerconfig.yml: work_queue.username: is lobot, as is"),
        ({"username": "guest"}, {}, "landoconfig.yml: work_queue.username: is guest, the broker's admin"),
        ({"worker_username": "guest"}, {}, "landoconfig.yml: work_queue.worker_username: is guest"),
        ({}, {"username": "guest"}, "workerconfig.yml: work_queue.username: is guest"),
    ],
)
def test_each_has_an_account_of_its_own(
    printer: Printer, ours: dict[str, Any], theirs: dict[str, Any], setting: str
) -> None:
    printer.configure(**ours)
    printer.configure_clients(**theirs)
    assert setting in printer.refused()


def test_the_url_is_named_where_the_account_was_given_by_it(printer: Printer) -> None:
    config = {"worker_username": "lobot", "worker_password": "hunter2-worker", "queue_name": "tasks"}
    written(printer.config, config, url="amqp://guest:hunter2@broker")
    assert "landoconfig.yml: work_queue.url: is guest" in printer.refused()


def test_a_name_meant_for_the_clients_is_taken(printer: Printer) -> None:
    printer.configure(username="tasks-client")
    assert (
        "landoconfig.yml: work_queue.username: is tasks-client, as is the clients' account"
        in printer.refused()
    )
    assert not printer.clients_file.exists(), "nothing is written of what cannot be used"


def test_without_a_broker_there_is_nothing_to_make(printer: Printer) -> None:
    written(printer.config, None)
    assert "landoconfig.yml: work_queue: missing; the embedded queue needs no accounts" in printer.refused()


def test_a_clients_file_without_a_broker(printer: Printer) -> None:
    written(printer.clients_file, None)
    assert "workerconfig.yml: work_queue: missing" in printer.refused()


def test_a_clients_file_that_leads_nowhere_is_not_replaced(printer: Printer) -> None:
    printer.clients_file.symlink_to("nowhere.yml")
    assert "workerconfig.yml" in printer.refused()
    assert printer.clients_file.is_symlink()


@pytest.mark.parametrize("option", ["--client-config", "--definitions"])
def test_a_directory_that_is_not_there(printer: Printer, option: str) -> None:
    said = printer.run(option, printer.root / "nowhere" / "file")
    assert (said.code, said.out) == (1, "")
    assert "nowhere/file: No such file or directory; nothing was written" in said.err


def test_a_device_is_not_replaced_by_a_file(printer: Printer) -> None:
    printer.configure_clients()
    said = printer.run("--definitions", "/dev/null")
    assert (said.code, said.err) == (2, "lando-fsm: /dev/null: is not a regular file\n")
    assert Path("/dev/null").is_char_device()
