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
    no_boot_since: float | None = None
    """Epoch seconds since which servers of several jobs failed to boot, and none has booted."""
    no_boot_reason: str = ""

    @property
    def problems(self) -> list[tuple[str, str]]:
        """What keeps the daemon from its work, each as a sentence, with the reason."""
        return [
            (problem, reason)
            for problem, reason in (
                (self.queue_problem, self.disconnected_reason),
                (self.cloud_problem, self.cloud_silent_reason),
                (self.boot_problem, self.no_boot_reason),
            )
            if problem
        ]

    @property
    def queue_problem(self) -> str:
        """The sentence about the work queue; empty where the daemon is connected."""
        if self.disconnected_since is None:
            return ""
        return (
            f"the daemon has been disconnected from the work queue since {rfc3339(self.disconnected_since)}"
        )

    @property
    def cloud_problem(self) -> str:
        """The sentence about the cloud; empty where it answers."""
        if self.cloud_silent_since is None:
            return ""
        return f"the cloud has not answered since {rfc3339(self.cloud_silent_since)}"

    @property
    def boot_problem(self) -> str:
        """The sentence about servers that do not boot; empty where they do."""
        if self.no_boot_since is None:
            return ""
        return f"no VM has booted since {rfc3339(self.no_boot_since)}; one job at a time is tried"
