"""``lando-fsm cancel``: end jobs."""

from __future__ import annotations

import click

from lando.cli.common import JobId, note, send, site, tell_if_no_daemon
from lando.messages import Message


@click.command("cancel")
@click.argument("jobs", nargs=-1, required=True, type=JobId(), metavar="JOB...")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...]) -> None:
    """End jobs: what runs is stopped, and its VM deleted. An ended job stays as it is."""
    here = site(ctx)
    seen = here.views()
    ids = [seen.resolve(prefix) for prefix in jobs]
    for job_id in ids:
        shown = seen.job(job_id)
        if shown is not None and shown.ended:
            note(f"{job_id} has ended already ({shown.state_text}); nothing changes")
            continue
        send(here, Message("cancel_job", job=job_id))
        note(f"{job_id} will be canceled")
    tell_if_no_daemon(here)
