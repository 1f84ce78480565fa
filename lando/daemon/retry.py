"""How long the daemon waits after a failure that it retries, and what it says of it."""

from __future__ import annotations

from lando import backoff
from lando.daemon.log import log
from lando.times import rfc3339

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds to wait after a failure."""


def announce_retry(reason: str, failures: int, since: float | None = None) -> float:
    """Log the failure.

    Args:
        reason: for people to read.
        failures: in a row.
        since: epoch seconds of the first one, told from the second on; None where that is not known.

    Returns:
        Seconds to wait before the next try.
    """
    wait = backoff.jittered(failures, FIRST_PAUSE, LONGEST_PAUSE)
    told = f" (failing since {rfc3339(since)})" if since is not None and failures > 1 else ""
    log.error("%s; retrying in %.1f s, nothing is lost%s", reason, wait, told)
    return wait
