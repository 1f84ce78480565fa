"""Which processes belong to a local VM, and which are signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from lando.cloud.local import processes
from lando.cloud.local.processes import Process


def process(pid: int, parent: int, session: int, group: int | None = None) -> Process:
    return Process(pid, started=pid * 10, parent=parent, group=group or session, session=session)


def closure(seeds: set[int], *table: Process) -> processes.VmProcesses:
    by_pid = {entry.pid: entry for entry in table}
    return processes._with_descendants({by_pid[pid] for pid in seeds}, by_pid)


def pids(found: processes.VmProcesses) -> set[int]:
    return {entry.pid for entry in found.processes}


def test_descendants_and_their_sessions_belong_to_the_vm() -> None:
    found = closure(
        {10},
        process(10, parent=1, session=10),
        process(11, parent=10, session=11),
        process(12, parent=1, session=11),
        process(13, parent=12, session=13),
        process(20, parent=1, session=20),
    )
    assert pids(found) == {10, 11, 12, 13}
    assert found.groups == {10, 11, 13}


def test_members_of_a_session_without_a_living_leader_are_not_found() -> None:
    assert pids(closure({11}, process(11, parent=1, session=9), process(12, parent=1, session=9))) == {11}


def test_a_terminal_in_which_a_person_set_the_variable_is_not_found() -> None:
    shell = process(5, parent=1, session=5)
    found = closure({11}, shell, process(11, parent=5, session=5), process(12, parent=5, session=5))
    assert pids(found) == {11}
    assert not found.groups


def test_members_of_session_0_of_another_container_are_not_found() -> None:
    assert pids(closure({11}, process(11, parent=0, session=0), process(12, parent=0, session=0))) == {11}


def test_a_zombie_is_not_a_running_process() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.look_up(child.pid) is None
    child.wait()
    assert processes.look_up(child.pid) is None


def test_a_signal_does_not_reach_another_process_with_the_same_pid() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = processes.look_up(child.pid)
        assert found is not None
        stale = Process(found.pid, found.started - 1, found.parent, found.group, found.session)
        processes.send(stale, signal.SIGTERM)
        processes.send(found, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL


def test_this_process_and_its_ancestors_are_never_found() -> None:
    mark = f"lineage-{os.getpid()}"
    code = (
        "import os; from lando.cloud.local import processes;"
        f"print([p.pid for p in processes.find({mark!r}, processes.look_up(os.getpid())).processes])"
    )
    environment = {**os.environ, processes.MARK_VARIABLE: mark}
    child = ["sh", "-c", '"$@"; :', "sh", sys.executable, "-c", code]
    assert subprocess.run(child, env=environment, capture_output=True, check=True).stdout == b"[]\n"
