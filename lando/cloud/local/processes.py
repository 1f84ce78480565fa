"""The processes of a local VM: how to find them, and how to stop all of them and no others.

A process belongs to a VM if its environment has the VM's mark, if it descends from a process of the VM (the
launcher is a subreaper, so that orphans descend from it), or if a process of the VM leads its session. Pid
and start time together identify a process, because pids are reused.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from lando.cloud.local.launcher import stat_fields

MARK_VARIABLE = "LANDO_VM"
"""The environment variable that carries the VM's mark."""

_POLL_SECONDS = 0.01
_KILL_ROUND_SECONDS = 0.25
_LAUNCHER_SECONDS = 5.0
"""How long the launcher may take to kill what is left, and to exit."""


@dataclass(frozen=True)
class Process:
    """A process, which pid and start time identify; the rest can change."""

    pid: int
    started: int
    """Clock ticks since boot."""
    parent: int = field(compare=False)
    group: int = field(compare=False)
    session: int = field(compare=False)


@dataclass(frozen=True)
class VmProcesses:
    """The processes of a VM, and the process groups that contain no other processes."""

    processes: frozenset[Process]
    groups: frozenset[int]


class StillRunning(Exception):
    """Processes survived SIGKILL: they are another user's, or wait for a device."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self.pids = sorted(process.pid for process in processes)
        super().__init__(f"still running after SIGKILL: {', '.join(map(str, self.pids[:10]))}")


def look_up(pid: int) -> Process | None:
    """The process; None if it has exited. A zombie without running threads counts as exited."""
    try:
        fields = stat_fields(pid)
    except OSError:
        return None
    state, threads = fields[0], int(fields[17])
    if state in "ZX" and threads <= 1:
        return None
    return Process(
        pid, started=int(fields[19]), parent=int(fields[1]), group=int(fields[2]), session=int(fields[3])
    )


def find(mark: str, launcher: Process | None) -> VmProcesses:
    """All processes of a VM, including its launcher.

    Args:
        mark: the VM's.
        launcher: the VM's launcher, already verified; None when it is dead or unknown.
    """
    marked = f"{MARK_VARIABLE}={mark}".encode()
    table: dict[int, Process] = {}
    seeds = {launcher} if launcher else set()
    # Each is read as soon as it is listed: by the end of the list, the first may have forked and exited.
    for pid in _pids():
        process = look_up(pid)
        if process is not None:
            table[pid] = process
            if marked in _environment(pid):
                seeds.add(process)
    for pid in _own_pids(table):
        table.pop(pid, None)
    return _with_descendants(seeds & set(table.values()), table)


def _pids() -> Iterable[int]:
    with os.scandir("/proc") as entries:
        yield from (int(entry.name) for entry in entries if entry.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _own_pids(table: Mapping[int, Process]) -> list[int]:
    """This process, its ancestors and pid 1: never part of a VM, whatever their environment has."""
    pids = [1]
    pid = os.getpid()
    while pid in table and pid not in pids:
        pids.append(pid)
        pid = table[pid].parent
    return pids


def _with_descendants(seeds: Iterable[Process], table: Mapping[int, Process]) -> VmProcesses:
    """Add descendants, and members of sessions, until nothing is added.

    The members of a session are added only if its living leader belongs to the VM: a session with any other
    process of the VM may be the terminal of a person who set the variable by hand.
    """
    found = set(seeds)
    while True:
        pids = {process.pid for process in found}
        more = {p for p in table.values() if p.parent in pids or p.session in pids} - found
        if not more:
            groups = {process.group for process in found}
            shared = {process.group for process in table.values() if process not in found}
            return VmProcesses(frozenset(found), frozenset(groups - shared - {0}))
        found |= more


def send(process: Process, signum: signal.Signals) -> None:
    """Signal exactly this process; does nothing if it has exited or belongs to another user."""
    with suppress(ProcessLookupError, PermissionError):
        handle = _pidfd(process.pid)
        try:
            if look_up(process.pid) != process:
                return
            if handle is None:
                os.kill(process.pid, signum)
            else:
                signal.pidfd_send_signal(handle, signum)
        finally:
            if handle is not None:
                os.close(handle)


def _pidfd(pid: int) -> int | None:
    """A handle of this process only, even when its pid is reused; None before Linux 5.3 (pidfd_open(2))."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def stop(mark: str, launcher: Process | None, term_grace: float, kill_timeout: float) -> None:
    """Stop a VM: SIGTERM to all but its launcher, SIGKILL to what is left, and SIGTERM to the launcher.

    The launcher is the last. It kills the orphans that it has adopted: a search from outside can miss a
    process that forks and exits all the time.

    Args:
        mark: the VM's.
        launcher: the VM's launcher, already verified; None when it is dead or unknown.
        term_grace: seconds between SIGTERM and SIGKILL, at most.
        kill_timeout: seconds in which SIGKILL must have worked.

    Raises:
        StillRunning: some processes survived. Calling this again continues.
    """
    _terminate(mark, launcher, time.monotonic() + term_grace)
    if launcher is not None:
        _kill(find(mark, launcher), spare=launcher)
        _stop_launcher(launcher)
    deadline = time.monotonic() + kill_timeout
    while (found := find(mark, launcher)).processes:
        if time.monotonic() > deadline:
            raise StillRunning(found.processes)
        _kill(found)
        _wait_for_exit(found.processes, time.monotonic() + _KILL_ROUND_SECONDS)


def _terminate(mark: str, launcher: Process | None, deadline: float) -> None:
    signalled: set[Process] = set()
    while time.monotonic() < deadline:
        left = find(mark, launcher).processes - {launcher}
        if not left:
            return
        # Parents first: a script should get its signal before it sees its children exit.
        for process in sorted(left - signalled, key=lambda process: (process.started, process.pid)):
            send(process, signal.SIGTERM)
            send(process, signal.SIGCONT)
        signalled |= left
        _wait_for_exit(left, deadline)


def _kill(found: VmProcesses, spare: Process | None = None) -> None:
    # SIGSTOP first, so that none forks while the next is signalled. A group is killed as a whole, because
    # only that is atomic against fork; while its members are stopped, its number is not reused.
    left = found.processes - {spare}
    for process in left:
        send(process, signal.SIGSTOP)
    for group in found.groups - ({spare.group} if spare else set()):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for process in left:
        send(process, signal.SIGKILL)


def _stop_launcher(launcher: Process) -> None:
    send(launcher, signal.SIGTERM)
    send(launcher, signal.SIGCONT)
    _wait_for_exit({launcher}, time.monotonic() + _LAUNCHER_SECONDS)


def _wait_for_exit(processes: Collection[Process], deadline: float) -> None:
    while any(look_up(process.pid) == process for process in processes) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
