"""The holder: makes the namespaces, is their process 1, and ends what is in them.

``python -m tests.openstack.lab.holder DRIVER [FD]``, where FD is a pidfd of the process with which it ends.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

from tests.openstack.lab import guests
from tests.openstack.lab.namespace import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, call, record
from tests.openstack.lab.place import clean_environment
from tests.openstack.lab.processes import recorded

GRACEFUL = ("mariadb", "rabbitmq")
"""They write what they know; the others know nothing that these do not."""
PATIENCE = 20.0


def main(driver: str, owner: int | None) -> None:
    """Exits once the holder is ready, with 0, or has failed."""
    call("unshare", CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS)
    may_go, go = os.pipe()
    ready, is_ready = os.pipe()
    child = os.fork()
    if child:
        record(child)  # before it does anything
        os.close(is_ready)
        os.write(go, b"go")
        sys.exit(0 if os.read(ready, 5) else 1)
    os.close(go)
    os.close(ready)
    if os.read(may_go, 2):
        set_up(driver)
        os.write(is_ready, b"ready")
        os.close(is_ready)
        hold(owner)


def set_up(driver: str) -> None:
    """Make the new namespaces usable."""
    for command in ("mount --make-rprivate /", "mount -t proc proc /proc", "ip link set lo up"):
        subprocess.run(command.split(), env=clean_environment(), check=True)
    if driver == "libvirt":
        guests.set_up()


def hold(owner: int | None) -> None:
    """Reap what ends in here, until SIGTERM or the owner's end."""
    signals = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    while not (owner and select.select([owner], [], [], 0)[0]):
        received = signal.sigtimedwait(signals, 1.0)
        if received and received.si_signo == signal.SIGTERM:
            break
        reap()
    end_all()


def end_all() -> None:
    """As quickly as nothing is lost by."""
    graceful = {pid for name, pid, _ in recorded() if name in GRACEFUL}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        pid = int(entry)
        try:
            if pid != os.getpid() and os.getpgid(pid) not in graceful:
                os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for pid in graceful:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while (
        len([entry for entry in os.listdir("/proc") if entry.isdigit()]) > 1 and time.monotonic() < deadline
    ):
        reap()
        time.sleep(0.05)


def reap() -> None:
    """Everybody's orphans are ours."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
