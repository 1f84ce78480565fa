"""``lando-fsm status``: where every job is, and why."""

from __future__ import annotations

import sys
import time

import click

from lando.cli import formatting
from lando.cli.common import JobId, load_views, note, print_json
from lando.states.job import State
from lando.views.jobs import JobStatus, Views

STATES: tuple[State, ...] = ("queued", "booting", "running", "terminating", "done", "failed")
REFRESH = 0.5
"""Seconds between looks of --watch."""


@click.command("status")
@click.argument("jobs", nargs=-1, type=JobId(), metavar="[JOB]...")
@click.option(
    "--state", multiple=True, type=click.Choice(STATES), help="Only jobs in this state; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Everything, as a stable JSON list.")
@click.option("--watch", is_flag=True, help="Keep showing until Ctrl-C.")
@click.pass_context
def command(
    ctx: click.Context, jobs: tuple[str, ...], state: tuple[str, ...], as_json: bool, watch: bool
) -> None:
    """Show all jobs, or those named (by id or the beginning of one); a single one in detail.

    Works without a daemon. Exit code 0 whatever the states.
    """
    views = load_views(ctx)
    ids = [views.resolve(prefix) for prefix in jobs]
    if as_json:
        print_json([status.as_json() for status in views.jobs(state, ids)])
        _warn(views)
    elif watch:
        _watch(views, state, ids)
    elif len(ids) == 1 and not state:
        _detail(views, ids[0])
    else:
        _table(views, state, ids)


def _detail(views: Views, job_id: str) -> None:
    status = views.job(job_id)
    assert status is not None
    _warn(views)
    formatting.print_detail(status, _written_last(views, status))


def _written_last(views: Views, status: JobStatus) -> tuple[str, str]:
    """The label and the text: of the log, unless a server failed since it was written."""
    pieces, console = views.log(status.job.id), views.console(status.job.id)
    logged_in = pieces[-1][0] if pieces else 0
    if console is not None and console[0] > logged_in and console[1].strip() and not status.job.log_tail:
        return f"console of attempt {console[0]}", console[1]
    return "last lines", status.job.log_tail or "".join(text for _, _, text in pieces)


def _table(views: Views, state: tuple[str, ...], ids: list[str]) -> None:
    found = views.jobs(state, ids)
    if found:
        formatting.print_table(found)
    else:
        note("no jobs" + (f" in state {', '.join(state)}" if state else ""))
    if sys.stderr.isatty() or not found:
        note(_daemon_line(views, found))
    _warn(views)


def _daemon_line(views: Views, found: list[JobStatus]) -> str:
    daemon = views.daemon()
    words = (
        f"daemon: pid {daemon.pid}" if daemon.pid else "no daemon is running; `lando-fsm daemon` starts one"
    )
    troubles = "".join(f", {what}" for what, _ in daemon.problems)
    return f"{formatting.summary(found)}; {words}{troubles}"


def _warn(views: Views) -> None:
    """A queue that cannot be heard, or is not read, and a cloud that does not answer, concern everybody."""
    daemon = views.daemon()
    waiting = views.unread() if daemon.pid is None else 0
    if waiting:
        messages = "message waits" if waiting == 1 else "messages wait"
        note(f"{waiting} {messages} in the work queue for a daemon")
    for what, why in daemon.problems:
        note(f"the daemon is {what}: {why}")


def _watch(views: Views, state: tuple[str, ...], ids: list[str]) -> None:
    if not sys.stdout.isatty():
        _watch_plain(views, state, ids)
        return
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=formatting.console(), screen=True, auto_refresh=False) as live:
        while True:
            found = views.jobs(state, ids)
            room = max(1, live.console.size.height - 4)
            more = f"… {len(found) - room} more\n" if len(found) > room else ""
            below = Text(
                f"{more}{_daemon_line(views, found)}", style="dim", no_wrap=True, overflow="ellipsis"
            )
            live.update(Group(formatting.table(_most_telling(found, room)), below), refresh=True)
            time.sleep(REFRESH)


def _most_telling(found: list[JobStatus], room: int) -> list[JobStatus]:
    """Those that fit: what is going on, then the head of the queue, then what ended last."""
    order = {"running": 0, "booting": 0, "terminating": 0, "queued": 1, "done": 2, "failed": 2}
    ranked = sorted(
        found, key=lambda status: (order[status.job.state], -status.job.updated_at * status.ended)
    )
    chosen = {status.job.id for status in ranked[:room]}
    return [status for status in found if status.job.id in chosen]


def _watch_plain(views: Views, state: tuple[str, ...], ids: list[str]) -> None:
    last = ""
    while True:
        found = views.jobs(state, ids)
        text = formatting.summary(found) + "".join(
            f"; the daemon is {what}" for what, _ in views.daemon().problems
        )
        if text != last:
            last = text
            print(text, flush=True)
        time.sleep(REFRESH)
