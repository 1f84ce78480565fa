"""What qemu VMs need in the lab's namespaces: two networks, and libvirt's directories.

Called by the holder before anything else runs in there. Nothing that is done here is visible outside, but for
the empty directories that others are mounted over.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.openstack.lab.place import (
    ETC,
    EXTERNAL_NETWORK_ADDRESS,
    HOME,
    SERVERS_NETWORK_ADDRESS,
    clean_environment,
)

NETWORKS = {"self": f"{SERVERS_NETWORK_ADDRESS}/16", "ext": f"{EXTERNAL_NETWORK_ADDRESS}/16"}

# libvirtd insists on them; Debian makes them in a package that is not needed otherwise.
GROUPS = {"kvm": "kvm:x:64054:", "libvirt-qemu": "libvirt-qemu:x:64055:"}
USERS = {"libvirt-qemu": "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"}


def set_up() -> None:
    """Mounts and networks."""
    run("mount", "-t", "sysfs", "sysfs", "/sys")  # /sys/class/net of the new network
    for place in ("/run/netns", "/run/libvirt"):  # the router's namespaces stay in here
        Path(place).mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", place)
    for kind in ("lib", "log", "cache"):
        mount(HOME / "libvirt" / kind, Path("/var") / kind / "libvirt")
    mount(ETC / "libvirt", Path("/etc/libvirt"))
    mount_with("passwd", USERS)
    mount_with("group", GROUPS)
    for name, address in NETWORKS.items():
        # They stand for a host's network cards: the agent puts NAME1 into a bridge, NAME0 is the lab's own.
        run("ip", "link", "add", f"{name}0", "type", "veth", "peer", "name", f"{name}1")
        run("ip", "addr", "add", address, "dev", f"{name}0")
        run("ip", "link", "set", f"{name}0", "up")
        run("ip", "link", "set", f"{name}1", "up")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def mount(directory: Path, over: Path) -> None:
    """Show a directory of the lab in another's place."""
    directory.mkdir(parents=True, exist_ok=True)
    over.mkdir(parents=True, exist_ok=True)
    run("mount", "--bind", directory, over)


def mount_with(name: str, entries: dict[str, str]) -> None:
    """Show /etc/NAME with more entries."""
    there, ours = Path("/etc") / name, ETC / name
    shutil.copy(there, ours)
    names = {line.partition(":")[0] for line in there.read_text().splitlines()}
    with ours.open("a") as file:
        file.writelines(f"{line}\n" for entry, line in entries.items() if entry not in names)
    run("mount", "--bind", ours, there)


def run(*command: str | Path) -> None:
    """Run a command."""
    subprocess.run(command, env=clean_environment(), check=True)
