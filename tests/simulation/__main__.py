"""``python -m tests.simulation --seeds 20``: weeks of outages, a line each; exits 1 if one is broken."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.site import Broken
from tests.simulation.week import HEADER, JOBS, week


def main() -> int:
    """Simulate one week after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first one")
    parser.add_argument("--jobs", type=int, default=JOBS)
    options = parser.parse_args()
    broken = 0
    print(HEADER)
    for seed in range(options.first, options.first + options.seeds):
        try:
            print(week(seed, options.jobs).row(), flush=True)
        except Broken as error:
            broken += 1
            print(f"{seed:4d} BROKEN {error}", flush=True)
    return 1 if broken else 0


sys.exit(main())
