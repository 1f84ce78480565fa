"""landoconfig.yml: the original's shape, every default, every mistake, and no secret in any word."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.cloud.nova.account import Account, with_application_credential, with_password
from lando.cloud.nova.server_settings import ServerSettings
from lando.config import site_config, worker
from lando.config.metrics import MetricsConfig
from lando.config.openstack import NamedCloud
from lando.config.site_config import Config
from lando.config.work_queue import WorkQueueConfig
from lando.config.worker import WorkerConfig
from lando.errors import UsageError
from lando.redaction import Secret
from lando.workqueue.rabbitmq.settings import BrokerSettings, Tls

SAMPLE = Path(__file__).parents[3] / "landoconfig.sample"

ORIGINAL = """\
work_queue:
  host: 127.0.0.1
  username: lando
  password: hunter2-queue
  worker_username: lobot
  worker_password: hunter2-worker
  queue_name: tasks

vm_settings:
  worker_image_name: lando_image
  ssh_key_name: mykey
  network_name: selfservice
  floating_ip_pool_name: ext-net
  default_favor_name: m1.tiny

cloud_settings:
  auth_url: http://10.0.0.1:5000/v3
  username: jp
  user_domain_name: Users
  project_name: core
  project_domain_name: Projects
  password: hunter2-cloud
"""


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("LANDO_CONFIG", "LANDO_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)


def written(text: str, name: str = "landoconfig.yml") -> Path:
    path = Path(name)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    path.chmod(0o600)
    return path


def loaded(text: str) -> Config:
    return site_config.load(written(text))


def mistakes(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        loaded(text)
    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value)
    return str(caught.value).splitlines()


def test_loading_needs_no_library_of_a_cloud_a_broker_or_a_database() -> None:
    """lando-client is to start fast."""
    code = "import sys, lando.config.site_config, lando.cli.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "keystoneauth1",
        "novaclient",
        "requests",
        "pika",
        "ssl",
        "sqlalchemy",
        "alembic",
        "lando_worker",
    }
    assert heavy & set(done.stdout.split()) == set()


def test_original_file_loads_unchanged() -> None:
    read = loaded(ORIGINAL)
    assert read.cloud == "openstack"
    assert read.work_queue == WorkQueueConfig(
        BrokerSettings("127.0.0.1", 5672, "/", "lando", Secret("hunter2-queue")),
        worker_username="lobot",
        worker_password=Secret("hunter2-worker"),
        queue_name="tasks",
        worker_host="127.0.0.1",
    )
    assert read.work_queue.broker.tls is None
    assert read.work_queue.broker.setting("host") == "landoconfig.yml: work_queue.host"
    assert read.vm_settings == ServerSettings(
        "lando_image", "m1.tiny", "mykey", ("selfservice",), floating_ip_pool="ext-net"
    )
    assert read.cloud_settings == with_password(
        "cloud_settings in landoconfig.yml",
        *("http://10.0.0.1:5000/v3", "jp", Secret("hunter2-cloud"), "core", "Users", "Projects"),
    )
    assert isinstance(read.cloud_settings, Account)
    assert read.cloud_settings.where == "cloud_settings in landoconfig.yml"
    assert read.max_workers is None
    assert read.timeouts == site_config.Timeouts(boot=None, silence=600, heartbeat=30, observe=10, grace=60)
    assert read.worker == WorkerConfig(command="/lando/lando_worker.sh", user="lando")
    assert (read.source, read.warnings) == ("landoconfig.yml", ())


def test_everything_but_credentials_has_a_default() -> None:
    read = loaded(
        """\
        work_queue: {host: h, username: u, password: p, worker_username: w, worker_password: x, tls: true}
        cloud_settings: {auth_url: 'https://c:5000/v3', username: u, password: p, project_name: n}
        """
    )
    assert read.work_queue and (read.work_queue.broker.port, read.work_queue.queue_name) == (5671, "lando")
    assert read.vm_settings == ServerSettings("lando_worker", "m1.small")
    assert isinstance(read.cloud_settings, Account)
    assert read.cloud_settings.options["user_domain_name"] == "Default"
    assert read.cloud_settings.options["project_domain_name"] == "Default"


def test_several_networks_and_what_else_servers_are_made_of() -> None:
    text = "vm_settings: {network_names: [a, b], security_groups: [s], config_drive: true, volume_size: 9}\n"
    read = loaded(
        ORIGINAL[: ORIGINAL.index("vm_settings")] + ORIGINAL[ORIGINAL.index("cloud_settings") :] + text
    )
    vm = read.vm_settings
    assert (vm.networks, vm.security_groups, vm.config_drive, vm.volume_size) == (("a", "b"), ("s",), True, 9)
    assert loaded(ORIGINAL).vm_settings.networks == ("selfservice",)


def test_an_account_may_be_an_application_credential_or_a_cloud_of_clouds_yaml() -> None:
    before = ORIGINAL[: ORIGINAL.index("cloud_settings")]
    credential = loaded(
        f"{before}cloud_settings:\n  auth_url: https://c:5000/v3\n  application_credential_id: i\n"
        "  application_credential_secret: hunter2-s\n  region_name: North\n  cacert: ca.pem\n"
    ).cloud_settings
    assert credential == with_application_credential(
        "cloud_settings in landoconfig.yml",
        "https://c:5000/v3",
        "i",
        Secret("hunter2-s"),
        region="North",
        cacert=Path.cwd() / "ca.pem",
    )
    named = loaded(f"{before}cloud_settings: {{cloud: facility}}\n")
    assert named.cloud_settings == NamedCloud("facility")
    environment = loaded(f"{before}cloud: openstack\n")
    assert (environment.cloud, environment.cloud_settings) == ("openstack", None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{cloud: c, auth_url: 'https://c'}", "cloud_settings.auth_url: is in clouds.yaml with cloud"),
        (
            "{auth_url: 'https://c', application_credential_id: i}",
            "cloud_settings.application_credential_secret: missing; what its creation printed",
        ),
        (
            "{auth_url: 'https://c', application_credential_id: i, application_credential_secret: hunter2,"
            " username: u}",
            "cloud_settings.username: is not for application_credential_id, also given; keep one",
        ),
        ("{auth_url: c, cloud: null}", "cloud_settings.auth_url: expected Keystone's address"),
        ("{auth_url: 'https://c', interface: secret}", "interface: expected public, internal, admin"),
    ],
)
def test_mistakes_in_an_account(settings: str, words: str) -> None:
    before = ORIGINAL[: ORIGINAL.index("cloud_settings")]
    assert any(words in line for line in mistakes(f"{before}cloud_settings: {settings}\n"))


def test_empty_file_is_embedded_with_its_own_source() -> None:
    read, without = loaded("# nothing yet\n"), site_config.embedded()
    assert read == dataclasses.replace(without, source="landoconfig.yml")
    assert (read.cloud, read.work_queue) == ("local", None)
    assert read.max_workers and read.max_workers >= 1
    assert read.timeouts == site_config.Timeouts(boot=60, observe=1)
    assert read.worker.command is None


def test_every_other_key() -> None:
    read = loaded(
        ORIGINAL
        + """\
