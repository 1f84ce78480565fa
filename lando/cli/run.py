"""``lando-fsm run``: one job, from its file to its output object, in one command."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import click

from lando.app.app import App
from lando.cli.common import ENDING_SIGNALS, load_app, send
from lando.cli.copy_outputs import copied
from lando.cli.ensure_daemon import FallbackDaemon
from lando.cli.follow import follow, report_outcome
from lando.cli.output import ResultLost, note, print_json
from lando.cli.outputs import note_refused
from lando.cli.submit import publish, start_message
from lando.cli.text import count
from lando.errors import LandoError
from lando.messages import Message
from lando.views import job_outputs
from lando.views.job_status import JobStatus

CANCEL_TIMEOUT = 30.0
"""Seconds after the first interruption from which another one ends the command, finished or not."""


@click.command("run")
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.yml")
@click.option(
    "--outdir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Copy the output files to this directory.",
)
@click.pass_context
def command(ctx: click.Context, job_file: Path, outdir: Path | None) -> int:
    """Run one job and print its CWL output object, as JSON, on stdout; if it fails, what was made before.

    Progress goes to stderr. If no daemon is running, this process is the daemon for as long as it takes.
    Ctrl-C cancels the job and waits until cleanup has finished (exit code 130).
    """
    app = load_app(ctx)
    message = start_message(app, job_file, None)
    assert message.job is not None
    if outdir is not None:
        _make(outdir)
    interruptions: list[float] = []
    with contextlib.closing(FallbackDaemon(app)) as daemon:
        for ending in ENDING_SIGNALS:
            signal.signal(ending, lambda *_: interruptions.append(time.monotonic()))
        publish(app, message)
        status = _follow_or_cancel(app, message, interruptions, daemon)
    for ending in ENDING_SIGNALS:
        signal.signal(ending, signal.SIG_IGN)  # the job has finished: one more must not change the exit code
    are_copied = _print_outputs(app, status, outdir)
    _note_other_jobs(app)
    code = report_outcome(status) or int(not are_copied)
    return 130 if interruptions and status.job.outcome == "canceled" else code


def _print_outputs(app: App, status: JobStatus, outdir: Path | None) -> bool:
    """Print the output object, its files copied to ``outdir`` if given; of a job that failed, what was made
    before. Returns whether all were copied."""
    reported, is_done = status.job.output_object, status.job.state == "done"
    if reported is None and not is_done:
        return True
    try:
        with job_outputs.opened(app.config.state_dir, status.job.id) as base:
            if outdir is None:
                outputs, refused = job_outputs.reachable(reported or {}, base)
                what = "not on this machine"
            else:
                outputs, refused = copied(reported or {}, base, outdir)
                what = f"not copied to {outdir}"
        print_json(outputs)
    except ResultLost:
        ended = "succeeded" if is_done else "failed"
        again = f"`lando-fsm outputs {status.job.id} --json` prints the output object again"
        note(f"the workflow {ended}; {again}")
        raise
    except LandoError as error:
        if is_done:
            raise
        note(str(error))  # and then why the job failed
        return False
    note_refused(refused, what)
    return outdir is None or not refused


def _make(outdir: Path) -> None:
    try:
        outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LandoError(f"--outdir {outdir}: {error.strerror}") from error


def _follow_or_cancel(
    app: App, message: Message, interruptions: list[float], daemon: FallbackDaemon
) -> JobStatus:
    """Follow the job to its end; the first interruption cancels it, a much later one ends the command."""
    canceled = False
    job_id = str(message.job)
    views = app.views()
    views.add_published(message, None)

    def before_each_read() -> None:
        nonlocal canceled
        daemon.ensure()
        if interruptions and interruptions[-1] - interruptions[0] > CANCEL_TIMEOUT:
            raise LandoError(f"interrupted; the job has not finished yet: `lando-fsm status {job_id}`")
        if interruptions and not canceled:
            canceled = True
            note("canceling; waiting until cleanup has finished")
            send(app, Message("cancel_job", job=job_id))

    return follow(views, job_id, before_each_read)


def _note_other_jobs(app: App) -> None:
    views = app.views()
    others = views.count_unfinished()
    if others and views.daemon().pid is None:
        note(f"{count(others, 'other job')} in progress; start `lando-fsm daemon` to continue")
