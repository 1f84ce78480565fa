"""What is in the cloud: catalogue, project and user ``lando``, networks, flavors, an image, a key pair."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from keystoneauth1.exceptions import Conflict, NotFound

from tests.openstack.lab.api import Api
from tests.openstack.lab.drivers import Driver
from tests.openstack.lab.place import AUTH_URL, EXTERNAL_NETWORK_ADDRESS, HOME, KNOBS, PORTS, SECRET, LabError
from tests.openstack.lab.processes import wait

SERVICES = {
    "nova": ("compute", "/v2.1"),
    "neutron": ("network", ""),
    "glance": ("image", ""),
    "placement": ("placement", ""),
}
PROJECT = "lando"
IMAGE = "lando-worker"
NETWORK = "selfservice"
EXTERNAL_NETWORK = "ext-net"
KEY_PAIR = "lando"
FLAVORS = {"m1.tiny": (1, 512, 2), "m1.small": (1, 2048, 10), "m1.medium": (2, 4096, 20)}
"""vCPUs, MB of memory, GB of disk."""

# An ordinary cloud kernel knows no IDE, on which the config drive would be.
QEMU_PROPERTIES = {"hw_cdrom_bus": "scsi", "hw_scsi_model": "virtio-scsi"}


def fill_catalogue() -> None:
    """Services, their endpoints and their users."""
    admin = Api("admin")
    project = admin.ensure("identity", "projects", "service", domain_id="default")
    roles = [admin.ensure("identity", "roles", name) for name in ("admin", "service")]
    for name, (kind, path) in SERVICES.items():
        user = admin.ensure("identity", "users", name, password=SECRET, domain_id="default")
        for role in roles:
            grant(admin, project["id"], user["id"], role["id"])
        service = admin.ensure("identity", "services", name, type=kind)
        there = {item["interface"] for item in admin.all("identity", "endpoints", service_id=service["id"])}
        for interface in {"public", "internal", "admin"} - there:
            endpoint = {
                "service_id": service["id"],
                "interface": interface,
                "url": f"http://127.0.0.1:{PORTS[kind]}{path}",
                "region_id": "RegionOne",
            }
            admin("POST", "identity", "/endpoints", json={"endpoint": endpoint})


def grant(admin: Api, project: str, user: str, role: str) -> None:
    """Give a role in a project."""
    admin("PUT", "identity", f"/projects/{project}/users/{user}/roles/{role}")


def fill() -> None:
    """Everything else."""
    admin = Api("admin")
    project = admin.ensure("identity", "projects", PROJECT, domain_id="default")
    user = admin.ensure("identity", "users", PROJECT, password=SECRET, domain_id="default")
    member = admin.ensure("identity", "roles", "member")
    grant(admin, project["id"], user["id"], member["id"])
    for name, (vcpus, ram, disk) in FLAVORS.items():
        admin.ensure("compute", "flavors", name, vcpus=vcpus, ram=ram, disk=disk)
    if not admin.find("image", "images", IMAGE):
        upload(admin, IMAGE, b"no server boots from it " * 100, disk_format="raw")
    networks(admin, project["id"])
    owned(Api(PROJECT))


def networks(admin: Api, project: str) -> None:
    """The servers' network, and the one that floating IPs are on.

    Flat ones: with qemu, interfaces of the lab's namespace carry them; else there is nothing behind them.
    """
    inner = admin.ensure(
        "network", "networks", NETWORK, project_id=project,
        **{"provider:network_type": "flat", "provider:physical_network": "self"},
    )  # fmt: skip
    outer = admin.ensure(
        "network", "networks", EXTERNAL_NETWORK,
        **{"router:external": True, "provider:network_type": "flat", "provider:physical_network": "ext"},
    )  # fmt: skip
    subnet = admin.ensure(
        "network", "subnets", NETWORK, network_id=inner["id"], project_id=project, ip_version=4,
        cidr="10.20.0.0/16", gateway_ip="10.20.0.1", enable_dhcp=False,
        allocation_pools=[{"start": "10.20.1.1", "end": "10.20.10.254"}],
    )  # fmt: skip
    admin.ensure(
        "network", "subnets", EXTERNAL_NETWORK, network_id=outer["id"], ip_version=4,
        cidr="172.24.0.0/16", gateway_ip=EXTERNAL_NETWORK_ADDRESS, enable_dhcp=False,
        allocation_pools=[{"start": "172.24.1.1", "end": "172.24.10.254"}],
    )  # fmt: skip
    router = admin.ensure(
        "network", "routers", "lando", project_id=project, external_gateway_info={"network_id": outer["id"]}
    )
    if not admin.all("network", "ports", device_id=router["id"], network_id=inner["id"]):
        path = f"/routers/{router['id']}/add_router_interface"
        admin("PUT", "network", path, json={"subnet_id": subnet["id"]})


def owned(lando: Api) -> None:
    """What belongs to the user or the project: a key pair, and a security group that lets ping and ssh in."""
    pairs = [item["keypair"]["name"] for item in lando.all("compute", "os-keypairs")]
    if KEY_PAIR not in pairs:
        made = lando("POST", "compute", "/os-keypairs", json={"keypair": {"name": KEY_PAIR}})
        with open(HOME / "lando.pem", "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(made["keypair"]["private_key"])
    group = lando.find("network", "security-groups", "default")
    assert group
    for protocol, port in (("icmp", None), ("tcp", 22)):
        rule = {
            "security_group_id": group["id"],
            "direction": "ingress",
            "ethertype": "IPv4",
            "protocol": protocol,
            "port_range_min": port,
            "port_range_max": port,
        }
        with contextlib.suppress(Conflict):
            lando("POST", "network", "/security-group-rules", json={"security_group_rule": rule})


# images


def add_image(name: str, file: Path) -> None:
    """Upload a disk image, in place of those of this name."""
    if not file.is_file():
        raise LabError(f"{file}: no such file")
    admin = Api("admin")
    old = [image["id"] for image in admin.all("image", "images", name=name)]
    disk_format = "qcow2" if is_qcow2(file) else "raw"
    with file.open("rb") as data:
        upload(admin, name, data, disk_format=disk_format, **QEMU_PROPERTIES)
    for image in old:
        admin("DELETE", "image", f"/images/{image}")


def is_qcow2(file: Path) -> bool:
    """By its first bytes."""
    with file.open("rb") as data:
        return data.read(4) == b"QFI\xfb"


def upload(admin: Api, name: str, data: object, **properties: str) -> None:
    """Make an image, for everybody."""
    image = {"name": name, "container_format": "bare", "visibility": "public", **properties}
    made = admin("POST", "image", "/images", json=image)
    admin(
        "PUT", "image", f"/images/{made['id']}/file", data=data,
        headers={"Content-Type": "application/octet-stream"},
    )  # fmt: skip


# servers


def wait_for_compute(driver: Driver) -> None:
    """Until the compute host, and with qemu the network's agents, have reported."""
    admin = Api("admin")
    agents = {"Linux bridge agent", "L3 agent", "Metadata agent"} if driver.guests else set()

    def ready() -> bool:
        services = admin.all("compute", "os-services", host=driver.host, binary="nova-compute")
        if not any(item["state"] == "up" and item["status"] == "enabled" for item in services):
            return False
        return agents <= {
            item["agent_type"] for item in admin.all("network", "agents", host=driver.host) if item["alive"]
        }

    wait("nova-compute", ready)


