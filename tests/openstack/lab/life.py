"""Bringing the lab up, and down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tests.openstack.lab import backing, configuration, contents, namespace, services, tables
from tests.openstack.lab.drivers import DRIVERS, Driver
from tests.openstack.lab.place import LOG, RUN, LabError
from tests.openstack.lab.processes import PIDS
from tests.openstack.lab.steps import once

READY = RUN / "ready"
"""Holds the driver's name, once everything answers."""
OWNER = RUN / "owner"
"""Is there if the lab belongs to one process."""


def driver() -> Driver:
    """The one of the lab that is up."""
    if not READY.exists() or not (namespace.is_here() or namespace.holder()):
        raise LabError("the lab is not up")
    return DRIVERS[READY.read_text()]


def up(wanted: Driver, owner: int | None) -> int:
    """Bring it up; what fails on the way leaves nothing behind but its logs.

    Args:
        wanted: the driver.
        owner: a process. The lab is its alone, and ends with it.
    """
    if namespace.holder():
        if READY.exists() and READY.read_text() == wanted.name and not OWNER.exists():
            print(f"the lab is up already ({wanted.name})")
            return 0
        raise LabError("a lab of this directory is up: half up, with another driver, or for another test run")
    started = time.monotonic()
    configuration.write(wanted)
    for old in (READY, OWNER):
        old.unlink(missing_ok=True)
    if owner:
        OWNER.write_text(str(owner))
    PIDS.write_text("")
    code = 1
    try:
        namespace.create(wanted.name, owner)
        code = namespace.run(lambda: bring_up(wanted, started))
    finally:
        if code and namespace.holder():
            down()
    return code


def run(wanted: Driver, command: Callable[[], int], keep: bool) -> int:
    """Bring it up, run a command in it, and take it down, whatever comes of that."""
    code = up(wanted, None if keep else os.getpid())
    try:
        return code or namespace.run(command)
    finally:
        if not keep and namespace.holder():
            down()


def bring_up(wanted: Driver, started: float) -> None:
    """Everything, in an order in which nobody calls a service that is not there yet."""

    def say(what: str) -> None:
        print(f"{time.monotonic() - started:5.1f} s  {what}", flush=True)

    backing.start_all()
    backing.wait_for_database()
    with once("databases") as first:
        if first:
            say("creating the databases (the first time only)")
            tables.create_databases()
    backing.wait_for_broker()
    tables.use_host_of(wanted)
    say("database, broker and cache are there")

    services.start_services("keystone", "placement", "glance-api", "neutron-server")
    if wanted.guests:
        services.start_services("libvirtd")
        services.wait_for_libvirt()
    services.wait_for("keystone")
    with once("catalogue") as first:
        if first:
            contents.fill_catalogue()
    # They end at once when they find no Placement in the catalogue.
    services.start_services("nova-conductor", "nova-api", "nova-scheduler")
    services.start_compute()
    services.wait_for("placement", "glance-api", "neutron-server", "nova-api")
    if wanted.guests:  # whose first call, to a server that is not there, would last a minute
        services.start_services("nova-metadata", "metadata-agent", "linuxbridge-agent", "l3-agent")
    say("the services answer")

    with once("contents") as first:
        if first:
            contents.fill()
    contents.wait_for_compute(wanted)
    with once(f"host-{wanted.name}") as first:
        if first:
            tables.discover_host()
    contents.remove_servers()
    READY.write_text(wanted.name)
    say(f"the lab is up ({wanted.name}); its logs are in {LOG}")


def down() -> None:
    """Take it down, whatever state it is in."""
    print("the lab is down" if namespace.end() else "no lab was up", flush=True)
    READY.unlink(missing_ok=True)


def reset() -> None:
    """Take it down and forget all that it knew."""
    down()
    configuration.wipe()
