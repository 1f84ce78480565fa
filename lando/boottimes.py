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


def timeout(recent: Sequence[float]) -> float:
    """Seconds after which a boot is given up.

    Args:
        recent: how many seconds the last boots took, from the admission to the worker's first report.
    """
    return MOST if len(recent) < ENOUGH else min(MOST, max(LEAST, MARGIN * max(recent)))
