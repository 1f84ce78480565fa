"""``lando-fsm submit``: put a job on the queue."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import click

from lando.app.app import App
from lando.cli.common import load_app, note, note_if_no_daemon, print_json, send
from lando.config import job_file
from lando.errors import LandoError, UsageError
from lando.messages import Message
from lando.workqueue.interface import QueueAbsent, QueueUnavailable

PATIENCE = 60.0
"""Seconds for which a message is repeated until the queue confirms it."""
ABSENT_PATIENCE = 30.0
"""Seconds for which a queue is waited for that no daemon has made yet."""
FIRST_WAIT = 0.2
"""Seconds between the first two tries; doubled every time."""


def start_message(app: App, path: Path, job_id: str | None) -> Message:
    """The start_worker message of a job file. Repeating it is harmless: its id follows from the job's.

    Raises:
        UsageError: the job file, or the id, is not valid.
    """
    spec = job_file.read(path)
    try:
        app.server_requests.check(spec)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    job = str(uuid.uuid4()) if job_id is None else _valid_id(job_id)
    return Message("start_worker", spec.as_body(), job=job, id=f"start-{job}")


def _valid_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UsageError(
            f"--id {text!r} is not a UUID, such as {uuid.uuid4()}; make one with `uuidgen`"
        ) from None


def publish(app: App, message: Message, patience: float = PATIENCE) -> None:
    """Repeat the message until the queue confirms it.

    Raises:
        LandoError: not confirmed in time; the text names the --id that makes repeating harmless.
    """
    try:
        _publish(app, message, patience)
    except KeyboardInterrupt:
        note(f"it may be queued; submitting it again with --id {message.job} cannot make it run twice")
        raise


def _publish(app: App, message: Message, patience: float) -> None:
    begun = time.monotonic()
    wait = FIRST_WAIT
    while True:
        try:
            return send(app, message, max(1.0, begun + patience - time.monotonic()))
        except QueueUnavailable as error:
            waits_for = min(patience, ABSENT_PATIENCE) if isinstance(error, QueueAbsent) else patience
            if time.monotonic() + wait > begun + waits_for:
                raise LandoError(
                    f"the queue has not confirmed the job: {error}; submit it again with --id {message.job}, "
                    "which cannot make it run twice"
                ) from error
            if wait == FIRST_WAIT:
                note(f"the queue has not confirmed the job yet: {error}; trying for {waits_for:g} s")
            time.sleep(wait)
            wait = min(5.0, wait * 2)


@click.command("submit")
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.yml")
@click.option(
    "--id", "job_id", metavar="UUID", help="The job's id; submitting the same id again changes nothing."
)
@click.option("--wait", is_flag=True, help="Watch the job to its end; exit 0 only if it is done.")
@click.option("--json", "as_json", is_flag=True, help="Print an object with the id.")
@click.pass_context
def command(ctx: click.Context, job_file: Path, job_id: str | None, wait: bool, as_json: bool) -> int:
    """Queue a job and print its id.

    Returns as soon as the job is durably queued; it needs no daemon to be running. Exit codes: 0 queued
    (with --wait: done), 1 not queued (with --wait: failed), 2 the job file is not valid.
    """
    app = load_app(ctx)
    message = start_message(app, job_file, job_id)
    publish(app, message)
    assert message.job is not None
    if as_json:
        print_json({"id": message.job})
    else:
        print(message.job, flush=True)
    note_if_no_daemon(app)
    return _wait(app, message) if wait else 0


def _wait(app: App, message: Message) -> int:
    job_id = str(message.job)
    try:
        from lando.cli.follow import follow, report_outcome  # noqa: PLC0415 - loads the database library

        views = app.views()
        views.add_published(message, None)
        return report_outcome(follow(views, job_id))
    except KeyboardInterrupt:
        note(f"the job goes on: `lando-fsm status {job_id[:8]}`; to end it: `lando-fsm cancel {job_id[:8]}`")
        return 130