def remove_servers() -> None:
    """Delete the project's servers and floating IPs, whatever it takes."""
    lando = Api(PROJECT)

    def removed() -> bool:
        addresses = lando.all("network", "floatingips")
        for address in addresses:
            remove(lando, "network", f"/floatingips/{address['id']}")
        servers = lando.all("compute", "servers/detail")
        for server in servers:
            if server["OS-EXT-STS:task_state"] != "deleting":
                remove(lando, "compute", f"/servers/{server['id']}")
        return not (addresses or servers)

    wait("an empty project", removed)


def remove(lando: Api, service: str, path: str) -> None:
    """What may be gone already."""
    with contextlib.suppress(NotFound, Conflict):
        lando("DELETE", service, path)


# for tests


def describe(driver: Driver) -> dict[str, object]:
    """What LANDO_TEST_OPENSTACK is to say."""
    return {
        "auth_url": AUTH_URL,
        "username": PROJECT,
        "password": SECRET,
        "project_name": PROJECT,
        "image": IMAGE,
        "flavor": driver.flavor,
        "network": NETWORK,
        "key_name": KEY_PAIR,
        "external_network": EXTERNAL_NETWORK,
        "admin": {"username": "admin", "password": SECRET, "project_name": "admin"},
        **({"knobs": str(KNOBS)} if driver.name == "process" else {}),
    }
