"""Runs one PostgreSQL server for as long as its owner lives, and leaves no process and no file behind.

usage: postgres_guard.py DIRECTORY OWNER ACCOUNT PROGRAM…

A process of its own, so that the server also ends when its tests are killed; its directory is then removed.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER_PID = "server.pid"
DATA = "data"
PATIENCE = 10.0


def processes(directory: Path) -> list[int]:
    """The server's processes. They overwrite their environment; their current directory is the data's."""
    data = str(directory / DATA)
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _current_directory(entry) == data]


def _current_directory(process: Path) -> str | None:
    try:
        return os.readlink(process / "cwd")
    except OSError:
        return None


def guard(directory: Path, owner: int, account: str, program: list[str]) -> None:
    """Run the server until it ends, or its owner does."""
    server = subprocess.Popen(program, cwd=directory, start_new_session=True, **as_account(account))
    (directory / SERVER_PID).write_text(str(server.pid))
    owner_ends = os.pidfd_open(owner)
    select.select([owner_ends, os.pidfd_open(server.pid)], [], [])
    if server.poll() is None:
        signal_all(directory, signal.SIGCONT)  # it may have been paused
        server.send_signal(signal.SIGQUIT)  # an immediate shutdown
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    while processes(directory):
        signal_all(directory, signal.SIGKILL)
        time.sleep(0.02)
    if select.select([owner_ends], [], [], 0)[0]:
        shutil.rmtree(directory, ignore_errors=True)


def as_account(account: str) -> dict[str, object]:
    """Arguments of Popen, by which a program runs as an account: root may not run a server."""
    return {} if not account else {"user": account, "group": account, "extra_groups": []}


def signal_all(directory: Path, number: int) -> None:
    """Send a signal to each process of the server."""
    for pid in processes(directory):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    guard(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