cloud: local
deployment: core-1
max_workers: 7
state_dir: state
database: {url: 'postgresql+psycopg://lando:hunter2@db.example.org:5433/jobs?sslmode=require'}
timeouts: {boot: 1h, run: 7d, silence: 0.5, heartbeat: 0.1, retry_first: 1, retry_longest: 2m, observe: .2,
  grace: 3s, names: 1m}
worker: {command: /opt/worker.sh, user: root, cwl_base_command: "toil-cwl-runner --logLevel 'DEBUG X'"}
"""
    )
    assert read.cloud == "local" and read.deployment == "core-1" and read.max_workers == 7
    assert read.state_dir == Path.cwd() / "state"
    assert read.database_path is None and read.database == "postgresql+psycopg://db.example.org:5433/jobs"
    assert read.database_url.startswith("postgresql+psycopg://lando:hunter2@")
    assert read.timeouts == site_config.Timeouts(3600, 604800, 0.5, 0.1, 1, 120, 0.2, 3, names=60)
    assert read.worker == WorkerConfig("/opt/worker.sh", "root", ("toil-cwl-runner", "--logLevel", "DEBUG X"))
    assert "hunter2" not in repr(read) + str(read) + read.database


@pytest.mark.parametrize("text, protect", [("", True), ("worker: {protect: false}\n", False)])
def test_protection_is_on_unless_it_is_turned_off(text: str, protect: bool) -> None:
    assert loaded(text).worker.protect is protect


def test_cwl_base_command_as_a_list() -> None:
    assert loaded("worker: {cwl_base_command: [a, b c]}\n").worker.cwl_base_command == ("a", "b c")


BROKER = """\
work_queue:
  host: h
  username: u
  password: hunter2
  worker_username: w
  worker_password: hunter2-worker
"""
BROKER_OF_URL = """\
work_queue:
  worker_username: w
  worker_password: hunter2-worker
