"""``lando-fsm logs``: the log of a job's workflow."""

from __future__ import annotations

import time

import click

from lando.cli.common import JobId, load_views
from lando.cli.output import check_reader, note, result_log

POLL = 0.3
"""Seconds between two reads of --follow."""


@click.command("logs")
@click.argument("job", type=JobId())
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the job has finished.")
@click.option("--console", is_flag=True, help="Print the console output of the last VM that failed instead.")
@click.pass_context
def command(ctx: click.Context, job: str, follow: bool, console: bool) -> None:
    """Print the log of a job's workflow, oldest lines first.

    Only the newest MiB is kept. Where some of it was left out, a line says how much. Colours are left out,
    and control characters are shown as escapes such as \\x1b, in a file, too.
    """
    views = load_views(ctx)
    job_id = views.resolve(job)
    if console:
        _print_console(views.console(job_id))
        return
    after = (0, 0)
    while True:
        status = views.job(job_id)
        pieces = views.log(job_id, after)
        for attempt, seq, text in pieces:
            if attempt != after[0] and after[0]:
                note(f"--- attempt {attempt} ---")
            after = (attempt, seq)
            result_log(text)
        check_reader()
        if not follow or status is None or status.ended:
            break
        time.sleep(POLL)
    if after == (0, 0):
        note("nothing was logged" if status is None or status.ended else "nothing was logged so far")


def _print_console(saved: tuple[int, str] | None) -> None:
    if saved is None:
        note("no console output was saved: no VM of this job has failed")
        return
    attempt, text = saved
    if text.strip():
        result_log(text)
    else:
        note(f"the VM of attempt {attempt} had no console output")
