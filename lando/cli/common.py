"""What several commands need: the app, job arguments, and sending a message."""

from __future__ import annotations

import contextlib
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lando.app.app import PATIENCE, App
from lando.cli.log_stream import LogLines
from lando.cli.output import note
from lando.config.site_config import Config, find_config
from lando.errors import LandoError
from lando.messages import Message
from lando.plain_text import one_line
from lando.workqueue.interface import QueueUnavailable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from lando.views.jobs import Views

    _TextParam = click.ParamType[str]
else:
    _TextParam = click.ParamType

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a command that has to clean up first."""


def load_config(ctx: click.Context) -> Config:
    """The configuration that the command line, the environment or the directory names."""
    config = ctx.find_root().obj
    return find_config(config if isinstance(config, Path) else None)


def load_app(ctx: click.Context, config: Config | None = None) -> App:
    """The app of that configuration.

    Args:
        ctx: of the command.
        config: the configuration, if it was loaded before.
    """
    found = config or load_config(ctx)
    for warning in found.warnings:
        note(f"lando-fsm: warning: {warning}")
    if logging.lastResort is not None:  # of warnings, in a process without a log of its own
        logging.lastResort.setFormatter(LogLines("%(message)s"))
    app = App(found)
    if app.embedded_queue is not None:  # else a command that only sends messages does not use the directory
        app.require_own_state_dir()
    ctx.call_on_close(app.close)
    return app


def load_views(ctx: click.Context) -> Views:
    """The views of that app."""
    return load_app(ctx).views()


class JobId(_TextParam):
    """A job's id or an unambiguous prefix of it; the shell completes it."""

    name = "job"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The ids that begin so, with state and name."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        views = load_views(ctx)
        ids = views.ids_like(incomplete)
        return [
            CompletionItem(status.job.id, help=one_line(f"{status.state_text} {status.name}"))
            for status in (views.jobs(ids=ids) if ids else ())
        ]


def send(app: App, message: Message, timeout: float = PATIENCE) -> None:
    """Put a message into the work queue, durably.

    Args:
        app: its queue is used.
        message: what to send.
        timeout: seconds to wait for the broker's confirmation.

    Raises:
        QueueUnavailable: the message may or may not be queued.
    """
    publisher = app.publisher(timeout)
    try:
        publisher.publish(message.encode())
    finally:
        publisher.close()


def send_or_leave(app: App, message: Message) -> None:
    """Put a message into the work queue; on the daemon's own machine, leave it there if the broker cannot be
    reached, and say so.

    Raises:
        QueueUnavailable: the message may or may not be queued.
    """
    try:
        send(app, message)
    except QueueUnavailable as error:
        if not app.leave(message.encode()):
            raise
        note(f"{error}; left for the daemon of this machine, which needs no broker for it")


def note_if_no_daemon(app: App, consequence: str | None = None) -> None:
    """Say so where no daemon will receive the message that was sent.

    Args:
        app: it was sent to its queue.
        consequence: said instead of what happens to the message.
    """
    with contextlib.suppress(LandoError):  # the message is queued; this is only a remark
        if app.has_daemon():
            return
        if app.embedded_queue is not None:
            note(f"no daemon is running; {consequence or 'start one with `lando-fsm daemon`'}")
        else:
            note(f"no daemon is connected to the queue; {consequence or 'the message waits there for one'}")
