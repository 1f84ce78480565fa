"""How long servers take to boot here, and the boot timeout that follows where the site sets none."""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 3 * 60.0
"""Seconds: the shortest timeout that is learned, since a cloud may be slow for an hour."""
MOST = 20 * 60.0
"""Seconds: the longest, and the timeout while too few boots are known."""
ENOUGH = 5
"""Fewer boots than this are not learned from."""
KEPT = 20
"""The last boots, as many as this, are kept."""
MARGIN = 3.0
"""The timeout is the slowest of them times this."""


def remembered(before: Sequence[float], seconds: float | None) -> list[float]:
    """How long the last boots took, the oldest first.

    A boot that took too long forgets half of them: if the cloud has become slower, or the image is another
    one, a few timeouts lead back to the longest one, and the new boots are learned from there.

    Args:
        before: the result of the last call.
        seconds: how long the newest boot took; None: it timed out.
    """
    return [*before[len(before) // 2 + 1 :]] if seconds is None else [*before, round(seconds, 1)][-KEPT:]


def timeout(recent: Sequence[float]) -> float:
    """Seconds after which a boot is given up.

    Args:
        recent: how many seconds the last boots took, from admission to the worker's first report.
    """
    return MOST if len(recent) < ENOUGH else min(MOST, max(LEAST, MARGIN * max(recent)))
