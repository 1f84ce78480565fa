"""The configuration, landoconfig.yml: what there is to connect to, and every number a site may change."""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import platformdirs

from lando import yamlfile
from lando.errors import UsageError
from lando.secrets import Secret
from lando.yamlsection import Section, kind

CONFIG_NAME = "landoconfig.yml"
EMBEDDED_SOURCE = "embedded, no configuration file"
DATABASE_NAME = "lando.db"
WORKER_COMMAND = "/lando/lando_worker.sh"
DATABASES = ("sqlite", "postgresql", "postgresql+psycopg")
NETWORK_FILE_SYSTEMS = frozenset(
    ("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "ceph", "ceph-fuse", "glusterfs", "sshfs")
)

AMQP_URL = re.compile(
    r"(?P<scheme>amqps?)://(?P<username>[^:/]+):(?P<password>[^/]+)"
    r"@(?:\[(?P<ipv6>[^]/@]+)\]|(?P<name>[^:/@]+))(?::(?P<port>[^:/@]*))?(?:/(?P<virtual_host>[^/]*|/))?",
    re.IGNORECASE,
)
"""Source: https://www.rabbitmq.com/docs/uri-spec; the ``//`` that Celery's users write is taken, too."""
MAX_QUEUE_NAME = 200
"""Bytes: the broker takes 255 (AMQP's short string), and what belongs to the queue is named after it."""

CloudKind = Literal["local", "openstack"]
QueueType = Literal["quorum", "classic"]
T = TypeVar("T")


@dataclass(frozen=True)
class Tls:
    """TLS to the broker, its certificate always verified. Paths are absolute."""

    ca: Path | None = None
    """The authorities to believe; None: the system's."""
    certificate: Path | None = None
    """The client's own; together with ``key`` or not at all."""
    key: Path | None = None


@dataclass(frozen=True)
class WorkQueueConfig:
    """The message broker, and the accounts on it."""

    host: str
    username: str
    password: Secret
    worker_username: str | None
    """The VMs' account; None only in a client's file."""
    worker_password: Secret | None
    queue_name: str = "lando"
    port: int = 5672
    virtual_host: str = "/"
    tls: Tls | None = None
    """None: in the clear."""
    worker_host: str = ""
    """The broker as VMs see it; the same as ``host`` unless given."""
    heartbeat: int = 30
    """Seconds between AMQP heartbeats."""
    queue_type: QueueType | None = None
    """None: quorum, where the broker has it."""
    from_url: bool = False
    """The account and the address were given as ``url``, the key that errors should name."""


@dataclass(frozen=True)
class VmSettings:
    """What servers are made of, where a job file does not say otherwise."""

    worker_image_name: str = "lando_worker"
    default_flavor_name: str = "m1.small"
    ssh_key_name: str | None = None
    network_name: str | None = None
    floating_ip_pool_name: str | None = None
    """Servers get no floating IP unless given."""


@dataclass(frozen=True)
class CloudSettings:
    """The OpenStack account, for Keystone's v3 password method."""

    auth_url: str
    username: str
    password: Secret
    project_name: str
    user_domain_name: str = "Default"
    project_domain_name: str = "Default"


@dataclass(frozen=True)
class Timeouts:
    """All in seconds."""

    boot: float = 20 * 60.0
    """From admission to the worker's first report, unless the job file says otherwise."""
    run: float | None = None
    """From the worker's first report to its last; no limit unless given."""
    silence: float = 10 * 60.0
    """A worker that was not heard for this long is lost."""
    heartbeat: float = 30.0
    """Between two reports of a worker."""
    retry_first: float = 10.0
    """Back-off after a job's first system failure; doubled by each further one."""
    retry_longest: float = 10 * 60.0
    """Where the back-off stops growing."""
    observe: float = 10.0
    """Between two lists of the cloud's servers."""
    grace: float = 60.0
    """A server that belongs to no job is deleted when it is still there after this long."""


LOCAL_TIMEOUTS = Timeouts(boot=60.0, observe=1.0)


@dataclass(frozen=True)
class WorkerConfig:
    """What runs inside a VM."""

    command: str | None = None
    """The start-up script's last call; None on the local cloud: this installation's own."""
    user: str = "lando"
    """The account that workflows run as on a VM; must exist in the image. Unused on the local cloud."""
    cwl_base_command: tuple[str, ...] | None = None
    """The site's own CWL runner; None for cwltool."""


@dataclass(frozen=True)
class Config:
    """Everything landoconfig.yml says, with its defaults filled in."""

    source: str
    """The file's path, or that there is none."""
    state_dir: Path
    """Absolute; may not exist yet."""
    database_url: str = field(repr=False)
    """SQLAlchemy's form; may hold a password. ``database`` is the form to show."""
    database_path: Path | None
    """The file of an SQLite database, absolute."""
    cloud: CloudKind = "local"
    max_workers: int | None = None
    """VMs at once; None: as many as the cloud allows."""
    deployment: str | None = None
    """Marks this installation's servers; None: a random one, kept in the database."""
    work_queue: WorkQueueConfig | None = None
    """None: the embedded queue, in the SQLite database."""
    vm_settings: VmSettings = VmSettings()
    cloud_settings: CloudSettings | None = None
    timeouts: Timeouts = LOCAL_TIMEOUTS
    worker: WorkerConfig = WorkerConfig()
    warnings: tuple[str, ...] = ()

    @property
    def database(self) -> str:
        """The database as it may be shown: a path, or the address without its account and options."""
        if self.database_path:
            return str(self.database_path)
        url = urlsplit(self.database_url)
        return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"


def _names(record: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(record))


FAVOR_ALIAS = "default_favor_name"
"""The spelling of ``default_flavor_name`` in the first releases' configuration files."""

KEYS: dict[str, tuple[str, ...]] = {
    "": (
        *("work_queue", "vm_settings", "cloud_settings", "database", "cloud", "deployment"),
        *("max_workers", "state_dir", "timeouts", "worker"),
    ),
    "work_queue": ("url", *(name for name in _names(WorkQueueConfig) if name != "from_url")),
    "work_queue.tls": _names(Tls),
    "vm_settings": (*_names(VmSettings), FAVOR_ALIAS),
    "cloud_settings": _names(CloudSettings),
    "database": ("url",),
    "timeouts": _names(Timeouts),
    "worker": _names(WorkerConfig),
}
"""Every key, by section; the top level is ""."""

IN_URL = ("host", "username", "password", "port", "virtual_host")
"""The keys of ``work_queue`` that ``url`` takes the place of."""


def find_config(explicit: Path | None = None) -> Config:
    """The configuration that is in force.

    It is the first of: ``explicit`` (``-c``), the file named by LANDO_CONFIG, ./landoconfig.yml, else
    embedded, with its state under LANDO_STATE_DIR or the user's state directory.

    Raises:
        UsageError: the file cannot be read or is wrong.
    """
    if explicit is not None:
        return load(explicit)
    named = os.environ.get("LANDO_CONFIG")
    if named:
        return _load_named_by_environment(Path(named))
    here = Path(CONFIG_NAME)
    return load(here) if os.path.lexists(here) else embedded()


def _load_named_by_environment(path: Path) -> Config:
    if not path.exists():
        raise UsageError(f"{path}: no such file; correct or unset LANDO_CONFIG, which names it")
    return load(path)


def embedded(state_dir: Path | None = None) -> Config:
    """The configuration without a file: queue, database and VMs on this machine.

    Args:
        state_dir: where everything is kept; LANDO_STATE_DIR or the user's state directory if None.
    """
    directory = (state_dir or _default_state_dir()).absolute()
    return Config(
        source=EMBEDDED_SOURCE,
        state_dir=directory,
        database_url=_sqlite_url(directory / DATABASE_NAME),
        database_path=directory / DATABASE_NAME,
        max_workers=_processors(),
    )


def load(path: Path, client: bool = False) -> Config:
    """Read a configuration file.

    Args:
        path: the file.
        client: do with what a client needs, as in workerconfig.yml: the VMs' account may be missing.

    Raises:
        UsageError: with every mistake of the file, one a line, as ``FILE:LINE: KEY: what is wrong``.
    """
    document = yamlfile.load(path)
    if document.value is None:
        document.value = {}
    top = Section(document, KEYS[""])
    cloud = _cloud(top)
    state_dir = _state_dir(top, path)
    work_queue = _work_queue(top, path, client)
    database_url, database_path = _database(top, state_dir, path)
    config = Config(
        source=str(path),
        state_dir=state_dir,
        database_url=database_url,
        database_path=database_path,
        cloud=cloud,
        max_workers=_or(top.integer("max_workers", 1), _processors() if cloud == "local" else None),
        deployment=_deployment(top),
        work_queue=work_queue,
        vm_settings=_vm_settings(top),
        cloud_settings=_cloud_settings(top),
        timeouts=_timeouts(top, LOCAL_TIMEOUTS if cloud == "local" else Timeouts()),
        worker=_worker(top, None if cloud == "local" else WORKER_COMMAND),
    )
    _complain_if_queue_is_out_of_reach(top, config)
    document.check()
    return replace(config, warnings=_warnings(config, path))


def _or(value: T | None, default: T) -> T:
    return default if value is None else value


def _default_state_dir() -> Path:
    named = os.environ.get("LANDO_STATE_DIR")
    return Path(named) if named else Path(platformdirs.user_state_dir("lando-fsm"))


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _sqlite_url(database: Path) -> str:
    if "?" in str(database):
        raise UsageError(f"{database}: the path of a database may not hold a question mark")
    return f"sqlite:///{database}"


def _beside(path: Path, written: str) -> Path:
    """A path that a configuration file names, relative to the file's own directory."""
    return Path(os.path.abspath(path.parent / os.path.expanduser(written)))


def _state_dir(top: Section, path: Path) -> Path:
    written = top.text("state_dir")
    if written and not os.environ.get("LANDO_STATE_DIR"):
        return _beside(path, written)
    return _default_state_dir().absolute()


def _cloud(top: Section) -> CloudKind:
    cloud = top.text("cloud")
    given = top.get("cloud_settings") is not None
    if cloud not in (None, "local", "openstack"):
        top.complain("cloud", "expected local or openstack")
    if cloud == "openstack" and not given:
        top.complain("cloud", "openstack needs the section cloud_settings")
    return "openstack" if cloud == "openstack" or (cloud is None and given) else "local"


def _deployment(top: Section) -> str | None:
    """A tag of Nova's (at most 60 characters, no / or comma), with room for what is put before it."""
    deployment = top.text("deployment")
    if deployment and not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,39}", deployment):
        top.complain("deployment", "expected at most 40 letters, digits, dots, dashes or underscores")
    return deployment


