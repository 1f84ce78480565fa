"""The daemons' configuration files: the templates in ``etc``, filled in. Cheap, so done at each start."""

from __future__ import annotations

import shutil
from pathlib import Path
from string import Template

from tests.openstack.lab.drivers import Driver
from tests.openstack.lab.place import AUTH_URL, ETC, HOME, KNOBS, LOG, PORTS, RUN, SECRET

TEMPLATES = Path(__file__).parent / "etc"
DIRECTORIES = ("home", "lock", "vms", "glance", "glance-staging", "instances", "rabbitmq", "plugins")

# stevedore finds an ML2 mechanism driver by the entry point of an installed package only.
ENTRY_POINTS = """[neutron.ml2.mechanism_drivers]
lab = ml2_driver:AlwaysBind
"""


# How the services log in to each other's; each adds its user's name.
SERVICE_ACCOUNT = f"""auth_url = {AUTH_URL}
auth_type = password
project_domain_name = Default
user_domain_name = Default
project_name = service
region_name = RegionOne
password = {SECRET}"""


def write(driver: Driver) -> None:
    """Write all of them, and make the directories that they name."""
    for directory in (*(HOME / name for name in DIRECTORIES), ETC, RUN, LOG):
        directory.mkdir(parents=True, exist_ok=True)
    values = {"home": str(HOME), "secret": SECRET, "service_account": SERVICE_ACCOUNT, **driver.settings}
    values |= {f"{service}_port": str(port) for service, port in PORTS.items()}
    for template in TEMPLATES.rglob("*.*"):
        target = ETC / template.relative_to(TEMPLATES)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(template.read_text()).substitute(values))
    package = HOME / "plugins" / "lando_lab-1.dist-info"
    package.mkdir(exist_ok=True)
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: lando-lab\nVersion: 1\n")
    (package / "entry_points.txt").write_text(ENTRY_POINTS)
    KNOBS.write_text("{}\n")


def wipe() -> None:
    """Forget everything that the lab ever wrote."""
    shutil.rmtree(HOME, ignore_errors=True)
