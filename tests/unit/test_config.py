"""landoconfig.yml: the original's shape, every default, every mistake, and no secret in any word."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import textwrap
from pathlib import Path

import pytest

from lando import config
from lando.config import Config, Secret, WorkQueueConfig
from lando.errors import UsageError

SAMPLE = Path(__file__).parents[2] / "landoconfig.sample"

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
    return config.load(written(text))


def mistakes(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        loaded(text)
    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value)
    return str(caught.value).splitlines()


def test_original_file_loads_unchanged() -> None:
    read = loaded(ORIGINAL)
    assert read.cloud == "openstack"
    assert read.work_queue == WorkQueueConfig(
        host="127.0.0.1",
        username="lando",
        password=Secret("hunter2-queue"),
        worker_username="lobot",
        worker_password=Secret("hunter2-worker"),
        queue_name="tasks",
        worker_host="127.0.0.1",
    )
    assert (read.work_queue.port, read.work_queue.virtual_host, read.work_queue.tls) == (5672, "/", False)
    assert read.vm_settings == config.VmSettings("lando_image", "m1.tiny", "mykey", "selfservice", "ext-net")
    assert read.cloud_settings == config.CloudSettings(
        "http://10.0.0.1:5000/v3", "jp", Secret("hunter2-cloud"), "core", "Users", "Projects"
    )
    assert read.max_workers is None
    assert read.timeouts == config.Timeouts(boot=1200, silence=600, heartbeat=30, observe=10, grace=60)
    assert read.worker == config.WorkerConfig(command="/lando/lando_worker.sh", user="lando")
    assert (read.source, read.warnings) == ("landoconfig.yml", ())


def test_everything_but_credentials_has_a_default() -> None:
    read = loaded(
        """\
        work_queue: {host: h, username: u, password: p, worker_username: w, worker_password: x, tls: true}
        cloud_settings: {auth_url: a, username: u, password: p, project_name: n}
        """
    )
    assert read.work_queue and (read.work_queue.port, read.work_queue.queue_name) == (5671, "lando")
    assert read.vm_settings == config.VmSettings()
    assert read.cloud_settings and read.cloud_settings.user_domain_name == "Default"


def test_empty_file_is_embedded_with_its_own_source() -> None:
    read, without = loaded("# nothing yet\n"), config.embedded()
    assert read == dataclasses.replace(without, source="landoconfig.yml")
    assert (read.cloud, read.work_queue) == ("local", None)
    assert read.max_workers and read.max_workers >= 1
    assert read.timeouts == config.Timeouts(boot=60, observe=1)
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
  grace: 3s}
worker: {command: /opt/worker.sh, user: root, cwl_base_command: "toil-cwl-runner --logLevel 'DEBUG X'"}
"""
    )
    assert read.cloud == "local" and read.deployment == "core-1" and read.max_workers == 7
    assert read.state_dir == Path.cwd() / "state"
    assert read.database_path is None and read.database == "postgresql+psycopg://db.example.org:5433/jobs"
    assert read.database_url.startswith("postgresql+psycopg://lando:hunter2@")
    assert read.timeouts == config.Timeouts(3600, 604800, 0.5, 0.1, 1, 120, 0.2, 3)
    assert read.worker == config.WorkerConfig(
        "/opt/worker.sh", "root", ("toil-cwl-runner", "--logLevel", "DEBUG X")
    )
    assert "hunter2" not in repr(read) + str(read) + read.database


def test_cwl_base_command_as_a_list() -> None:
    assert loaded("worker: {cwl_base_command: [a, b c]}\n").worker.cwl_base_command == ("a", "b c")


@pytest.mark.parametrize("url, file", [("sqlite:////srv/x.db", "/srv/x.db"), ("sqlite:///x.db", "conf/x.db")])
def test_sqlite_file_is_absolute(url: str, file: str) -> None:
    Path("conf").mkdir()
    read = config.load(written(f"database: {{url: '{url}'}}\n", "conf/lando.yml"))
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
        ("cloud: openstack\nwork_queue: {}\n", ":1: cloud: openstack needs the section cloud_settings"),
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
        ("database: {url: 'postgresql://u:hunter2@h/d'}\n", ":1: work_queue: missing; the embedded queue"),
        ("timeouts:\n  boot: 0\n", ":2: timeouts.boot: must be more than 0"),
        ("timeouts:\n  boots: 1\n", ":2: timeouts.boots: unknown key; did you mean boot?"),
        ("timeouts:\n  silence: 59\n", ":2: timeouts.silence: silence must be at least twice heartbeat"),
        ("timeouts:\n  heartbeat: 1h\n", ":2: timeouts.heartbeat: silence must be at least twice heartbeat"),
        ("timeouts:\n  retry_first: 1h\n", ":2: timeouts.retry_first: retry_longest must not be less"),
        ("worker:\n  user: 0\n", ":2: worker.user: expected text, found a number; put it in quotes"),
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
            "landoconfig.yml:7: work_queue.tls: expected true or false, found",
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
    warnings = config.load(path).warnings
    assert [warning.partition(";")[0] for warning in warnings] == (
        ["landoconfig.yml: holds passwords and others may read it"] if warned else []
    )