def _subsection(top: Section, key: str) -> Section | None:
    return top.section(key, KEYS[key])


def _secret(section: Section, key: str, what: str) -> Secret:
    return Secret(section.required_text(key, what))


def _work_queue(top: Section, path: Path, client: bool) -> WorkQueueConfig | None:
    section = _subsection(top, "work_queue")
    if section is None:
        if top.holds("work_queue"):
            top.complain("work_queue", "has no host; name the broker, or remove it for the embedded queue")
        return None
    from_url = section.get("url") is not None
    broker = _broker_of_url(section) if from_url else _broker_of_keys(section)
    tls = _tls(section, path, broker.tls)
    worker_username, worker_password = _worker_account(section, client)
    return WorkQueueConfig(
        host=broker.host,
        username=broker.username,
        password=broker.password,
        worker_username=worker_username,
        worker_password=worker_password,
        queue_name=_queue_name(section),
        port=_or(broker.port, 5671 if tls else 5672),
        virtual_host=_or(broker.virtual_host, WorkQueueConfig.virtual_host),
        tls=tls,
        worker_host=_host(section, "worker_host") or broker.host,
        heartbeat=_heartbeat(section),
        queue_type=_queue_type(section),
        from_url=from_url,
    )


@dataclass(frozen=True)
class _Broker:
    """Where the broker is and who we are there; None: not said."""

    host: str
    username: str
    password: Secret
    port: int | None = None
    virtual_host: str | None = None
    tls: bool | None = None


