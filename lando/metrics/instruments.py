"""Counters and histograms. They start at zero with the daemon, as Prometheus expects."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from lando.metrics import bounded_labels as labels

MINUTE, HOUR, DAY = 60, 3600, 86400
UP_TO_AN_HOUR = (5, 15, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600)


class Instruments:
    """Every series that can be known is there from the beginning, at zero: of one that appears with 1, no
    query would see the first event.

    Args:
        registry: where they are collected.
        is_openstack: calls of OpenStack are counted.
        is_postgresql: transactions that are tried again are counted.
    """

    def __init__(self, registry: CollectorRegistry, is_openstack: bool, is_postgresql: bool) -> None:
        def counter(name: str, text: str, *names: str) -> Counter:
            return Counter(f"lando_{name}", text, names, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *names: str) -> Histogram:
            return Histogram(f"lando_{name}", text, names, buckets=buckets, registry=registry)

        self.transitions = counter(
            "transitions", "Changes of state of jobs, committed.", "from", "event", "to"
        )
        self.boots = counter("boots", "Boots of servers that have ended, by how.", "outcome")
        self.boot_seconds = histogram(
            "boot_seconds", "From a job's admission to its worker's first report.", UP_TO_AN_HOUR
        )
        self.queued_seconds = histogram(
            "queued_seconds",
            "From a job's queueing to its admission.",
            (1, 5, 15, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR, 12 * HOUR, DAY, 3 * DAY, 7 * DAY),
        )
        self.run_seconds = histogram(
            "run_seconds",
            "From a worker's first report to the end of its attempt.",
            (10, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 12 * HOUR, DAY, 3 * DAY, 7 * DAY),
        )
        self.server_gone_seconds = histogram(
            "server_gone_seconds",
            "From the end of an attempt until its server is gone.",
            (1, 2, 5, 10, 20, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR),
        )
        self.messages = counter(
            "messages", "Messages off the work queue, by what became of them.", "type", "disposition"
        )
        self.effect_tries = counter("effect_tries", "Operations of effects that were begun.", "kind")
        self.effect_failures = counter(
            "effect_failures", "Operations of effects that failed, were refused or not answered.", "kind"
        )
        self.swept = counter("swept", "Leaked resources that were deleted, and are gone.", "kind")
        self.cloud_operations = counter(
            "cloud_operations", "Operations of the cloud's driver.", "operation", "outcome"
        )
        self.cloud_operation_seconds = histogram(
            "cloud_operation_seconds",
            "How long operations of the cloud's driver take.",
            (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 120, 300),
            "operation",
        )
        self.cloud_requests = (
            counter("cloud_requests", "HTTP requests to OpenStack.", "call", "status")
            if is_openstack
            else None
        )
        self.turn_seconds = histogram(
            "turn_seconds",
            "How long an iteration of the daemon's loop works.",
            (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self.turns_failed = counter("turns_failed", "Iterations that failed, and were tried again.", "cause")
        self.database_reconnects = counter(
            "database_reconnects", "Times that the database could be used again after it could not."
        )
        self.database_retries = (
            counter("database_retries", "Transactions that were tried again whole.")
            if is_postgresql
            else None
        )
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        for transition in labels.TRANSITIONS:
            self.transitions.labels(*transition)
        for outcome in (*dict.fromkeys(labels.BOOTS.values()), labels.OTHER):
            self.boots.labels(outcome)
        for type_ in labels.MESSAGES:
            self.messages.labels(type_, "taken")
        for type_ in (*labels.MESSAGES, labels.OTHER):
            self.messages.labels(type_, "dead_lettered")
        for kind in labels.EFFECTS:
            self.effect_tries.labels(kind)
            self.effect_failures.labels(kind)
        for resource in labels.RESOURCES:
            self.swept.labels(resource)
        for cause in labels.CAUSES:
            self.turns_failed.labels(cause)
