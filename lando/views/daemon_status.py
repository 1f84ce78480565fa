"""The daemon, as the commands see it."""

from __future__ import annotations

from dataclasses import dataclass

from lando.times import rfc3339


@dataclass(frozen=True)
class Watching:
    """The daemon, as the commands see it."""

    pid: int | None
    """None where none is running."""
    disconnected_since: float | None = None
    """Epoch seconds since which it cannot hear the work queue."""
    reason: str = ""
    """Why it cannot."""
    blind_since: float | None = None
    """Epoch seconds since which it cannot ask the cloud."""
    cloud_reason: str = ""
    """Why it cannot."""

    @property
    def troubles(self) -> list[tuple[str, str]]:
        """What keeps it from working as it should, each with the reason."""
        found = []
        if self.disconnected_since is not None:
            since = rfc3339(self.disconnected_since)
            found.append((f"disconnected from the work queue since {since}", self.reason))
        if self.blind_since is not None:
            found.append(
                (f"without an answer of the cloud since {rfc3339(self.blind_since)}", self.cloud_reason)
            )
        return found

    @property
    def absence(self) -> str:
        """What keeps all jobs in progress from going on as they should, in brackets; else empty."""
        if self.pid is None:
            return " (no daemon is running)"
        if self.disconnected_since is not None:
            since = rfc3339(self.disconnected_since)
            return f" (the daemon is disconnected from the work queue since {since})"
        return ""

    @property
    def blindness(self) -> str:
        """What keeps servers from being made, seen and deleted, in brackets; else empty."""
        if self.blind_since is None:
            return ""
        return f" (the cloud does not answer since {rfc3339(self.blind_since)})"