def _broker_of_keys(section: Section) -> _Broker:
    section.require("host", "the broker's host name or address; or write url")
    return _Broker(
        host=_host(section, "host") or "",
        username=section.required_text("username", "the daemon's, or the client's, account on the broker"),
        password=_secret(section, "password", "the password of username"),
        port=section.integer("port", 1, 65535),
        virtual_host=section.text("virtual_host"),
    )


def _broker_of_url(section: Section) -> _Broker:
    for key in IN_URL:
        if section.get(key) is not None:
            section.complain(key, "is in url, too; keep one")
    url = section.text("url") or ""
    parts = AMQP_URL.fullmatch(url)
    mistake = _mistake_in_url(url, parts)
    if parts is None or mistake:
        section.complain("url", mistake)
        return _Broker("", "", Secret(""))
    return _Broker(
        host=unquote(parts["ipv6"] or parts["name"]),
        username=unquote(parts["username"]),
        password=Secret(unquote(parts["password"])),
        port=int(parts["port"]) if parts["port"] else None,
        # A path of "/" alone would be the virtual host "", which nobody means.
        virtual_host=unquote(parts["virtual_host"] or "/"),
        tls=parts["scheme"].lower() == "amqps",
    )


def _mistake_in_url(url: str, parts: re.Match[str] | None) -> str:
    """What is wrong, without a word of the url; "" if nothing is."""
    if re.search("[?#]", url):
        return "may have no ? and no #; options are keys of their own, in a password write %3F and %23"
    if parts is None or not _is_host(unquote(parts["ipv6"] or parts["name"])):
        return (
            "expected amqp://USER:PASSWORD@HOST[:PORT][/VIRTUAL_HOST] or amqps://…; "
            "within a name or password write %2F for /, %3A for : and %40 for @"
        )
    if parts["port"] and not (re.fullmatch("[0-9]{1,5}", parts["port"]) and 1 <= int(parts["port"]) <= 65535):
        return "has no valid port; expected a whole number from 1 to 65535"
    if re.search("%(?![0-9A-Fa-f]{2})", url):
        return "has a % that two hexadecimal digits do not follow; write %25 for the character %"
    if re.search("[\0-\x1f\x7f\ufffd]", unquote(url)):
        return "has a % code that is no character of UTF-8 text, or a control character"
    return ""