"""


def broker(text: str) -> WorkQueueConfig:
    """The broker of a section that only lacks the lines of ``text``."""
    queue = loaded(
        (BROKER_OF_URL if text.startswith("url:") else BROKER) + textwrap.indent(text, "  ")
    ).work_queue
    assert queue is not None
    return queue


def broker_mistakes(text: str) -> list[str]:
    """What is wrong in ``work_queue``, each as ``LINE: KEY: words``; ``text`` begins on line 4 or 7."""
    found = mistakes((BROKER_OF_URL if text.startswith("url:") else BROKER) + textwrap.indent(text, "  "))
    prefixes = [each.removeprefix("landoconfig.yml:").replace(": work_queue.", ": ", 1) for each in found]
    assert all(re.match(r"[0-9]+: ", each) for each in prefixes)
    return prefixes


def test_broker_with_nothing_but_accounts() -> None:
    address = BrokerSettings("h", 5672, "/", "u", Secret("hunter2"))
    read = broker("")
    assert read == WorkQueueConfig(address, "w", Secret("hunter2-worker"), worker_host="h")
    assert (read.queue_name, read.queue_type) == ("lando", None)
    assert (read.broker.tls, read.broker.heartbeat, read.broker.from_url) == (None, 30, False)


def test_broker_with_every_key() -> None:
    for name in ("ca.pem", "lando.pem", "lando.key"):
        written("x", name)
    read = broker(
        "queue_name: tasks\nport: 5677\nvirtual_host: jobs\nworker_host: 10.0.0.5\nheartbeat: 60\n"
        "queue_type: classic\ntls: {ca: ca.pem, certificate: lando.pem, key: lando.key}\n"
    )
    here = Path.cwd()
    assert read == WorkQueueConfig(
        BrokerSettings(
            *("h", 5677, "jobs", "u", Secret("hunter2")),
            tls=Tls(here / "ca.pem", here / "lando.pem", here / "lando.key"),
            heartbeat=60,
        ),
        *("w", Secret("hunter2-worker"), "10.0.0.5", "tasks"),
        queue_type="classic",
    )


@pytest.mark.parametrize(
    "text, tls, port",
    [
        ("tls: false", None, 5672),
        ("tls:", None, 5672),
        ("tls: true", Tls(), 5671),
        ("tls: {}", Tls(), 5671),
        ("tls: {ca: null}", Tls(), 5671),
        ("tls: true\nport: 1", Tls(), 1),
        ("url: amqp://u:p@h\ntls: false", None, 5672),
        ("url: amqps://u:p@h\ntls: true", Tls(), 5671),
        ("url: amqps://u:p@h\ntls: {}", Tls(), 5671),
    ],
)
def test_tls(text: str, tls: Tls | None, port: int) -> None:
    read = broker(text).broker
    assert (read.tls, read.port) == (tls, port)


def test_files_of_tls_are_beside_the_configuration() -> None:
    Path("conf").mkdir()
    Path("home").mkdir()
    written("x", "conf/ca.pem")
    written("x", "home/lando.pem")
    absolute = written("x", "lando.key").absolute()
    text = BROKER + f"  tls: {{ca: ./ca.pem, certificate: ~/lando.pem, key: {absolute}}}\n"
    read = site_config.load(written(text, "conf/lando.yml")).work_queue
    here = Path.cwd()
    assert read and read.broker.tls == Tls(here / "conf/ca.pem", here / "home/lando.pem", absolute)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("tls: 1", "7: tls: expected true, false, or ca, certificate and key, found a number"),
        ("tls: [ca]", "7: tls: expected true, false, or ca, certificate and key, found a list"),
        ("tls: {certificates: there}", "7: tls.certificates: unknown key; did you mean certificate?"),
        ("tls: {verify: false}", "7: tls.verify: unknown key; known here: ca, certificate, key"),
        ("tls: {ca: true}", "7: tls.ca: expected text, found true or false"),
        ("tls: {ca: hunter2}", "7: tls.ca: names a file that cannot be read (No such file or directory)"),
        ("tls: {ca: ~hunter2/x}", "7: tls.ca: names a file that cannot be read (No such file or directory)"),
        ("tls: {ca: .}", "7: tls.ca: names something that is not a file"),
        ("tls: {ca: pipe}", "7: tls.ca: names something that is not a file"),
        ("tls:\n  certificate: there", "8: tls.certificate: is of use only together with key"),
        ("tls:\n  key: there", "8: tls.key: is of use only together with certificate"),
        ("tls: {key: '-----BEGIN hunter2'}", "7: tls.key: is of use only together with certificate"),
        ("tls: {certificate: there, key: hunter2}", "7: tls.key: names a file that cannot be read"),
    ],
)
def test_mistake_in_tls(text: str, expected: str) -> None:
    written("x", "there")
    os.mkfifo("pipe")
    (only,) = broker_mistakes(text)
    assert only.startswith(expected)


@pytest.fixture
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a directory of its own, not as root, who may read every file."""
    account = os.geteuid()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        monkeypatch.chdir(directory)
        os.seteuid(account or 65534)
        yield
        os.seteuid(account)


def test_file_of_tls_that_may_not_be_read(unprivileged: None) -> None:
    file = written("x", "ca.pem")
    assert broker("tls: {ca: ca.pem}").broker.tls == Tls(Path.cwd() / "ca.pem")
    file.chmod(0)
    (only,) = broker_mistakes("tls: {ca: ca.pem}")
    assert only.startswith("7: tls.ca: names a file that cannot be read (Permission denied)")


def test_url_says_what_the_keys_say() -> None:
    by_keys = broker("port: 5677\nvirtual_host: jobs\nworker_host: 10.0.0.5")
    by_url = broker("url: amqp://u:hunter2@h:5677/jobs\nworker_host: 10.0.0.5")
    assert by_url == by_keys
    assert (by_url.broker.from_url, by_keys.broker.from_url) == (True, False)
    assert by_url.broker.setting("host") == "landoconfig.yml: work_queue.url"


