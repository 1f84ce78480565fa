"""``lando-fsm cancel``: cancel jobs."""

from __future__ import annotations

import click

from lando.cli.common import JobId, load_app, note_if_no_daemon, send_or_leave
from lando.cli.output import note
from lando.messages import Message


@click.command("cancel")
@click.argument("jobs", nargs=-1, required=True, type=JobId(), metavar="JOB...")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...]) -> None:
    """Cancel jobs: stop what is running, and delete its VM.

    A job that has already finished stays as it is; the exit code is 0.
    """
    app = load_app(ctx)
    views = app.views()
    ids = [views.resolve(prefix) for prefix in jobs]
    for job_id in ids:
        status = views.job(job_id)
        if status is not None and status.ended:
            note(f"{job_id} has already finished ({status.state_text}); nothing changes")
            continue
        send_or_leave(app, Message("cancel_job", job=job_id))
        note(f"{job_id} will be canceled")
    note_if_no_daemon(app)
