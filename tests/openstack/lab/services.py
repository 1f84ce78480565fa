"""OpenStack's services: their tables, how each is started, and when it answers."""

from __future__ import annotations

import socket
import subprocess

from tests.openstack.lab.backing import is_consumed
from tests.openstack.lab.place import ETC, PLUGINS, PORTS, PYTHON, LabError
from tests.openstack.lab.processes import is_up, start, stop, wait

COMMON = ["--config-file", f"{ETC}/common.conf"]
GLANCE = [*COMMON, "--config-file", f"{ETC}/glance.conf"]
NEUTRON = [*COMMON, "--config-file", f"{ETC}/neutron.conf"]
NOVA = [*COMMON, "--config-file", f"{ETC}/nova.conf"]
KEYSTONE = ["--config-dir", f"{ETC}/keystone"]
PLACEMENT = ["--config-file", f"{ETC}/placement/placement.conf"]


def program(entry_point: str, *arguments: str) -> list[str]:
    """The command line of a program whose script is in a Debian package that we do not install."""
    module, _, function = entry_point.partition(":")
    name = module.partition(".")[0]  # by which oslo.config finds files
    code = f"import sys; from {module} import {function} as main; sys.argv[0] = '{name}'; sys.exit(main())"
    return [PYTHON, "-c", code, *arguments]


def wsgi(script: str, port: int, processes: int) -> list[str]:
    """The command line of a program that needs a web server."""
    options = (
        "--plugin python3 --master --die-on-term --need-app --lazy-apps --enable-threads --disable-logging"
        f" --http-socket 127.0.0.1:{port} --processes {processes} --buffer-size 65535"
    )
    return [
        "uwsgi",
        *options.split(),
        "--add-header",
        "Connection: close",
        "--wsgi-file",
        f"/usr/bin/{script}",
    ]


COMMANDS = {
    "keystone": wsgi("keystone-wsgi-public", PORTS["identity"], 2),
    "placement": wsgi("placement-api", PORTS["placement"], 1),
    "glance-api": program("glance.cmd.api:main", *GLANCE),
    "neutron-server": [PYTHON, str(PLUGINS / "neutron_server.py"), *NEUTRON],
    "nova-conductor": program("nova.cmd.conductor:main", *NOVA),
    "nova-api": program("nova.cmd.api_os_compute:main", *NOVA),
    "nova-scheduler": program("nova.cmd.scheduler:main", *NOVA),
    "nova-compute": [PYTHON, str(PLUGINS / "nova_compute.py"), *NOVA],
    "libvirtd": ["libvirtd", "-f", "/etc/libvirt/libvirtd.conf"],
    "linuxbridge-agent": program("neutron.cmd.eventlet.plugins.linuxbridge_neutron_agent:main", *NEUTRON),
    "nova-metadata": program("nova.cmd.api_metadata:main", *NOVA),
    "metadata-agent": program(
        "neutron.cmd.eventlet.agents.metadata:main", *NEUTRON, "--config-file", f"{ETC}/metadata-agent.ini"
    ),
    "l3-agent": program(
        "neutron.cmd.eventlet.agents.l3:main", *NEUTRON, "--config-file", f"{ETC}/l3-agent.ini"
    ),
}
API_PORTS = {
    "keystone": PORTS["identity"],
    "placement": PORTS["placement"],
    "glance-api": PORTS["image"],
    "neutron-server": PORTS["network"],
    "nova-api": PORTS["compute"],
}


def start_services(*names: str) -> None:
    """Start some; ``wait_for`` says when they answer."""
    for name in names:
        start(name, COMMANDS[name])


def wait_for(*names: str) -> None:
    """Until their APIs, if they have one, are listened on."""
    for name in names:
        if name in API_PORTS:
            wait(name, lambda port=API_PORTS[name]: listens(port))


def start_compute() -> None:
    """Start nova-compute once there is a conductor: if its first call finds none, it waits for 10 s."""
    wait("nova-conductor", lambda: is_consumed("conductor"))
    start_services("nova-compute")


def listens(port: int) -> bool:
    """Whether somebody does, here."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except OSError:
        return False
    return True


def stop_service(name: str) -> None:
    """End one at once, as a crash would."""
    if not is_up(name):
        raise LabError(f"no {name} is up")
    stop(name)


def restart_service(name: str) -> None:
    """Start one that was stopped, and wait until it answers."""
    if name not in COMMANDS or is_up(name):
        raise LabError(f"{name} is up already" if name in COMMANDS else f"there is no service {name}")
    stop(name)  # forgets one that died
    start_services(name)
    wait_for(name)


def wait_for_libvirt() -> None:
    """Until it answers."""
    version = ["virsh", "-c", "qemu:///system", "version"]
    wait(
        "libvirtd",
        lambda: subprocess.run(version, capture_output=True, timeout=60, check=False).returncode == 0,
    )
