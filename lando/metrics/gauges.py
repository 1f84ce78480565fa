"""What is read when somebody asks: from what the daemon noted last, and from the sampler."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lando import __version__
from lando.cloud.interface import QUOTA_UNITS
from lando.metrics import bounded_labels as labels
from lando.metrics.admission_held import REASONS
from lando.metrics.health import Health
from lando.metrics.recording_meter import RecordingMeter
from lando.metrics.sampler import Sample, Sampler
from lando.store.measurements import EffectCounts

QUEUES = {"client": "commands", "worker": "reports"}
"""The queues by who sends there."""
QUOTA_LABELS = {
    name: ({"ram": "ram_bytes", "gigabytes": "volume_bytes"}.get(name, name), factor)
    for name, factor in ((name, {"ram": 2**20, "gigabytes": 2**30}.get(name, 1)) for name in QUOTA_UNITS)
}
"""The label of each resource, and the factor from the cloud's unit to bytes."""


@dataclass(frozen=True)
class Facts:
    """What does not change while the daemon runs."""

    queue: str
    cloud: str
    database: str
    max_workers: float
    """Infinite: the quota is the limit."""


class Gauges(Collector):
    """See ``prometheus_client.registry.Collector``.

    Args:
        facts: of this daemon.
        meter: what it notes.
        health: judges that.
        sampler: reads the database; None until it is open.
    """

    def __init__(
        self, facts: Facts, meter: RecordingMeter, health: Health, sampler: Callable[[], Sampler | None]
    ) -> None:
        self._facts = facts
        self._meter = meter
        self._health = health
        self._sampler = sampler

    def describe(self) -> Iterable[Metric]:
        """Nothing is read to register it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All of it, now."""
        sampler = self._sampler()
        sample = None if sampler is None else sampler.latest()
        is_readable = sampler is not None and not sampler.trouble and not sampler.is_overdue
        yield from self._of_daemon()
        yield from self._of_services(is_readable and not self._meter.database_trouble)
        yield from self._of_quota()
        yield _by(
            "leaked",
            "Resources that belong to no job and are being deleted.",
            "kind",
            {kind: self._meter.leaked.get(kind, 0) for kind in ("servers", "floating_ips")},
        )
        if sample is not None:
            yield from self._of_database(sample)
            yield from self._of_queue(sample)

    def _of_daemon(self) -> Iterator[Metric]:
        facts, health = self._facts, self._health
        info = GaugeMetricFamily(
            "lando_build_info",
            "Always 1; the labels say what runs.",
            labels=("version", "python", "queue", "cloud", "database"),
        )
        running = (__version__, platform.python_version(), facts.queue, facts.cloud, facts.database)
        info.add_metric(running, 1)
        yield info
        yield _gauge("max_workers", "Jobs that may own a server at the same time.", facts.max_workers)
        yield _gauge("ready", "1 if /health/ready says so.", not health.not_ready())
        yield _gauge("last_turn_age_seconds", "Since the loop was last seen to go on.", health.last_turn_age)
        if health.up_to_date_age is not None:
            text = "Since everything was taken that was queued."
            yield _gauge("up_to_date_age_seconds", text, health.up_to_date_age)

    def _of_services(self, is_database_connected: bool) -> Iterator[Metric]:
        meter = self._meter
        yield _gauge("queue_connected", "1 if the work queue can be used.", meter.queue_obstacle is None)
        yield _gauge(
            "cloud_connected", "1 if the cloud answered when it was last asked.", not meter.cloud_trouble
        )
        yield _gauge("database_connected", "1 if the database can be used.", is_database_connected)

    def _of_quota(self) -> Iterator[Metric]:
        headroom = self._meter.headroom
        if headroom is None:
            return
        limit, used, free = ({}, {}, {})
        for name, (label, factor) in QUOTA_LABELS.items():
            share = getattr(headroom.quota, name)
            if share is not None:
                used[label] = share.used * factor
                limit[label] = float("inf") if share.limit is None else share.limit * factor
                free[label] = float("inf") if share.left is None else share.left * factor
        yield _by("quota_limit", "What the project may use.", "resource", limit)
        yield _by("quota_used", "What the project uses, by whomever.", "resource", used)
        yield _by("quota_free", "What the project may still use.", "resource", free)

    def _of_database(self, sample: Sample) -> Iterator[Metric]:
        if sample.size is not None:
            yield _gauge("database_size_bytes", "Of the database's files.", sample.size)
        yield _by(
            "jobs", "Stored jobs.", "state", {state: sample.jobs.get(state, 0) for state in labels.STATES}
        )
        held = {why: int(why in sample.held) for why in REASONS}
        yield _by("admission_held", "1 if jobs are not admitted for this reason.", "why", held)
        text = "Servers of this deployment that the database does not know."
        yield _gauge("unknown_servers", text, sample.unknown_servers)
        kinds = {kind: sample.effects.get(kind) for kind in labels.EFFECTS}
        now = time.time()
        numbers: tuple[tuple[str, str, Callable[[EffectCounts], float]], ...] = (
            ("effects", "Effects that are not carried out yet.", lambda each: each.waiting),
            ("effects_due", "Those of them that are due.", lambda each: each.due),
            ("effects_failing", "Those of them that failed at least once.", lambda each: each.failing),
            ("effect_most_tries", "How often one of them has failed, at most.", lambda each: each.most_tries),
            (
                "effect_overdue_seconds",
                "For how long the oldest of them has been due.",
                lambda each: max(0.0, now - each.first_due_at),
            ),
        )
        for name, text, number in numbers:
            of_kinds = {kind: 0.0 if counts is None else number(counts) for kind, counts in kinds.items()}
            yield _by(name, text, "kind", of_kinds)

    def _of_queue(self, sample: Sample) -> Iterator[Metric]:
        found = sample.queue
        if found is None:
            return
        moved = CounterMetricFamily(
            "lando_dead_letters", "Messages that were moved to the dead letters.", labels=("origin",)
        )
        for origin in labels.ORIGINS:
            moved.add_metric((origin,), found.dead_lettered.get(origin, 0))  # type: ignore[call-overload]
        yield moved
        kept = {str(origin): letters for origin, letters in found.letters.items()}
        yield _by("dead_letters_kept", "Dead letters that nobody has requeued or dropped.", "origin", kept)
        waiting = {QUEUES[origin]: count for origin, count in found.waiting.items()}
        yield _by("queue_messages", "Messages in the work queue.", "queue", waiting)
        ages = {}
        for origin, count in found.waiting.items():
            at = found.oldest_at.get(origin)
            age = self._meter.head_ages.get(origin, 0.0) if at is None else max(0.0, time.time() - at)
            ages[QUEUES[origin]] = age if count else 0.0
        yield _by("queue_head_age_seconds", "Of the oldest message in the work queue.", "queue", ages)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"lando_{name}", text, float(value))


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"lando_{name}", text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
