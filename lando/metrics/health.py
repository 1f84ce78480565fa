"""Whether the daemon lives, and whether it can do its work: with the reasons if not."""

from __future__ import annotations

import time
from collections.abc import Callable

from lando.metrics.recording_meter import RecordingMeter

LIVE_WITHIN = 60.0
"""Seconds since the loop was last seen to go on; a turn with the largest batch takes a few."""
UP_TO_DATE_WITHIN = 300.0
"""Seconds since everything was taken that was queued. It takes long while much waits."""
CLOUD_WITHIN = 120.0
"""Seconds since the cloud answered, at least; see ``Health``."""
LOOKS = 6
"""And so many looks at it: a cloud that hangs is not known to have failed for minutes."""


class Health:
    """Answers for one daemon; any thread may ask.

    Args:
        meter: what the daemon notes.
        observe: seconds between two looks at the cloud.
        clock: monotonic seconds.
    """

    def __init__(
        self, meter: RecordingMeter, observe: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._meter = meter
        self._cloud_within = max(CLOUD_WITHIN, LOOKS * observe)
        self._clock = clock
        self.lock_trouble = "the daemon is starting"
        """Why the lock that keeps other daemons away is not held; empty: it is."""

    @property
    def last_turn_age(self) -> float:
        """Seconds since the loop was last seen to go on; 0 until it begins."""
        alive_at = self._meter.alive_at
        return 0.0 if alive_at is None else max(0.0, self._clock() - alive_at)

    @property
    def up_to_date_age(self) -> float | None:
        """Seconds since everything was taken that was queued; None if it never was."""
        at = self._meter.up_to_date_at
        return None if at is None else max(0.0, self._clock() - at)

    def not_live(self) -> str:
        """Why the daemon has to be restarted; empty if it has not. One that starts lives."""
        age = self.last_turn_age
        return "" if age <= LIVE_WITHIN else f"loop: it has not gone on for {age:.0f} s"

    def not_ready(self) -> list[str]:
        """Why the daemon cannot do its work now, a line each; [] if it can."""
        meter, age = self._meter, self.up_to_date_age
        late = (
            "" if age is None or age <= UP_TO_DATE_WITHIN else f"it was last read to its end {age:.0f} s ago"
        )
        is_read = meter.is_listening and age is not None
        behind = late if is_read else "it was not yet read to its end without interruption"
        found = (
            ("daemon", self.lock_trouble),
            ("loop", self.not_live().removeprefix("loop: ")),
            ("database", meter.database_trouble),
            ("daemon", meter.bug),
            ("queue", meter.queue_obstacle or ""),
            ("up to date", "" if meter.queue_obstacle else behind),
            ("cloud", meter.cloud_trouble or self._cloud_silence()),
        )
        return [f"{what}: {' '.join(why.split())}" for what, why in found if why]

    def _cloud_silence(self) -> str:
        at = self._meter.cloud_answered_at
        silence = 0.0 if at is None else self._clock() - at
        return "" if silence <= self._cloud_within else f"it last answered {silence:.0f} s ago"
