"""``lando-fsm outputs``: the outputs of a job's workflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from lando.cli.common import JobId, load_app
from lando.cli.output import note, print_json, result
from lando.cli.text import count
from lando.errors import LandoError
from lando.plain_text import one_line
from lando.times import rfc3339
from lando.views import job_outputs
from lando.views.job_outputs import Refused
from lando.views.job_status import JobStatus

MOST_SHOWN = 20
"""Files that are named on stderr."""


@click.command("outputs")
@click.argument("job", type=JobId())
@click.option("--json", "as_json", is_flag=True, help="Print the CWL output object as JSON.")
@click.pass_context
def command(ctx: click.Context, job: str, as_json: bool) -> int:
    """Show the outputs of a job's workflow, and where its files are.

    Of a workflow that failed, what it has made before. Exit code 1 then, and if there are none.
    """
    app = load_app(ctx)
    views = app.views()
    job_id = views.resolve(job)
    status = views.job(job_id)
    outputs = None if status is None else status.job.output_object
    if outputs is None:
        raise LandoError(f"job {job_id} has no outputs: {_state(status)}")
    with job_outputs.opened(app.config.state_dir, job_id) as base:
        outputs, refused = job_outputs.reachable(outputs, base)
        is_there = base is not None
    if as_json:
        print_json(outputs)
    else:
        for name, value in outputs.items():
            result(*f"{one_line(name)}: {_text(value)}".split("\n"))
    removed_at = None if is_there else views.removed(job_id).results_at
    if removed_at is not None:
        note(f"its files were removed {rfc3339(removed_at)}, after their time (retention.results)")
    else:
        note_refused(refused, "not on this machine (files left on a VM are deleted with it)")
    if status is not None and status.job.state == "failed":
        note(f"job {job_id} has {status.state_text}; this is what its workflow made before")
        return 1
    return 0


def _state(status: JobStatus | None) -> str:
    if status is None:
        return "it is gone"
    return f"it {'has' if status.job.state == 'failed' else 'is'} {status.state_text}"


def note_refused(refused: Sequence[Refused], what: str) -> None:
    """Name on stderr what of the outputs is not shown or copied.

    Args:
        refused: the files and directories.
        what: what they are not, as in ``not on this machine``.
    """
    if not refused:
        return
    note(f"{count(len(refused), 'output file')} {what}:")
    for each in refused[:MOST_SHOWN]:
        note(f"    {each.name}: {each.why}")
    if len(refused) > MOST_SHOWN:
        note(f"    and {len(refused) - MOST_SHOWN:,} more")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(f"\n    {_text(item)}" for item in value) or "none"
    if isinstance(value, Mapping) and value.get("class") in ("File", "Directory"):
        return one_line(
            str(
                value.get("path")
                or value.get("location")
                or f"{value.get('basename') or value['class']} (not here)"
            )
        )
    return one_line(str(value))
