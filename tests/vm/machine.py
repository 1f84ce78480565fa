"""A qemu VM with an image's disk and a config drive, as a Nova server would have them."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from pathlib import Path

FROM_THE_VM = "10.0.2.2"
"""This machine's loopback, as seen through qemu's user networking."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Machine:
    """A VM. Its changes to the image are kept apart, and forgotten.

    Args:
        image: a bootable qcow2.
        user_data: what cloud-init runs in it.
        directory: an empty one, for its files.
        memory: MB.
        accel: qemu's accelerator; ``tcg``, emulation, works everywhere.
    """

    def __init__(self, image: Path, user_data: bytes, directory: Path, memory: int, accel: str) -> None:
        self._console = directory / "console.log"
        overlay, drive = directory / "disk.qcow2", directory / "config.iso"
        backing = ["-b", str(image.resolve()), "-F", "qcow2"]
        run("qemu-img", "create", "-q", "-f", "qcow2", *backing, str(overlay), "10G")
        latest = directory / "drive" / "openstack" / "latest"
        latest.mkdir(parents=True)
        latest.joinpath("user_data").write_bytes(user_data)
        latest.joinpath("meta_data.json").write_text(
            json.dumps({"uuid": str(uuid.uuid4()), "name": "try", "hostname": "try"})
        )
        run("genisoimage", "-quiet", "-R", "-J", "-V", "config-2", "-o", str(drive), str(directory / "drive"))
        self._qemu = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-accel", accel, "-m", str(memory), "-display", "none", "-no-reboot"),
                *("-serial", f"file:{self._console}"),
                *("-drive", f"file={overlay},if=virtio", "-drive", f"file={drive},media=cdrom"),
                *("-nic", "user,model=virtio-net-pci"),
            ]
        )

    @property
    def is_on(self) -> bool:
        """Whether it has not been powered off."""
        return self._qemu.poll() is None

    def console(self) -> str:
        """Its serial console so far, without colours."""
        text = self._console.read_text(errors="replace") if self._console.exists() else ""
        return CONTROL.sub("", text)

    def close(self) -> None:
        """Switch it off."""
        self._qemu.kill()
        self._qemu.wait()


def run(*command: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(command, check=True)
