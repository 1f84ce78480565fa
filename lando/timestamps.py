"""Times as people and programs read them: RFC 3339, in UTC."""

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
    """Epoch seconds as RFC 3339 in UTC, to the millisecond; None stays None."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
