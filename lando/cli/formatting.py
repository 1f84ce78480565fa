"""How jobs look: tables and live views for a terminal, plain text for anything else."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click

from lando.times import rfc3339
from lando.views.jobs import JobStatus

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

COLORS = {
    "queued": "yellow",
    "booting": "cyan",
    "running": "bold blue",
    "terminating": "magenta",
    "done": "bold green",
    "failed": "bold red",
}
MAX_LINE = 500
"""Characters of a line of a log's tail that are shown."""
MAX_LINES = 20
"""Lines of it."""
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HEADINGS = ("JOB", "NAME", "STATE", "STEP", "TRY", "SINCE", "WHY")


def console(stream: TextIO | None = None) -> Console:
    """A rich console; NO_COLOR and a stream that is no terminal are respected."""
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second, only where something is drawn

    return Console(file=stream or sys.stdout, highlight=False, soft_wrap=False)


def duration(seconds: float) -> str:
    """Seconds as people say them: ``4.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def since(status: JobStatus) -> str:
    """How long the job has been where it is."""
    return duration(time.time() - status.job.entered_at)


def _cells(status: JobStatus) -> tuple[str, ...]:
    job = status.job
    tries = f"{job.failures + (0 if status.ended else 1)}/{job.attempts}" if job.failures else ""
    return (
        job.id[:8],
        status.name,
        status.state_text,
        status.step_text,
        tries,
        since(status),
        one_line(status.reason),
    )


def one_line(text: str) -> str:
    """The first line of a text of several."""
    first, *rest = text.strip().splitlines() or [""]
    return printable(f"{first} …" if rest else first)


def printable(line: str) -> str:
    """A line of somebody else's output, made harmless for a terminal, and cut."""
    harmless = "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line[:MAX_LINE])
    return harmless if len(line) <= MAX_LINE else f"{harmless} …"


def without_colours(text: str) -> str:
    """A console's output without what colours it, and with the ends of lines that files have."""
    return _COLOURS.sub("", text).replace("\r\n", "\n")


def last_lines(text: str) -> list[str]:
    """The end of somebody else's output, made harmless for a terminal."""
    return [printable(line) for line in without_colours(text).rstrip().splitlines()[-MAX_LINES:]]


def table(jobs: Sequence[JobStatus]) -> Table:
    """The jobs as a rich table."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    result = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        # Only these give way on a narrow terminal; their cells are cut, not wrapped.
        gives_way = heading in ("NAME", "WHY")
        result.add_column(heading, no_wrap=not gives_way, max_width=30 if heading == "NAME" else None)
    for status in jobs:
        job_id, name, state, *rest = _cells(status)
        color = "yellow" if status.job.outcome == "canceled" else COLORS[status.job.state]
        why = Text(rest[-1], style="bold red" if status.leaking else "", no_wrap=True, overflow="ellipsis")
        name_text = Text(name, no_wrap=True, overflow="ellipsis")
        result.add_row(Text(job_id), name_text, Text(state, style=color), *map(Text, rest[:-1]), why)
    return result


def plain_table(jobs: Sequence[JobStatus]) -> str:
    """The jobs as aligned text, nothing shortened."""
    return aligned(HEADINGS, [_cells(status) for status in jobs])


def aligned(headings: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> str:
    """Columns of text, nothing shortened."""
    rows = [headings, *cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def summary(jobs: Sequence[JobStatus]) -> str:
    """How many jobs are in which state."""
    counts = {state: sum(status.job.state == state for status in jobs) for state in COLORS}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no jobs"


def print_table(jobs: Sequence[JobStatus]) -> None:
    """Print the jobs: a coloured table, paged where it is longer than the terminal; or plain text."""
    if not sys.stdout.isatty():
        print(plain_table(jobs))
        return
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(table(jobs))
    text = captured.get()
    if text.count("\n") < shutil.get_terminal_size().lines:
        print(text, end="")
    else:
        os.environ.setdefault("LESS", "-RFX")
        click.echo_via_pager(text, color=not terminal.no_color)


def detail(status: JobStatus, last: tuple[str, str]) -> list[tuple[str, str]]:
    """One job in detail, as label and text.

    Args:
        status: the job.
        last: what was written last, also as label and text.
    """
    job = status.job
    vm = ", ".join(part for part in (job.server_name, job.server_id, job.server_ip) if part)
    lines: list[tuple[str, str | None]] = [
        ("job", job.id),
        ("name", status.name),
        ("state", status.state_text),
        ("outcome", job.outcome),
        ("why", status.reason),
        ("since", f"{rfc3339(job.entered_at)} ({since(status)})"),
        ("submitted", f"{rfc3339(job.submitted_at)} by {status.submitted_by or 'somebody unknown'}"),
        ("next deadline", _deadline(job.deadline_at)),
        (
            "attempt",
            f"{job.attempt or 'none yet'}; failures: {job.failures} of {job.attempts}",
        ),
        ("VM", vm or None),
        ("phase", job.phase if not status.ended else None),
        ("step", f"{status.step_text} {job.step_name or ''}" if job.step is not None else None),
        ("commit", job.git_commit),
        ("exit code", None if job.exit_code is None else str(job.exit_code)),
        ("labels", ", ".join(f"{key}={value}" for key, value in status.labels.items()) or None),
        (last[0], "\n".join(last_lines(last[1]))),
    ]
    return [(label, text) for label, text in lines if text]


def _deadline(at: float | None) -> str | None:
    return None if at is None else f"{rfc3339(at)} (in {duration(at - time.time())})"


def print_detail(status: JobStatus, last: tuple[str, str]) -> None:
    """Print one job in detail; see ``detail``."""
    for label, text in detail(status, last):
        if "\n" in text:
            print(f"{click.style(label + ':', bold=True) if _colored() else label + ':'}")
            print("\n".join(f"    {line}" for line in text.splitlines()))
        else:
            padded = f"{label + ':':<15}"
            print(f"{click.style(padded, bold=True) if _colored() else padded}{text}")


def _colored() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def live_line(status: JobStatus) -> RenderableType:
    """The one line of ``--wait`` and ``run``: state, step k of n, elapsed time, why."""
    from rich.spinner import Spinner  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    job = status.job
    text = Text.assemble(
        (job.id[:8], "dim"),
        "  ",
        (status.state_text, COLORS[job.state]),
        f"  step {status.step_text}" if status.step_text else "",
        f"  {duration(time.time() - job.submitted_at)}",
        (f"  {one_line(status.reason)}", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
    return text if status.ended else Spinner("dots", text)
