"""``lando-fsm diagram``: the machine as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import click

from lando.cli.common import JobId, load_views
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
    help="mermaid and dot are text; svg and png need graphviz.",
)
@click.option("--job", type=JobId(), metavar="JOB", help="Highlight this job's path through it, with times.")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file.")
@click.pass_context
def command(
    ctx: click.Context, form: Literal["mermaid", "dot", "svg", "png"], job: str | None, output: Path | None
) -> None:
    """Draw the state machine, from the table that runs: states, events, what each orders, deadlines.

    Mermaid text is shown by many wikis and forges as it is; with --job, it shows where a job has been.
    """
    if form == "png" and output is None and sys.stdout.isatty():
        raise click.UsageError("a png is nothing for a terminal: name a file with -o")
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
        sys.stdout.buffer.write(drawn)
        return
    try:
        output.write_bytes(drawn)
    except OSError as error:
        raise LandoError(f"{output}: {error.strerror}") from error
