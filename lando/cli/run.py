"""``lando-fsm run``: one job from file to output object, in one command."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lando import state_dir
from lando.app.app import App
from lando.cli.common import load_app, note, print_json, send
from lando.cli.ensure_daemon import FallbackDaemon
from lando.cli.follow import follow, report_outcome
from lando.cli.outputs import files, local_path
from lando.cli.submit import publish, start_message
from lando.errors import LandoError
from lando.messages import Message
from lando.views.jobs import JobStatus

CANCEL_PATIENCE = 30.0
"""Seconds after a first interruption from which another one leaves, should the job not have ended."""


@click.command("run")
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.yml")
@click.option(
    "--outdir", type=click.Path(path_type=Path, file_okay=False), help="Copy the output files there."
)
@click.pass_context
def command(ctx: click.Context, job_file: Path, outdir: Path | None) -> int:
    """Run one job to its end and print its CWL output object, as JSON, alone, on stdout.

    Queue, daemon and VM are all here: this process is the daemon, unless one is running already. Progress
    goes to stderr. Ctrl-C cancels the job and waits until nothing of it is left (exit code 130).
    """
    app = load_app(ctx)
    message = start_message(app, job_file, None)
    assert message.job is not None
    if outdir is not None:
        _make(outdir)
    interruptions: list[float] = []
    with contextlib.closing(FallbackDaemon(app)) as daemon:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, lambda *_: interruptions.append(time.monotonic()))
        publish(app, message)
        status = _follow_or_cancel(app, message, interruptions, daemon)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # it is over: one more must not spoil the exit code
    if status.job.state == "done":
        outputs = status.job.outputs or {}
        print_json(
            outputs
            if outdir is None
            else copied(outputs, state_dir.outputs(app.config.state_dir, message.job), outdir)
        )
    _note_other_jobs(app)
    code = report_outcome(status)
    return 130 if interruptions and status.job.outcome == "canceled" else code


def _make(outdir: Path) -> None:
    try:
        outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LandoError(f"--outdir {outdir}: {error.strerror}") from error


def _follow_or_cancel(
    app: App, message: Message, interruptions: list[float], daemon: FallbackDaemon
) -> JobStatus:
    """Follow the job to its end, which an interruption brings about; a much later one leaves before."""
    canceled = False
    job_id = str(message.job)
    views = app.views()
    views.add_published(message, None)

    def look() -> None:
        nonlocal canceled
        daemon.ensure()
        if interruptions and interruptions[-1] - interruptions[0] > CANCEL_PATIENCE:
            raise LandoError(f"left; the job is not ended yet: `lando-fsm status {job_id}`")
        if interruptions and not canceled:
            canceled = True
            note("canceling; waiting until nothing of the job is left")
            send(app, Message("cancel_job", job=job_id))

    return follow(views, job_id, look)


def _note_other_jobs(app: App) -> None:
    views = app.views()
    others = sum(not status.ended for status in views.jobs())
    if others and views.daemon().pid is None:
        jobs, them = ("job is", "it") if others == 1 else ("jobs are", "them")
        note(f"{others} other {jobs} in progress; `lando-fsm daemon` takes {them} up")


def copied(outputs: Mapping[str, Any], base: Path, outdir: Path) -> dict[str, Any]:
    """Copy the output files into ``outdir``.

    Args:
        outputs: a CWL output object.
        base: where its files are; what is elsewhere goes to the top of ``outdir``.
        outdir: where they go; made where missing.

    Returns:
        The output object with the new locations.

    Raises:
        LandoError: a file cannot be copied.
    """
    result: dict[str, Any] = json.loads(json.dumps(outputs))
    root, base = outdir.absolute(), base.absolute()
    for file in files(result):
        source = local_path(file)
        if source is None:
            continue
        target = root / (source.relative_to(base) if base in source.parents else source.name)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        except OSError as error:
            raise LandoError(f"{source} could not be copied to {target}: {error.strerror}") from error
        assert isinstance(file, dict)
        file["location"], file["path"] = target.as_uri(), str(target)
    return result