def _tls(section: Section, path: Path, of_url: bool | None) -> Tls | None:
    """What ``tls`` and ``url`` say together; ``of_url``: whether the url is amqps, None without one."""
    given = section.get("tls")
    if given is not None and not isinstance(given, (bool, dict)):
        section.complain("tls", f"expected true, false, or ca, certificate and key, found {kind(given)}")
        return None
    wanted = of_url if given is None else given is not False
    if of_url is not None and wanted != of_url:
        scheme, other = ("amqps", "amqp") if of_url else ("amqp", "amqps")
        section.complain("tls", f"contradicts url, which says {scheme}; write {other} there, or remove tls")
    files = section.section("tls", KEYS["work_queue.tls"]) if isinstance(given, dict) else None
    if files is None:
        return Tls() if wanted else None
    for one, other in (("certificate", "key"), ("key", "certificate")):
        if files.get(one) is not None and files.get(other) is None:
            files.complain(one, f"is of use only together with {other}, which is missing")
    return Tls(**{name: _file(files, name, path) for name in KEYS["work_queue.tls"]})


def _file(section: Section, key: str, path: Path) -> Path | None:
    """A file that can be read, absolute."""
    written = section.text(key)
    if written is None:
        return None
    file = _beside(path, written)
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            section.complain(key, "names something that is not a file")
        else:
            file.open("rb").close()
    except OSError as error:
        # The path is not told: somebody may have put the key itself in its place.
        place = path.parent.absolute()
        section.complain(
            key, f"names a file that cannot be read ({error.strerror}); expected a path from {place}"
        )
    return file


