"""``lando-fsm logs``: the log of a job's workflow."""

from __future__ import annotations

import time

import click

from lando.cli.common import JobId, load_views
from lando.cli.formatting import attempt_line
from lando.cli.output import check_reader, note, result, result_log
from lando.times import rfc3339
from lando.views.jobs import Views

LF = "\n"
POLL = 0.3
"""Seconds between two reads of --follow."""


@click.command("logs")
@click.argument("job", type=JobId())
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the job has finished.")
@click.option("--console", is_flag=True, help="Print the console output of the last VM that failed instead.")
@click.pass_context
def command(ctx: click.Context, job: str, follow: bool, console: bool) -> None:
    """Print the log of a job's workflow, oldest lines first.

    Only the newest MiB is kept. Where some of it was left out, a line says how much. If the job has had
    several attempts, a line before each one's log says when it was and how it ended. Colours are left out,
    and control characters are shown as escapes such as \\x1b, in a file, too.
    """
    views = load_views(ctx)
    job_id = views.resolve(job)
    if console:
        _print_console(views.console(job_id), views.removed(job_id).logs_at)
        return
    after, ends_line = (0, 0), True
    while True:
        status = views.job(job_id)
        for attempt, seq, text in views.log(job_id, after):
            if attempt != after[0] and status is not None and status.job.attempt > 1:
                result_log("" if ends_line else LF)
                result(_heading(views, job_id, attempt))
            after, ends_line = (attempt, seq), text.endswith(LF)
            result_log(text)
        check_reader()
        if not follow or status is None or status.ended:
            break
        time.sleep(POLL)
    removed_at = views.removed(job_id).logs_at if after == (0, 0) else None
    if removed_at is not None:
        note(f"the log was removed {rfc3339(removed_at)}, after its time (retention.logs in landoconfig.yml)")
    elif after == (0, 0):
        note("nothing was logged" if status is None or status.ended else "nothing was logged so far")


def _heading(views: Views, job_id: str, number: int) -> str:
    """The line before an attempt's log, where the job has several."""
    lines = [attempt_line(attempt) for attempt in views.attempts(job_id) if attempt.number == number]
    return f"--- {lines[0] if lines else f'attempt {number}'} ---"


def _print_console(saved: tuple[int, str] | None, removed_at: float | None) -> None:
    if saved is None and removed_at is not None:
        note(f"what was saved of consoles was removed {rfc3339(removed_at)} (retention.logs)")
        return
    if saved is None:
        note("no console output was saved: no VM of this job has failed")
        return
    attempt, text = saved
    if text.strip():
        result_log(text)
    else:
        note(f"the VM of attempt {attempt} had no console output")
