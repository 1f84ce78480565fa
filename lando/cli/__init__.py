"""The command lando-fsm: one module a command, loaded when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lando import __version__
from lando.errors import LandoError

COMMANDS = {
    "run": "Run one job to its end, print its output object.",
    "daemon": "Take jobs from the queue and run them.",
    "submit": "Queue a job and print its id.",
    "status": "Show where every job is, and why.",
    "history": "Show every change of a job's state.",
    "logs": "Print what a job's workflow wrote.",
    "outputs": "Show what a job's workflow made.",
    "cancel": "End jobs, whatever they are doing.",
    "retry": "Run failed jobs again.",
    "dead-letters": "List messages that could not be understood.",
    "servers": "List what there is in the cloud, and whose it is.",
    "diagram": "Draw the state machine.",
    "check": "Look whether everything is there that a job needs.",
    "rabbitmq-setup": "Print what makes the accounts on the broker.",
    "completion": "Print what makes a shell complete commands.",
}
"""The commands in the order of ``--help``, told here so that --help need not load them."""


PIPE_CLOSED = 141
"""The exit code that a shell gives to who is ended by SIGPIPE."""


class Commands(click.Group):
    """Loads a command's module when the command is called, so that none waits for what another needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"lando.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of ``--help``."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """As click does, but a reader that went away (``| head``) is no failure of ours."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        return result

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but suggest the nearest name."""
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
    help="landoconfig.yml; else LANDO_CONFIG, ./landoconfig.yml, or no file: everything on this machine.",
)
@click.version_option(__version__, prog_name="lando-fsm")
@click.pass_context
def lando_fsm(ctx: click.Context, config: Path | None) -> None:
    """Run CWL workflows, each on a VM of its own.

    \b
    Try it, on this machine, with no server at all:
        lando-fsm run JOB.yml              run one job and print its output object
    \b
    Or as a service:
        lando-fsm daemon                   take jobs and run them
        lando-fsm submit JOB.yml --wait    queue a job and watch it
        lando-fsm status --watch           where every job is, and why
    """
    ctx.obj = config


def main() -> None:
    """The entry point of ``lando-fsm``."""
    run_command(lando_fsm, "lando-fsm")


def run_command(command: click.Command, name: str) -> None:
    """Run a command; a person sees a sentence, never a traceback, for what is not a bug."""
    sys.exit(_exit_code(lambda: command.main(prog_name=name, standalone_mode=False), name))


def _exit_code(call: Callable[[], Any], name: str) -> int:
    try:
        result = call()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except LandoError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return result if isinstance(result, int) else 0