def _worker_account(section: Section, client: bool) -> tuple[str | None, Secret | None]:
    if client:
        password = section.text("worker_password")
        return section.text("worker_username"), None if password is None else Secret(password)
    return (
        section.required_text("worker_username", "the account of the VMs on the broker"),
        _secret(section, "worker_password", "the password of worker_username"),
    )


def _queue_name(section: Section) -> str:
    name = _or(section.text("queue_name"), WorkQueueConfig.queue_name)
    if len(name.encode()) > MAX_QUEUE_NAME:
        section.complain("queue_name", f"must be at most {MAX_QUEUE_NAME} bytes of UTF-8")
    if name.startswith("amq."):
        section.complain("queue_name", "may not begin with amq., which the broker keeps for itself")
    return name


def _heartbeat(section: Section) -> int:
    seconds = _or(section.duration("heartbeat"), WorkQueueConfig.heartbeat)
    if not 5 <= seconds <= 3600 or seconds != int(seconds):
        section.complain("heartbeat", "expected whole seconds from 5 to 3600")
    return int(seconds)


def _queue_type(section: Section) -> QueueType | None:
    queue_type = section.text("queue_type")
    if queue_type not in (None, "quorum", "classic"):
        section.complain("queue_type", "expected quorum or classic")
    return "classic" if queue_type == "classic" else "quorum" if queue_type else None


def _host(section: Section, key: str) -> str | None:
    host = section.text(key)
    if host and not _is_host(host):
        section.complain(key, "expected a host name or address alone; port and account are keys of their own")
    return host


def _is_host(text: str) -> bool:
    """A name or an address; one colon would be before a port, IPv6 addresses have two at least."""
    return not re.search(r"[]/@\s[]", text) and text.count(":") != 1


def _vm_settings(top: Section) -> VmSettings:
    section = _subsection(top, "vm_settings")
    if section is None:
        return VmSettings()
    if section.get("default_flavor_name") is not None and section.get(FAVOR_ALIAS) is not None:
        section.complain(FAVOR_ALIAS, "is another spelling of default_flavor_name, also given; keep one")
    flavor = section.text("default_flavor_name") or section.text(FAVOR_ALIAS)
    return VmSettings(
        worker_image_name=_or(section.text("worker_image_name"), VmSettings.worker_image_name),
        default_flavor_name=_or(flavor, VmSettings.default_flavor_name),
        ssh_key_name=section.text("ssh_key_name"),
        network_name=section.text("network_name"),
        floating_ip_pool_name=section.text("floating_ip_pool_name"),
    )


def _cloud_settings(top: Section) -> CloudSettings | None:
    section = _subsection(top, "cloud_settings")
    if section is None:
        return None
    return CloudSettings(
        auth_url=section.required_text("auth_url", "Keystone's address, such as https://cloud:5000/v3"),
        username=section.required_text("username", "the OpenStack account"),
        password=_secret(section, "password", "the password of username"),
        project_name=section.required_text("project_name", "the OpenStack project"),
        user_domain_name=_or(section.text("user_domain_name"), CloudSettings.user_domain_name),
        project_domain_name=_or(section.text("project_domain_name"), CloudSettings.project_domain_name),
    )


def _timeouts(top: Section, defaults: Timeouts) -> Timeouts:
    section = _subsection(top, "timeouts")
    if section is None:
        return defaults
    given = {name: section.duration(name) for name in KEYS["timeouts"]}
    timeouts = Timeouts(**{name: _or(given[name], getattr(defaults, name)) for name in KEYS["timeouts"]})
    if timeouts.silence < 2 * timeouts.heartbeat:
        key = "silence" if given["silence"] else "heartbeat"
        section.complain(key, "silence must be at least twice heartbeat, or live workers are believed lost")
    if timeouts.retry_longest < timeouts.retry_first:
        key = "retry_longest" if given["retry_longest"] else "retry_first"
        section.complain(key, "retry_longest must not be less than retry_first")
    return timeouts


