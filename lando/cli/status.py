"""``lando-fsm status``: the state of every job, and why."""

from __future__ import annotations

import contextlib
import sys
import time

import click

from lando.app.lost_database import remains, warning
from lando.cli import formatting
from lando.cli.common import JobId, load_app
from lando.cli.output import check_reader, console, note, print_json_list, result, shown
from lando.cli.selecting import FORMS, Label, Since
from lando.cli.text import MAX_LINES, count
from lando.states.job import STATES, State
from lando.store.selection import Selection
from lando.views.daemon_status import DaemonStatus
from lando.views.job_status import JobStatus
from lando.views.jobs import Listing, Views

LIVE, ENDED = 200, 50
"""So many jobs a table has of those that have not ended, and of those that have, unless --limit or --all says
otherwise."""
REFRESH = 0.5
"""Seconds between two reads of --watch."""


@click.command("status")
@click.argument("jobs", nargs=-1, type=JobId(), metavar="[JOB]...")
@click.option(
    "--state", multiple=True, type=click.Choice(STATES), help="Only jobs in this state; may be repeated."
)
@click.option(
    "--since", type=Since(), metavar="T", help=f"Of ended jobs only those that ended since T: {FORMS}."
)
@click.option(
    "--label", multiple=True, type=Label(), metavar="K=V", help="Only jobs with this label; may be repeated."
)
@click.option("--submitter", metavar="S", help="Only jobs that this account submitted.")
@click.option(
    "--limit",
    type=click.IntRange(0, 10**9),
    metavar="N",
    help=f"At most N live jobs, and the N newest ended ones. Default: {LIVE} and {ENDED}; with --json all.",
)
@click.option("--all", "show_all", is_flag=True, help="All jobs, however many.")
@click.option("--json", "as_json", is_flag=True, help="Print all details as a stable JSON list.")
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.pass_context
def command(
    ctx: click.Context,
    jobs: tuple[str, ...],
    state: tuple[State, ...],
    since: float | None,
    label: tuple[tuple[str, str], ...],
    submitter: str | None,
    limit: int | None,
    show_all: bool,
    as_json: bool,
    watch: bool,
) -> None:
    """Show the state of jobs, and why; of a single JOB all details.

    JOB is an id or the beginning of one. Without JOB: the live jobs, which have not ended, the furthest first
    and those that wait in the order in which they start; then the jobs that ended last. With several options
    only jobs that meet all of them.

    No daemon needs to be running. The exit code is 0 whatever the states are.
    """
    if show_all and limit is not None:
        raise click.UsageError("--all and --limit contradict each other")
    if jobs and (show_all or limit is not None):
        raise click.UsageError("of the jobs that are named all are shown: leave out --all and --limit")
    app = load_app(ctx)
    views = app.views()
    left = remains(app.config)
    if left is not None and views.is_new():
        note(warning(app.config, left))
    ids = tuple(views.resolve(prefix) for prefix in jobs)
    selection = Selection(state, ids, since, label, submitter)
    if as_json:
        with contextlib.closing(views.each(selection, limit, limit)) as found:
            print_json_list(status.as_json() for status in found)
        _warn(views)
    elif watch:
        _watch(views, selection, limit)
    elif len(ids) == 1 and selection == Selection(ids=ids):
        _detail(views, ids[0])
    else:
        live, ended = (None, None) if show_all else (LIVE, ENDED) if limit is None else (limit, limit)
        _table(views, selection, live, ended)


def _detail(views: Views, job_id: str) -> None:
    status = views.job(job_id)
    assert status is not None
    _warn(views)
    formatting.print_detail(status, views.attempts(job_id), _last_output(views, status))


def _last_output(views: Views, status: JobStatus) -> tuple[str, str]:
    """The label and the text: of the log, unless a VM failed since it was written."""
    job, console = status.job, views.console(status.job.id)
    logged_in, text = (job.attempt, job.log_tail) if job.log_tail else views.end_of_log(job.id, MAX_LINES)
    if console is not None and console[0] > logged_in and console[1].strip():
        return f"console of attempt {console[0]}", console[1]
    return "last lines" if job.attempt <= 1 else f"last lines of attempt {logged_in}", text


def _table(views: Views, selection: Selection, live: int | None, ended: int | None) -> None:
    listing = views.listing(selection, live, ended)
    if listing.jobs:
        formatting.print_table(listing.jobs)
    more = formatting.left_out(listing)
    if more:
        note(f"not shown: {more}; --all or --limit N shows more")
    if sys.stderr.isatty() or more or not listing.jobs:
        note(f"{_counts(listing, selection)}; {_running(views.daemon())}")
    _warn(views)


def _counts(listing: Listing, selection: Selection) -> str:
    if any(listing.counts.values()):
        return formatting.state_counts(listing.counts)
    if not selection.is_by_state_only:
        return "no jobs match"
    return f"no jobs in state {', '.join(selection.states)}" if selection.states else "no jobs"


def _running(daemon: DaemonStatus) -> str:
    if daemon.pid:
        return f"daemon: pid {daemon.pid}"
    return "no daemon is running; `lando-fsm daemon` starts one"


def _summary(views: Views, counts: str) -> str:
    daemon = views.daemon()
    problems = (problem for problem, _ in daemon.problems)
    return "; ".join((counts, _running(daemon), *problems))


def _warn(views: Views) -> None:
    """Note what concerns all jobs: a queue that nobody reads, or a queue or cloud that is out of reach."""
    daemon = views.daemon()
    unread = views.unread() if daemon.pid is None else 0
    if unread:
        note(f"{count(unread, 'message')} waiting in the work queue for a daemon")
    for problem, reason in daemon.problems:
        note(f"{problem}: {reason}")


def _watch(views: Views, selection: Selection, limit: int | None) -> None:
    if not sys.stdout.isatty():
        _watch_plain(views, selection)
        return
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=console(), screen=True, auto_refresh=False) as live:
        while True:
            size = live.console.size
            room = size.height - 4
            most = room if limit is None else min(limit, room)
            listing = views.listing(selection, most, most)
            fitting = formatting.rows_that_fit(listing.jobs, size.width, room)
            shown_jobs = listing.jobs[:fitting]
            more = formatting.left_out(Listing(shown_jobs, listing.counts))
            counts = _counts(listing, selection)
            summary = (f"{shown('…')} {more} more\n" if more else "") + shown(_summary(views, counts))
            below = Text(summary, style="dim", no_wrap=True, overflow=formatting.overflow(sys.stdout))
            live.update(Group(formatting.table(shown_jobs, size.width), below), refresh=True)
            time.sleep(REFRESH)


def _watch_plain(views: Views, selection: Selection) -> None:
    last = ""
    while True:
        counts = formatting.state_counts(views.listing(selection, 0, 0).counts)
        line = "; ".join((counts, *(problem for problem, _ in views.daemon().problems)))
        if line != last:
            last = line
            result(line)
        check_reader()
        time.sleep(REFRESH)
