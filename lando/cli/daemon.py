"""``lando-fsm daemon``: take jobs from the queue and run them."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from typing import TextIO, cast

import click

from lando.cli.ending import Ending
from lando.cli.log_stream import LogLines, LogStream

log = logging.getLogger("lando")


@click.command("daemon")
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors.")
@click.pass_context
def command(ctx: click.Context, quiet: bool) -> None:
    """Take jobs from the queue and run each on its own VM, until stopped.

    Ctrl-C, SIGTERM and `lando-client CONFIG shutdown_server` stop the daemon within seconds; running
    workflows keep running; the next daemon collects their results. Only one daemon serves a state directory:
    a second one exits with code 2.
    """
    with contextlib.closing(Ending()) as ending:  # before anything that takes time: imports, too
        log_to_stderr(logging.WARNING if quiet else logging.INFO)
        _serve(ctx, ending)
        log.info("stopped; running workflows keep running; the next daemon collects their results")


def _serve(ctx: click.Context, ending: Ending) -> None:
    from lando.app.service import Service  # noqa: PLC0415 - signals are handled while these are loaded
    from lando.cli.common import load_app, load_config  # noqa: PLC0415

    config = load_config(ctx)
    if config.log_format == "json":
        log_as_json()
    app = load_app(ctx, config)
    log.info("configuration: %s; state: %s", app.config.source, app.config.state_dir)
    with contextlib.closing(Service(app)) as service:
        ending.stop_with(service.daemon.stop)
        service.run(_announce_ready, ending.begin)


def _announce_ready() -> None:
    from lando.daemon.systemd import notify_ready  # noqa: PLC0415

    notify_ready()
    line = f"lando-fsm daemon is ready (pid {os.getpid()})\n"
    with contextlib.suppress(AttributeError, OSError):  # stdout may be closed, or not be read any more
        LogStream(sys.stdout.fileno(), sys.stdout.encoding).write(line)


def log_to_stderr(level: int) -> None:
    """Log one line per event, with its time.

    From now on, whatever is printed to stderr waits for nobody either: a message or a traceback is the last
    that a daemon does before it ends.

    Args:
        level: of ``logging``: events below it are not logged.
    """
    with contextlib.suppress(AttributeError, OSError):  # it is closed, or no file
        sys.stderr = cast(TextIO, LogStream(sys.stderr.fileno(), sys.stderr.encoding))
    handler = logging.StreamHandler()
    handler.setFormatter(LogLines("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(level)


def log_as_json() -> None:
    """From now on, each line on stderr is a JSON object: an event, or a line of what is printed there."""
    from lando.cli.json_log import JsonLines, JsonStream  # noqa: PLC0415 - seldom used

    stderr = sys.stderr
    if isinstance(stderr, LogStream):  # else it is closed
        sys.stderr = cast(TextIO, JsonStream(stderr))
    for handler in log.handlers:
        handler.setFormatter(JsonLines())
