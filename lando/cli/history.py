"""``lando-fsm history``: every state change of a job."""

from __future__ import annotations

import click

from lando.cli.common import JobId, load_views
from lando.cli.output import note, print_json, result
from lando.cli.text import one_line
from lando.times import rfc3339
from lando.views.job_status import change_as_json


@click.command("history")
@click.argument("job", type=JobId())
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON list.")
@click.pass_context
def command(ctx: click.Context, job: str, as_json: bool) -> None:
    """Show every state change of a job: the time, the old and the new state, the event, and the reason."""
    views = load_views(ctx)
    job_id = views.resolve(job)
    changes = views.history(job_id)
    if as_json:
        print_json([change_as_json(change) for change in changes])
        return
    if not changes:
        note("no history yet: the job is in the queue, not taken yet")
    for change in changes:
        source = change.source or "-"
        result(
            f"{rfc3339(change.at)}  {source:<11} → {change.target:<11}  {change.event:<17}  "
            f"{one_line(change.reason)}"
        )
