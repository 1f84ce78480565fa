"""The command ``lando-fsm``: one module per command, loaded when the command is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lando import __version__
from lando.cli import output
from lando.cli.lazy_commands import LazyCommands
from lando.cli.start import unblock
from lando.errors import DatabaseUnusable, LandoError

COMMANDS = {
    "run": "Run one job and print its output object.",
    "daemon": "Take jobs from the queue and run them.",
    "submit": "Queue a job and print its id.",
    "status": "Show the state of every job, and why.",
    "history": "Show every state change of a job.",
    "logs": "Print the log of a job's workflow.",
    "outputs": "Show the outputs of a job's workflow.",
    "cancel": "Cancel unfinished jobs.",
    "retry": "Run failed jobs again.",
    "forget": "Remove ended jobs, with their logs and outputs.",
    "dead-letters": "List messages that could not be understood.",
    "servers": "List VMs and floating IPs, and which job owns each.",
    "diagram": "Draw the state machine.",
    "check": "Check that jobs can run.",
    "database": "Look at the database, back it up, move it to PostgreSQL.",
    "rabbitmq-setup": "Print the script that creates the broker's accounts.",
    "completion": "Print a shell completion script.",
}
"""The commands in the order of ``--help``; described here so that ``--help`` loads none of them."""


class Commands(LazyCommands):
    """All, in the order in which a newcomer needs them."""

    described = COMMANDS
    module = "lando.cli."

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name in COMMANDS and cmd_name != "daemon":
            unblock()
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but suggest the most similar name."""
        import difflib  # noqa: PLC0415 - for a mistyped command only

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no such command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration file. Default: $LANDO_CONFIG, else ./landoconfig.yml, else no file: everything "
    "runs on this machine.",
)
@click.version_option(__version__, prog_name="lando-fsm")
@click.pass_context
def lando_fsm(ctx: click.Context, config: Path | None) -> None:
    """Run CWL workflows, each on its own VM.

    \b
    Try it on this machine, without any server:
        lando-fsm run JOB.yml              run one job and print its output object
    \b
    Or run it as a service:
        lando-fsm daemon                   take jobs and run them
        lando-fsm submit JOB.yml --wait    queue a job and wait until it ends
        lando-fsm status --watch           show the state of every job, and why
    """
    ctx.obj = config


def main() -> None:
    """The command line of this process; see ``lando.cli.start``."""
    run_command(lando_fsm, "lando-fsm")


def run_command(command: click.Command, name: str) -> None:
    """Run a command; an error that is not a bug is printed as one message, without traceback.

    Args:
        command: what to run.
        name: of the program, for its usage and its messages.
    """
    output.prepare()
    sys.exit(_exit_code(lambda: command.main(prog_name=name, standalone_mode=False), name))


def _exit_code(call: Callable[[], Any], name: str) -> int:
    try:
        result = call()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except output.ReaderGone as error:
        return error.exit_code
    except LandoError as error:
        from lando.credentials import scrub  # noqa: PLC0415 - for an error only

        output.note(*f"{name}: {scrub(str(error))}".split("\n"))
        if isinstance(error, DatabaseUnusable) and error.is_left:
            # At its end the interpreter closes connections, at which SQLite writes to the file.
            os._exit(error.exit_code)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        output.note(f"{name}: interrupted")
        return 130
    return result if isinstance(result, int) else 0
