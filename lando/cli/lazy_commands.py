"""A group of commands, each of which is loaded when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import ClassVar

import click


class LazyCommands(click.Group):
    """Loads a command's module when the command is called, so that no command waits for another's imports."""

    described: ClassVar[Mapping[str, str]]
    """The commands, in the order of ``--help``; described here so that ``--help`` loads none of them."""
    module: ClassVar[str]
    """Begins the names of their modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which they are needed."""
        return list(self.described)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in self.described:
            return None
        command = importlib.import_module(f"{self.module}{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.described.items()))
