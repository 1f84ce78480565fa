"""``lando-client CONFIG start_worker JOB.yml | terminate_worker NAME | shutdown_server``."""

from __future__ import annotations

from pathlib import Path

import click

from lando.app.app import App
from lando.cli.common import note_if_no_daemon, send
from lando.cli.main import run_command
from lando.cli.output import note
from lando.cli.start import open_standard_files, use_utf8
from lando.cli.submit import print_id, publish, start_message
from lando.config.site_config import load
from lando.messages import Message


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("config", type=click.Path(path_type=Path))
@click.pass_context
def lando_client(ctx: click.Context, config: Path) -> None:
    """Send commands to the daemon through the work queue that CONFIG names.

    CONFIG is a landoconfig.yml, or a workerconfig.yml that holds only what a client needs: `work_queue` with
    host, username and password. Exit codes: 0 the queue has confirmed the message, 1 it has not, 2 wrong
    usage, configuration or job file.
    """
    ctx.obj = config


def _load_app(ctx: click.Context) -> App:
    path = ctx.find_root().obj
    assert isinstance(path, Path)
    return App(load(path, client=True))


@lando_client.command("start_worker")
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.yml")
@click.option(
    "--id", "job_id", metavar="UUID", help="The job's id. Submitting the same id again has no effect."
)
@click.pass_context
def start_worker(ctx: click.Context, job_file: Path, job_id: str | None) -> None:
    """Queue a job and print its id."""
    app = _load_app(ctx)
    message = start_message(app, job_file, job_id)
    publish(app, message)
    print_id(message)
    note_if_no_daemon(app)


@lando_client.command("terminate_worker")
@click.argument("name")
@click.pass_context
def terminate_worker(ctx: click.Context, name: str) -> None:
    """Cancel the job whose VM has this name."""
    app = _load_app(ctx)
    send(app, Message("terminate_worker", {"vm_name": name}))
    note(f"the job of VM {name} will be canceled, if it is still in progress")
    note_if_no_daemon(app)


@lando_client.command("shutdown_server")
@click.pass_context
def shutdown_server(ctx: click.Context) -> None:
    """Stop the daemon; running workflows keep running; the next daemon collects their results."""
    app = _load_app(ctx)
    note_if_no_daemon(app, "there is nothing to stop, and the next daemon ignores this command")
    send(app, Message("shutdown_server"))


def main() -> None:
    """The entry point of ``lando-client``."""
    open_standard_files()
    use_utf8()
    run_command(lando_client, "lando-client")
