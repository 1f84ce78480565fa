"""What runs in the lab."""

from __future__ import annotations

import os
from pathlib import Path

from tests.openstack.lab.processes import alive, recorded, stat


def show() -> int:
    """Print the daemons; 0 if all of them run."""
    daemons = [(name, pid, alive(pid, started)) for name, pid, started in recorded()]
    memory = memory_by_session()
    for name, pid, runs in daemons:
        print(f"{name:18} {'up' if runs else 'DEAD':5} pid {pid:<6} {memory.get(pid, 0) // 1024:5} MB")
    print(f"{sum(memory.values()) // 1024} MB in all")
    return 0 if daemons and all(runs for _, _, runs in daemons) else 1


def memory_by_session() -> dict[int, int]:
    """Proportional, in kB."""
    used: dict[int, int] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            session = int(stat(int(entry))[3])
            rollup = Path(f"/proc/{entry}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        used[session] = used.get(session, 0) + sum(
            int(line.split()[1]) for line in rollup if line.startswith("Pss:")
        )
    return used
