"""``lando-fsm submit``: put a job into the work queue."""

from __future__ import annotations

import contextlib
import time
import uuid
from pathlib import Path

import click

from lando import backoff
from lando.app.app import App
from lando.cli import job_source
from lando.cli.common import load_app, note_if_no_daemon, send
from lando.cli.output import ResultLost, note, print_json, result
from lando.config import job_file
from lando.errors import DatabaseUnusable, LandoError, UsageError
from lando.messages import Message
from lando.states.job import JobSpec
from lando.workqueue.interface import QueueAbsent, QueueUnavailable

CONFIRM_TIMEOUT = 60.0
"""Seconds for which a message is sent again until the queue confirms it."""
ABSENT_TIMEOUT = 30.0
"""Seconds for which a queue is waited for that no daemon has created yet."""
FIRST_WAIT = 0.2
LONGEST_WAIT = 5.0
"""Seconds between two sends; doubled by each failure."""


def start_message(app: App, path: Path, job_id: str | None) -> Message:
    """The start_worker message of a job file.

    Args:
        app: its limits are checked.
        path: the job file.
        job_id: the job's id; None: a new one.

    Raises:
        UsageError: the job file, or the id, is not valid.
    """
    spec = job_file.read(path)
    requests = app.server_requests
    try:
        requests.check(spec)
        job_source.check(spec, app.config.cloud)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if (uncommitted := job_source.uncommitted(spec, path)) is not None:
        note(f"warning: {uncommitted}")
    return message_of(spec, str(uuid.uuid4()) if job_id is None else _valid_id(job_id))


def message_of(spec: JobSpec, job_id: str) -> Message:
    """The start_worker message of a job. Its id follows from the job's, so that it can be sent again."""
    return Message("start_worker", spec.as_body(), job=job_id, id=f"start-{job_id}")


def _valid_id(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise UsageError(
            f"--id {text!r} is not a UUID, such as {uuid.uuid4()}; `uuidgen` generates one"
        ) from None


def publish(app: App, message: Message, timeout: float = CONFIRM_TIMEOUT) -> None:
    """Send the message again until the queue confirms it.

    Args:
        app: its queue is used.
        message: of ``start_message``.
        timeout: seconds.

    Raises:
        LandoError: not confirmed in time; the text names the --id that makes another submit harmless.
    """
    try:
        _publish(app, message, timeout)
    except KeyboardInterrupt:
        note(f"the job may be queued; if you submit it again with --id {message.job}, it cannot run twice")
        raise


def _publish(app: App, message: Message, timeout: float) -> None:
    begun = time.monotonic()
    failures = 0
    while True:
        try:
            return send(app, message, max(1.0, begun + timeout - time.monotonic()))
        except (DatabaseUnusable, UsageError):
            raise
        except QueueUnavailable as error:
            failures += 1
            wait = backoff.jittered(failures, FIRST_WAIT, LONGEST_WAIT)
            waits_for = min(timeout, ABSENT_TIMEOUT) if isinstance(error, QueueAbsent) else timeout
            if time.monotonic() + wait > begun + waits_for:
                raise LandoError(
                    f"the queue has not confirmed the job: {error}; submit it again with --id {message.job}, "
                    "so that it cannot run twice"
                ) from error
            if failures == 1:
                note(f"the queue has not confirmed the job yet: {error}; retrying for up to {waits_for:g} s")
            time.sleep(wait)


def print_id(message: Message, as_json: bool = False) -> None:
    """Print the id of a job that is queued.

    Raises:
        ResultLost: it cannot be printed; whoever takes that for a job that is not queued submits it again.
    """
    try:
        if as_json:
            print_json({"id": message.job})
        else:
            result(str(message.job))
    except ResultLost as error:
        note(f"the job is queued; if you submit it again with --id {message.job}, it cannot run twice")
        raise error


@click.command("submit")
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.yml")
@click.option(
    "--id", "job_id", metavar="UUID", help="The job's id. Submitting the same id again has no effect."
)
@click.option("--wait", is_flag=True, help="Show progress until the job has finished; exit code 0 if done.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with the id.")
@click.pass_context
def command(ctx: click.Context, job_file: Path, job_id: str | None, wait: bool, as_json: bool) -> int:
    """Queue a job and print its id.

    Returns as soon as the queue has stored the job; no daemon needs to be running. Exit codes: 0 queued
    (with --wait: done), 1 not queued (with --wait: failed), 2 the job file is not valid.
    """
    app = load_app(ctx)
    message = start_message(app, job_file, job_id)
    if job_id is not None:
        _refuse_forgotten(app, str(message.job))
    publish(app, message)
    assert message.job is not None
    print_id(message, as_json)
    note_if_no_daemon(app)
    return _wait(app, message) if wait else 0


def _refuse_forgotten(app: App, job_id: str) -> None:
    """Refuse an id that would have no effect, where the database is here to tell."""
    found = None
    with contextlib.suppress(LandoError):
        found = app.views().forgotten(job_id)
    if found is not None:
        raise UsageError(f"--id {job_id}: {found.sentence}; submit the job with another id, or with none")


def _wait(app: App, message: Message) -> int:
    job_id = str(message.job)
    try:
        from lando.cli.follow import follow, report_outcome  # noqa: PLC0415 - loads the database library

        views = app.views()
        views.add_published(message, None)
        return report_outcome(follow(views, job_id))
    except KeyboardInterrupt:
        short = job_id[:8]
        note(f"the job continues: `lando-fsm status {short}` shows it, `lando-fsm cancel {short}` cancels it")
        return 130
