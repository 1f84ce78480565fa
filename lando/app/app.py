"""Puts the parts together as the configuration says: the only place that chooses a queue or a cloud."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lando import state_dir
from lando.app import user_data
from lando.app.user_data import WorkerSettings
from lando.cloud.interface import Cloud, ServerRequest
from lando.config import job_file
from lando.config.site_config import Config
from lando.engine.operations import SendCreate
from lando.errors import UsageError
from lando.state_dir import refuse_network_filesystem
from lando.states.job import JobSpec
from lando.workqueue.embedded import EmbeddedDeadLetters, EmbeddedPublisher, EmbeddedQueue
from lando.workqueue.interface import DeadLetters, Publisher, QueueUnavailable, WorkQueue

if TYPE_CHECKING:
    from lando.cloud.nova.account import Account
    from lando.cloud.nova.driver import NovaCloud, ServerSettings
    from lando.workqueue.rabbitmq.broker import Broker
    from lando.workqueue.rabbitmq.names import QueueNames

PATIENCE = 20.0
"""Seconds that a broker's confirmation is waited for."""
STAND_IN_ID = "00000000-0000-0000-0000-000000000000"
STAND_IN_SECRET = "0" * 32
STAND_IN_COMMAND = "/lando/lando_worker.sh"
MAX_AUTHORITIES = 12_000
"""Characters of certificates that a start-up script has room for, beside the job."""


def new_secret() -> str:
    """A mark or a token: 128 random bits."""
    return secrets.token_hex(16)


