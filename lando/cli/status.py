"""``lando-fsm status``: the state of every job, and why."""

from __future__ import annotations

import sys
import time

import click

from lando.app.lost_database import remains, warning
from lando.cli import formatting
from lando.cli.common import JobId, load_app
from lando.cli.output import check_reader, console, note, print_json, result, shown
from lando.cli.text import count
from lando.states.job import State
from lando.views.daemon_status import DaemonStatus
from lando.views.jobs import JobStatus, Views

STATES: tuple[State, ...] = ("queued", "booting", "running", "terminating", "done", "failed")
REFRESH = 0.5
"""Seconds between two reads of --watch."""


@click.command("status")
@click.argument("jobs", nargs=-1, type=JobId(), metavar="[JOB]...")
@click.option(
    "--state", multiple=True, type=click.Choice(STATES), help="Only jobs in this state; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="Print all details as a stable JSON list.")
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.pass_context
def command(
    ctx: click.Context, jobs: tuple[str, ...], state: tuple[str, ...], as_json: bool, watch: bool
) -> None:
    """Show the state of all jobs, or of the given ones, and why; of a single one all details.

    JOB is an id or the beginning of one. No daemon needs to be running. The exit code is 0 whatever the
    states are.
    """
    app = load_app(ctx)
    views = app.views()
    left = remains(app.config)
    if left is not None and views.is_new():
        note(warning(app.config, left))
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
    formatting.print_detail(status, views.attempts(job_id), _last_output(views, status))


def _last_output(views: Views, status: JobStatus) -> tuple[str, str]:
    """The label and the text: of the log, unless a VM failed since it was written."""
    job, pieces, console = status.job, views.log(status.job.id), views.console(status.job.id)
    logged_in = job.attempt if job.log_tail else (pieces[-1][0] if pieces else 0)
    if console is not None and console[0] > logged_in and console[1].strip():
        return f"console of attempt {console[0]}", console[1]
    text = job.log_tail or "".join(text for attempt, _, text in pieces if attempt == logged_in)
    return "last lines" if job.attempt <= 1 else f"last lines of attempt {logged_in}", text


def _table(views: Views, state: tuple[str, ...], ids: list[str]) -> None:
    found = views.jobs(state, ids)
    if found:
        formatting.print_table(found)
    if sys.stderr.isatty() or not found:
        nothing = "no jobs" + (f" in state {', '.join(state)}" if state else "")
        note(f"{formatting.state_counts(found) if found else nothing}; {_running(views.daemon())}")
    _warn(views)


def _running(daemon: DaemonStatus) -> str:
    if daemon.pid:
        return f"daemon: pid {daemon.pid}"
    return "no daemon is running; `lando-fsm daemon` starts one"


def _summary(views: Views, found: list[JobStatus]) -> str:
    daemon = views.daemon()
    problems = (problem for problem, _ in daemon.problems)
    return "; ".join((formatting.state_counts(found), _running(daemon), *problems))


def _warn(views: Views) -> None:
    """Note what concerns all jobs: a queue that nobody reads, or a queue or cloud that is out of reach."""
    daemon = views.daemon()
    unread = views.unread() if daemon.pid is None else 0
    if unread:
        note(f"{count(unread, 'message')} waiting in the work queue for a daemon")
    for problem, reason in daemon.problems:
        note(f"{problem}: {reason}")


def _watch(views: Views, state: tuple[str, ...], ids: list[str]) -> None:
    if not sys.stdout.isatty():
        _watch_plain(views, state, ids)
        return
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        while True:
            found = views.jobs(state, ids)
            size = live.console.size
            rows = formatting.rows_that_fit(found, size.width, size.height - 4)
            more = f"{shown('…')} {len(found) - rows} more\n" if len(found) > rows else ""
            summary = f"{more}{shown(_summary(views, found))}"
            below = Text(summary, style="dim", no_wrap=True, overflow=formatting.overflow(sys.stdout))
            table = formatting.table(_most_relevant(found, rows), size.width)
            live.update(Group(table, below), refresh=True)
            time.sleep(REFRESH)


def _most_relevant(found: list[JobStatus], rows: int) -> list[JobStatus]:
    """Those that fit: jobs in progress, then the first in the queue, then those that finished last."""
    order = {"running": 0, "booting": 0, "terminating": 0, "queued": 1, "done": 2, "failed": 2}

    def rank(status: JobStatus) -> tuple[int, float]:
        return order[status.job.state], -status.job.updated_at * status.ended

    chosen = {status.job.id for status in sorted(found, key=rank)[:rows]}
    return [status for status in found if status.job.id in chosen]


def _watch_plain(views: Views, state: tuple[str, ...], ids: list[str]) -> None:
    last = ""
    while True:
        counts = formatting.state_counts(views.jobs(state, ids))
        line = "; ".join((counts, *(problem for problem, _ in views.daemon().problems)))
        if line != last:
            last = line
            result(line)
        check_reader()
        time.sleep(REFRESH)
