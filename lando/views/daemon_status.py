"""The daemon, as the commands see it."""

from __future__ import annotations

from dataclasses import dataclass

from lando.times import rfc3339


@dataclass(frozen=True)
class DaemonStatus:
    """Whether a daemon runs, and whether it reaches the work queue and the cloud."""

    pid: int | None
    """None: none is running."""
    disconnected_since: float | None = None
    """Epoch seconds since which it does not reach the work queue."""
    disconnected_reason: str = ""
    cloud_silent_since: float | None = None
    """Epoch seconds since which the cloud does not answer it."""
    cloud_silent_reason: str = ""

    @property
    def problems(self) -> list[tuple[str, str]]:
        """What the daemon suffers from, each with the reason."""
        found = []
        if self.disconnected_since is not None:
            since = rfc3339(self.disconnected_since)
            found.append((f"disconnected from the work queue since {since}", self.disconnected_reason))
        if self.cloud_silent_since is not None:
            since = rfc3339(self.cloud_silent_since)
            found.append((f"without an answer of the cloud since {since}", self.cloud_silent_reason))
        return found

    @property
    def queue_remark(self) -> str:
        """In brackets: why no job in progress gets further; empty where all is well."""
        if self.pid is None:
            return " (no daemon is running)"
        if self.disconnected_since is not None:
            since = rfc3339(self.disconnected_since)
            return f" (the daemon is disconnected from the work queue since {since})"
        return ""

    @property
    def cloud_remark(self) -> str:
        """In brackets: why no VM is created, observed or deleted; empty where all is well."""
        if self.cloud_silent_since is None:
            return ""
        return f" (the cloud does not answer since {rfc3339(self.cloud_silent_since)})"