@pytest.mark.parametrize(
    "url, expected",
    [
        ("amqp://u:p@h", ("h", "u", "p", 5672, "/", None)),
        ("amqp://u:p@h/", ("h", "u", "p", 5672, "/", None)),
        ("amqp://u:p@h//", ("h", "u", "p", 5672, "/", None)),
        ("amqp://u:p@h/%2F", ("h", "u", "p", 5672, "/", None)),
        ("amqp://u:p@h/%2f", ("h", "u", "p", 5672, "/", None)),
        ("amqp://u:p@h:/a", ("h", "u", "p", 5672, "a", None)),
        ("amqp://u:p@h/a%2Fb%20c:@", ("h", "u", "p", 5672, "a/b c:@", None)),
        ("AMQPS://u:p@h.example.org", ("h.example.org", "u", "p", 5671, "/", Tls())),
        ("amqps://u:p@h:65535", ("h", "u", "p", 65535, "/", Tls())),
        ("amqp://u:p@127.0.0.1:1", ("127.0.0.1", "u", "p", 1, "/", None)),
        ("amqps://u:p@[::1]", ("::1", "u", "p", 5671, "/", Tls())),
        ("amqp://u:p@[2001:db8::1]:5677/a", ("2001:db8::1", "u", "p", 5677, "a", None)),
        ("amqp://u%3A%40%2f:p%40%3A%2F%25%3F%23@h", ("h", "u:@/", "p@:/%?#", 5672, "/", None)),
        ("amqp://me@org:a@b:c+d@h", ("h", "me@org", "a@b:c+d", 5672, "/", None)),
        ("amqp://%C3%BC:ü@h/%C3%BC", ("h", "ü", "ü", 5672, "ü", None)),
        ("amqp://1:2@h", ("h", "1", "2", 5672, "/", None)),
    ],
)
def test_url(url: str, expected: tuple[object, ...]) -> None:
    read = broker(f"url: '{url}'")
    found = read.broker
    assert (found.host, found.username, found.password.reveal(), found.port) == expected[:4]
    assert (found.virtual_host, found.tls) == expected[4:]
    assert (found.from_url, read.worker_host) == (True, found.host)


FORM = "expected amqp://USER:PASSWORD@HOST[:PORT][/VIRTUAL_HOST] or amqps://…; "


@pytest.mark.parametrize(
    "url, expected",
    [
        ("hunter2", FORM),
        ("http://u:hunter2@h", FORM),
        ("amqp:u:hunter2@h", FORM),
        ("amqp+ssl://u:hunter2@h", FORM),
        (" amqp://u:hunter2@h", FORM),
        ("amqp://h", FORM),
        ("amqp://u:hunter2", FORM),
        ("amqp://hunter2@h", FORM),
        ("amqp://u:@h", FORM),
        ("amqp://:hunter2@h", FORM),
        ("amqp://u:hunter2@", FORM),
        ("amqp://u:hunter2@:5672", FORM),
        ("amqp://u:hunter2@/jobs", FORM),
        ("amqp://u:hunter2@h/a/b", FORM),
        ("amqp://u:hun/ter2@h", FORM),
        ("amqp://u:hunter2@h:1:2", FORM),
        ("amqp://u:hunter2@::1", FORM),
        ("amqp://u:hunter2@h%3A5672", FORM),
        ("amqp://u:hunter2@h i", FORM),
        ("amqp://u:hunter2@h1:5672,h2:5672", FORM),
        ("amqp://u:hunter2@h:x", "has no valid port; expected a whole number from 1 to 65535"),
        ("amqp://u:hunter2@h:0", "has no valid port; "),
        ("amqp://u:hunter2@h:65536", "has no valid port; "),
        ("amqp://u:hunter2@h:\u0665", "has no valid port; "),
        ("amqp://u:hunter2@h:99999999", "has no valid port; "),
        ("amqp://u:hunter2@h?heartbeat=5", "may have no ? and no #; options are keys of their own"),
        ("amqp://u:hunter2@h/jobs?", "may have no ? and no #; "),
        ("amqp://u:hunter2#@h", "may have no ? and no #; "),
        ("amqp://u:hunter2%@h", "has a % that two hexadecimal digits do not follow; write %25"),
        ("amqp://u:hunter2@h/100%zz", "has a % that two hexadecimal digits do not follow; "),
        ("amqp://u:hunter2%FC@h", "has a % code that is no character of UTF-8 text"),
        ("amqp://u%00:hunter2@h", "has a % code that is no character of UTF-8 text, or a control character"),
    ],
)
def test_mistake_in_url(url: str, expected: str) -> None:
    (only,) = broker_mistakes(f"url: '{url}'")
    assert only.startswith(f"4: url: {expected}")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("url: 5", "4: url: expected text, found a number"),
        ("url: ''", "4: url: is empty; "),
        (
            "url: amqps://u:hunter2@h\ntls: false",
            "5: tls: contradicts url, which says amqps; write amqp there",
        ),
        ("url: amqp://u:hunter2@h\ntls: true", "5: tls: contradicts url, which says amqp; write amqps there"),
        ("url: amqp://u:hunter2@h\ntls: {}", "5: tls: contradicts url, which says amqp; "),
        ("url: amqps://u:hunter2@h\ntls: {c: x}", "5: tls.c: unknown key; "),
        *(
            (f"url: amqp://u:hunter2@h\n{line}", f"5: {line.partition(':')[0]}: is in url, too; keep one")
            for line in ("host: h", "username: u", "password: hunter2", "port: 5672", "virtual_host: /")
        ),
    ],
)
def test_mistake_beside_url(text: str, expected: str) -> None:
    (only,) = broker_mistakes(text)
    assert only.startswith(expected)


