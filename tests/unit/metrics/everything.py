"""A registry in which every metric that a daemon can have has a value."""

from __future__ import annotations

import time
from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest

from lando.cloud.interface import Quota, Share, Size
from lando.engine.quota import QuotaHeadroom
from lando.metrics.cloud_calls import count_request
from lando.metrics.gauges import Facts, Gauges
from lando.metrics.health import Health
from lando.metrics.instruments import Instruments
from lando.metrics.recording_meter import RecordingMeter
from lando.metrics.sampler import Sample, Sampler
from lando.store.measurements import EffectCounts
from lando.workqueue.interface import QueueFigures
from tests.support.scrape import Scrape

QUOTA = Quota(*(Share(1, 10) for _ in range(7)))
SAMPLE = Sample(
    now=1.0,
    jobs={"running": 2},
    effects={"delete_server": EffectCounts(3, 2, time.time() - 60, 1, 7)},
    held=frozenset({"quota"}),
    unknown_servers=4,
    size=5,
    queue=QueueFigures(
        {"client": 6, "worker": 0}, {}, {"client": 1, "worker": 2}, {"client": 3, "worker": 4}
    ),
)


class Everything:
    """The parts of ``Telemetry`` but for HTTP."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.instruments = Instruments(self.registry, is_openstack=True, is_postgresql=True)
        self.meter = RecordingMeter(self.instruments)
        self.health = Health(self.meter, observe=10.0)
        self.sampler = Sampler(lambda: SAMPLE)
        facts = Facts("rabbitmq", "openstack", "postgresql", 5)
        self.registry.register(Gauges(facts, self.meter, self.health, lambda: self.sampler))
        self.meter.quota(QuotaHeadroom(QUOTA, Size(), {}))
        self.meter.queue(None, True, time.monotonic())
        self.meter.cloud("")
        self.count_request = partial(count_request, self.instruments)
        self.count_request("POST /v2.1/servers", 202)
        self.instruments.cloud_operations.labels("create", "ok").inc()
        self.instruments.cloud_operation_seconds.labels("create").observe(1.0)

    def scrape(self) -> Scrape:
        return Scrape(generate_latest(self.registry).decode())
