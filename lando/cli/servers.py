"""``lando-fsm servers``: what this deployment has in the cloud, and what each of it belongs to."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from lando.app.app import App
from lando.cli.common import load_app, note, print_json
from lando.cli.formatting import aligned, duration, printable
from lando.cloud.interface import Cloud, CloudError
from lando.engine.leaks import Sweeper, delete
from lando.engine.ownership import CloudResource, described, kind_of
from lando.errors import UsageError
from lando.store.store import Store
from lando.views.inventory import Inventory, InventoryItem, require_database
from lando.views.jobs import Views

HEADINGS = ("NAME", "ID", "STATUS", "ADDRESS", "JOB")
POLL = 1.0
"""Seconds between questions whether a server is gone."""
DELETE_TIMEOUT = 300.0
"""Seconds for which a deletion is waited for."""


@click.command("servers")
@click.option("--json", "as_json", is_flag=True, help="Everything, as a stable JSON object.")
@click.option("--sweep", is_flag=True, help="Delete what is leaked, and wait until it is gone.")
@click.option("--dry-run", is_flag=True, help="Say what --sweep would delete, and delete nothing.")
@click.pass_context
def command(ctx: click.Context, as_json: bool, sweep: bool, dry_run: bool) -> int:
    """List this deployment's servers and floating IPs, and the job that each belongs to.

    Works without a daemon. A running daemon sweeps by itself; --sweep does the same once: it deletes what
    carries this deployment's mark, belongs neither to a job in progress nor to a create whose outcome is
    open, and is seen so twice, a grace period (timeouts.grace) apart. Exit code 1 if something could not be
    deleted.
    """
    if as_json and (sweep or dry_run):
        raise UsageError("--json lists only; leave out --sweep and --dry-run")
    app = load_app(ctx)
    views = app.views()
    inventory = app.inventory(views)
    if dry_run:
        require_database(inventory, app.config.database)
        _print_suspects(inventory, app.config.timeouts.grace)
    elif sweep:
        require_database(inventory, app.config.database)
        return _sweep(app, views, inventory)
    elif as_json:
        print_json(inventory.as_json())
    else:
        _print(inventory, views.daemon().pid is not None)
    for problem in inventory.snapshot.troubles:
        note(problem)
    return 0


# the list


def _print(inventory: Inventory, has_daemon: bool) -> None:
    if inventory.items:
        print(aligned(HEADINGS, [_cells(item) for item in inventory.items]))
    print("\n".join(_summary(inventory, has_daemon)))


def _cells(item: InventoryItem) -> tuple[str, ...]:
    return (
        printable(item.name),
        item.resource.id,
        item.status,
        item.resource.address or "",
        item.description,
    )


def _summary(inventory: Inventory, has_daemon: bool) -> list[str]:
    lines = [_ours(inventory)]
    if inventory.leaked:
        who = "the daemon deletes" if has_daemon else "a daemon, or `lando-fsm servers --sweep`, deletes"
        lines.append(f"leaked: {len(inventory.leaked)}; {who} what is still so after the grace period")
    foreign = _count(inventory.other_servers, "server")
    if inventory.other_floating_ips is not None:
        foreign += f", {_count(inventory.other_floating_ips, 'floating IP')}"
    lines.append(f"others' in the project: {foreign}")
    if inventory.snapshot.quota is not None:
        lines.append(f"quota: {inventory.snapshot.quota}")
    if inventory.database.swept is not None:
        swept = inventory.database.swept
        counts = f"{_count(swept['servers'], 'server')}, {_count(swept['floating_ips'], 'floating IP')}"
        lines.append(f"swept so far: {counts}")
    return lines


def _ours(inventory: Inventory) -> str:
    if inventory.database.deployment is None:
        return "this deployment has no mark yet: it never made a server"
    servers = len(inventory.snapshot.servers) - inventory.other_servers
    return f"with the mark of deployment {inventory.database.deployment}: " + ", ".join(
        (_count(servers, "server"), _count(len(inventory.items) - servers, "floating IP"))
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


# what is leaked


def _print_suspects(inventory: Inventory, grace: float) -> None:
    for item in inventory.leaked:
        print(f"{described(item.resource)}: {item.description}")
    if inventory.leaked:
        note(
            "nothing was deleted. This was one look, which may mistake: --sweep looks again after the grace "
            f"period ({duration(grace)}), and deletes what is leaked then, too"
        )
    else:
        note("nothing is leaked")


def _sweep(app: App, views: Views, inventory: Inventory) -> int:
    """Look twice, by the daemon's own rule, and delete what is leaked both times."""
    grace = app.config.timeouts.grace
    sweeper = Sweeper(inventory.database.deployment or "", grace)
    sweeper.leaked(inventory.snapshot, inventory.database.live, time.monotonic())
    _note_problems(inventory)
    if not inventory.leaked:
        note("nothing is leaked")
        return 0
    for item in inventory.leaked:
        note(f"{described(item.resource)}: {item.description}")
    note(f"looking again in {duration(grace)}, the grace period; nothing was deleted yet")
    time.sleep(grace)
    inventory = app.inventory(views)
    _note_problems(inventory)
    leaked = sweeper.leaked(inventory.snapshot, inventory.database.live, time.monotonic())
    if not leaked:
        note("nothing is leaked any more; nothing was left to delete")
    return _delete_all(app, leaked)


def _note_problems(inventory: Inventory) -> None:
    for problem in inventory.snapshot.troubles:
        note(problem)


def _delete_all(app: App, leaked: Sequence[CloudResource]) -> int:
    """Delete and wait until all are gone; a line each, and the exit code."""
    left = list(leaked)
    reasons: dict[str, str] = {}
    deadline = time.monotonic() + DELETE_TIMEOUT
    while left and time.monotonic() < deadline:
        for resource in tuple(left):
            reasons[resource.id] = _ask_to_delete(app.cloud, resource)
            if not reasons[resource.id]:
                left.remove(resource)
                _count_swept(app, resource)
                print(f"{described(resource)}: deleted", flush=True)
        if left:
            time.sleep(POLL)
    for resource in left:
        note(f"{described(resource)}: not gone after {duration(DELETE_TIMEOUT)}: {reasons[resource.id]}")
    return 1 if left else 0


def _ask_to_delete(cloud: Cloud, resource: CloudResource) -> str:
    """Why it is not gone yet; empty when it is."""
    try:
        return "" if delete(cloud, resource) else "the deletion is under way"
    except CloudError as error:
        return str(error)


def _count_swept(app: App, resource: CloudResource) -> None:
    store = Store(app.config.database_url)
    try:
        with store.transaction() as transaction:
            transaction.count_swept(kind_of(resource))
    finally:
        store.close()
