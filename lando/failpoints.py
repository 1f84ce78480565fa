"""Named points of the code at which a test can kill the process, as ``kill -9`` does."""

from __future__ import annotations

import itertools
import os
import signal

_name, _, _occurrence = os.environ.get("LANDO_CRASH_AT", "").partition(":")
_fatal = int(_occurrence or 1)
_times = itertools.count(1)


def reach(name: str) -> None:
    """Kill the process if ``LANDO_CRASH_AT`` names this point; otherwise do nothing.

    Args:
        name: the point. ``LANDO_CRASH_AT=name`` kills at the first time, ``name:3`` at the third.
    """
    if name == _name and next(_times) == _fatal:
        os.kill(os.getpid(), signal.SIGKILL)
