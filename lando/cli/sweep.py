"""``lando-fsm servers --sweep`` and ``--dry-run``: orphaned VMs and floating IPs; with ``--unknown`` those
that are unknown, too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Container, Sequence

from lando.app.app import App
from lando.cli.output import note, result
from lando.cloud.interface import Cloud, CloudError
from lando.engine.leaks import Sweeper, delete
from lando.engine.ownership import CloudResource, described, kind_of
from lando.store.conflicts import tried_again
from lando.store.store import Store
from lando.times import duration
from lando.views.inventory import Inventory, InventoryItem
from lando.views.jobs import Views

POLL = 1.0
"""Seconds between two questions whether a VM is gone."""
DELETE_TIMEOUT = 300.0
"""Seconds after which a deletion is given up by the command."""


def print_doomed(inventory: Inventory, grace: float, with_unknown: bool) -> None:
    """Print what a sweep would delete.

    Args:
        inventory: of one look at the cloud.
        grace: seconds of the grace period.
        with_unknown: what is unknown, too.
    """
    doomed = _doomed(inventory, with_unknown)
    for item in doomed:
        result(f"{described(item.resource)}: {item.description}")
    if doomed:
        note(
            "nothing was deleted. A single look can be wrong: --sweep looks again after the grace period "
            f"({duration(grace)}), and deletes what is {_what(with_unknown)} both times"
        )
    else:
        note(f"nothing is {_what(with_unknown)}")


def sweep_once(app: App, views: Views, inventory: Inventory, with_unknown: bool) -> int:
    """Look twice, by the daemon's rule, and delete what is orphaned both times.

    Args:
        app: its cloud and database are used.
        views: reads the database.
        inventory: the first look.
        with_unknown: delete what is unknown, too.

    Returns:
        The exit code: 1 if something is not gone in time.
    """
    grace = app.config.timeouts.grace
    sweeper = Sweeper(inventory.database.deployment or "", grace, with_unknown)
    sweeper.leaked(inventory.snapshot, inventory.database.jobs, time.monotonic())
    _note_troubles(inventory)
    doomed = _doomed(inventory, with_unknown)
    if not doomed:
        note(f"nothing is {_what(with_unknown)}")
        return 0
    for item in doomed:
        note(f"{described(item.resource)}: {item.description}")
    note(f"looking again in {duration(grace)} (the grace period); nothing was deleted yet")
    time.sleep(grace)
    inventory = app.inventory(views)
    _note_troubles(inventory)
    leaked = sweeper.leaked(inventory.snapshot, inventory.database.jobs, time.monotonic())
    if not leaked:
        note(f"nothing is {_what(with_unknown)} any more; nothing was deleted")
    return _delete_all(app, leaked, {item.resource.id for item in inventory.unknown})


def _doomed(inventory: Inventory, with_unknown: bool) -> list[InventoryItem]:
    return inventory.leaked + (inventory.unknown if with_unknown else [])


def _what(with_unknown: bool) -> str:
    return "orphaned or unknown" if with_unknown else "orphaned"


def _note_troubles(inventory: Inventory) -> None:
    for trouble in inventory.snapshot.troubles:
        note(trouble)


def _delete_all(app: App, leaked: Sequence[CloudResource], unknown: Container[str]) -> int:
    """Delete, and wait until all are gone; print a line for each. Only orphans are counted."""
    left = list(leaked)
    reasons: dict[str, str] = {}
    deadline = time.monotonic() + DELETE_TIMEOUT
    while left and time.monotonic() < deadline:
        for resource in tuple(left):
            reasons[resource.id] = _delete(app.cloud, resource)
            if not reasons[resource.id]:
                left.remove(resource)
                if resource.id not in unknown:
                    _count_swept(app, resource)
                result(f"{described(resource)}: deleted")
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
    with contextlib.closing(Store(app.config.database_url, state_dir=app.daemon_lock.parent)) as store:

        def count() -> None:
            with store.transaction() as transaction:
                transaction.count_swept(kind_of(resource))

        tried_again(count)  # a daemon may count at the same time
