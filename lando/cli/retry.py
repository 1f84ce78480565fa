"""``lando-fsm retry``: run failed jobs again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lando.app.app import App
from lando.cli.common import JobId, load_app, note_if_no_daemon, send_or_leave
from lando.cli.output import note
from lando.errors import UsageError
from lando.messages import Message
from lando.times import rfc3339

if TYPE_CHECKING:
    from lando.views.jobs import Views


@click.command("retry")
@click.argument("jobs", nargs=-1, required=True, type=JobId(), metavar="JOB...")
@click.pass_context
def command(ctx: click.Context, jobs: tuple[str, ...]) -> int:
    """Run failed jobs again, from the start. Exit code 1 if one of them has not failed."""
    app = load_app(ctx)
    views = app.views()
    ids = [views.resolve(prefix) for prefix in jobs]
    exit_code = 0
    for job_id in ids:
        status = views.job(job_id)
        if status is None or status.job.state != "failed":
            note(f"{job_id} is {status.state_text if status else 'gone'}: only a failed job can be retried")
            exit_code = 1
        elif not status.job.runnable:
            note(
                f"{job_id} cannot run as it was submitted: {status.job.reason}; correct the job file and "
                "submit it again"
            )
            exit_code = 1
        elif status.job.lost_secrets:
            at = rfc3339(views.removed(job_id).secrets_at)
            note(
                f"{job_id} cannot run again: the secrets in its job file were dropped after it had ended, "
                f"{at} (retention.secrets in landoconfig.yml); submit it again"
            )
            exit_code = 1
        elif problem := _problem(app, views, job_id):
            note(
                f"{job_id} cannot run any more as it was submitted: {problem}; correct the job file and "
                "submit it again"
            )
            exit_code = 1
        else:
            send_or_leave(app, Message("retry_job", job=job_id))
            note(f"{job_id} will be run again")
    note_if_no_daemon(app)
    return exit_code


def _problem(app: App, views: Views, job_id: str) -> str | None:
    """Why this installation would no longer take the job: its limits may have changed since."""
    body = views.body(job_id)
    try:
        if body is not None:
            app.server_requests.accept(body)
    except UsageError as error:
        return str(error)
    return None
