"""What a server is: the virt driver of Nova, and all that depends on it."""

from __future__ import annotations

import os
from dataclasses import dataclass

# /dev/kvm of nested sandboxes is often one that boots no ordinary kernel.
VIRT_TYPE = os.environ.get("LANDO_LAB_VIRT_TYPE", "qemu")


@dataclass(frozen=True)
class Driver:
    """One of them.

    Args:
        name: of the driver; Nova's and Neutron's host is ``lab-NAME``.
        compute_driver: Nova's name of it.
        flavor: large enough for the image.
        guests: whether servers are machines of their own, on real networks.
    """

    name: str
    compute_driver: str
    flavor: str = "m1.tiny"
    guests: bool = False

    @property
    def host(self) -> str:
        """The compute host: changing the driver changes it, as Nova wants it."""
        return f"lab-{self.name}"

    @property
    def settings(self) -> dict[str, str]:
        """For the configuration files."""
        return {
            "host": self.host,
            "compute_driver": self.compute_driver,
            "force_config_drive": str(self.guests).lower(),
            "vif_plugging_timeout": "60" if self.guests else "0",
            "mechanism_driver": "linuxbridge" if self.guests else "lab",
            "firewall_driver": "iptables" if self.guests else "noop",
            "virt_type": VIRT_TYPE,
            "cpu_mode": "none" if VIRT_TYPE == "qemu" else "host-passthrough",
            "broker_listens_at": "0.0.0.0" if self.guests else "127.0.0.1",
        }


DRIVERS = {
    driver.name: driver
    for driver in (
        Driver("fake", "fake.FakeDriver"),
        Driver("process", "process_driver.ProcessDriver"),
        Driver("libvirt", "libvirt.LibvirtDriver", flavor="m1.small", guests=True),
    )
}