def test_mistakes_beside_a_wrong_url_are_told_with_it() -> None:
    found = broker_mistakes("url: hunter2\nport: 5672\nqueue_type: lazy")
    assert [each.partition(" ")[0] + each.split(" ")[1] for each in found] == [
        "4:url:",
        "5:port:",
        "6:queue_type:",
    ]


def test_url_without_a_value_is_not_given() -> None:
    found = mistakes("work_queue: {url: null, worker_username: w, worker_password: x}\n")
    assert [each.split(": ")[1].partition(".")[2] for each in found] == ["host", "username", "password"]
    assert found[0].endswith("missing; the broker's host name or address; or write url")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("heartbeat: 4", "7: heartbeat: expected whole seconds from 5 to 3600"),
        ("heartbeat: 3601", "7: heartbeat: expected whole seconds from 5 to 3600"),
        ("heartbeat: 10.5", "7: heartbeat: expected whole seconds from 5 to 3600"),
        ("heartbeat: 0", "7: heartbeat: must be more than 0"),
        ("heartbeat: often", "7: heartbeat: expected seconds, or a time such as"),
        ("queue_type: quorums", "7: queue_type: expected quorum or classic"),
        ("queue_type: true", "7: queue_type: expected text, found true or false"),
        ("queue_name: amq.jobs", "7: queue_name: may not begin with amq., which the broker keeps"),
        (f"queue_name: {'x' * 201}", "7: queue_name: must be at most 200 bytes of UTF-8"),
        (f"queue_name: {'ü' * 101}", "7: queue_name: must be at most 200 bytes of UTF-8"),
        ("worker_host: h:5672", "7: worker_host: expected a host name or address alone; "),
        ("worker_host: '[::1]'", "7: worker_host: expected a host name or address alone; "),
        ("from_url: true", "7: from_url: unknown key; "),
    ],
)
def test_mistake_in_the_broker(text: str, expected: str) -> None:
    (only,) = broker_mistakes(text)
    assert only.startswith(expected)


@pytest.mark.parametrize(
    "text, key, value",
    [
        ("heartbeat: 5", "heartbeat", 5),
        ("heartbeat: 1h", "heartbeat", 3600),
        ("queue_type: quorum", "queue_type", "quorum"),
        (f"queue_name: {'ü' * 100}", "queue_name", "ü" * 100),
        ("queue_name: amqp.jobs", "queue_name", "amqp.jobs"),
        ("worker_host: fe80::1%eth0", "worker_host", "fe80::1%eth0"),
    ],
)
def test_broker_at_the_limits(text: str, key: str, value: object) -> None:
    read = broker(text)
    assert getattr(read.broker if key == "heartbeat" else read, key) == value


CLIENT = "work_queue: {host: h, username: c, password: hunter2}\n"


@pytest.mark.parametrize(
    "text, queue_name", [(CLIENT, "lando"), (CLIENT.replace("}", ", queue_name: q}"), "q")]
)
def test_file_of_a_client(text: str, queue_name: str) -> None:
    read = site_config.load(written(text), client=True)
    assert read.work_queue == WorkQueueConfig(
        BrokerSettings("h", 5672, "/", "c", Secret("hunter2")), None, None, "h", queue_name
    )
    assert read.warnings == ()


def test_file_of_a_client_is_not_the_daemons() -> None:
    found = mistakes(CLIENT)
    assert [each.split(": ")[1] for each in found] == [
        "work_queue.worker_username",
        "work_queue.worker_password",
    ]


def test_file_of_the_daemon_does_for_a_client() -> None:
    assert site_config.load(written(ORIGINAL), client=True) == site_config.load(written(ORIGINAL))


@pytest.mark.parametrize("key", ["host", "username", "password"])
def test_file_of_a_client_lacks_something(key: str) -> None:
    text = re.sub(rf"\b{key}: \w+,? ?", "", CLIENT)
    with pytest.raises(UsageError, match=rf"^landoconfig\.yml:1: work_queue\.{key}: missing; [^\n]*$"):
        site_config.load(written(text), client=True)


