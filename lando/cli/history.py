"""``lando-fsm history``: every change of a job's state."""

from __future__ import annotations

import click

from lando.cli.common import JobId, load_views, note, print_json
from lando.cli.formatting import one_line
from lando.times import rfc3339
from lando.views.jobs import change_as_json


@click.command("history")
@click.argument("job", type=JobId())
@click.option("--json", "as_json", is_flag=True, help="A stable JSON list.")
@click.pass_context
def command(ctx: click.Context, job: str, as_json: bool) -> None:
    """Show every change of a job's state: when, what happened, from where to where, and why."""
    views = load_views(ctx)
    job_id = views.resolve(job)
    changes = views.history(job_id)
    if as_json:
        print_json([change_as_json(change) for change in changes])
        return
    if not changes:
        note("its start_worker is in the queue and not taken yet: no history")
    for change in changes:
        source = change.source or "-"
        print(
            f"{rfc3339(change.at)}  {source:<11} → {change.target:<11}  {change.event:<17}  "
            f"{one_line(change.reason)}"
        )
