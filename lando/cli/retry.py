"""``lando-fsm retry``: run failed jobs again."""

from __future__ import annotations

import click

from lando.cli.common import JobId, note, send, site, tell_if_no_daemon
from lando.messages import Message


@click.command("retry")
@click.argument("jobs", nargs=-1, required=True, type=JobId(), metavar="JOB...")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...]) -> int:
    """Run failed jobs again, from their beginning. Exit code 1 if one of them is not failed."""
    here = site(ctx)
    seen = here.views()
    ids = [seen.resolve(prefix) for prefix in jobs]
    exit_code = 0
    for job_id in ids:
        shown = seen.job(job_id)
        if shown is None or shown.job.state != "failed":
            note(f"{job_id} is {shown.state_text if shown else 'gone'}: only a failed job can be retried")
            exit_code = 1
        elif not shown.job.runnable:
            note(f"{job_id} cannot be run as it was submitted: {shown.job.reason}; submit it anew, corrected")
            exit_code = 1
        else:
            send(here, Message("retry_job", job=job_id))
            note(f"{job_id} will be run again")
    tell_if_no_daemon(here)
    return exit_code