def test_file_without_passwords_may_be_read_by_all() -> None:
    path = written("max_workers: 1\n")
    path.chmod(0o644)
    assert config.load(path).warnings == ()


def test_order_of_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    found = config.find_config()
    assert found.source == "embedded, no configuration file"
    assert found.state_dir == Path.home() / ".local/state/lando-fsm"
    assert found.database_path == found.state_dir / "lando.db"
    written("max_workers: 1\n")
    assert config.find_config().max_workers == 1
    monkeypatch.setenv("LANDO_CONFIG", str(written("max_workers: 2\n", "named.yml")))
    assert config.find_config().max_workers == 2
    explicit = config.find_config(written("max_workers: 3\n", "explicit.yml"))
    assert (explicit.max_workers, explicit.source) == (3, "explicit.yml")


def test_place_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"no\.yml: no such file"):
        config.find_config(Path("no.yml"))
    monkeypatch.setenv("LANDO_CONFIG", "gone.yml")
    with pytest.raises(UsageError, match=r"gone\.yml: no such file; correct or unset LANDO_CONFIG"):
        config.find_config()


def test_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("conf").mkdir()
    path = written("state_dir: ~/state\n", "conf/lando.yml")
    assert config.load(path).state_dir == Path.home() / "state"
    assert config.load(written("state_dir: here\n", "conf/b.yml")).state_dir == Path.cwd() / "conf/here"
    monkeypatch.setenv("LANDO_STATE_DIR", "from-environment")
    for read in (config.load(path), config.find_config()):
        assert read.state_dir == Path.cwd() / "from-environment"
        assert read.database_path == read.state_dir / "lando.db"


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /home rw - nfs4 server:/home rw,addr=10.0.0.1
31 30 0:41 / /home/local rw shared:2 master:1 - xfs /dev/sdb1 rw
32 22 0:42 / /mnt/my\\040disk rw - cifs //server/share rw
33 22 0:43 / /over rw - nfs server:/x rw
34 22 0:44 / /over rw - tmpfs tmpfs rw
35 22 0:45 / /gluster rw - fuse.glusterfs server:/x rw
36 22 0:46 / /vm rw - 9p share rw
37 22 0:47 / /fuse rw - fuse.bindfs /x rw
"""


@pytest.mark.parametrize(
    "path, refused_as",
    [
        ("/var/lib/lando", None),
        ("/home/me/state", "nfs4"),
        ("/home", "nfs4"),
        ("/homes", None),
        ("/home/local/state", None),
        ("/mnt/my disk/state", "cifs"),
        ("/over/state", None),
        ("/gluster/x", "fuse.glusterfs"),
        ("/vm/x", None),
        ("/fuse/x", None),
    ],
)
def test_network_file_systems_are_refused_by_name(path: str, refused_as: str | None, tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    if refused_as is None:
        config.refuse_network_filesystem(Path(path), mountinfo)
        return
    with pytest.raises(UsageError, match=rf"network file system \({refused_as}\).* set state_dir"):
        config.refuse_network_filesystem(Path(path), mountinfo)


def test_this_machine_can_be_asked(tmp_path: Path) -> None:
    config.refuse_network_filesystem(tmp_path / "not" / "there")
    config.refuse_network_filesystem(tmp_path, tmp_path / "no-mountinfo")


def test_sample_loads() -> None:
    read = config.load(SAMPLE)
    assert read.cloud == "openstack" and read.work_queue and read.cloud_settings


def test_sample_loads_with_every_setting_in_force() -> None:
    text = re.sub(r"^( *)#(?=[a-z_]+:)", r"\1", SAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    read = loaded(text)
    assert read.worker.cwl_base_command == ("cwltool", "--singularity")
    assert read.timeouts.run == 7 * 86400
    # What the sample shows as defaults are the defaults.
    assert read.timeouts == dataclasses.replace(config.Timeouts(), run=read.timeouts.run)
    assert read.worker.command == config.WORKER_COMMAND and read.worker.user == config.WorkerConfig.user


@pytest.mark.parametrize("section", config.KEYS)
def test_sample_documents_every_key(section: str) -> None:
    text = SAMPLE.read_text(encoding="utf-8")
    part = re.split(rf"^#?{section}:", text, flags=re.MULTILINE)[1] if section else text
    part = re.split(r"^#?[a-z_]+:", part, flags=re.MULTILINE)[0] if section else part
    for key in config.KEYS[section]:
        assert re.search(rf"\b{key}\b", part), f"{section}.{key} is not documented"
