"""``lando-client CONFIG start_worker JOB.yml | terminate_worker NAME | shutdown_server``."""

from __future__ import annotations

from pathlib import Path

import click

from lando.app.app import App
from lando.cli import carry_out
from lando.cli.common import note, send, tell_if_no_daemon
from lando.cli.submit import publish, start_message
from lando.config.site_config import load
from lando.messages import Message


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("config", type=click.Path(path_type=Path))
@click.pass_context
def lando_client(ctx: click.Context, config: Path) -> None:
    """Send commands to the daemon through the queue that CONFIG names.

    CONFIG is a landoconfig.yml, or a workerconfig.yml that holds only what a client needs: `work_queue` with
    host, username and password. Exit codes: 0 the queue has confirmed the message, 1 it has not, 2 wrong
    usage, configuration or job file.
    """
    ctx.obj = config


def _site(ctx: click.Context) -> App:
    path = ctx.find_root().obj
    assert isinstance(path, Path)
    return App(load(path, client=True))


@lando_client.command("start_worker")
@click.argument("job_file", type=click.Path(path_type=Path), metavar="JOB.yml")
@click.option("--id", "job_id", metavar="UUID", help="The job's id; the same id again changes nothing.")
@click.pass_context
def start_worker(ctx: click.Context, job_file: Path, job_id: str | None) -> None:
    """Queue a job and print its id."""
    here = _site(ctx)
    message = start_message(here, job_file, job_id)
    publish(here, message)
    print(message.job)
    tell_if_no_daemon(here)


@lando_client.command("terminate_worker")
@click.argument("name")
@click.pass_context
def terminate_worker(ctx: click.Context, name: str) -> None:
    """Cancel the job whose VM has this name."""
    here = _site(ctx)
    send(here, Message("terminate_worker", {"vm_name": name}))
    note(f"the job that {name} belongs to, if it is still in progress, will be canceled")
    tell_if_no_daemon(here)


@lando_client.command("shutdown_server")
@click.pass_context
def shutdown_server(ctx: click.Context) -> None:
    """End the daemon; jobs go on, and the next daemon takes them up."""
    here = _site(ctx)
    tell_if_no_daemon(
        here, "none is there to be ended, and the next one ignores what was sent before it began"
    )
    send(here, Message("shutdown_server"))


def main() -> None:
    """The entry point of ``lando-client``."""
    carry_out(lando_client, "lando-client")
