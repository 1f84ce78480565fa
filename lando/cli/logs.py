"""``lando-fsm logs``: what a job's workflow wrote."""

from __future__ import annotations

import sys
import time

import click

from lando.cli.common import JobId, note, views
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
    seen = views(ctx)
    job_id = seen.resolve(job)
    if console:
        _console(seen.console(job_id))
        return
    after = (0, 0)
    while True:
        shown = seen.job(job_id)
        pieces = seen.log(job_id, after)
        for attempt, seq, text in pieces:
            if attempt != after[0] and after[0]:
                note(f"--- attempt {attempt} ---")
            after = (attempt, seq)
            sys.stdout.write(_shown(text))
        sys.stdout.flush()
        if not follow or shown is None or shown.ended:
            break
        time.sleep(LOOK)
    if after == (0, 0):
        note("nothing was logged" if shown is None or shown.ended else "nothing was logged so far")


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
