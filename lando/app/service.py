"""The daemon with its parts and its locks."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from lando.app.app import App
from lando.app.lost_database import remains, warning
from lando.app.moving import refuse_left_database
from lando.app.rabbitmq import log_harmful_policies
from lando.app.timing import timing
from lando.app.user_data import unprotected as unprotected_warning
from lando.cloud.interface import ServerRequest
from lando.cloud.local import full_disk
from lando.daemon.checkpoints import make_last_checkpoint
from lando.daemon.daemon import Daemon
from lando.daemon.effects import Effects
from lando.daemon.health import DatabaseHealth
from lando.daemon.meter import NO_METER
from lando.daemon.retention import RetentionWork
from lando.daemon.retry import announce_retry
from lando.engine import boot_times
from lando.engine.engine import Engine
from lando.engine.leaks import Sweeper
from lando.engine.operations import SendCreate
from lando.errors import DatabaseOutage, DatabaseUnusable, UsageError
from lando.sqlite.opening import DAEMON_BUSY_TIMEOUT
from lando.state_dir import DaemonLock
from lando.store.database import parsed, sqlite_path
from lando.store.facts import DAEMON_FACT, PROJECT_FACT
from lando.store.sqlite_guard import SqliteGuard
from lando.store.store import Store

if TYPE_CHECKING:
    from lando.metrics.telemetry import Telemetry
    from lando.store.daemon_session import DaemonSession

log = logging.getLogger("lando")

T = TypeVar("T")

UNLIMITED = 1_000_000
"""VMs at once, where the configuration sets no limit: the quota is the limit."""

LOOK_EVERY = 1.0
"""Seconds between two looks at the files of the database while nothing is written."""

VMS_OF = "local_vms_of"
"""The fact that names the state directory in which the local VMs of this database live."""


class Service:
    """A daemon, its database, and the locks that keep another daemon away until ``close``.

    Args:
        app: the configured parts.

    Raises:
        DaemonRunning: another daemon uses the state directory or the database.
        LandoError: a part cannot be made.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._is_closed = threading.Event()
        app.try_worker_account()
        _ = app.cloud  # a wrong setting is reported before anything is made
        app.prepare_state_dir()
        self._resources = contextlib.ExitStack()
        with contextlib.ExitStack() as made:
            # Two state directories may share a database, and two databases a state directory.
            for path in sorted({app.daemon_lock, app.config.state_dir / "daemon.lock"}):
                made.callback(DaemonLock(path).release)
            self._telemetry = self._begin_telemetry(made)
            session = self._session()
            if session is not None:
                made.callback(session.close)
            url = app.config.database_url
            self._store = self._when_possible(lambda: Store(url, DAEMON_BUSY_TIMEOUT, session))
            made.callback(self._store.close)
            try:
                self._when_possible(self._store.start_guard)
                made.callback(make_last_checkpoint, self._store)
                self._when_possible(partial(refuse_left_database, self._store, app.config.database))
                self._when_possible(self._warn_if_new)
                self._when_possible(self._bind_vms)
                self._when_possible(self._bind_project)
                self.daemon = self._when_possible(self._make_daemon)
            except DatabaseUnusable as error:
                self._store.leave()
                error.is_left = True
                raise
            self._resources = made.pop_all()

    def _begin_telemetry(self, made: contextlib.ExitStack) -> Telemetry | None:
        """Answer already while the database is away; ended with the rest."""
        metrics = self._app.config.metrics
        if metrics is None:
            return None
        from lando.metrics.telemetry import Telemetry  # noqa: PLC0415 - only where it is configured

        return made.enter_context(contextlib.closing(Telemetry(self._app.config, metrics)))

    def _session(self) -> DaemonSession | None:
        """Where the database is PostgreSQL."""
        address = parsed(self._app.config.database_url)
        if sqlite_path(address) is not None:
            return None
        from lando.store.daemon_session import DaemonSession  # noqa: PLC0415 - for PostgreSQL only

        return DaemonSession(address, self._app.config.state_dir)

    def _when_possible(self, make: Callable[[], T]) -> T:
        """Try again for as long as another process holds the database's lock, its disk is full or fails, or
        its server does not answer."""
        failures, health = 0, DatabaseHealth(self._app.daemon_lock.parent)
        while True:
            try:
                made = make()
                health.works()
                return made
            except DatabaseOutage as error:
                failures += 1
                health.failed(str(error))
                time.sleep(announce_retry(str(error), failures, health.failing_since))

    def _warn_if_new(self) -> None:
        """A database that was removed leaves nothing else that says so."""
        left = remains(self._app.config)
        if left is None:
            return
        with self._store.reading() as queries:
            if queries.fact(DAEMON_FACT) is None:
                log.warning("%s", warning(self._app.config, left))

    def _bind_vms(self) -> None:
        """Refuse to change the state directory while it holds VMs: the daemon would declare them lost."""
        if self._app.config.cloud != "local":
            return
        here = str(self._app.config.state_dir.resolve())
        with self._store.transaction() as transaction:
            there = transaction.fact(VMS_OF)
            if there not in (None, here) and transaction.live():
                raise UsageError(
                    f"{self._app.config.source}: jobs of this database have VMs in {there}, not in {here}; "
                    f"set state_dir (or LANDO_STATE_DIR) to {there} until they have ended"
                )
            transaction.set_fact(VMS_OF, here)

    def _bind_project(self) -> None:
        """Refuse an account of another project while VMs are in this one: it would deny them all."""
        if self._app.config.cloud != "openstack":
            return
        with self._store.transaction() as transaction:
            project = transaction.fact(PROJECT_FACT)
            if project is not None and transaction.live():
                self._app.openstack.stay_in(project)

    def _make_daemon(self) -> Daemon:
        config, cloud = self._app.config, self._app.cloud
        deployment = self._store.deployment(config.deployment)
        learns_boot = config.timeouts.boot is None
        policy, pace = timing(config, cloud, config.timeouts.boot or self._learned_boot_timeout())
        engine = Engine(
            policy,
            pace,
            accept=self._app.server_requests.accept,
            new_secret=new_secret,
            learns_boot=learns_boot,
            needs=self._app.server_requests.needs,
        )
        queue, meter, telemetry = self._app.queue(), NO_METER, self._telemetry
        if telemetry is not None:
            requests = self._app.openstack.session.calls if config.cloud == "openstack" else None
            cloud, meter = telemetry.measured(cloud, requests), telemetry.meter
            telemetry.watch(self._store, queue)
        return Daemon(
            self._store,
            queue,
            cloud,
            engine,
            Effects(cloud, deployment, self._server_request),
            Sweeper(deployment, config.timeouts.grace),
            max_workers=config.max_workers or UNLIMITED,
            observe=config.timeouts.observe,
            grace=config.timeouts.grace,
            disk=partial(full_disk.words, config.state_dir),
            retention=RetentionWork(
                config.retention, self._store, config.state_dir, self._app.dead_letters(), queue.wake
            ),
            state_dir=self._app.daemon_lock.parent,
            meter=meter,
        )

    def _learned_boot_timeout(self) -> float:
        with self._store.reading() as queries:
            return boot_times.timeout(queries.boots())

    def _server_request(self, operation: SendCreate, deployment: str) -> ServerRequest:
        return self._app.server_requests.request(operation, operation.body, deployment)

    def run(
        self, ready: Callable[[], None] = lambda: None, on_stop: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until stopped; see ``Daemon.run``."""
        if self._app.unused_cloud is not None:
            log.warning("%s", self._app.unused_cloud)
        if self._app.config.cloud == "openstack":
            unprotected = unprotected_warning(self._app.config.worker)
            if unprotected:
                log.warning("%s", unprotected)
            # In a thread, so that a cloud that does not answer does not delay the daemon.
            threading.Thread(target=self._try_cloud, name="checks", daemon=True).start()
        if self._store.guard is not None:
            watch = partial(_watch, self._store.guard, self.daemon.look, self._is_closed)
            threading.Thread(target=watch, name="database file", daemon=True).start()

        def begin() -> None:
            ready()
            if self._app.embedded_queue is None:  # now that the queues exist
                threading.Thread(target=self._try_policies, name="policies", daemon=True).start()

        self.daemon.run(begin, on_stop)

    def _try_policies(self) -> None:
        log_harmful_policies(self._app.broker, self._app.names)

    def _try_cloud(self) -> None:
        """Log which settings do not fit the cloud, before a job fails because of them."""
        from lando.cloud.nova import checks  # noqa: PLC0415 - only where there is one

        try:
            for result in checks.results(self._app.openstack):
                if result.verdict != "ok":
                    log.warning("%s: %s", result.what, result.message)
        except Exception:
            log.exception("checking the cloud's settings failed; this is a bug in lando-fsm")

    def close(self) -> None:
        """Close the database and release the locks; the next daemon may start.

        Raises:
            DatabaseUnusable: it is damaged, or was removed or replaced, and was not written.
        """
        self._is_closed.set()
        if self._telemetry is not None:
            self._telemetry.close()  # before the database that it reads
        self._resources.close()


def _watch(guard: SqliteGuard, look: Callable[[], None], is_closed: threading.Event) -> None:
    """A daemon that waits for messages looks at its database when its files were removed or replaced, or are
    damaged where it has not read yet."""
    if guard.look_for_damage(is_closed.is_set):
        look()
    while not is_closed.wait(LOOK_EVERY):
        if guard.difference() is not None:
            look()


def new_secret() -> str:
    """A mark or a token: 128 random bits."""
    return secrets.token_hex(16)
