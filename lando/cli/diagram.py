"""``lando-fsm diagram``: the state machine as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from lando.cli.common import JobId, load_views
from lando.cli.output import result, result_bytes
from lando.errors import LandoError
from lando.views.diagram.graphviz import dot, render
from lando.views.diagram.mermaid import mermaid


@click.command("diagram")
@click.option(
    "--format",
    "form",
    type=click.Choice(["mermaid", "dot", "svg", "png"]),
    default="mermaid",
    show_default=True,
    help="mermaid and dot are text; svg and png need Graphviz.",
)
@click.option("--job", type=JobId(), metavar="JOB", help="Highlight the states this job went through.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file.")
@click.pass_context
def command(
    ctx: click.Context, form: Literal["mermaid", "dot", "svg", "png"], job: str | None, output: Path | None
) -> None:
    """Draw the state machine, generated from its transition table: states, events, effects and deadlines.

    With --job, the states and transitions of that job are highlighted, with times. Many wikis and code hosts
    display Mermaid text as a picture.
    """
    if form == "png" and output is None and sys.stdout.isatty():
        raise click.UsageError("a terminal cannot show a png: write it to a file with -o")
    path = None
    if job is not None:
        views = load_views(ctx)
        path = views.history(views.resolve(job))
    if form == "mermaid":
        drawn = mermaid(path).encode()
    elif form == "dot":
        drawn = dot(path).encode()
    else:
        drawn = render(dot(path), form)
    if output is None:
        if sys.stdout.isatty() and form != "png":
            result(*drawn.decode().rstrip("\n").split("\n"))
        else:
            result_bytes(drawn)
        return
    try:
        output.write_bytes(drawn)
    except OSError as error:
        raise LandoError(f"{output}: {error.strerror}") from error
