"""The lab's daemons: started in sessions of their own, recorded, and ended by their pids.

Called in the lab's namespaces, where alone the recorded pids mean something.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.openstack.lab.place import HOME, LOG, RUN, LabError, clean_environment

PIDS = RUN / "pids"
PATIENCE = 180.0


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def start_time(pid: int) -> str:
    """Tells a process from a later one of the same pid."""
    return stat(pid)[19]


def alive(pid: int, started: str) -> bool:
    """Whether it still is the process that was started."""
    try:
        fields = stat(pid)
    except (OSError, IndexError):
        return False
    return fields[19] == started and fields[0] != "Z"


def recorded() -> list[tuple[str, int, str]]:
    """Name, pid and start time of what was started."""
    if not PIDS.exists():
        return []
    entries = [line.split() for line in PIDS.read_text().splitlines()]
    return [(name, int(pid), started) for name, pid, started in entries]


def is_up(name: str) -> bool:
    """Whether a daemon of this name runs."""
    return any(alive(pid, started) for its_name, pid, started in recorded() if its_name == name)


def start(name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Start a daemon; its output is its log."""
    with (LOG / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=HOME,
            env=environment or clean_environment(),
            start_new_session=True,
        )
    with PIDS.open("a") as file:
        file.write(f"{name} {process.pid} {start_time(process.pid)}\n")


def stop(name: str) -> None:
    """End a daemon at once, as a crash would."""
    entries = recorded()
    for its_name, pid, started in entries:
        if its_name == name and alive(pid, started):
            os.killpg(pid, signal.SIGKILL)
            while alive(pid, started):
                time.sleep(0.02)
    new = PIDS.with_suffix(".new")
    new.write_text("".join(f"{' '.join(map(str, entry))}\n" for entry in entries if entry[0] != name))
    new.rename(PIDS)


def wait(what: str, test: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Poll until it is so; give up early when a daemon has died."""
    deadline = time.monotonic() + seconds
    while not test():
        for name, pid, started in recorded():
            if not alive(pid, started):
                raise LabError(f"{name} died; see {LOG}/{name}.log")
        if time.monotonic() > deadline:
            raise LabError(f"{what} is not there after {seconds:.0f} s; see {LOG}")
        time.sleep(0.2)


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end; its output."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=HOME,
        env=environment or clean_environment(),
        timeout=PATIENCE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"{' '.join(command)} failed:\n{done.stdout[-3000:]}")
    return done.stdout
