"""Why no job, or not every job, is admitted: as few words, for a label."""

from __future__ import annotations

from lando.engine.obstacles import WAITS_FOR_QUOTA
from lando.metrics.bounded_labels import OTHER, known
from lando.store.facts import OBSTACLE_FACT, QUEUE_FACT
from lando.store.queries import Queries

REASONS = ("quota", "rate_limit", "unreachable", "site", "wishes", "boot", "cloud", "queue", OTHER)
"""The first four are ``RefusalKind``: the cloud has refused creates so."""


def held(queries: Queries, now: float) -> frozenset[str]:
    """Those of ``REASONS`` that hold now, as the daemon has recorded for ``status``.

    Args:
        queries: a snapshot.
        now: epoch seconds.
    """
    found = set()
    holds = queries.holds().at(now)
    if holds.everybody is not None and holds.everybody.until > now:
        found.add(known(holds.everybody.kind, REASONS))
    if holds.closed(now):
        found.add("wishes")
    if queries.boot_failures().at(now).are_the_sites:
        found.add("boot")
    obstacle = queries.fact(OBSTACLE_FACT)
    if obstacle is not None:
        found.add("quota" if str(obstacle).startswith(WAITS_FOR_QUOTA) else "cloud")
    if (queries.fact(QUEUE_FACT) or {}).get("disconnected_since") is not None:
        found.add("queue")
    return frozenset(found)
