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
from lando.cli.common import dump, note, send, site
from lando.cli.ensure_daemon import SomeDaemon
from lando.cli.follow import follow, verdict
from lando.cli.outputs import files, local_path
from lando.cli.submit import publish, start_message
from lando.errors import LandoError
from lando.messages import Message
from lando.views.jobs import Shown

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
    here = site(ctx)
    message = start_message(here, job_file, None)
    assert message.job is not None
    if outdir is not None:
        _make(outdir)
    interruptions: list[float] = []
    with contextlib.closing(SomeDaemon(here)) as daemon:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, lambda *_: interruptions.append(time.monotonic()))
        publish(here, message)
        shown = _follow_or_cancel(here, message, interruptions, daemon)
    for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.SIG_IGN)  # it is over: one more must not spoil the exit code
    if shown.job.state == "done":
        outputs = shown.job.outputs or {}
        base = state_dir.outputs(here.config.state_dir, message.job)
        dump(outputs if outdir is None else copied(outputs, base, outdir))
    _mention_others(here)
    code = verdict(shown)
    return 130 if interruptions and shown.job.outcome == "canceled" else code


def _make(outdir: Path) -> None:
    try:
        outdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LandoError(f"--outdir {outdir}: {error.strerror}") from error


def _follow_or_cancel(here: App, message: Message, interruptions: list[float], daemon: SomeDaemon) -> Shown:
    """Follow the job to its end, which an interruption brings about; a much later one leaves before."""
    canceled = False
    job_id = str(message.job)
    seen = here.views()
    seen.expect(message, None)

    def look() -> None:
        nonlocal canceled
        daemon.ensure()
        if interruptions and interruptions[-1] - interruptions[0] > CANCEL_PATIENCE:
            raise LandoError(f"left; the job is not ended yet: `lando-fsm status {job_id}`")
        if interruptions and not canceled:
            canceled = True
            note("canceling; waiting until nothing of the job is left")
            send(here, Message("cancel_job", job=job_id))

    return follow(seen, job_id, look)


def _mention_others(here: App) -> None:
    seen = here.views()
    others = sum(not shown.ended for shown in seen.jobs())
    if others and seen.daemon().pid is None:
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