def account() -> str:
    """The operating system's name of who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class App:
    """A configured site.

    Args:
        config: as ``lando.config.site_config`` read it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def embedded_queue(self) -> Path | None:
        """The SQLite file that holds the embedded queue; None where the queue is a broker's."""
        return self.config.database_path if self.config.work_queue is None else None

    @cached_property
    def broker(self) -> Broker:
        """The broker of work_queue, as the daemon and the commands use it.

        Raises:
            UsageError: a certificate cannot be read.
        """
        from lando.workqueue.rabbitmq.broker import Broker, Tls  # noqa: PLC0415 - only where there is one

        queue = self.config.work_queue
        assert queue is not None
        files = queue.tls
        return Broker(
            host=queue.host,
            port=queue.port,
            virtual_host=queue.virtual_host,
            username=queue.username,
            password=queue.password,
            heartbeat=queue.heartbeat,
            tls=None
            if files is None
            else Tls(
                self._authorities(),
                None if files.certificate is None else str(files.certificate),
                None if files.key is None else str(files.key),
            ),
            settings=f"{self.config.source}: work_queue.",
            from_url=queue.from_url,
        )

    @property
    def worker_broker(self) -> Broker:
        """The same with the workers' account, and without a certificate, which VMs do not get."""
        from lando.workqueue.rabbitmq.broker import Tls  # noqa: PLC0415

        queue = self.config.work_queue
        assert queue is not None and queue.worker_username is not None and queue.worker_password is not None
        return replace(
            self.broker,
            username=queue.worker_username,
            password=queue.worker_password,
            tls=None if self.broker.tls is None else Tls(self.broker.tls.authorities),
            from_url=False,
            account="worker_",
        )

    def try_worker_account(self) -> None:
        """See that workers will be able to log in, as far as that can be told now.

        Raises:
            UsageError: they will not.
        """
        if self.embedded_queue is None:
            from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415

            with contextlib.suppress(QueueUnavailable):  # the daemon waits for the broker
                inspect_queue(self.worker_broker, self.names.queue)

    @cached_property
    def names(self) -> QueueNames:
        """What there is on the broker."""
        from lando.workqueue.rabbitmq.names import QueueNames  # noqa: PLC0415

        assert self.config.work_queue is not None
        return QueueNames(self.config.work_queue.queue_name)

    def _authorities(self) -> str | None:
        assert self.config.work_queue is not None and self.config.work_queue.tls is not None
        file = self.config.work_queue.tls.ca
        if file is None:
            return None
        try:
            return file.read_text(encoding="ascii")
        except (OSError, UnicodeError) as error:
            raise UsageError(f"{self.config.source}: work_queue.tls.ca: {file}: {error}") from error

    @property
    def daemon_lock(self) -> Path:
        """What the daemon of this database locks: beside the database, which may be elsewhere."""
        path, state_dir = self.config.database_path, self.config.state_dir
        if path is None or path.parent.absolute() == state_dir.absolute():
            return state_dir / "daemon.lock"
        return path.with_name(f"{path.name}.daemon.lock")

    def prepare_state_dir(self) -> None:
        """Make the state directory (0700) where it is missing.

        Raises:
            UsageError: it cannot be made or written, or is no place for a database.
        """
        directory = self.config.state_dir
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UsageError(f"{directory}: {error.strerror}; name another one by LANDO_STATE_DIR") from error
        if not os.access(directory, os.W_OK):
            raise UsageError(f"{directory}: is not writable; name another one by LANDO_STATE_DIR")
        if self.config.database_path is not None:
            refuse_network_filesystem(self.config.database_path.parent)

    def publisher(self, patience: float = PATIENCE) -> Publisher:
        """Where commands are sent.

        Args:
            patience: seconds that a broker's confirmation is waited for.
        """
        if self.embedded_queue is not None:
            self.prepare_state_dir()
            return EmbeddedPublisher(self.embedded_queue, "client", account())
        from lando.workqueue.rabbitmq.publisher import RabbitMQPublisher  # noqa: PLC0415

        return RabbitMQPublisher(self.broker, self.names.commands, self.names.queue, patience)

    def queue(self) -> WorkQueue:
        """What the daemon reads."""
        if self.embedded_queue is not None:
            return EmbeddedQueue(self.embedded_queue)
        from lando.workqueue.rabbitmq.consumer import RabbitMQQueue  # noqa: PLC0415

        assert self.config.work_queue is not None
        return RabbitMQQueue(self.broker, self.names, self.config.work_queue.queue_type)

    def dead_letters(self) -> DeadLetters:
        """What could not be understood."""
        if self.embedded_queue is not None:
            return EmbeddedDeadLetters(self.embedded_queue)
        from lando.workqueue.rabbitmq.dead_letters import RabbitMQDeadLetters  # noqa: PLC0415

        return RabbitMQDeadLetters(self.broker, self.names)

    def has_daemon(self) -> bool:
        """Whether somebody takes up what is sent; on a broker: whether somebody reads the queue.

        Raises:
            LandoError: the broker cannot be asked.
        """
        if self.embedded_queue is not None:
            return state_dir.running(self.daemon_lock) is not None
        from lando.workqueue.rabbitmq.inspection import inspect_queue  # noqa: PLC0415

        found = inspect_queue(self.broker, self.names.queue)
        return found is not None and found.consumers > 0

    @cached_property
    def cloud(self) -> Cloud:
        """Where servers are made."""
        if self.config.cloud == "openstack":
            return self.openstack
        from lando.cloud.local.driver import LocalCloud  # noqa: PLC0415 - only the daemon needs it

        return LocalCloud(self.config.state_dir)

    @cached_property
    def openstack(self) -> NovaCloud:
        """The project on OpenStack; nothing is sent before the first call.

        Raises:
            UsageError: the account is incomplete.
        """
        from lando.cloud.nova.driver import connect  # noqa: PLC0415 - half a second, only where there is one

        return connect(self._account(), self._server_settings(), self.config.timeouts.settle)

    def _account(self) -> Account:
        from lando.cloud.nova import account as nova  # noqa: PLC0415

        settings = self.config.cloud_settings
        if settings is None:
            return nova.from_environment()
        if settings.cloud is not None:
            account = nova.from_clouds_yaml(settings.cloud)
            return replace(account, region=settings.region_name or account.region)
        where = f"cloud_settings in {self.config.source}"
        endpoint = {
            "region": settings.region_name,
            "interface": settings.interface,
            "cacert": settings.cacert,
            "verify": settings.verify,
        }
        auth_url, password = settings.auth_url or "", settings.password
        if password is None:
            assert settings.application_credential_id and settings.application_credential_secret
            return nova.with_application_credential(
                where,
                auth_url,
                settings.application_credential_id,
                settings.application_credential_secret,
                **endpoint,
            )
        return nova.with_password(
            where,
            auth_url,
            settings.username or "",
            password,
            settings.project_name or "",
            settings.user_domain_name,
            settings.project_domain_name,
            **endpoint,
        )

    def _server_settings(self) -> ServerSettings:
        from lando.cloud.nova.driver import ServerSettings  # noqa: PLC0415

        vm = self.config.vm_settings
        return ServerSettings(
            image=vm.worker_image_name,
            flavor=vm.default_flavor_name,
            key_name=vm.ssh_key_name,
            networks=vm.networks,
            security_groups=vm.security_groups,
            availability_zone=vm.availability_zone,
            config_drive=vm.config_drive,
            volume_size=vm.volume_size,
            floating_ip_pool=vm.floating_ip_pool_name,
        )

    def outputs(self, job_id: str) -> Path:
        """Where a job's outputs are kept when its server is on this machine."""
        return self.config.state_dir / "jobs" / job_id / "outputs"

    def accept(self, body: Mapping[str, Any]) -> JobSpec:
        """The spec of a start_worker body that this site can run.

        Raises:
            UsageError: with what is wrong.
        """
        spec = job_file.from_body(body)
        self.check(spec)
        return spec

    def check(self, spec: JobSpec) -> None:
        """Refuse a job whose start-up script would be larger than a cloud takes.

        Raises:
            UsageError: with what is too large.
        """
        if user_data.is_surely_small(spec, self._settings_size):
            return
        settings = self._worker_settings(STAND_IN_ID, self.config.worker.command or STAND_IN_COMMAND)
        user_data.render(
            spec,
            job_id=STAND_IN_ID,
            attempt=1,
            token=STAND_IN_SECRET,
            server_name="lando-00000000-0000-1",
            settings=settings,
        )

    @cached_property
    def _settings_size(self) -> int:
        settings = self._worker_settings(STAND_IN_ID, self.config.worker.command or STAND_IN_COMMAND)
        return user_data.site_size(settings)

    def server_request(self, task: SendCreate, body: Mapping[str, Any], deployment: str) -> ServerRequest:
        """What to ask of the cloud for a job.

        Raises:
            UsageError: the job cannot be started; ``accept`` said otherwise before the site was changed.
            LandoError: this installation cannot start any job just now.
        """
        spec = job_file.from_body(body)
        job = task.job
        assert job.server_name is not None
        command = self.config.worker.command or user_data.installed_command()
        script = user_data.render(
            spec,
            job_id=job.id,
            attempt=job.attempt,
            token=task.token,
            server_name=job.server_name,
            settings=self._worker_settings(job.id, command),
        )
        return ServerRequest(
            name=job.server_name,
            mark=task.mark,
            deployment=deployment,
            job_id=job.id,
            attempt=job.attempt,
            user_data=script,
            flavor=spec.flavor,
            image=spec.image,
            volume_size=spec.volume_size,
        )

    def _worker_settings(self, job_id: str, command: str) -> WorkerSettings:
        local = self.config.cloud == "local"
        worker = self.config.worker
        return WorkerSettings(
            command=command,
            queue=self._worker_queue(),
            user=None if local else worker.user,
            heartbeat=self.config.timeouts.heartbeat,
            cwl_base_command=worker.cwl_base_command,
            outputs=str(self.outputs(job_id).absolute()) if local else None,
            bootstrap_source=worker.bootstrap_source if worker.bootstrap else None,
        )

    def _worker_queue(self) -> dict[str, Any]:
        """How a worker reaches the queue: with its own account, and the broker as VMs see it."""
        if self.embedded_queue is not None:
            return {"kind": "embedded", "database": str(self.embedded_queue.absolute())}
        queue = self.config.work_queue
        assert queue is not None
        authorities = None if queue.tls is None else self._authorities()
        if authorities is not None and len(authorities) > MAX_AUTHORITIES:
            raise UsageError(
                f"{self.config.source}: work_queue.tls.ca: {queue.tls.ca if queue.tls else ''} has "
                f"{len(authorities):,} characters; VMs get it in their start-up script, so keep it to the "
                f"certificates that signed the broker's (at most {MAX_AUTHORITIES:,} characters)"
            )
        return {
            "kind": "rabbitmq",
            "host": queue.worker_host,
            "port": queue.port,
            "virtual_host": queue.virtual_host,
            "username": queue.worker_username or STAND_IN_SECRET,
            "password": STAND_IN_SECRET if queue.worker_password is None else queue.worker_password.reveal(),
            "queue_name": queue.queue_name,
            "heartbeat": queue.heartbeat,
            "tls": None if queue.tls is None else {"authorities": authorities},
        }
