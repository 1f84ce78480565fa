"""Facts: small JSON values about the whole deployment, by name. The names are stored."""

from __future__ import annotations

from typing import Any

from lando.engine.ledger import Hold

DEPLOYMENT_FACT = "deployment"
"""The deployment's name, where the configuration has none."""
DAEMON_FACT = "daemon"
"""The daemon that started last: its pid, its host, and when it started."""
QUEUE_FACT = "queue"
"""Since when the daemon is disconnected from the work queue, and why."""
CLOUD_FACT = "cloud"
"""Since when the cloud does not answer, and why."""
OBSTACLE_FACT = "room"
"""What the next job in the admission order waits for."""
SWEPT_FACT = "swept"
"""How many leaked resources were deleted, by kind."""
HOLD_FACT = "hold"
"""Why admission is held, as ``hold_value`` has it."""
SEEN_FACT = "seen_at"
"""When the daemon last recorded that it lives."""
BOOTS_FACT = "boots"
"""How many seconds the last boots took."""


def to_hold(value: Any) -> Hold | None:
    """The hold that a fact holds."""
    if value is None:
        return None
    return Hold(value["kind"], value["until"], reason=value["words"], times=value["times"])


def hold_value(hold: Hold | None) -> dict[str, Any] | None:
    """A hold as a fact."""
    if hold is None:
        return None
    return {"kind": hold.kind, "until": hold.until, "words": hold.reason, "times": hold.times}
