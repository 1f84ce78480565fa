"""Named durable steps at which a test can make the process die as by ``kill -9``."""

from __future__ import annotations

import itertools
import os
import signal

_name, _, _occurrence = os.environ.get("LANDO_CRASH_AT", "").partition(":")
_fatal = int(_occurrence or 1)
_times = itertools.count(1)


def reach(name: str) -> None:
    """Die here when the environment's ``LANDO_CRASH_AT`` says so; otherwise do nothing.

    Args:
        name: the step. ``LANDO_CRASH_AT=name`` dies the first time, ``name:3`` the third time it is reached.
    """
    if name == _name and next(_times) == _fatal:
        os.kill(os.getpid(), signal.SIGKILL)
