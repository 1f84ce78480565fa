"""Runs one RabbitMQ server for as long as its owner lives, and leaves no process behind.

usage: broker_guard.py ROOT OWNER PROGRAM

A process of its own, so that the server also ends when its tests are killed. It knows the server's processes
(the Erlang machine, its helpers, its port mapper, whatever rabbitmqctl left) by their HOME, which is ROOT.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER_PID = "server.pid"
GUARD_PID = "guard.pid"
PATIENCE = 20.0


def processes(root: Path) -> list[int]:
    """The live processes whose HOME is ``root``; zombies have no environment and do not count."""
    mark = f"\0HOME={root}\0".encode()
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if mark in _environment(entry)]


def _environment(process: Path) -> bytes:
    try:
        return b"\0" + (process / "environ").read_bytes() + b"\0"
    except OSError:
        return b""


def guard(root: Path, owner: int, program: str) -> None:
    """Run the server until it ends, its owner ends, or SIGTERM comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = subprocess.Popen([program], cwd=root, start_new_session=True)
    try:
        (root / SERVER_PID).write_text(str(server.pid))
        (root / GUARD_PID).write_text(str(os.getpid()))
        select.select([os.pidfd_open(owner), os.pidfd_open(server.pid)], [], [])
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(server)
        _end_rest(root)


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is not None:
        return
    os.killpg(server.pid, signal.SIGCONT)  # it may have been paused
    server.terminate()
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _end_rest(root: Path) -> None:
    while rest := [pid for pid in processes(root) if pid != os.getpid()]:
        for pid in rest:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)


if __name__ == "__main__":
    guard(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
