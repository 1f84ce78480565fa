"""How long the daemon waits after a failure that it retries, and what it says of it."""

from __future__ import annotations

from lando import backoff
from lando.daemon.log import log

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds to wait after a failure."""


def announce_retry(reason: str, failures: int) -> float:
    """Log the failure.

    Args:
        reason: for people to read.
        failures: in a row.

    Returns:
        Seconds to wait before the next try.
    """
    wait = backoff.jittered(failures, FIRST_PAUSE, LONGEST_PAUSE)
    log.error("%s; retrying in %.1f s, nothing is lost", reason, wait)
    return wait
