"""The request that creates a job's server: its size is checked at submission, it is made at admission."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from lando import state_dir
from lando.app import rabbitmq, user_data
from lando.app.rabbitmq import STAND_IN_SECRET
from lando.app.user_data import WorkerSettings
from lando.cloud.interface import ServerRequest
from lando.config import job_file
from lando.config.site_config import Config
from lando.engine.operations import SendCreate
from lando.errors import LandoError, UsageError
from lando.states.job import JobSpec
from lando.versions import needed

STAND_IN_ID = "00000000-0000-0000-0000-000000000000"
STAND_IN_COMMAND = "/lando/lando_worker.sh"


class ServerRequests:
    """Makes the server requests of jobs.

    Args:
        config: the configuration.

    Raises:
        UsageError: the certificates of ``work_queue.tls.ca`` cannot be read, or are too large.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        # Once: no job may be refused because the file of certificates is being replaced.
        self._stand_in_queue = self._worker_queue()

    def accept(self, body: Mapping[str, Any]) -> JobSpec:
        """The spec of a start_worker body, if this installation can run it.

        Raises:
            UsageError: with what is wrong.
        """
        spec = job_file.from_body(body)
        self.check(spec)
        return replace(spec, attempts=self._config.limits.attempts_of(spec))

    def check(self, spec: JobSpec) -> None:
        """Refuse a job that is beyond the site's limits, or whose start-up script would be larger than a
        cloud takes.

        Raises:
            UsageError: with what is too large.
        """
        self._check_limits(spec)
        user_data.check_input(spec)
        if user_data.is_surely_small(spec, self._settings_size):
            return
        user_data.render(
            spec,
            job_id=STAND_IN_ID,
            attempt=1,
            token=STAND_IN_SECRET,
            server_name="lando-00000000-0000-1",
            settings=self._stand_in_settings(),
        )

    def _check_limits(self, spec: JobSpec) -> None:
        site = self._config.vm_settings
        self._config.limits.check(spec, site.flavor, site.image)

    @cached_property
    def _settings_size(self) -> int:
        return user_data.settings_size(self._stand_in_settings())

    def _stand_in_settings(self) -> WorkerSettings:
        """As large as a real job's, and made without the worker, which a client may not have installed."""
        command = self._config.worker.command or STAND_IN_COMMAND
        return self._worker_settings(STAND_IN_ID, command, self._stand_in_queue)

    def request(self, operation: SendCreate, body: Mapping[str, Any], deployment: str) -> ServerRequest:
        """What to ask of the cloud for a job.

        Args:
            operation: the create.
            body: the job's start_worker body.
            deployment: the deployment name, which the server carries.

        Raises:
            UsageError: the job cannot be started, because the configuration has changed since ``accept``.
            LandoError: this installation cannot start any job now.
        """
        spec = job_file.from_body(body)
        self._check_limits(spec)
        job = operation.job
        assert job.server_name is not None
        command = self._config.worker.command or user_data.installed_command()
        try:
            queue = self._worker_queue()
        except UsageError as error:  # somebody is replacing the file of certificates
            raise LandoError(str(error)) from error
        script = user_data.render(
            spec,
            job_id=job.id,
            attempt=job.attempt,
            token=operation.token,
            server_name=job.server_name,
            settings=self._worker_settings(job.id, command, queue),
        )
        return ServerRequest(
            name=job.server_name,
            mark=operation.mark,
            deployment=deployment,
            job_id=job.id,
            attempt=job.attempt,
            user_data=script,
            flavor=spec.flavor,
            image=spec.image,
            volume_size=spec.volume_size,
        )

    def needs(self, body: Mapping[str, Any]) -> frozenset[str]:
        """The settings that a worker must know to run a job; none if the job cannot be run any more.

        Args:
            body: the job's start_worker body.
        """
        try:
            spec = job_file.from_body(body)
        except UsageError:  # the configuration has changed since ``accept``
            return frozenset()
        return needed(user_data.worker_configuration(spec, self._stand_in_settings()))

    def _worker_settings(self, job_id: str, command: str, queue: Mapping[str, Any]) -> WorkerSettings:
        local = self._config.cloud == "local"
        worker = replace(self._config.worker, command=command)
        outputs = state_dir.outputs(self._config.state_dir, job_id)
        return WorkerSettings(
            worker=replace(worker, user=None, protect=False) if local else worker,
            queue=queue,
            heartbeat=self._config.timeouts.heartbeat,
            run_timeout=self._config.timeouts.run,
            outputs=str(outputs.absolute()) if local else None,
        )

    def _worker_queue(self) -> dict[str, Any]:
        if self._config.work_queue is None:
            assert self._config.database_path is not None
            return {"kind": "embedded", "database": str(self._config.database_path.absolute())}
        return rabbitmq.worker_queue(self._config.work_queue)
