"""The processes of a local VM: which they are, and ending all of them and nobody else.

A process belongs to a VM when its environment says so, when it descends from one that belongs (the VM's init
is a subreaper, so whatever lost its parent descends from it), or when it is in a session that one of them
leads. A process is signalled as pid and start time together, never by a bare number.
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
_RETIRE_SECONDS = 5.0


@dataclass(frozen=True)
class Process:
    """One line of the process table. Pid and start time are its identity; the rest can change."""

    pid: int
    started: int
    """Clock ticks since boot."""
    parent: int = field(compare=False)
    group: int = field(compare=False)
    session: int = field(compare=False)


@dataclass(frozen=True)
class Found:
    """What belongs to a VM, and the process groups that hold nothing else."""

    processes: frozenset[Process]
    groups: frozenset[int]


class StillRunning(Exception):
    """Processes that outlived SIGKILL: they are another user's, or wait for a device."""

    def __init__(self, processes: Iterable[Process]) -> None:
        self.pids = sorted(process.pid for process in processes)
        super().__init__(f"still running after SIGKILL: {', '.join(map(str, self.pids[:10]))}")


def look_up(pid: int) -> Process | None:
    """The process, or None when it has ended (a zombie has, unless threads of it live on)."""
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


def find(mark: str, init: Process | None) -> Found:
    """Everything that belongs to a VM, its init included.

    Args:
        mark: the VM's.
        init: the VM's launcher, already verified; None when it is dead or unknown.
    """
    marked = f"{MARK_VARIABLE}={mark}".encode()
    table: dict[int, Process] = {}
    seeds = {init} if init else set()
    # Read as the listing goes on: by its end, the first ones may have forked and ended.
    for pid in _pids():
        process = look_up(pid)
        if process is not None:
            table[pid] = process
            if marked in _environment(pid):
                seeds.add(process)
    for pid in _lineage(table):
        table.pop(pid, None)
    return _close(seeds & set(table.values()), table)


def _pids() -> Iterable[int]:
    with os.scandir("/proc") as entries:
        yield from (int(entry.name) for entry in entries if entry.name.isdigit())


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _lineage(table: Mapping[int, Process]) -> list[int]:
    """This process, its ancestors and pid 1: never part of a VM, whatever their environment says."""
    pids = [1]
    pid = os.getpid()
    while pid in table and pid not in pids:
        pids.append(pid)
        pid = table[pid].parent
    return pids


def _close(seeds: Iterable[Process], table: Mapping[int, Process]) -> Found:
    """Add descendants and sessions until nothing is added.

    A session counts through its living leader only: one that merely has a member in it may be a person's
    terminal, in which somebody set our variable by hand.
    """
    found = set(seeds)
    while True:
        pids = {process.pid for process in found}
        more = {p for p in table.values() if p.parent in pids or p.session in pids} - found
        if not more:
            groups = {process.group for process in found}
            shared = {process.group for process in table.values() if process not in found}
            return Found(frozenset(found), frozenset(groups - shared - {0}))
        found |= more


def send(process: Process, signum: signal.Signals) -> None:
    """Signal exactly this process; nothing happens when it has ended or may not be signalled."""
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
    """A handle that cannot come to mean another process; None before Linux 5.3."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def end(mark: str, init: Process | None, term_grace: float, kill_timeout: float) -> None:
    """End a VM: SIGTERM to all but its init, SIGKILL to what is left, and then the init.

    The init goes last, and kills once more what comes back to it: from outside, a process that forks and
    exits all the time can be missed in every search.

    Args:
        mark: the VM's.
        init: its launcher, verified; None when dead or unknown.
        term_grace: seconds between SIGTERM and SIGKILL; less when all are gone earlier.
        kill_timeout: seconds after which SIGKILL is taken not to work.

    Raises:
        StillRunning: some outlived that. Calling again goes on where this ended.
    """
    _terminate(mark, init, time.monotonic() + term_grace)
    if init is not None:
        _kill_once(find(mark, init), spared=init)
        _retire(init)
    deadline = time.monotonic() + kill_timeout
    while (found := find(mark, init)).processes:
        if time.monotonic() > deadline:
            raise StillRunning(found.processes)
        _kill_once(found)
        _wait_for_end(found.processes, time.monotonic() + _KILL_ROUND_SECONDS)


def _terminate(mark: str, init: Process | None, deadline: float) -> None:
    told: set[Process] = set()
    while time.monotonic() < deadline:
        left = find(mark, init).processes - {init}
        if not left:
            return
        # Parents first: a script should hear why its children end before it sees them end.
        for process in sorted(left - told, key=lambda process: (process.started, process.pid)):
            send(process, signal.SIGTERM)
            send(process, signal.SIGCONT)
        told |= left
        _wait_for_end(left, deadline)


def _kill_once(found: Found, spared: Process | None = None) -> None:
    # Stopped first, so that none forks while we come to the next. A group is killed as one, because only
    # that is atomic against forking; its stopped members keep its number from being given to others.
    left = found.processes - {spared}
    for process in left:
        send(process, signal.SIGSTOP)
    for group in found.groups - ({spared.group} if spared else set()):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for process in left:
        send(process, signal.SIGKILL)


def _retire(init: Process) -> None:
    send(init, signal.SIGTERM)
    send(init, signal.SIGCONT)
    _wait_for_end({init}, time.monotonic() + _RETIRE_SECONDS)


def _wait_for_end(processes: Collection[Process], deadline: float) -> None:
    while any(look_up(process.pid) == process for process in processes) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
