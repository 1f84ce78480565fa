"""How moments and durations are written: for logs, JSON and people."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import overload


@overload
def rfc3339(at: float) -> str: ...
@overload
def rfc3339(at: None) -> None: ...
@overload
def rfc3339(at: float | None) -> str | None: ...


def rfc3339(at: float | None) -> str | None:
    """A moment as RFC 3339 in UTC, to the millisecond: ``2026-11-22T18:02:52.490Z``.

    Args:
        at: epoch seconds; None stays None.

    Source: https://www.rfc-editor.org/rfc/rfc3339#section-5.6
    """
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration(seconds: float, tenths_below: float = 10.0) -> str:
    """A duration in its two largest units: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``, ``1 d 1 h``.

    Args:
        seconds: less than 0 counts as 0.
        tenths_below: seconds below which tenths are shown; at most 60.
    """
    seconds = max(0.0, seconds)
    if seconds < tenths_below:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def written(seconds: float) -> str:
    """A duration as job files and landoconfig.yml have it: ``7d``, ``1h30m``, ``0.5s``.

    Args:
        seconds: 0 or more.
    """
    whole = int(seconds)
    if whole != seconds:
        return f"{seconds:g}s"
    parts = (whole // 86400, "d"), (whole % 86400 // 3600, "h"), (whole % 3600 // 60, "m"), (whole % 60, "s")
    return "".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
