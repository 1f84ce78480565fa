"""The configuration, landoconfig.yml, with its defaults and its checks."""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs

from lando.cloud.nova.account import Account
from lando.cloud.nova.server_settings import ServerSettings
from lando.config import limits, metrics, openstack, retention, work_queue, worker, yaml_document
from lando.config.limits import Limits
from lando.config.metrics import MetricsConfig
from lando.config.openstack import NamedCloud
from lando.config.section import Section, beside, or_default
from lando.config.work_queue import WorkQueueConfig
from lando.config.worker import WorkerConfig
from lando.engine import reservation
from lando.engine.retention import Retention
from lando.errors import UsageError
from lando.postgres import address as postgres
from lando.times import written

CONFIG_NAME = "landoconfig.yml"
EMBEDDED_SOURCE = "embedded, no configuration file"
DATABASE_NAME = "lando.db"
CloudKind = Literal["local", "openstack"]
LogFormat = Literal["text", "json"]


@dataclass(frozen=True)
class Timeouts:
    """The section ``timeouts``; all in seconds.

    A record of its own, since one time serves several parts, and some follow from the cloud:
    ``lando.app.timing`` makes the records of the parts.
    """

    boot: float | None = None
    """From a job's admission to its worker's first report, unless the job file says otherwise; None: learned
    from the last boots (``lando.engine.boot_times``)."""
    run: float | None = None
    """From the worker's first report to its last; no limit unless given."""
    silence: float = 10 * 60.0
    """A worker that has not reported for this long is lost."""
    heartbeat: float = 30.0
    """Between two reports of a worker."""
    retry_first: float = 10.0
    """Back-off after a job's first system failure; doubled by each further one."""
    retry_longest: float = 10 * 60.0
    """The longest back-off."""
    observe: float = 10.0
    """Between two lists of the cloud's servers."""
    grace: float = 60.0
    """A server that belongs to no job is deleted if it still exists after this long."""
    hold: float = 30.0
    """No job is admitted for this long after the cloud refused a server; doubled by each further refusal."""
    settle: float | None = None
    """A server whose create was not answered is listed within this long; None: the cloud's default."""
    names: float = 5 * 60.0
    """What the names of images, flavors and networks stand for is looked up again after this long."""


@dataclass(frozen=True)
class AdmissionConfig:
    """The section ``admission``."""

    reservation: float = 30 * 60.0
    """Seconds for which the quota is kept free at first for a job that needs more of it than is left."""


NO_LIMITS = Limits()
WORKER_DEFAULTS = WorkerConfig()
LOCAL_TIMEOUTS = Timeouts(boot=60.0, observe=1.0)


@dataclass(frozen=True)
class Config:
    """The configuration, with its defaults filled in."""

    source: str
    """The file's path, or ``EMBEDDED_SOURCE``."""
    state_dir: Path
    """Absolute; may not exist yet."""
    database_url: str = field(repr=False)
    """In SQLAlchemy's form; may contain a password. Show ``database`` instead."""
    database_path: Path | None
    """The file of an SQLite database, absolute."""
    cloud: CloudKind = "local"
    max_workers: int | None = None
    """VMs at once; None: as many as the cloud allows."""
    deployment: str | None = None
    """The name that this installation's servers carry; None: a random one, kept in the database."""
    work_queue: WorkQueueConfig | None = None
    """None: the embedded queue, in the SQLite database."""
    vm_settings: ServerSettings = openstack.VM_DEFAULTS
    cloud_settings: Account | NamedCloud | None = None
    """None for OpenStack: the account of the OS_* environment variables."""
    timeouts: Timeouts = LOCAL_TIMEOUTS
    admission: AdmissionConfig = AdmissionConfig()
    limits: Limits = NO_LIMITS
    retention: Retention = retention.DEFAULT
    worker: WorkerConfig = WORKER_DEFAULTS
    log_format: LogFormat = "text"
    """Of the daemon's log."""
    metrics: MetricsConfig | None = None
    """None: the daemon serves none."""
    warnings: tuple[str, ...] = ()

    @property
    def database(self) -> str:
        """The database, for people: a path, or the address without account and options."""
        return str(self.database_path or postgres.shown(self.database_url))


def _names(record: type[Any]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(record))


