"""``lando-fsm forget``: remove jobs that have ended."""

from __future__ import annotations

import click

from lando.cli.common import JobId, load_app, note_if_no_daemon, send_or_leave
from lando.cli.output import note
from lando.messages import Message


@click.command("forget")
@click.argument("jobs", nargs=-1, required=True, type=JobId(), metavar="JOB...")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...]) -> int:
    """Remove jobs that have ended: their history, their logs, and their outputs on this machine.

    The daemon does so within seconds. What was copied elsewhere stays. Exit code 1 if one of them has not
    ended: cancel it first.
    """
    app = load_app(ctx)
    views = app.views()
    ids = [views.resolve(prefix) for prefix in jobs]
    exit_code = 0
    for job_id in dict.fromkeys(ids):
        status = views.job(job_id)
        if status is not None and not status.ended:
            note(
                f"{job_id} is {status.state_text}: only a job that has ended can be forgotten; first "
                f"`lando-fsm cancel {job_id[:8]}`, and wait until it is canceled"
            )
            exit_code = 1
            continue
        send_or_leave(app, Message("forget_job", job=job_id))
        note(f"{job_id} will be removed, with its history, its log and its outputs")
    note_if_no_daemon(app)
    return exit_code
