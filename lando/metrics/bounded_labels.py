"""The values that labels may have: all are known, and few. What is unknown is counted as ``OTHER``.

A label never holds a job's id, a server's name or anything that a person wrote: each value is a series, which
Prometheus keeps for ever.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import get_args

from lando.daemon.meter import FailureCause
from lando.engine.ownership import ResourceKind
from lando.messages import CLIENT_TYPES, WORKER_TYPES, Origin
from lando.states.job import State
from lando.states.machine import TABLE
from lando.states.table import EffectKind

OTHER = "other"
NEW = "new"
"""The state before the first."""

STATES: tuple[str, ...] = get_args(State)
ORIGINS: tuple[str, ...] = get_args(Origin)
EFFECTS: tuple[str, ...] = get_args(EffectKind)
RESOURCES: tuple[str, ...] = get_args(ResourceKind)
CAUSES: tuple[str, ...] = get_args(FailureCause)
MESSAGES = (*CLIENT_TYPES, *WORKER_TYPES)
DISPOSITIONS = ("taken", "duplicate", "stale", "refused", "dead_lettered", "removed")
TRANSITIONS = (
    (NEW, "start_worker", "queued"),
    *dict.fromkeys(
        (source, row.event, row.to or OTHER)
        for source, rows in TABLE.items()
        for row in rows
        if row.answer == "moves"
    ),
)
"""From, event, to: every way from one state to another."""
BOOTS = {
    "worker_started": "booted",
    "worker_progress": "booted",
    "workflow_finished": "booted",
    "boot_failed": "failed",
    "boot_timeout": "timeout",
    "server_lost": "lost",
    "create_refused": "refused",
    "create_absent": "unanswered",
    "cancel": "canceled",
}
"""How a boot ended, by the event."""
CALLS = frozenset(
    f"{method} {path}"
    for method, paths in {
        "GET": (
            *("/", "/servers/detail", "/servers/ID", "/limits", "/flavors", "/flavors/detail", "/flavors/ID"),
            *("/images", "/images/ID", "/networks", "/networks/ID", "/subnets", "/ports", "/ports/ID"),
            *("/floatingips", "/floatingips/ID", "/quotas", "/os-quota-sets", "/os-keypairs", "/volumes"),
            *("/os-availability-zone", "/security-groups", "/tokens", "/projects"),
        ),
        "POST": ("/servers", "/servers/ID/action", "/floatingips", "/tokens"),
        "PUT": ("/floatingips/ID",),
        "DELETE": ("/servers/ID", "/floatingips/ID"),
    }.items()
    for path in paths
)
"""Calls of OpenStack, without the service and its version."""
_ROOT = re.compile(r"(?:/[a-z-]+)?(?:/v[0-9.]+)?/?")


def known(value: str | None, values: Collection[str]) -> str:
    """The value, if it is one of these; else ``OTHER``."""
    return value if value is not None and value in values else OTHER


def call_label(name: str) -> str:
    """A call of OpenStack, as a label.

    Args:
        name: method and path, with ``ID`` in place of ids; the path may begin with anything.
    """
    method, _, path = name.partition(" ")
    if _ROOT.fullmatch(path):
        return f"{method} /" if method == "GET" else OTHER
    parts = path.strip("/").split("/")
    for first in range(len(parts)):
        label = f"{method} /{'/'.join(parts[first:])}"
        if label in CALLS:
            return label
    # What follows a resource may be anything: /quotas/PROJECT, /os-keypairs/NAME, /ports/ID/tags
    for part in parts:
        label = f"{method} /{part}"
        if label in CALLS:
            return label
    return OTHER
