"""How jobs look: tables and live views on a terminal, plain text elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

import click

from lando import versions
from lando.cli.text import aligned, last_lines, one_line
from lando.states.job import Job
from lando.times import duration, rfc3339
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
HEADINGS = ("JOB", "NAME", "STATE", "STEP", "ATTEMPT", "SINCE", "WHY")
SHORT = 60
"""Characters of a reason that may be repeated for many jobs."""


def print_table(jobs: Sequence[JobStatus]) -> None:
    """Print the jobs: on a terminal a colored table, paged if it is longer than that; else plain text."""
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


def console(stream: TextIO | None = None) -> Console:
    """A console of rich, which respects NO_COLOR and uses no colors where the stream is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - a tenth of a second, only where something is drawn

    return Console(file=stream or sys.stdout, highlight=False, soft_wrap=False)


def table(jobs: Sequence[JobStatus]) -> Table:
    """The jobs as a table of rich."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    result = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        # On a narrow terminal only these shrink; their cells are cut, not wrapped.
        shrinks = heading in ("NAME", "WHY")
        result.add_column(heading, no_wrap=not shrinks, max_width=30 if heading == "NAME" else None)
    for status, cells in zip(jobs, _rows(jobs), strict=True):
        job_id, name, state, *rest, reason = cells
        color = "yellow" if status.job.outcome == "canceled" else COLORS[status.job.state]
        result.add_row(
            Text(job_id),
            Text(name, no_wrap=True, overflow="ellipsis"),
            Text(state, style=color),
            *map(Text, rest),
            Text(reason, style="bold red" if status.leaking else "", no_wrap=True, overflow="ellipsis"),
        )
    return result


def plain_table(jobs: Sequence[JobStatus]) -> str:
    """The jobs as aligned text."""
    return aligned(HEADINGS, _rows(jobs))


def _rows(jobs: Sequence[JobStatus]) -> list[tuple[str, ...]]:
    return [
        (
            status.job.id[:8],
            status.name,
            status.state_text,
            status.step_text,
            _attempt(status.job),
            _since(status.job),
            reason,
        )
        for status, reason in zip(jobs, _reasons(jobs), strict=True)
    ]


def _reasons(jobs: Sequence[JobStatus]) -> list[str]:
    """Why each is where it is. In an outage hundreds of jobs wait for the same: it is told once."""
    told: dict[tuple[str, ...], str] = {}
    found = []
    for status in jobs:
        reason = one_line(status.reason)
        before, *place = re.split(r"(; position \d+)", reason, maxsplit=1)
        same = (status.job.state, before, *place[1:])
        if status.ended or len(reason) <= SHORT:
            found.append(reason)
        elif same in told:
            found.append(f"the same as {told[same]}{''.join(place[:1])}")
        else:
            told[same] = status.job.id[:8]
            found.append(reason)
    return found


def _attempt(job: Job) -> str:
    """Which attempt it is, of those that count: ``-`` before the first, ``1``, then ``2/3``."""
    if not job.attempt:
        return "-"
    counted = job.failures if job.outcome == "system_failed" else job.failures + 1
    return f"{counted}/{job.attempts}" if job.failures else str(counted)


def _since(job: Job) -> str:
    """How long the job has been in its state."""
    return duration(time.time() - job.entered_at)


def state_counts(jobs: Sequence[JobStatus]) -> str:
    """How many jobs are in which state."""
    counts = {state: sum(status.job.state == state for status in jobs) for state in COLORS}
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number) or "no jobs"


def print_detail(status: JobStatus, last_output: tuple[str, str]) -> None:
    """Print everything about one job.

    Args:
        status: the job.
        last_output: the end of its log or console, as label and text.
    """
    for label, text in _detail(status, last_output):
        if "\n" in text:
            print(_label(f"{label}:"))
            print("\n".join(f"    {line}" for line in text.splitlines()))
        else:
            print(f"{_label(f'{label}:'.ljust(15))}{text}")


def _label(text: str) -> str:
    return click.style(text, bold=True) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else text


def _detail(status: JobStatus, last_output: tuple[str, str]) -> list[tuple[str, str]]:
    job = status.job
    vm = ", ".join(part for part in (job.server_name, job.server_id, job.server_ip) if part)
    lines: list[tuple[str, str | None]] = [
        ("job", job.id),
        ("name", status.name),
        ("state", status.state_text),
        ("outcome", job.outcome),
        ("why", status.reason),
        ("since", f"{rfc3339(job.entered_at)} ({_since(job)})"),
        ("submitted", f"{rfc3339(job.submitted_at)} by {status.submitted_by or 'an unknown account'}"),
        ("next deadline", _deadline(job.deadline_at)),
        ("attempt", f"{job.attempt or 'none yet'}; system failures: {job.failures} of {job.attempts}"),
        ("VM", vm or None),
        ("worker", _worker(job.worker_version)),
        ("phase", job.phase if not status.ended else None),
        ("step", f"{status.step_text} {job.step_name or ''}" if job.step is not None else None),
        ("commit", job.git_commit),
        ("exit code", None if job.exit_code is None else str(job.exit_code)),
        ("labels", ", ".join(f"{key}={value}" for key, value in status.labels.items()) or None),
        (last_output[0], "\n".join(last_lines(last_output[1]))),
    ]
    return [(label, text) for label, text in lines if text]


def _worker(version: str | None) -> str | None:
    if version is None:
        return None
    return "; ".join(filter(None, (f"lando-fsm {version}", versions.hint(version))))


def _deadline(at: float | None) -> str | None:
    return None if at is None else f"{rfc3339(at)} (in {duration(at - time.time())})"


def live_line(status: JobStatus) -> RenderableType:
    """The one line of ``--wait`` and ``run``: state, step k of n, elapsed time, reason."""
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
