"""``lando-fsm servers``: what this deployment has in the cloud, and what each of it belongs to."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from lando.app.app import App
from lando.cli.common import dump, note, site
from lando.cli.formatting import aligned, duration, printable
from lando.cloud.interface import Cloud, CloudError
from lando.engine.leaks import Sweeper, delete
from lando.engine.ownership import CloudResource, described, kind_of
from lando.errors import UsageError
from lando.store.store import Store
from lando.views.inventory import Item, Stock, require_database
from lando.views.jobs import Views

HEADINGS = ("NAME", "ID", "STATUS", "ADDRESS", "JOB")
POLL = 1.0
"""Seconds between questions whether a server is gone."""
PATIENCE = 300.0
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
    here = site(ctx)
    seen = here.views()
    stock = here.inventory(seen)
    if dry_run:
        require_database(stock, here.config.database)
        _tell_suspects(stock, here.config.timeouts.grace)
    elif sweep:
        require_database(stock, here.config.database)
        return _sweep(here, seen, stock)
    elif as_json:
        dump(stock.as_json())
    else:
        _print(stock, seen.daemon().pid is not None)
    for trouble in stock.snapshot.troubles:
        note(trouble)
    return 0


# the list


def _print(stock: Stock, has_daemon: bool) -> None:
    if stock.items:
        print(aligned(HEADINGS, [_cells(item) for item in stock.items]))
    print("\n".join(_summary(stock, has_daemon)))


def _cells(item: Item) -> tuple[str, ...]:
    return (printable(item.name), item.thing.id, item.status, item.thing.address or "", item.words)


def _summary(stock: Stock, has_daemon: bool) -> list[str]:
    lines = [_ours(stock)]
    if stock.leaked:
        who = "the daemon deletes" if has_daemon else "a daemon, or `lando-fsm servers --sweep`, deletes"
        lines.append(f"leaked: {len(stock.leaked)}; {who} what is still so after the grace period")
    foreign = _count(stock.other_servers, "server")
    if stock.other_floating_ips is not None:
        foreign += f", {_count(stock.other_floating_ips, 'floating IP')}"
    lines.append(f"others' in the project: {foreign}")
    if stock.snapshot.quota is not None:
        lines.append(f"quota: {stock.snapshot.quota}")
    if stock.books.swept is not None:
        swept = stock.books.swept
        counts = f"{_count(swept['servers'], 'server')}, {_count(swept['floating_ips'], 'floating IP')}"
        lines.append(f"swept so far: {counts}")
    return lines


def _ours(stock: Stock) -> str:
    if stock.books.deployment is None:
        return "this deployment has no mark yet: it never made a server"
    servers = len(stock.snapshot.servers) - stock.other_servers
    return f"with the mark of deployment {stock.books.deployment}: " + ", ".join(
        (_count(servers, "server"), _count(len(stock.items) - servers, "floating IP"))
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


# what is leaked


def _tell_suspects(stock: Stock, grace: float) -> None:
    for item in stock.leaked:
        print(f"{described(item.thing)}: {item.words}")
    if stock.leaked:
        note(
            "nothing was deleted. This was one look, which may mistake: --sweep looks again after the grace "
            f"period ({duration(grace)}), and deletes what is leaked then, too"
        )
    else:
        note("nothing is leaked")


def _sweep(here: App, seen: Views, stock: Stock) -> int:
    """Look twice, by the daemon's own rule, and delete what is leaked both times."""
    grace = here.config.timeouts.grace
    sweeper = Sweeper(stock.books.deployment or "", grace)
    sweeper.leaked(stock.snapshot, stock.books.live, time.monotonic())
    _tell_troubles(stock)
    if not stock.leaked:
        note("nothing is leaked")
        return 0
    for item in stock.leaked:
        note(f"{described(item.thing)}: {item.words}")
    note(f"looking again in {duration(grace)}, the grace period; nothing was deleted yet")
    time.sleep(grace)
    stock = here.inventory(seen)
    _tell_troubles(stock)
    leaked = sweeper.leaked(stock.snapshot, stock.books.live, time.monotonic())
    if not leaked:
        note("nothing is leaked any more; nothing was left to delete")
    return _delete_all(here, leaked)


def _tell_troubles(stock: Stock) -> None:
    for trouble in stock.snapshot.troubles:
        note(trouble)


def _delete_all(here: App, leaked: Sequence[CloudResource]) -> int:
    """Delete and wait until all are gone; a line each, and the exit code."""
    left = list(leaked)
    words: dict[str, str] = {}
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        for thing in tuple(left):
            words[thing.id] = _ask_to_delete(here.cloud, thing)
            if not words[thing.id]:
                left.remove(thing)
                _count_swept(here, thing)
                print(f"{described(thing)}: deleted", flush=True)
        if left:
            time.sleep(POLL)
    for thing in left:
        note(f"{described(thing)}: not gone after {duration(PATIENCE)}: {words[thing.id]}")
    return 1 if left else 0


def _ask_to_delete(cloud: Cloud, thing: CloudResource) -> str:
    """Why it is not gone yet; empty when it is."""
    try:
        return "" if delete(cloud, thing) else "the deletion is under way"
    except CloudError as error:
        return str(error)


def _count_swept(here: App, thing: CloudResource) -> None:
    store = Store(here.config.database_url)
    try:
        with store.transaction() as transaction:
            transaction.count_swept(kind_of(thing))
    finally:
        store.close()
