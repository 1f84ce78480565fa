"""The services' databases, and what has to be said in them about compute hosts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from tests.openstack.lab import tokens
from tests.openstack.lab.backing import sql
from tests.openstack.lab.drivers import Driver
from tests.openstack.lab.place import AUTH_URL, SECRET
from tests.openstack.lab.processes import run
from tests.openstack.lab.services import GLANCE, KEYSTONE, NEUTRON, NOVA, PLACEMENT, program

DATABASES = ("keystone", "glance", "placement", "neutron", "nova_api", "nova_cell0", "nova")


def create_databases() -> None:
    """All of them, with their tables; what of them there was before is lost."""
    for name in DATABASES:
        sql(f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET utf8;")
    for directory in tokens.KEYS.values():
        tokens.new_keys(directory)
    addresses = [("--bootstrap-public-url", AUTH_URL), ("--bootstrap-internal-url", AUTH_URL)]
    account = [("--bootstrap-password", SECRET), ("--bootstrap-region-id", "RegionOne")]
    keystone = "keystone.cmd.manage:main"
    nova, cells = "nova.cmd.manage:main", "cell_v2"
    cell0 = "mysql+pymysql://root@127.0.0.1/nova_cell0?charset=utf8"
    side_by_side = [
        [
            program(keystone, *KEYSTONE, "db_sync"),
            program(keystone, *KEYSTONE, "bootstrap", *chain.from_iterable(account + addresses)),
        ],
        [
            program("neutron.db.migration.cli:main", *NEUTRON, "upgrade", "heads"),
            program("glance.cmd.manage:main", *GLANCE, "db_sync"),
        ],
        [
            program(nova, *NOVA, "api_db", "sync"),
            program(nova, *NOVA, cells, "map_cell0", "--database_connection", cell0),
            program(nova, *NOVA, cells, "create_cell", "--name", "cell1"),
            program(nova, *NOVA, "db", "sync"),
            program("placement.cmd.manage:main", *PLACEMENT, "db", "sync"),
        ],
    ]
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda commands: [run(*command) for command in commands], side_by_side):
            pass


def use_host_of(driver: Driver) -> None:
    """Have the scheduler use this driver's compute host and no other, which may still seem to be alive."""
    sql(
        f"UPDATE services SET disabled = (host <> '{driver.host}'), disabled_reason ="
        f" IF(host <> '{driver.host}', 'not the driver in use', NULL) WHERE `binary` = 'nova-compute'",
        "nova",
    )


def discover_host() -> None:
    """Add a compute host that has reported for the first time to the cell."""
    run(*program("nova.cmd.manage:main", *NOVA, "cell_v2", "discover_hosts"))
