"""Where things are: the lab's directory, the services' addresses and the accounts."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ.get("LANDO_LAB_DIR") or CHECKOUT / ".lab").resolve()
"""Everything that the lab writes."""

ETC, RUN, LOG = HOME / "etc", HOME / "run", HOME / "log"
PLUGINS = Path(__file__).parent / "plugins"
KNOBS = HOME / "knobs.json"

PYTHON = "/usr/bin/python3"
"""Debian's: the OpenStack packages are its modules."""

SECRET = "lab"
"""Every password of the lab, which can only be reached from within."""

PORTS = {"identity": 5000, "compute": 8774, "placement": 8778, "image": 9292, "network": 9696}
MEMCACHED_PORT = 11211
AUTH_URL = f"http://127.0.0.1:{PORTS['identity']}/v3"
AMQP_URL = f"amqp://lando:{SECRET}@127.0.0.1:5672/lando"

SERVERS_NETWORK_ADDRESS, EXTERNAL_NETWORK_ADDRESS = "10.20.0.254", "172.24.0.1"
"""The lab's own, on the two networks that exist when servers are qemu VMs; the broker listens there, too."""


class LabError(Exception):
    """What the lab's user reads."""


def clean_environment(**more: str) -> dict[str, str]:
    """For the daemons, so that they are the same whoever starts them."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(HOME / "home"),
        "LANDO_LAB_DIR": str(HOME),
        "PYTHONPATH": f"{HOME / 'plugins'}:{PLUGINS}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OS_KEYSTONE_CONFIG_DIR": str(ETC / "keystone"),
        "OS_PLACEMENT_CONFIG_DIR": str(ETC / "placement"),
        **more,
    }


def os_variables(name: str) -> dict[str, str]:
    """The variables OS_… of ``lando`` or ``admin``; the project has the user's name."""
    return {
        "OS_AUTH_URL": AUTH_URL,
        "OS_USERNAME": name,
        "OS_PASSWORD": SECRET,
        "OS_PROJECT_NAME": name,
        "OS_USER_DOMAIN_NAME": "Default",
        "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_REGION_NAME": "RegionOne",
        "OS_IDENTITY_API_VERSION": "3",
    }
