"""A bound on how often something happens: a burst, and then so many a second."""

from __future__ import annotations

import time


class TokenBucket:
    """Holds ``capacity`` tokens at first, gets ``per_second``, and never holds more than ``capacity``.

    Source: https://en.wikipedia.org/wiki/Token_bucket
    """

    def __init__(self, capacity: float, per_second: float) -> None:
        self._capacity = capacity
        self._per_second = per_second
        self._tokens = capacity
        self._filled_at = time.monotonic()

    def take(self) -> bool:
        """Take a token. Returns False if there is none."""
        now = time.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