def _worker(top: Section, command: str | None) -> WorkerConfig:
    section = _subsection(top, "worker")
    if section is None:
        return WorkerConfig(command=command)
    return WorkerConfig(
        command=_or(section.text("command"), command),
        user=_or(section.text("user"), WorkerConfig.user),
        cwl_base_command=_cwl_base_command(section),
    )


def _cwl_base_command(section: Section) -> tuple[str, ...] | None:
    if not isinstance(section.get("cwl_base_command"), str):
        return section.texts("cwl_base_command") or None
    try:
        return tuple(shlex.split(section.text("cwl_base_command") or "")) or None
    except ValueError:
        section.complain("cwl_base_command", "has a quote that is not closed; or write it as a list")
        return None


def _database(top: Section, state_dir: Path, path: Path) -> tuple[str, Path | None]:
    """The database's URL, and its file if it is SQLite."""
    default = state_dir / DATABASE_NAME
    section = _subsection(top, "database")
    url = section.text("url") if section else None
    if section is None or url is None:
        return _sqlite_url(default), default
    scheme, _, rest = url.partition("://")
    if scheme not in DATABASES or not rest.strip("/"):
        section.complain("url", "expected sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")
        return url, None
    if scheme != "sqlite":
        return url, None
    if not rest.startswith("/") or "?" in rest or rest == "/:memory:":
        section.complain("url", "expected sqlite:///PATH, a file, without options")
        return url, None
    file = _beside(path, rest[1:])
    return _sqlite_url(file), file


def _complain_if_queue_is_out_of_reach(top: Section, config: Config) -> None:
    if config.work_queue is not None or top.get("work_queue") is not None:
        return
    if config.cloud == "openstack":
        top.complain("work_queue", "missing; VMs of OpenStack need a broker that they can reach")
    elif config.database_path is None and not top.document.problems:
        top.complain("work_queue", "missing; the embedded queue needs an SQLite database")


def _warnings(config: Config, path: Path) -> tuple[str, ...]:
    queue = config.work_queue
    warnings = []
    if (queue or config.cloud_settings or "@" in config.database_url) and _others_may_read(path):
        warnings.append(_close_to_others(path, "holds passwords"))
    if queue and queue.tls and queue.tls.key and _others_may_read(queue.tls.key):
        warnings.append(_close_to_others(queue.tls.key, "is a private key"))
    return tuple(warnings)


def _others_may_read(file: Path) -> bool:
    return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _close_to_others(file: Path, what: str) -> str:
    return f"{file}: {what} and others may read it; run: chmod 600 {shlex.quote(str(file))}"


def refuse_network_filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> None:
    """Refuse a directory where SQLite's write-ahead log is unsafe: it needs memory shared by its processes.

    Args:
        path: the state directory; need not exist yet.
        mountinfo: the mounts of this process, as in proc_pid_mountinfo(5).

    Raises:
        UsageError: the directory is on a network file system.

    Source: https://sqlite.org/wal.html ("WAL does not work over a network filesystem").
    """
    file_system = _file_system_of(Path(os.path.realpath(path)), mountinfo)
    if file_system.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS:
        raise UsageError(
            f"{path}: is on a network file system ({file_system}), where SQLite cannot keep its promises; "
            "set state_dir to a local directory, or database.url to a PostgreSQL server"
        )


def _file_system_of(path: Path, mountinfo: Path) -> str:
    """The type of the file system a path is on, or "" where there is no telling."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    found, longest = "", -1
    for line in lines:
        mount, _, source = line.partition(" - ")
        point = Path(_unescape(mount.split(" ")[4]))
        # Of two mounts at one point the later hides the earlier.
        if path.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = source.split(" ")[0], len(point.parts)
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)
