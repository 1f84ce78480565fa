"""How the engine waits."""

from __future__ import annotations

from dataclasses import dataclass

from lando import backoff


@dataclass(frozen=True)
class Pace:
    """All in seconds."""

    poll: float = 2.0
    """Between two requests for the state of a server that is being deleted."""
    first: float = 1.0
    """Back-off after an effect's first failed try; doubled by each further one."""
    longest: float = 60.0
    """Where the back-off of an effect stops growing."""
    site_longest: float = 300.0
    """The same, where an administrator has to correct something."""
    settle: float = 30.0
    """A server that was created is in the server list within this time."""
    silence: float = 600.0
    """A worker that was silent for this long is lost."""
    heartbeat: float = 30.0
    """Between two reports of a worker."""
    reservation: float = 1800.0
    """For so long the quota is kept free at first for a job that needs more of it than is left."""

    @property
    def longest_wait(self) -> float:
        """Seconds: no effect is postponed for longer, unless the cloud names a time."""
        return max(self.longest, self.poll, self.settle)

    @property
    def longest_hold(self) -> float:
        """Seconds: no hold lasts longer, unless the cloud names a time."""
        return max(self.longest, self.site_longest)

    def back_off(self, tries: int) -> float:
        """Seconds to wait before an effect that has failed is tried again.

        Args:
            tries: how often it had failed before this failure.
        """
        return backoff.delay(tries + 1, self.first, self.longest)
