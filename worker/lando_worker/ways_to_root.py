"""Ways for the workflow's account to become root, which make every protection useless."""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
import socket
import subprocess
from pathlib import Path

from lando_worker.workflow_account import WorkflowAccount

SOCKETS = (
    "/run/docker.sock",
    "/run/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/incus/unix.socket",
    "/var/lib/incus/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/snap/lxd/common/lxd/unix.socket",
)
"""Of services that run containers as root for whoever may connect: a container can have the host's files."""
DOCKER_ADDRESS = ("127.0.0.1", 2375)
"""Docker's, where it listens without TLS: https://docs.docker.com/engine/daemon/remote-access/"""
GROUPS = ("docker", "lxd", "incus-admin")
"""Whose members may use such a service, also if it starts later."""
COMMAND_TIMEOUT = 30.0
"""Seconds."""


def groups(account: WorkflowAccount) -> list[str]:
    """Groups of the account that make it root."""
    names = {group.gr_name for group in grp.getgrall() if group.gr_gid == account.gid}
    names |= {group.gr_name for group in grp.getgrall() if account.name in group.gr_mem}
    return [f"the group {name!r}" for name in GROUPS if name in names]


def open_sockets() -> list[str]:
    """Services to which this process can connect."""
    found = [path for path in SOCKETS if _connects(socket.AF_UNIX, path)]
    if _connects(socket.AF_INET, DOCKER_ADDRESS):
        found.append("Docker at {}:{}".format(*DOCKER_ADDRESS))
    return found


def _connects(family: socket.AddressFamily, address: str | tuple[str, int]) -> bool:
    with contextlib.suppress(OSError), socket.socket(family) as client:
        client.settimeout(1.0)
        client.connect(address)
        return True
    return False


def sudo(account: WorkflowAccount) -> list[str]:
    """Whether the account may use sudo without a password. Needs root, and leaves no message in any log."""
    program = shutil.which("sudo")
    if program is None or not Path(program).stat().st_mode & 0o4000:
        return []
    try:
        listed = subprocess.run(
            [program, "-n", "-l", "-U", account.name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return ["sudo"] if "NOPASSWD:" in listed.stdout else []
