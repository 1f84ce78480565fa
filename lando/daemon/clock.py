"""The daemon's clock: the wall clock, but steady. Steps of the wall clock, sleep of the machine and pauses of
the process are noticed; the rule for stored times is ``lando.engine.clock_changes``."""

from __future__ import annotations

import time

from lando.daemon.log import log
from lando.engine import clock_changes
from lando.engine.engine import Engine
from lando.store.conflicts import tried_again
from lando.store.store import Store
from lando.store.transaction import Transaction

LONGEST_ITERATION = 30.0
"""Seconds; a daemon that was away for longer was suspended, and could hear no worker. This much of the time
counts as lived, so that deadlines pass however slow the daemon is."""
STEP = 5.0
"""Seconds; the daemon's clock may differ from the wall clock by as much."""
RECORD_EVERY = 5.0
"""Seconds; a daemon that is killed has lived at most so much longer than is known."""
SLEEPLESS = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""A clock that is never set, and goes on while the machine sleeps, where the system has one."""


class Clock:
    """Goes on as the monotonic clock does. Only ``check`` follows the wall clock, in the transaction that
    adjusts what is stored; so no time is ever stored by a clock that was set and not noticed yet.

    Args:
        store: where stored times are adjusted when the clock was set.
        engine: has the back-offs.
    """

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        self._offset = time.time() - time.monotonic()
        self._last_check = time.clock_gettime(SLEEPLESS)
        self._awake_at = time.monotonic()
        """When lived times were adjusted last, or did not have to be."""
        self._next_record = 0.0
        self._adjusted: dict[float | None, float] = {}
        """By how much stored times were adjusted since the last ``check``, by the time that was recorded with
        it: it is not known whether that was committed."""

    def now(self) -> float:
        """Epoch seconds: what every stored time is taken from."""
        return time.monotonic() + self._offset

    def resume(self, transaction: Transaction) -> None:
        """The daemon starts: what the last one stored is adjusted to this clock."""
        clock_changes.resume(transaction, self.now(), self._engine.policy, self._engine.pace)
        self._awake_at = time.monotonic()

    def record(self, transaction: Transaction) -> None:
        """Record from time to time that the daemon lives, while there are jobs for which that counts."""
        if time.monotonic() >= self._next_record:
            self._next_record = time.monotonic() + RECORD_EVERY
            clock_changes.record(transaction, self.now())

    def check(self) -> tuple[float, float]:
        """Follow the wall clock, if it was set or the machine slept, and adjust stored times, also if the
        process was stopped.

        Returns:
            Seconds by which ``now`` has jumped, and seconds for which the daemon was suspended; 0.0 if not.

        Raises:
            StoreUnavailable: the times could not be adjusted; they will be at the next call.
        """
        step = time.time() - self.now()
        if abs(step) > STEP:
            log.warning("the clock was set, or the machine slept (%+.0f s); stored times are adjusted", step)
        else:
            step = 0.0
        # While the process was stopped, ``now`` went on; while the machine slept, it did not.
        awake_at = time.monotonic()
        stopped = max(0.0, awake_at - self._awake_at - LONGEST_ITERATION)
        if step or stopped:
            tried_again(lambda: self._adjust(step + stopped, self.now() + step))
        self._offset += step
        self._awake_at = awake_at
        checked_at = time.clock_gettime(SLEEPLESS)
        pause, self._last_check = checked_at - self._last_check, checked_at
        return step, pause if pause > LONGEST_ITERATION else 0.0

    def _adjust(self, step: float, now: float) -> None:
        """Once, also if the answer to a commit is lost: then the record tells whether it was done."""
        with self._store.transaction() as transaction:
            done = self._adjusted.get(transaction.seen_at(), 0.0)
            self._adjusted[now] = step
            clock_changes.adjust(transaction, step - done, now, self._engine.policy, self._engine.pace)
        self._adjusted.clear()
