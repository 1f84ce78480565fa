"""An account that is not root: what root may do shows nothing about permissions."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

OTHER = 4321
"""Its uid and gid, where the tests run as root; else it is the account that runs them."""
IS_ROOT = os.geteuid() == 0
PR_SET_DUMPABLE = 4


@contextlib.contextmanager
def place_of_another_account() -> Iterator[Path]:
    """A directory of that account, which it can reach; removed whatever is in it."""
    here = Path(tempfile.mkdtemp())
    if IS_ROOT:
        os.chown(here, OTHER, OTHER)
    try:
        yield here
    finally:
        for command in (["chattr", "-R", "-i", "-a"], ["chmod", "-R", "u+rwX"]):
            subprocess.run([*command, str(here)], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(here)


def as_another_account(do: Callable[[], None]) -> str:
    """Do it in a child of that account. Returns what it raised; empty if nothing."""
    codecs.lookup("ascii")  # the child may not read the files of this interpreter
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if IS_ROOT:
                os.setgroups([])
                os.setresgid(OTHER, OTHER, OTHER)
                os.setresuid(OTHER, OTHER, OTHER)
                # A process that changes its account cannot use its own /proc/self/fd, unless it says so.
                ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
            do()
        except BaseException as error:
            os.write(write_end, f"{type(error).__name__}: {error}".encode(errors="replace"))
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as said:
        words = said.read().decode()
    os.waitpid(pid, 0)
    return words
