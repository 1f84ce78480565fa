"""``lando-fsm logs``: what a job's workflow wrote."""

from __future__ import annotations

import sys
import time

import click

from lando.cli.common import JobId, load_views, note
from lando.cli.formatting import without_colours

LOOK = 0.3
"""Seconds between looks of --follow."""


@click.command("logs")
@click.argument("job", type=JobId())
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--console", is_flag=True, help="The console output of the last server that failed, instead.")
@click.pass_context
def command(ctx: click.Context, job: str, follow: bool, console: bool) -> None:
    """Print what a job's workflow wrote, oldest first; at most the newest MiB is kept."""
    views = load_views(ctx)
    job_id = views.resolve(job)
    if console:
        _console(views.console(job_id))
        return
    after = (0, 0)
    while True:
        status = views.job(job_id)
        pieces = views.log(job_id, after)
        for attempt, seq, text in pieces:
            if attempt != after[0] and after[0]:
                note(f"--- attempt {attempt} ---")
            after = (attempt, seq)
            sys.stdout.write(_shown(text))
        sys.stdout.flush()
        if not follow or status is None or status.ended:
            break
        time.sleep(LOOK)
    if after == (0, 0):
        note("nothing was logged" if status is None or status.ended else "nothing was logged so far")


def _console(saved: tuple[int, str] | None) -> None:
    if saved is None:
        note("no console output was saved: no server of this job has failed")
        return
    attempt, text = saved
    if text.strip():
        sys.stdout.write(_shown(without_colours(text) if sys.stdout.isatty() else text))
    else:
        note(f"the server of attempt {attempt} had no console output")


def _shown(text: str) -> str:
    """As it is, for a file or a pipe; without what could command a terminal, for a terminal."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