KEYS: dict[str, tuple[str, ...]] = {
    "": (
        *("work_queue", "vm_settings", "cloud_settings", "database", "cloud", "deployment"),
        *("max_workers", "state_dir", "timeouts", "admission", "limits", "retention", "worker"),
        *("log_format", "metrics"),
    ),
    "work_queue": work_queue.KEYS,
    "work_queue.tls": work_queue.TLS_KEYS,
    "vm_settings": openstack.VM_KEYS,
    "cloud_settings": openstack.CLOUD_KEYS,
    "database": ("url",),
    "timeouts": _names(Timeouts),
    "admission": _names(AdmissionConfig),
    "limits": _names(Limits),
    "retention": retention.KEYS,
    "worker": worker.KEYS,
    "metrics": metrics.KEYS,
}
"""Every key, by section; the top level is ""."""


def find_config(explicit: Path | None = None) -> Config:
    """Find and read the configuration.

    The first of: ``explicit`` (``-c``), the file that LANDO_CONFIG names, ./landoconfig.yml; without any of
    them, the embedded one.

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
        state_dir: the state directory; if None, LANDO_STATE_DIR, else the user's state directory.
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
        client: accept a file for clients, such as workerconfig.yml: the workers' account may be missing.

    Raises:
        UsageError: with every mistake of the file, one a line, as ``FILE:LINE: KEY: what is wrong``.
    """
    document = yaml_document.load(path)
    if document.value is None:
        document.value = {}
    top = Section(document, KEYS[""])
    cloud = _cloud(top)
    state_dir = _state_dir(top, path)
    work_queue = _work_queue(top, path, client)
    database_url, database_path = _database(top, state_dir, path, client)
    most = _limits(top)
    config = Config(
        source=str(path),
        state_dir=state_dir,
        database_url=database_url,
        database_path=database_path,
        cloud=cloud,
        max_workers=or_default(top.integer("max_workers", 1), _processors() if cloud == "local" else None),
        deployment=_deployment(top),
        work_queue=work_queue,
        vm_settings=_vm_settings(top),
        cloud_settings=_cloud_settings(top, path),
        timeouts=_timeouts(top, LOCAL_TIMEOUTS if cloud == "local" else Timeouts(), most.run_timeout),
        admission=_admission(top),
        limits=most,
        retention=_retention(top),
        worker=_worker(top, cloud),
        log_format=_log_format(top),
        metrics=metrics.read(top),
    )
    _complain_if_queue_is_out_of_reach(top, config)
    document.check()
    return replace(config, warnings=_warnings(config, path))


def _default_state_dir() -> Path:
    named = os.environ.get("LANDO_STATE_DIR")
    if named:
        return Path(named)
    try:
        return Path(platformdirs.user_state_dir("lando-fsm"))
    except RuntimeError as error:  # no HOME, and an account without an entry in the user database
        raise UsageError(f"no directory for lando-fsm's state: {error}; or set LANDO_STATE_DIR") from error


def _processors() -> int:
    return len(os.sched_getaffinity(0))


def _sqlite_url(database: Path) -> str:
    return f"sqlite:///{database}"


def _state_dir(top: Section, path: Path) -> Path:
    written = top.text("state_dir")
    if written and not os.environ.get("LANDO_STATE_DIR"):
        return beside(path, written)
    return _default_state_dir().absolute()


def _cloud(top: Section) -> CloudKind:
    cloud = top.text("cloud")
    given = top.get("cloud_settings") is not None
    if cloud not in (None, "local", "openstack"):
        top.complain("cloud", "expected local or openstack")
    return "openstack" if cloud == "openstack" or (cloud is None and given) else "local"


def _deployment(top: Section) -> str | None:
    """Read a text that fits into a tag of Nova (at most 60 characters, no / or comma) after a prefix."""
    deployment = top.text("deployment")
    if deployment and not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]{0,39}", deployment):
        top.complain("deployment", "expected at most 40 letters, digits, dots, dashes or underscores")
    return deployment


def _subsection(top: Section, key: str) -> Section | None:
    return top.section(key, KEYS[key])


def _work_queue(top: Section, path: Path, client: bool) -> WorkQueueConfig | None:
    section = _subsection(top, "work_queue")
    if section is None:
        if top.holds("work_queue"):
            top.complain("work_queue", "has no host; name the broker, or remove it for the embedded queue")
        return None
    return work_queue.read(section, path, client)


def _vm_settings(top: Section) -> ServerSettings:
    section = _subsection(top, "vm_settings")
    return openstack.VM_DEFAULTS if section is None else openstack.read_vm_settings(section)


