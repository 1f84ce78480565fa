"""``lando-fsm servers``: this deployment's VMs and floating IPs, and which job owns each."""

from __future__ import annotations

import click

from lando.cli.common import load_app
from lando.cli.output import note, print_json, result, shown
from lando.cli.sweep import print_doomed, sweep_once
from lando.cli.text import aligned, count
from lando.errors import UsageError
from lando.views.inventory import Inventory, InventoryItem, require_database

HEADINGS = ("NAME", "ID", "STATUS", "ADDRESS", "JOB")


@click.command("servers")
@click.option("--json", "as_json", is_flag=True, help="Print all details as a stable JSON object.")
@click.option("--sweep", is_flag=True, help="Delete orphaned VMs and floating IPs; wait until they are gone.")
@click.option("--dry-run", is_flag=True, help="Print what --sweep would delete, and delete nothing.")
@click.option("--unknown", is_flag=True, help="With --sweep or --dry-run: what is unknown, too.")
@click.pass_context
def command(ctx: click.Context, as_json: bool, sweep: bool, dry_run: bool, unknown: bool) -> int:
    """List this deployment's VMs and floating IPs, and which job owns each.

    A VM or floating IP is orphaned if it carries this deployment's name, but belongs neither to a job in
    progress nor to a create whose answer is still missing. It is deleted once it is found orphaned twice, the
    grace period (timeouts.grace) apart: automatically by a running daemon, or once by --sweep, which needs no
    daemon. Exit code 1 if something could not be deleted.

    A VM is unknown if it carries this deployment's name and names a job, or an attempt of a job, that the
    database never had: the database may be an old copy, or the wrong one. No job that it names is started
    while it exists. It is left alone until --sweep --unknown, which deletes it with its floating IP.
    """
    if as_json and (sweep or dry_run or unknown):
        raise UsageError("--json only lists; leave out --sweep, --dry-run and --unknown")
    if unknown and not (sweep or dry_run):
        raise UsageError("--unknown says what else to delete; give it with --sweep or --dry-run")
    app = load_app(ctx)
    views = app.views()
    inventory = app.inventory(views)
    if dry_run:
        require_database(inventory, app.config.database)
        print_doomed(inventory, app.config.timeouts.grace, unknown)
    elif sweep:
        require_database(inventory, app.config.database)
        return sweep_once(app, views, inventory, unknown)
    elif as_json:
        print_json(inventory.as_json())
    else:
        _print(inventory, views.daemon().pid is not None)
    for trouble in inventory.snapshot.troubles:
        note(trouble)
    return 0


def _print(inventory: Inventory, has_daemon: bool) -> None:
    if inventory.items:
        result(*aligned(HEADINGS, [_cells(item) for item in inventory.items]))
    result(*_summary(inventory, has_daemon))


def _cells(item: InventoryItem) -> tuple[str, ...]:
    resource = item.resource
    cells = item.name, resource.id, item.status, resource.address or "", item.description
    return tuple(shown(cell) for cell in cells)


def _summary(inventory: Inventory, has_daemon: bool) -> list[str]:
    lines = [_ours(inventory)]
    if inventory.leaked:
        who = "the daemon deletes" if has_daemon else "a daemon, or `lando-fsm servers --sweep`, deletes"
        orphans = len(inventory.leaked)
        lines.append(f"orphaned: {orphans}; {who} what is still orphaned after the grace period")
    unknown = inventory.unknown
    if unknown:
        lines.append(
            f"unknown to this database: {len(unknown)}; left alone. `lando-fsm servers --sweep --unknown` "
            "deletes them; read first what docs/operations.md says about unknown VMs"
        )
    others = count(inventory.other_servers, "VM")
    if inventory.other_floating_ips is not None:
        others += f", {count(inventory.other_floating_ips, 'floating IP')}"
    lines.append(f"others in the project: {others}")
    if inventory.snapshot.quota is not None:
        lines.append(f"quota: {inventory.snapshot.quota}")
    swept = inventory.database.swept
    if swept is not None:
        deleted = f"{count(swept['servers'], 'VM')}, {count(swept['floating_ips'], 'floating IP')}"
        lines.append(f"orphans deleted so far: {deleted}")
    return lines


def _ours(inventory: Inventory) -> str:
    if inventory.database.deployment is None:
        return "this deployment has no name yet: it has never created a VM"
    servers = len(inventory.snapshot.servers) - inventory.other_servers
    floating_ips = len(inventory.items) - servers
    return (
        f"with the deployment name {inventory.database.deployment}: "
        f"{count(servers, 'VM')}, {count(floating_ips, 'floating IP')}"
    )