def test_examples_of_the_documentation_load() -> None:
    page = SAMPLE.with_name("docs") / "configuration.md"
    blocks = re.findall(r"^```yaml\n(work_queue:.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    url, client = (site_config.load(written(block), client=True).work_queue for block in blocks)
    assert url and url.broker.from_url and url.broker.password.reveal() == "p@ss" and url.worker_username
    assert client and not client.worker_username


@pytest.mark.parametrize("url, file", [("sqlite:////srv/x.db", "/srv/x.db"), ("sqlite:///x.db", "conf/x.db")])
def test_sqlite_file_is_absolute(url: str, file: str) -> None:
    Path("conf").mkdir()
    read = site_config.load(written(f"database: {{url: '{url}'}}\n", "conf/lando.yml"))
    expected = Path.cwd() / file
    assert read.database_path == expected
    assert (read.database_url, read.database) == (f"sqlite:///{expected}", str(expected))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("- a\n", ":1: expected keys and values (a mapping), found a list"),
        ("a: [\n", ":1: is not YAML: "),
        ("work_que: {}\n", ":1: work_que: unknown key; did you mean work_queue?"),
        ("work_queue:\n", ":1: work_queue: has no host; "),
        ("cloud: aws\n", ":1: cloud: expected local or openstack"),
        ("vm_settings: 5\n", ":1: vm_settings: expected keys and values (a mapping), found a number"),
        ("vm_settings:\n  flavor: x\n", ":2: vm_settings.flavor: unknown key; "),
        (
            "vm_settings:\n  default_flavor_name: x\n  default_favor_name: y\n",
            ":3: vm_settings.default_favor_name: is another spelling of default_flavor_name, also given",
        ),
        ("max_workers: 0\n", ":1: max_workers: must be 1 or more"),
        ("max_workers: many\n", ":1: max_workers: expected a whole number, found text"),
        ("deployment: a/b\n", ":1: deployment: expected at most 40 letters"),
        ("database:\n  url: hunter2://x\n", ":2: database.url: expected sqlite:///PATH or postgresql"),
        ("database:\n  url: hunter2\n", ":2: database.url: expected sqlite:///PATH or postgresql"),
        ("database: {url: 'sqlite:///:memory:'}\n", ":1: database.url: expected sqlite:///PATH, a file"),
        ("database: {url: 'sqlite://'}\n", ":1: database.url: expected sqlite:///PATH or postgresql"),
        (
            "database: {url: 'postgresql+psycopg://u:hunter2@h/d'}\n",
            ":1: work_queue: missing; with PostgreSQL messages need a broker",
        ),
        (
            "database:\n  url: postgresql://u:hunter2@h/d\n",
            ":2: database.url: lando-fsm uses the driver psycopg: write postgresql+psycopg://USER",
        ),
        ("database:\n  url: postgresql+psycopg://u:hunter2@h\n", ":2: database.url: names no database"),
        (
            "database:\n  url: mysql://u:hunter2@h/d\n",
            ":2: database.url: expected sqlite:///PATH or postgresql",
        ),
        ("timeouts:\n  boot: 0\n", ":2: timeouts.boot: must be more than 0"),
        ("timeouts:\n  boots: 1\n", ":2: timeouts.boots: unknown key; did you mean boot?"),
        ("timeouts:\n  silence: 59\n", ":2: timeouts.silence: silence must be at least twice heartbeat"),
        ("timeouts:\n  heartbeat: 1h\n", ":2: timeouts.heartbeat: silence must be at least twice heartbeat"),
        ("timeouts:\n  retry_first: 1h\n", ":2: timeouts.retry_first: retry_longest must not be less"),
        ("worker:\n  user: 0\n", ":2: worker.user: expected text, found a number; put it in quotes"),
        ("worker:\n  bootstrap: yes please\n", ":2: worker.bootstrap: expected true or false, found text"),
        ("worker:\n  bootstrap: true\n", ":2: worker.bootstrap: is for VMs of OpenStack; the local cloud"),
        ("worker:\n  cwl_base_command: 'a \"b'\n", ":2: worker.cwl_base_command: has a quote"),
        ("worker:\n  cwl_base_command: [1]\n", ":2: worker.cwl_base_command[0]: expected text"),
    ],
)
def test_mistake(text: str, expected: str) -> None:
    first, *_ = mistakes(text)
    assert first.startswith(f"landoconfig.yml{expected}")


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("host: 127.0.0.1", "#", "landoconfig.yml:1: work_queue.host: missing; the broker's host name"),
        (
            "host: 127.0.0.1",
            "host: amqp://u:hunter2@h",
            "landoconfig.yml:2: work_queue.host: expected a host",
        ),
        ("  password: hunter2-queue", "", "landoconfig.yml:1: work_queue.password: missing; "),
        ("hunter2-queue", "12345", "landoconfig.yml:4: work_queue.password: expected text, found a number"),
        ("hunter2-queue", "*hunter2", "landoconfig.yml:4: is not YAML: found undefined alias; "),
        ("hunter2-queue", "!hunter2", "landoconfig.yml:4: work_queue.password: has a tag"),
        ("hunter2-queue", "'hunter2\x7f'", "landoconfig.yml:4: holds the character U+007F"),
        ("hunter2-queue", "[hunter2]", "landoconfig.yml:4: work_queue.password: expected text, found a list"),
        ("queue_name: tasks", "port: 70000", "landoconfig.yml:7: work_queue.port: must be 65535 or less"),
        (
            "queue_name: tasks",
            "tls: 'yes'",
            "landoconfig.yml:7: work_queue.tls: expected true, false, or ca, certificate and key, found text",
        ),
        ("auth_url: http://10.0.0.1:5000/v3", "#", "landoconfig.yml:16: cloud_settings.auth_url: missing"),
    ],
)
def test_mistake_in_the_original_shape(old: str, new: str, expected: str) -> None:
    assert old in ORIGINAL
    (only,) = mistakes(ORIGINAL.replace(old, new))
    assert only.startswith(expected)


