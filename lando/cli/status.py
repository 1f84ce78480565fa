"""``lando-fsm status``: where every job is, and why."""

from __future__ import annotations

import sys
import time

import click

from lando.cli import formatting
from lando.cli.common import JobId, dump, note, views
from lando.states.job import State
from lando.views.jobs import Shown, Views

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
    seen = views(ctx)
    ids = [seen.resolve(prefix) for prefix in jobs]
    if as_json:
        dump([shown.as_json() for shown in seen.jobs(state, ids)])
        _warn(seen)
    elif watch:
        _watch(seen, state, ids)
    elif len(ids) == 1 and not state:
        _detail(seen, ids[0])
    else:
        _table(seen, state, ids)


def _detail(seen: Views, job_id: str) -> None:
    shown = seen.job(job_id)
    assert shown is not None
    _warn(seen)
    formatting.print_detail(shown, _written_last(seen, shown))


def _written_last(seen: Views, shown: Shown) -> tuple[str, str]:
    """The label and the text: of the log, unless a server failed since it was written."""
    pieces, console = seen.log(shown.job.id), seen.console(shown.job.id)
    logged_in = pieces[-1][0] if pieces else 0
    if console is not None and console[0] > logged_in and console[1].strip() and not shown.job.log_tail:
        return f"console of attempt {console[0]}", console[1]
    return "last lines", shown.job.log_tail or "".join(text for _, _, text in pieces)


def _table(seen: Views, state: tuple[str, ...], ids: list[str]) -> None:
    found = seen.jobs(state, ids)
    if found:
        formatting.print_table(found)
    else:
        note("no jobs" + (f" in state {', '.join(state)}" if state else ""))
    if sys.stderr.isatty() or not found:
        note(_daemon_line(seen, found))
    _warn(seen)


def _daemon_line(seen: Views, found: list[Shown]) -> str:
    daemon = seen.daemon()
    words = (
        f"daemon: pid {daemon.pid}" if daemon.pid else "no daemon is running; `lando-fsm daemon` starts one"
    )
    troubles = "".join(f", {what}" for what, _ in daemon.troubles)
    return f"{formatting.summary(found)}; {words}{troubles}"


def _warn(seen: Views) -> None:
    """A queue that cannot be heard, or is not read, and a cloud that does not answer, concern everybody."""
    daemon = seen.daemon()
    waiting = seen.unread() if daemon.pid is None else 0
    if waiting:
        messages = "message waits" if waiting == 1 else "messages wait"
        note(f"{waiting} {messages} in the work queue for a daemon")
    for what, why in daemon.troubles:
        note(f"the daemon is {what}: {why}")


def _watch(seen: Views, state: tuple[str, ...], ids: list[str]) -> None:
    if not sys.stdout.isatty():
        _watch_plain(seen, state, ids)
        return
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=formatting.console(), screen=True, auto_refresh=False) as live:
        while True:
            found = seen.jobs(state, ids)
            room = max(1, live.console.size.height - 4)
            more = f"… {len(found) - room} more\n" if len(found) > room else ""
            below = Text(f"{more}{_daemon_line(seen, found)}", style="dim", no_wrap=True, overflow="ellipsis")
            live.update(Group(formatting.table(_most_telling(found, room)), below), refresh=True)
            time.sleep(REFRESH)


def _most_telling(found: list[Shown], room: int) -> list[Shown]:
    """Those that fit: what is going on, then the head of the queue, then what ended last."""
    order = {"running": 0, "booting": 0, "terminating": 0, "queued": 1, "done": 2, "failed": 2}
    ranked = sorted(found, key=lambda shown: (order[shown.job.state], -shown.job.updated_at * shown.ended))
    chosen = {shown.job.id for shown in ranked[:room]}
    return [shown for shown in found if shown.job.id in chosen]


def _watch_plain(seen: Views, state: tuple[str, ...], ids: list[str]) -> None:
    last = ""
    while True:
        found = seen.jobs(state, ids)
        text = formatting.summary(found) + "".join(
            f"; the daemon is {what}" for what, _ in seen.daemon().troubles
        )
        if text != last:
            last = text
            print(text, flush=True)
        time.sleep(REFRESH)
