"""Metrics and health of one daemon, from its start to its end."""

from __future__ import annotations

import math
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest

from lando.cloud.interface import Cloud
from lando.config.metrics import MetricsConfig
from lando.config.site_config import Config
from lando.metrics.cloud_calls import MeasuredCloud, count_request
from lando.metrics.gauges import Facts, Gauges
from lando.metrics.health import Health
from lando.metrics.instruments import Instruments
from lando.metrics.recording_meter import RecordingMeter
from lando.metrics.sampler import Sampler, read_sample
from lando.metrics.server import MetricsServer, Page, text_page
from lando.store.store import Store
from lando.workqueue.interface import WorkQueue

if TYPE_CHECKING:
    from lando.cloud.nova.session import CallCounter

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format"""
CLOSE_TIMEOUT = 1.0
"""Seconds that each thread has to end."""


class Telemetry:
    """Answers from the beginning: also while the daemon waits for its database.

    Args:
        config: the daemon's.
        metrics: its section ``metrics``.
    """

    def __init__(self, config: Config, metrics: MetricsConfig) -> None:
        self._config = config
        is_openstack, is_postgresql = config.cloud == "openstack", config.database_path is None
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._instruments = Instruments(self.registry, is_openstack, is_postgresql)
        self.meter = RecordingMeter(self._instruments)
        self.health = Health(self.meter, config.timeouts.observe)
        self._sampler: Sampler | None = None
        facts = Facts(
            queue="embedded" if config.work_queue is None else "rabbitmq",
            cloud=config.cloud,
            database="postgresql" if is_postgresql else "sqlite",
            max_workers=config.max_workers or math.inf,
        )
        self.registry.register(Gauges(facts, self.meter, self.health, lambda: self._sampler))
        pages = {"/metrics": self._metrics, "/health/live": self._live, "/health/ready": self._ready}
        self._server = MetricsServer(metrics.host, metrics.port, pages)

    def measured(self, cloud: Cloud, requests: CallCounter | None) -> Cloud:
        """The cloud, whose calls are counted from now on.

        Args:
            cloud: the driver.
            requests: counts the HTTP requests to OpenStack; None where there is none.
        """
        if requests is not None:
            requests.answered = partial(count_request, self._instruments)
        return MeasuredCloud(cloud, self._instruments)

    def watch(self, store: Store, queue: WorkQueue) -> None:
        """The daemon has its lock, its database and its queue.

        Args:
            store: read when somebody asks.
            queue: the same.
        """
        self.health.lock_trouble = ""
        if self._sampler is not None:
            self._sampler.close(0.0)  # the daemon could not be made the first time
        self._sampler = Sampler(partial(read_sample, store, self._config.database_path, queue))

    def close(self) -> None:
        """Answer and read nothing more."""
        self._server.close(CLOSE_TIMEOUT)
        if self._sampler is not None:
            self._sampler.close(CLOSE_TIMEOUT)

    def _metrics(self) -> Page:
        return Page(HTTPStatus.OK, CONTENT_TYPE, generate_latest(self.registry))

    def _live(self) -> Page:
        trouble = self.health.not_live()
        return text_page(HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK, trouble or "live")

    def _ready(self) -> Page:
        troubles = self.health.not_ready()
        status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
        return text_page(status, "\n".join(troubles) or "ready")