def test_openstack_needs_a_broker() -> None:
    (only,) = mistakes(ORIGINAL[ORIGINAL.index("cloud_settings") :])
    assert "work_queue: missing; VMs of OpenStack need a broker" in only


def test_secret_shows_nothing() -> None:
    secret = Secret("hunter2")
    assert secret.reveal() == "hunter2" and secret == copy.deepcopy(secret)
    assert {repr(secret), str(secret), f"{secret}", f"{secret!r:>3}"} == {"***"}
    read = loaded(ORIGINAL)
    assert "hunter2" not in repr(read) + str(dataclasses.asdict(read))
    with pytest.raises(TypeError):
        json.dumps(secret)


@pytest.mark.parametrize("mode, warned", [(0o600, False), (0o640, True), (0o604, True), (0o622, False)])
def test_passwords_that_others_may_read(mode: int, warned: bool) -> None:
    path = written(ORIGINAL)
    path.chmod(mode)
    warnings = site_config.load(path).warnings
    assert [warning.partition(";")[0] for warning in warnings] == (
        ["landoconfig.yml: holds passwords and others may read it"] if warned else []
    )


@pytest.mark.parametrize("mode, warned", [(0o600, False), (0o640, True), (0o604, True)])
def test_private_key_that_others_may_read(mode: int, warned: bool) -> None:
    written("x", "my lando.key").chmod(mode)
    written("x", "lando.pem").chmod(0o644)
    read = loaded(BROKER + "  tls: {certificate: lando.pem, key: my lando.key}\n")
    file = Path.cwd() / "my lando.key"
    expected = f"{file}: is a private key and others may read it; run: chmod 600 '{file}'"
    assert read.warnings == ((expected,) if warned else ())


def test_file_without_passwords_may_be_read_by_all() -> None:
    path = written("max_workers: 1\n")
    path.chmod(0o644)
    assert site_config.load(path).warnings == ()


def test_order_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    found = site_config.find_config()
    assert found.source == "embedded, no configuration file"
    assert found.state_dir == Path.home() / ".local/state/lando-fsm"
    assert found.database_path == found.state_dir / "lando.db"
    written("max_workers: 1\n")
    assert site_config.find_config().max_workers == 1
    monkeypatch.setenv("LANDO_CONFIG", str(written("max_workers: 2\n", "named.yml")))
    assert site_config.find_config().max_workers == 2
    explicit = site_config.find_config(written("max_workers: 3\n", "explicit.yml"))
    assert (explicit.max_workers, explicit.source) == (3, "explicit.yml")


def test_place_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no\.yml: no such file"):
        site_config.find_config(Path("no.yml"))
    monkeypatch.setenv("LANDO_CONFIG", "gone.yml")
    with pytest.raises(UsageError, match=r"gone\.yml: no such file; correct or unset LANDO_CONFIG"):
        site_config.find_config()


def test_without_a_home_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "LANDO_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)

    def no_entry(*_: object) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr("pwd.getpwuid", no_entry)
    with pytest.raises(UsageError, match="set LANDO_STATE_DIR"):
        site_config.embedded()


def test_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("conf").mkdir()
    path = written("state_dir: ~/state\n", "conf/lando.yml")
    assert site_config.load(path).state_dir == Path.home() / "state"
    assert site_config.load(written("state_dir: here\n", "conf/b.yml")).state_dir == Path.cwd() / "conf/here"
    nobody = site_config.load(written("state_dir: ~nobody-here/state\n", "conf/c.yml"))
    assert nobody.state_dir == Path.cwd() / "conf/~nobody-here/state"
    monkeypatch.setenv("LANDO_STATE_DIR", "from-environment")
    for read in (site_config.load(path), site_config.find_config()):
        assert read.state_dir == Path.cwd() / "from-environment"
        assert read.database_path == read.state_dir / "lando.db"


BOOTSTRAP = """work_queue: {host: h, username: u, password: p, worker_username: w, worker_password: x}
cloud_settings: {auth_url: 'http://h', username: u, password: p, project_name: n}
worker:
  bootstrap: true
"""


@pytest.mark.parametrize(
    "source",
    [
        "git+https://git.example.org/lando-fsm.git@v1",
        "https://example.org/lando_fsm-0.1.0-py3-none-any.whl",
        "http://10.0.0.5/lando_fsm-0.1.0-py3-none-any.whl",
    ],
)
def test_a_stock_image_is_made_a_worker_from_an_address(source: str) -> None:
    read = site_config.load(written(BOOTSTRAP + f"  bootstrap_source: {source}\n"))
    assert read.worker.bootstrap and read.worker.bootstrap_source == source


