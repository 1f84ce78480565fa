"""``python -m tests.model``: the deep exploration, a few minutes; exits 1 with the story of what broke."""

from __future__ import annotations

import sys
import time

from .breakages import explored
from .explore import explore
from .restore_breakages import RESTORE_BREAKAGES_DEEP
from .scenarios import (
    DEEP,
    OUTAGES,
    OUTAGES_DEEP,
    REFUSED,
    REFUSED_DEEP,
    RESTORED,
    RESTORED_ASK,
    RESTORED_DEEP,
    TIMED,
    TIMED_DEEP,
    USUAL,
)


def main() -> int:
    """Explore everything, one scenario after the other."""
    for scenario in (
        *(*USUAL, *TIMED, *REFUSED, *OUTAGES, RESTORED, RESTORED_ASK),
        *(*DEEP, *TIMED_DEEP, *REFUSED_DEEP, *OUTAGES_DEEP, RESTORED_DEEP),
    ):
        began = time.monotonic()
        found = explore(scenario)
        print(f"{found} ({time.monotonic() - began:.0f} s)", flush=True)
        if found.broken is not None:
            return 1
    for breakage in RESTORE_BREAKAGES_DEEP:
        found = explored(breakage)
        print(f"{breakage.name}: {found}", flush=True)
        if found.broken is None or found.broken.invariant != breakage.invariant:
            return 1
    return 0


sys.exit(main())
