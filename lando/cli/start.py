"""The entry point of ``lando-fsm``: what counts before anything else is loaded.

A standard stream may be closed. Whatever was opened next would get its number, and what is printed would go
into the database.

The names and contents of files are in UTF-8, whatever the terminal of this person has. Python takes the
encoding of the locale for both, but for its UTF-8 mode.

The kernel drops a signal that process 1 of a container does not handle yet (pid_namespaces(7)), but not one
that is blocked. So it is blocked from here on, until the daemon handles it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What ends a daemon."""


def main() -> None:
    """The entry point of ``lando-fsm``."""
    if os.getpid() == 1:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    open_standard_files()
    use_utf8()
    from lando.cli.main import main as run  # noqa: PLC0415 - takes as long as all before

    run()


def unblock() -> None:
    """The signals are handled now, or need not be."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def open_standard_files() -> None:
    """Open /dev/null for each of stdin, stdout and stderr that is closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free is this one


def use_utf8() -> None:
    """Begin again in UTF-8 mode where the locale has another encoding; not for C and POSIX, where Python is
    in it already: https://docs.python.org/3/library/os.html#python-utf-8-mode"""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.environ["PYTHONUTF8"] = "1"  # for the processes of the local cloud
        with contextlib.suppress(OSError):
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - there is nothing for a shell
