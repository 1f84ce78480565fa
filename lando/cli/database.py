"""``lando-fsm database``: look at the database, back it up, and move it to PostgreSQL."""

from __future__ import annotations

import click

from lando.cli.lazy_commands import LazyCommands

COMMANDS = {
    "check": "Show the schema, what the database holds, and what retention would remove.",
    "backup": "Make a backup, while the daemon runs or not.",
    "copy": "Copy the SQLite database to PostgreSQL.",
    "reopen": "Use the SQLite database again after it was copied.",
}


class Commands(LazyCommands):
    """Those of the database."""

    described = COMMANDS
    module = "lando.cli.database_"


@click.command("database", cls=Commands)
def command() -> None:
    """Look at the database, back it up, and move it to PostgreSQL.

    docs/backup.md and docs/moving-to-postgresql.md lead through it.
    """