def _cloud_settings(top: Section, path: Path) -> Account | NamedCloud | None:
    section = _subsection(top, "cloud_settings")
    return None if section is None else openstack.read_cloud_settings(section, path)


def _limits(top: Section) -> Limits:
    section = _subsection(top, "limits")
    return NO_LIMITS if section is None else limits.read(section)


def _retention(top: Section) -> Retention:
    section = _subsection(top, "retention")
    return retention.DEFAULT if section is None else retention.read(section)


def _admission(top: Section) -> AdmissionConfig:
    section = _subsection(top, "admission")
    given = None if section is None else section.duration("reservation", reservation.LONGEST)
    return AdmissionConfig(or_default(given, AdmissionConfig.reservation))


def _timeouts(top: Section, defaults: Timeouts, longest_run: float | None) -> Timeouts:
    """Read the section; the limit of run timeouts is also that of jobs that name none."""
    defaults = replace(defaults, run=longest_run)
    section = _subsection(top, "timeouts")
    if section is None:
        return defaults
    given = {name: section.duration(name) for name in KEYS["timeouts"]}
    timeouts = Timeouts(
        **{name: or_default(given[name], getattr(defaults, name)) for name in KEYS["timeouts"]}
    )
    if timeouts.silence < 2 * timeouts.heartbeat:
        key = "silence" if given["silence"] else "heartbeat"
        section.complain(
            key, "silence must be at least twice heartbeat, otherwise working VMs would be declared lost"
        )
    if longest_run is not None and timeouts.run is not None and timeouts.run > longest_run:
        section.complain("run", f"must be at most limits.run_timeout ({written(longest_run)})")
    if timeouts.retry_longest < timeouts.retry_first:
        key = "retry_longest" if given["retry_longest"] else "retry_first"
        section.complain(key, "retry_longest must not be less than retry_first")
    return timeouts


def _worker(top: Section, cloud: CloudKind) -> WorkerConfig:
    return worker.read(_subsection(top, "worker"), is_local=cloud == "local")


def _log_format(top: Section) -> LogFormat:
    log_format = top.text("log_format")
    if log_format not in (None, "text", "json"):
        top.complain("log_format", "expected text or json")
    return "json" if log_format == "json" else "text"


def _database(top: Section, state_dir: Path, path: Path, client: bool) -> tuple[str, Path | None]:
    """Read the database's URL, and its file if it is SQLite."""
    default = state_dir / DATABASE_NAME
    section = _subsection(top, "database")
    url = section.text("url") if section else None
    if section is None or url is None:
        return _sqlite_url(default), default
    scheme, _, rest = url.partition("://")
    if scheme.partition("+")[0] in postgres.OTHER_DRIVERS:
        # A client does not use it, and does not load what reads it.
        wrong = None if client else postgres.mistake(url)
        if wrong is not None:
            section.complain("url", wrong)
        return url, None
    if scheme != "sqlite" or not rest.strip("/"):
        section.complain("url", f"expected sqlite:///PATH or {postgres.FORM}")
        return url, None
    if not rest.startswith("/") or "?" in rest or rest == "/:memory:":
        section.complain("url", "expected sqlite:///PATH, a file, without options")
        return url, None
    file = beside(path, rest[1:])
    return _sqlite_url(file), file


def _complain_if_queue_is_out_of_reach(top: Section, config: Config) -> None:
    if config.work_queue is not None or top.get("work_queue") is not None:
        return
    if config.cloud == "openstack":
        top.complain("work_queue", "missing; VMs of OpenStack need a broker that they can reach")
    elif config.database_path is None and not top.document.problems:
        top.complain(
            "work_queue",
            "missing; with PostgreSQL messages need a broker, docs/rabbitmq.md: the embedded queue is in an "
            "SQLite file",
        )


def _warnings(config: Config, path: Path) -> tuple[str, ...]:
    queue = config.work_queue
    warnings = []
    has_secret = queue or config.cloud_settings or postgres.holds_secret(config.database_url)
    if has_secret and _others_may_read(path):
        warnings.append(_close_to_others(path, "holds passwords"))
    tls = queue.broker.tls if queue else None
    if tls and tls.key and _others_may_read(tls.key):
        warnings.append(_close_to_others(tls.key, "is a private key"))
    return tuple(warnings)


def _others_may_read(file: Path) -> bool:
    return bool(file.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def _close_to_others(file: Path, what: str) -> str:
    return f"{file}: {what} and others may read it; run: chmod 600 {shlex.quote(str(file))}"
