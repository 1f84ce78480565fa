"""Exponential back-off: how long to wait after failures in a row.

Waits that are persisted (an effect's due time, a job's ``not_before``, a hold) use ``delay``: it is exact.
Waits inside one process use ``jittered``, so that many processes do not retry at the same moment.
"""

from __future__ import annotations

import random


def delay(failures: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures in a row: ``first``, doubled by each further one.

    Args:
        failures: at least 1; fewer count as 1.
        first: seconds after the first failure.
        longest: seconds at most.
    """
    return min(longest, first * 2.0 ** min(max(failures, 1) - 1, 60))


def jittered(failures: int, first: float, longest: float) -> float:
    """``delay``, shortened at random by up to a half."""
    return delay(failures, first, longest) * random.uniform(0.5, 1.0)  # noqa: S311
