"""``lando-fsm servers --sweep`` and ``--dry-run``: orphaned VMs and floating IPs."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lando.app.app import App
from lando.cli.common import note
from lando.cloud.interface import Cloud, CloudError
from lando.engine.leaks import Sweeper, delete
from lando.engine.ownership import CloudResource, described, kind_of
from lando.store.store import Store
from lando.times import duration
from lando.views.inventory import Inventory
from lando.views.jobs import Views

POLL = 1.0
"""Seconds between two questions whether a VM is gone."""
DELETE_TIMEOUT = 300.0
"""Seconds after which a deletion is given up by the command."""


def print_orphans(inventory: Inventory, grace: float) -> None:
    """Print what a sweep would delete.

    Args:
        inventory: of one look at the cloud.
        grace: seconds of the grace period.
    """
    for item in inventory.leaked:
        print(f"{described(item.resource)}: {item.description}")
    if inventory.leaked:
        note(
            "nothing was deleted. A single look can be wrong: --sweep looks again after the grace period "
            f"({duration(grace)}), and deletes what is orphaned both times"
        )
    else:
        note("nothing is orphaned")


def sweep_once(app: App, views: Views, inventory: Inventory) -> int:
    """Look twice, by the daemon's rule, and delete what is orphaned both times.

    Args:
        app: its cloud and database are used.
        views: reads the database.
        inventory: the first look.

    Returns:
        The exit code: 1 if something is not gone in time.
    """
    grace = app.config.timeouts.grace
    sweeper = Sweeper(inventory.database.deployment or "", grace)
    sweeper.leaked(inventory.snapshot, inventory.database.live, time.monotonic())
    _note_troubles(inventory)
    if not inventory.leaked:
        note("nothing is orphaned")
        return 0
    for item in inventory.leaked:
        note(f"{described(item.resource)}: {item.description}")
    note(f"looking again in {duration(grace)} (the grace period); nothing was deleted yet")
    time.sleep(grace)
    inventory = app.inventory(views)
    _note_troubles(inventory)
    leaked = sweeper.leaked(inventory.snapshot, inventory.database.live, time.monotonic())
    if not leaked:
        note("nothing is orphaned any more; nothing was deleted")
    return _delete_all(app, leaked)


def _note_troubles(inventory: Inventory) -> None:
    for trouble in inventory.snapshot.troubles:
        note(trouble)


def _delete_all(app: App, leaked: Sequence[CloudResource]) -> int:
    """Delete, and wait until all are gone; print a line for each."""
    left = list(leaked)
    reasons: dict[str, str] = {}
    deadline = time.monotonic() + DELETE_TIMEOUT
    while left and time.monotonic() < deadline:
        for resource in tuple(left):
            reasons[resource.id] = _delete(app.cloud, resource)
            if not reasons[resource.id]:
                left.remove(resource)
                _count_swept(app, resource)
                print(f"{described(resource)}: deleted", flush=True)
        if left:
            time.sleep(POLL)
    for resource in left:
        note(f"{described(resource)}: not gone after {duration(DELETE_TIMEOUT)}: {reasons[resource.id]}")
    return 1 if left else 0


def _delete(cloud: Cloud, resource: CloudResource) -> str:
    """Why it is not gone yet; empty once it is."""
    try:
        return "" if delete(cloud, resource) else "its deletion is in progress"
    except CloudError as error:
        return str(error)


def _count_swept(app: App, resource: CloudResource) -> None:
    store = Store(app.config.database_url)
    try:
        with store.transaction() as transaction:
            transaction.count_swept(kind_of(resource))
    finally:
        store.close()
