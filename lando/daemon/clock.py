"""Steps of the wall clock, and pauses of the daemon: after either, stored times must be corrected."""

from __future__ import annotations

import time

from lando.daemon.log import log
from lando.store.store import Store

LONGEST_ITERATION = 30.0
"""Seconds; a daemon that was away for longer was suspended, and could hear no worker."""
STEP = 5.0
"""Seconds; a smaller step of the clock does not matter."""


class Clock:
    """Compares the wall clock with the monotonic one.

    Args:
        store: where due times are shifted when the clock was set.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = time.time()
        self._offset = time.time() - time.monotonic()

    def check(self) -> float:
        """Shift all due times if the clock was set, or the machine slept.

        Returns:
            Seconds for which the daemon was suspended; 0.0 if it was not.

        Raises:
            StoreUnavailable: the times could not be shifted; they will be at the next call.
        """
        now = time.time()
        offset = now - time.monotonic()
        step = offset - self._offset
        if abs(step) > STEP:
            log.warning("the clock was set, or the machine slept (%+.0f s); all due times are shifted", step)
            with self._store.transaction() as transaction:
                transaction.shift_times(step)
            self._offset = offset
        pause = abs(now - self._last)
        self._last = now
        return pause if pause > LONGEST_ITERATION else 0.0
