"""``lando-fsm database reopen``: back to SQLite."""

from __future__ import annotations

import click

from lando.app import moving
from lando.cli.common import load_app
from lando.cli.output import note
from lando.errors import UsageError


@click.command("reopen")
@click.option("--copy", "url", metavar="URL", help="The copy. No daemon uses it from now on.")
@click.option("--copy-is-gone", is_flag=True, help="The copy was removed, or no daemon will ever use it.")
@click.pass_context
def command(ctx: click.Context, url: str | None, copy_is_gone: bool) -> None:
    """Use the configured SQLite database again, although it was copied to PostgreSQL.

    With --copy the copy is closed first, so that no daemon uses both; no daemon may have used it yet, since
    what that did is in the copy only. With --copy-is-gone nothing is asked: two daemons, one on each
    database, would delete each other's VMs.
    """
    if (url is None) != copy_is_gone:
        raise UsageError("give either --copy URL or --copy-is-gone")
    app = load_app(ctx)
    moving.reopen(app, url)
    note(f"{app.config.database_path} is in use again")
