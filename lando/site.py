"""Puts the parts together as the configuration says: the only place that chooses a queue or a cloud."""

from __future__ import annotations

import getpass
import os
import secrets
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from lando import bootscript, jobfile
from lando.bootscript import WorkerSettings
from lando.cloud import Cloud, ServerRequest
from lando.config import Config, refuse_network_filesystem
from lando.errors import UsageError
from lando.job import JobSpec
from lando.queue import Publisher, WorkQueue
from lando.queue.embedded import EmbeddedPublisher, EmbeddedQueue
from lando.tasks import SendCreate

STAND_IN_ID = "00000000-0000-0000-0000-000000000000"
STAND_IN_SECRET = "0" * 32
STAND_IN_COMMAND = "/lando/lando_worker.sh"


def new_secret() -> str:
    """A mark or a token: 128 random bits."""
    return secrets.token_hex(16)


def account() -> str:
    """The operating system's name of who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


class Site:
    """A configured site.

    Args:
        config: as ``lando.config`` read it.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def database(self) -> Path:
        """The SQLite file of the state directory, which holds the embedded queue."""
        if self.config.work_queue is not None:
            raise UsageError(
                f"{self.config.source}: work_queue: this version has only the embedded queue; "
                "leave work_queue out to use it"
            )
        assert self.config.database_path is not None
        return self.config.database_path

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

    def publisher(self) -> Publisher:
        """Where commands are sent."""
        self.prepare_state_dir()
        return EmbeddedPublisher(self.database, "client", account())

    def queue(self) -> WorkQueue:
        """What the daemon reads."""
        return EmbeddedQueue(self.database)

    @cached_property
    def cloud(self) -> Cloud:
        """Where servers are made."""
        if self.config.cloud != "local":
            raise UsageError(
                f"{self.config.source}: cloud_settings: this version has only the local cloud; "
                "leave cloud_settings out, or say `cloud: local`, to use it"
            )
        from lando.cloud.local import LocalCloud  # noqa: PLC0415 - only the daemon needs it

        return LocalCloud(self.config.state_dir)

    def outputs(self, job_id: str) -> Path:
        """Where a job's outputs are kept when its server is on this machine."""
        return self.config.state_dir / "jobs" / job_id / "outputs"

    def accept(self, body: Mapping[str, Any]) -> JobSpec:
        """The spec of a start_worker body that this site can run.

        Raises:
            UsageError: with what is wrong.
        """
        spec = jobfile.from_body(body)
        self.check(spec)
        return spec

    def check(self, spec: JobSpec) -> None:
        """Refuse a job whose start-up script would be larger than a cloud takes.

        Raises:
            UsageError: with what is too large.
        """
        settings = self._worker_settings(STAND_IN_ID, self.config.worker.command or STAND_IN_COMMAND)
        bootscript.render(
            spec,
            job_id=STAND_IN_ID,
            attempt=1,
            token=STAND_IN_SECRET,
            server_name="lando-00000000-0000-1",
            settings=settings,
        )

    def server_request(self, task: SendCreate, body: Mapping[str, Any], deployment: str) -> ServerRequest:
        """What to ask of the cloud for a job.

        Raises:
            UsageError: the job cannot be started; ``accept`` said otherwise before the site was changed.
            LandoError: this installation cannot start any job just now.
        """
        spec = jobfile.from_body(body)
        job = task.job
        assert job.server_name is not None
        command = self.config.worker.command or bootscript.installed_command()
        user_data = bootscript.render(
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
            user_data=user_data,
            flavor=spec.flavor,
            image=spec.image,
            volume_size=spec.volume_size,
        )

    def _worker_settings(self, job_id: str, command: str) -> WorkerSettings:
        local = self.config.cloud == "local"
        worker = self.config.worker
        return WorkerSettings(
            command=command,
            queue={"kind": "embedded", "database": str(self.database.absolute())},
            user=None if local else worker.user,
            heartbeat=self.config.timeouts.heartbeat,
            cwl_base_command=worker.cwl_base_command,
            outputs=str(self.outputs(job_id).absolute()) if local else None,
        )
