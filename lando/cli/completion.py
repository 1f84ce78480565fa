"""``lando-fsm completion``: a script for the shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from lando.cli.output import result


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a script with which the shell completes commands, options and job ids.

    \b
    bash:  eval "$(lando-fsm completion bash)"          in ~/.bashrc
    zsh:   eval "$(lando-fsm completion zsh)"           in ~/.zshrc
    fish:  lando-fsm completion fish | source           in ~/.config/fish/config.fish
    """
    complete = get_completion_class(shell)
    assert complete is not None
    result(*complete(ctx.find_root().command, {}, "lando-fsm", "_LANDO_FSM_COMPLETE").source().split("\n"))
