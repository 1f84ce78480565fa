"""The entry point of ``lando-fsm``: what counts before anything else is loaded.

The kernel drops a signal that process 1 of a container does not handle yet (pid_namespaces(7)), but not one
that is blocked. So it is blocked from here on, until the daemon handles it.
"""

from __future__ import annotations

import os
import signal

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends a daemon."""


def main() -> None:
    """The entry point of ``lando-fsm``."""
    if os.getpid() == 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    from lando.cli.main import main as run  # noqa: PLC0415 - takes as long as all before

    run()


def unblock() -> None:
    """The signals are handled now, or need not be."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
