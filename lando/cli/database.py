"""``lando-fsm database``: look at the database, back it up, and move it to PostgreSQL."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "check": "Show the schema, what the database holds, and what retention would remove.",
    "backup": "Make a backup, while the daemon runs or not.",
    "copy": "Copy the SQLite database to PostgreSQL.",
    "reopen": "Use the SQLite database again after it was copied.",
}


class Commands(click.Group):
    """Loads a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which they are needed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"lando.cli.database_{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command("database", cls=Commands)
def command() -> None:
    """Look at the database, back it up, and move it to PostgreSQL.

    docs/backup.md and docs/moving-to-postgresql.md lead through it.
    """
