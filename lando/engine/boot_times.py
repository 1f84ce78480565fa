"""How long servers take to boot here, and how long one is waited for where nobody has said so."""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 3 * 60.0
"""Seconds below which nothing that was learned goes: a cloud may have a slow hour."""
MOST = 20 * 60.0
"""Seconds; also while too little is known."""
ENOUGH = 5
"""Boots from which something can be learned."""
KEPT = 20
"""Boots that are remembered, the last ones."""
MARGIN = 3.0
"""How many times the slowest of them a boot may take."""


def remembered(before: Sequence[float], seconds: float | None) -> list[float]:
    """How long the last boots took, the oldest first.

    One that took too long shakes half of what was believed: when the cloud has become slow, or the image is
    another one, a few of them lead back to the longest time, and from there to what is true now.

    Args:
        before: what was remembered.
        seconds: of the newest boot; None: it took longer than was waited for.
    """
    return [*before[len(before) // 2 + 1 :]] if seconds is None else [*before, round(seconds, 1)][-KEPT:]


def timeout(recent: Sequence[float]) -> float:
    """Seconds after which a boot is given up.

    Args:
        recent: how many seconds the last boots took, from the admission to the worker's first report.
    """
    return MOST if len(recent) < ENOUGH else min(MOST, max(LEAST, MARGIN * max(recent)))
