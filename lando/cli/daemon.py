"""``lando-fsm daemon``: take jobs and run them."""

from __future__ import annotations

import logging
import os
import signal

import click

from lando.app.service import Service
from lando.cli.common import load_app
from lando.daemon.systemd import notify_ready

log = logging.getLogger("lando")


@click.command("daemon")
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors.")
@click.pass_context
def command(ctx: click.Context, quiet: bool) -> None:
    """Take jobs from the queue and run each on a VM of its own, until told to end.

    Ctrl-C, SIGTERM and `lando-client CONFIG shutdown_server` end it within seconds; jobs go on, and the next
    daemon takes them up. Only one daemon serves a state directory: a second one exits with 2.
    """
    log_to_stderr(logging.WARNING if quiet else logging.INFO)
    app = load_app(ctx)
    log.info("configuration: %s; state: %s", app.config.source, app.config.state_dir)
    service = Service(app)
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: service.daemon.stop())
    try:
        service.run(_tell_ready)
    finally:
        service.close()
    log.info("ended; jobs go on, and the next daemon takes them up")


def _tell_ready() -> None:
    notify_ready()
    print(f"lando-fsm daemon is ready (pid {os.getpid()})", flush=True)


def log_to_stderr(level: int) -> None:
    """One line an event, with the time."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("lando")
    root.addHandler(handler)
    root.setLevel(level)
