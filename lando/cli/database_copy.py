"""``lando-fsm database copy``: SQLite to PostgreSQL."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from lando.app import moving
from lando.app.app import App
from lando.cli.common import ENDING_SIGNALS, load_app
from lando.cli.output import console, note, print_json, result
from lando.cli.text import aligned, count
from lando.errors import LandoError
from lando.postgres.address import masked
from lando.times import duration

if TYPE_CHECKING:
    from lando.store.copying.copy import Copied, Progress

HEADINGS = ("TABLE", "ROWS", "CHECKSUM")
CHANGES_SHOWN = 20


@click.command("copy")
@click.option("--to", "url", required=True, metavar="URL", help="postgresql+psycopg://USER@HOST/DATABASE")
@click.option("--json", "as_json", is_flag=True, help="Print a stable JSON object.")
@click.pass_context
def command(ctx: click.Context, url: str, as_json: bool) -> None:
    """Copy the configured SQLite database to an empty database of PostgreSQL.

    No daemon may run. The copy is compared with the original, row by row, before it is said to be complete;
    from then on daemons use the copy only, and refuse the original. A copy that was interrupted goes on when
    this is run again; until it is complete, daemons refuse it, and the original is as it was.

    The password can be left out of the URL: PostgreSQL's client takes it from the environment variable
    PGPASSWORD or from the file ~/.pgpass, so that it is in no list of processes.
    """
    app = load_app(ctx)
    begun = time.monotonic()
    with _interruptible(), _progress() as progress:
        copied = moving.move(app, url, progress)
    seconds = time.monotonic() - begun
    remains = moving.what_remains(app)
    settings = _settings(app, url)
    if as_json:
        print_json(_as_json(app, url, copied, seconds, remains))
        return
    if copied.was_complete:
        note("the copy is complete already; nothing was done")
    else:
        _print(copied, seconds)
    result("", "landoconfig.yml from now on:", "", *(f"    {line}" for line in settings), "")
    result(*(f"{sentence}." for sentence in remains))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """What ends the command ends it with a sentence."""
    interruptions: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        interruptions.append(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDING_SIGNALS}
    try:
        yield
    except (KeyboardInterrupt, LandoError) as error:
        if not interruptions:
            raise
        note("the copy is incomplete; run the same command again, and it goes on")
        # In the middle of a COPY the driver makes an error of its own of it.
        raise KeyboardInterrupt from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """Draws a line on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda what, table, rows, all_rows: None
        return
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=console(sys.stderr), refresh_per_second=5, transient=True) as live:

        def show(what: str, table: str, rows: int, all_rows: int) -> None:
            live.update(Text(f"{what} {table}: {rows:,} of {all_rows:,} rows"))

        yield show


def _print(copied: Copied, seconds: float) -> None:
    if copied.restarted:
        note("the original had changed since the copy was interrupted: it was copied anew")
    elif copied.resumed:
        note(f"{count(copied.resumed, 'row')} had been copied before")
    cells = [(table.name, f"{table.rows:,}", table.checksum) for table in copied.tables]
    result(*aligned(HEADINGS, cells))
    rows = sum(table.rows for table in copied.tables)
    result(
        "", f"{count(rows, 'row')} in {duration(seconds)}; numbers and checksums are those of the original"
    )
    for table in copied.tables:
        if table.left_out:
            note(f"{table.name}: left out {count(table.left_out, 'row')} of jobs that are not there")
    for change in copied.changes[:CHANGES_SHOWN]:
        note(f"{change.table}, {change.key}: {change.column}: {change.what}")
    if len(copied.changes) > CHANGES_SHOWN:
        note(f"and {len(copied.changes) - CHANGES_SHOWN:,} more values; --json lists them")


def _settings(app: App, url: str) -> list[str]:
    """What the configuration needs."""
    lines = ["database:", f"  url: {masked(url)}", f"state_dir: {app.config.state_dir}"]
    if app.config.deployment is not None:
        lines.append(f"deployment: {app.config.deployment}")
    if app.embedded_queue is not None:
        lines += ["work_queue:", "  …            # RabbitMQ: docs/rabbitmq.md"]
    return lines


def _as_json(app: App, url: str, copied: Copied, seconds: float, remains: list[str]) -> dict[str, Any]:
    return {
        "from": str(app.config.database_path),
        "to": masked(url),
        "was_complete": copied.was_complete,
        "resumed_rows": copied.resumed,
        "restarted": copied.restarted,
        "seconds": round(seconds, 3),
        "tables": [
            {"name": each.name, "rows": each.rows, "checksum": each.checksum, "left_out": each.left_out}
            for each in copied.tables
        ],
        "changes": [
            {"table": each.table, "key": each.key, "column": each.column, "what": each.what}
            for each in copied.changes
        ],
        "remains": remains,
    }
