"""How moments and durations are written."""

from __future__ import annotations

from datetime import datetime, timezone


def rfc3339(at: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC, to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
