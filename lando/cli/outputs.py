"""``lando-fsm outputs``: the outputs of a job's workflow."""

from __future__ import annotations

import os.path
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import click

from lando.cli.common import JobId, load_views
from lando.cli.output import note, print_json, result
from lando.cli.text import count
from lando.errors import LandoError
from lando.plain_text import one_line
from lando.views.jobs import JobStatus


@click.command("outputs")
@click.argument("job", type=JobId())
@click.option("--json", "as_json", is_flag=True, help="Print the CWL output object as JSON.")
@click.pass_context
def command(ctx: click.Context, job: str, as_json: bool) -> None:
    """Show the outputs of a job's workflow, and where its files are. Exit code 1 if there are none."""
    views = load_views(ctx)
    job_id = views.resolve(job)
    status = views.job(job_id)
    outputs = None if status is None else status.job.output_object
    if outputs is None:
        raise LandoError(f"job {job_id} has no outputs: {_state(status)}")
    if as_json:
        print_json(outputs)
    else:
        for name, value in outputs.items():
            result(*f"{one_line(name)}: {_text(value)}".split("\n"))
    missing = [file for file in files(outputs) if not _is_here(file)]
    if missing:
        what = count(len(missing), "output file")
        note(f"{what} not on this machine (files left on a VM are deleted with it):")
        for file in missing:
            note(f"    {file.get('location') or file.get('path')}")


def files(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every File and Directory of a CWL output object, nested ones too."""
    if isinstance(value, Mapping):
        if value.get("class") in ("File", "Directory"):
            yield value
        for inner in value.values():
            yield from files(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from files(inner)


def local_path(file: Mapping[str, Any]) -> Path | None:
    """Where a File or Directory is on this machine; None if its location is elsewhere."""
    location = file.get("location")
    if isinstance(location, str) and location.startswith("file://"):
        try:
            return Path(unquote(urlsplit(location).path))
        except ValueError:  # no address: file://[x
            return None
    path = file.get("path")
    return Path(path) if isinstance(path, str) else None


def _state(status: JobStatus | None) -> str:
    if status is None:
        return "it is gone"
    return f"it {'has' if status.job.state == 'failed' else 'is'} {status.state_text}"


def _is_here(file: Mapping[str, Any]) -> bool:
    path = local_path(file)
    return "contents" in file or "listing" in file or (path is not None and os.path.exists(path))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "".join(f"\n    {_text(item)}" for item in value) or "none"
    if isinstance(value, Mapping) and value.get("class") in ("File", "Directory"):
        return one_line(str(local_path(value) or value.get("location")))
    return one_line(str(value))
