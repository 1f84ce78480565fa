"""The lab's namespaces: network, mounts and processes of its own.

The *holder* is their process 1. Whatever ends it, the kernel then ends every process in there, and network
and mounts go with the last of them: that is why nothing of a lab can be left over.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.openstack.lab.place import CHECKOUT, LOG, RUN, LabError
from tests.openstack.lab.processes import alive, start_time

HOLDER = RUN / "holder"
PATIENCE = 30.0

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: int) -> None:
    """A function of the C library that Python has no name for in all the versions we use."""
    if getattr(libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def record(pid: int) -> None:
    """Remember the holder, and its network."""
    HOLDER.write_text(f"{pid} {start_time(pid)} {os.readlink('/proc/self/ns/net')}")


def holder() -> int | None:
    """The holder's pid, as seen from outside; None when there is none."""
    try:
        pid, started, _ = HOLDER.read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if alive(int(pid), started) else None


def is_here() -> bool:
    """Whether this process is in there."""
    try:
        return HOLDER.read_text().split()[2] == os.readlink("/proc/self/ns/net")
    except (OSError, IndexError):
        return False


def create(driver: str, owner: int | None) -> None:
    """Start the holder. It ends when the process ``owner`` does."""
    HOLDER.unlink(missing_ok=True)
    watched = [os.pidfd_open(owner)] if owner else []
    with (LOG / "holder.log").open("ab") as log:
        done = subprocess.run(
            [sys.executable, "-m", "tests.openstack.lab.holder", driver, *map(str, watched)],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=watched,
            start_new_session=True,  # Ctrl-C is for whoever waits for us
            timeout=PATIENCE,
            check=False,
        )
    for descriptor in watched:
        os.close(descriptor)
    if done.returncode or not holder():
        raise LabError(f"the namespaces could not be made; see {LOG}/holder.log")


def end() -> bool:
    """End the holder, and so everything; whether there was one."""
    pid = holder()
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while holder() is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return True


def run(what: Callable[[], int | None]) -> int:
    """Call a function in there; its answer is the exit code.

    It is called in a child process, which ends with this one, and gets its signals.
    """
    if is_here():
        return what() or 0
    pid = holder()
    if pid is None:
        raise LabError("the lab is not up")
    processes, *others = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("pid", "net", "mnt")]
    call("setns", processes, 0)  # of the children from now on
    child = os.fork()
    if not child:
        os._exit(_in_child(others, what))
    for namespace in (processes, *others):
        os.close(namespace)
    with _signals_are_for(child):
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


@contextmanager
def _signals_are_for(child: int) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child, too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_child(namespaces: list[int], what: Callable[[], int | None]) -> int:
    try:
        call("prctl", PR_SET_PDEATHSIG, signal.SIGTERM)
        directory = os.getcwd()
        for namespace in namespaces:
            call("setns", namespace, 0)
            os.close(namespace)
        os.chdir(directory)
        return what() or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BaseException:  # the caller's code is not this process's to go on with
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