@pytest.mark.parametrize(
    "more, expected",
    [
        ("", "3: worker.bootstrap_source: missing; where pip in a VM gets lando-fsm: git+https://"),
        ("  bootstrap_source:\n", "5: worker.bootstrap_source: has no value; where pip in a VM gets"),
        ("  bootstrap_source: lando-fsm\n", "5: worker.bootstrap_source: expected an address that VMs can"),
        ("  bootstrap_source: ./lando.whl\n", "5: worker.bootstrap_source: expected an address that VMs can"),
        ("  bootstrap_source: git+ssh://g@h/r\n", "5: worker.bootstrap_source: expected an address that VMs"),
        ("  bootstrap_source: https://\n", "5: worker.bootstrap_source: expected an address that VMs can"),
        (
            "  bootstrap_source: git+https://hunter2@h/r.git\n",
            "5: worker.bootstrap_source: may hold no credentials: every process of a VM can read them",
        ),
    ],
)
def test_a_stock_image_needs_to_know_where_the_worker_is(more: str, expected: str) -> None:
    (only,) = mistakes(BOOTSTRAP + more)
    assert only.startswith(f"landoconfig.yml:{expected}")


def test_sample_loads() -> None:
    read = site_config.load(SAMPLE)
    assert read.cloud == "openstack" and read.work_queue and read.cloud_settings


def test_sample_loads_with_every_setting_in_force() -> None:
    text = re.sub(r"^( *)#(?=[a-z_]+:)", r"\1", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    read = loaded(text)
    assert read.worker.cwl_base_command == ("cwltool", "--singularity")
    assert read.timeouts.run == 7 * 86400
    assert read.work_queue
    queue = read.work_queue.broker
    assert (queue.port, queue.virtual_host, queue.tls, queue.heartbeat) == (5672, "/", None, 30)
    # What the sample shows as defaults are the defaults; the others are examples.
    assert read.timeouts == dataclasses.replace(site_config.Timeouts(), boot=1200, run=7 * 86400, settle=60)
    assert read.vm_settings.security_groups == ("lando",) and read.vm_settings.volume_size == 40
    cloud = read.cloud_settings
    assert (
        isinstance(cloud, Account)
        and cloud.cacert == Path.cwd() / "cloud-ca.pem"
        and cloud.interface == "public"
    )
    assert read.worker.command == worker.COMMAND and read.worker.user == WorkerConfig.user


def test_sample_loads_with_what_its_comments_show() -> None:
    for name in ("ca.pem", "lando.pem", "lando.key"):
        written("x", name)
    text = SAMPLE.read_text(encoding="utf-8")
    text = re.sub(r"^  # +(?=(url|tls): )", "  ", text, flags=re.MULTILINE)
    text = re.sub(
        r"^  (host|username|password): .*(rabbitmq|required).*\n", "", text, count=3, flags=re.MULTILINE
    )
    read = loaded(text).work_queue
    assert read
    queue = read.broker
    assert queue.from_url and (queue.port, queue.virtual_host) == (5671, "/")
    assert queue.tls and queue.tls.key == Path.cwd() / "lando.key"


@pytest.mark.parametrize("section", site_config.KEYS)
def test_sample_documents_every_key(section: str) -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    part = re.split(rf"^#?{section.partition('.')[0]}:", text, flags=re.MULTILINE)[1] if section else text
    part = re.split(r"^#?[a-z_]+:", part, flags=re.MULTILINE)[0] if section else part
    for key in site_config.KEYS[section]:
        assert re.search(rf"\b{key}\b", part), f"{section}.{key} is not documented"


# metrics


def metrics_of(tmp_path: Path, text: str) -> MetricsConfig | None:
    file = tmp_path / "landoconfig.yml"
    file.write_text(text)
    return site_config.load(file).metrics


def test_metrics_are_off_unless_configured(tmp_path: Path) -> None:
    assert metrics_of(tmp_path, "max_workers: 1") is None
    assert metrics_of(tmp_path, "metrics: {}") == MetricsConfig("127.0.0.1", 8421)
    assert metrics_of(tmp_path, "metrics: {port: 9000}") == MetricsConfig("127.0.0.1", 9000)


@pytest.mark.parametrize(
    "host", ["::1", "::", "0.0.0.0", "10.0.0.7", "localhost", "lando.example.org", "fe80::1%eth0"]
)
def test_metrics_are_served_at_names_and_addresses(tmp_path: Path, host: str) -> None:
    assert metrics_of(tmp_path, f'metrics: {{host: "{host}"}}') == MetricsConfig(host, 8421)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("metrics:", "metrics: has nothing in it; write `metrics: {}`"),
        ("metrics: true", "metrics: expected keys and values"),
        ("metrics: {port: 0}", "metrics.port: must be 1 or more"),
        ("metrics: {port: 65536}", "metrics.port: must be 65535 or less"),
        ('metrics: {port: "8421"}', "metrics.port: expected a whole number"),
        ('metrics: {host: "127.0.0.1:8421"}', "metrics.host: expected a name or an address"),
        ('metrics: {host: "http://127.0.0.1"}', "metrics.host: expected a name or an address"),
        ('metrics: {host: "[::1]"}', "metrics.host: expected a name or an address"),
        ('metrics: {host: ""}', "metrics.host: is empty"),
        ("metrics: {prot: 1}", "metrics.prot: unknown key; did you mean port?"),
    ],
)
def test_mistakes_in_metrics(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        metrics_of(tmp_path, text)
