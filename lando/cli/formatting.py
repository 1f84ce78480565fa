"""How jobs look: tables and live views on a terminal, plain text elsewhere."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from lando import plain_text, versions
from lando.cli.output import console, has_all_signs, result, result_page, result_styled, shown
from lando.cli.text import aligned, last_untold_lines, one_line
from lando.states.job import Job, State
from lando.times import duration, rfc3339
from lando.views.attempts import Attempt
from lando.views.job_status import JobStatus
from lando.views.jobs import Listing

if TYPE_CHECKING:
    from rich.console import OverflowMethod, RenderableType
    from rich.table import Table

COLORS: dict[State, str] = {
    "queued": "yellow",
    "booting": "cyan",
    "running": "bold blue",
    "terminating": "magenta",
    "done": "bold green",
    "failed": "bold red",
}
HEADINGS = ("JOB", "NAME", "STATE", "STEP", "ATTEMPT", "SINCE", "WHY")
NARROW = 30
"""Columns for names and reasons below which jobs are listed below each other."""
LISTED = 3
"""Lines of a job in that list."""
INDENTED = (0, 0, 0, 2)
"""The padding of its lines but for the first: above, right, below, left."""
EARLIER_LABEL = "earlier attempts"
EARLIER = 5
"""Earlier attempts that are shown of a job: a retry that is refused for lack of capacity is one, too."""
SHORT = 60
"""Characters of a reason that may be repeated for many jobs."""


def print_table(jobs: Sequence[JobStatus]) -> None:
    """Print the jobs: on a terminal a colored table, paged if it is longer than that; else plain text."""
    if not sys.stdout.isatty():
        result(*plain_table(jobs))
        return
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(table(jobs, terminal.width, wraps=True))
    result_page(captured.get())


def table(jobs: Sequence[JobStatus], width: int, wraps: bool = False) -> Table:
    """The jobs as a table of rich; as a list where the table would not leave enough for names and reasons.

    Args:
        jobs: what to show.
        width: columns of the terminal.
        wraps: whether the list has all of each reason; else a job has ``LISTED`` lines.
    """
    rows = _rows(jobs)
    if _is_narrow(rows, width):
        return _list(jobs, rows, wraps)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in HEADINGS:
        # On a narrow terminal only these shrink; their cells are cut, not wrapped.
        shrinks = heading in ("NAME", "WHY")
        drawn.add_column(heading, no_wrap=not shrinks, max_width=30 if heading == "NAME" else None)
    for status, cells in zip(jobs, rows, strict=True):
        job_id, name, state, *rest, reason = cells
        drawn.add_row(
            Text(job_id),
            Text(name, no_wrap=True, overflow=overflow(sys.stdout)),
            Text(state, style=_color(status)),
            *map(Text, rest),
            Text(reason, style=_emphasis(status), no_wrap=True, overflow=overflow(sys.stdout)),
        )
    return drawn


def rows_that_fit(jobs: Sequence[JobStatus], width: int, height: int) -> int:
    """How many jobs a terminal of this size shows.

    Args:
        jobs: those to choose from.
        width: columns.
        height: lines.
    """
    return max(1, height // LISTED if _is_narrow(_rows(jobs), width) else height)


def _is_narrow(rows: Sequence[tuple[str, ...]], width: int) -> bool:
    """Whether there is too little space beside the columns that are never cut."""
    fixed = [index for index, heading in enumerate(HEADINGS) if heading not in ("NAME", "WHY")]
    needed = sum(max(len(row[index]) for row in (HEADINGS, *rows)) + 1 for index in fixed)
    return width - needed < NARROW


def _list(jobs: Sequence[JobStatus], rows: Sequence[tuple[str, ...]], wraps: bool) -> Table:
    """The jobs below each other."""
    from rich.padding import Padding  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    drawn = Table(box=None, pad_edge=False, show_header=False)
    for status, (job_id, name, state, step, _, since, reason) in zip(jobs, rows, strict=True):
        first = Text.assemble(job_id, " ", (state, _color(status)), f" {since}", f" {step}" if step else "")
        below, why = Text(name), Text(reason, style=_emphasis(status), overflow="fold")
        for line in (first, below) if wraps else (first, below, why):
            line.no_wrap, line.overflow = True, overflow(sys.stdout)
        drawn.add_row(first)
        drawn.add_row(Padding(below, INDENTED))
        drawn.add_row(Padding(why, INDENTED))
    return drawn


def _color(status: JobStatus) -> str:
    return "yellow" if status.job.outcome == "canceled" else COLORS[status.job.state]


def _emphasis(status: JobStatus) -> str:
    return "bold red" if status.leaking else ""


def overflow(stream: TextIO) -> OverflowMethod:
    """How a text is cut: rich knows one sign for that."""
    return "ellipsis" if has_all_signs(stream) else "crop"


def plain_table(jobs: Sequence[JobStatus]) -> list[str]:
    """The jobs as lines of aligned text."""
    return aligned(HEADINGS, _rows(jobs))


def _rows(jobs: Sequence[JobStatus]) -> list[tuple[str, ...]]:
    return [
        (
            status.job.id[:8],
            shown(status.name),
            status.state_text,
            status.step_text,
            _attempt(status.job),
            _since(status.job),
            shown(reason),
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


def state_counts(counts: Mapping[State, int]) -> str:
    """How many jobs are in which state."""
    found = ((state, counts.get(state, 0)) for state in COLORS)
    return ", ".join(f"{number:,} {state}" for state, number in found if number) or "no jobs"


def left_out(listing: Listing) -> str:
    """How many jobs of a table are not shown; empty if all are."""
    return state_counts(listing.left_out) if listing.left_out else ""


def print_detail(status: JobStatus, attempts: Sequence[Attempt], last_output: tuple[str, str]) -> None:
    """Print everything about one job.

    Args:
        status: the job.
        attempts: all of them, in order.
        last_output: the end of its log or console, as label and text.
    """
    for label, text in _detail(status, attempts, last_output):
        if "\n" in text:
            result_styled((f"{label}:", "bold"))
            result(*(f"    {line}" for line in text.strip("\n").split("\n")))
        else:
            result_styled((f"{label}:".ljust(15), "bold"), (text, ""))


def _detail(
    status: JobStatus, attempts: Sequence[Attempt], last_output: tuple[str, str]
) -> list[tuple[str, str]]:
    job = status.job
    vm = ", ".join(part for part in (job.server_name, job.server_id, job.server_ip) if part)
    output, text = last_output
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
        ("outputs", _partial(job)),
        ("labels", ", ".join(f"{key}={value}" for key, value in status.labels.items()) or None),
        (EARLIER_LABEL, _earlier(status, attempts)),
        (output, "\n".join(last_untold_lines(text, status.reason))),
    ]
    of_several_lines = ("why", EARLIER_LABEL, output)
    return [
        (label, text if label in of_several_lines else plain_text.one_line(text))
        for label, text in lines
        if text
    ]


def _earlier(status: JobStatus, attempts: Sequence[Attempt]) -> str | None:
    """The attempts that have ended, but for the one whose end ``why`` tells; always indented."""
    last = status.job.attempt if status.ended else None
    ended = [attempt for attempt in attempts if attempt.ended_at is not None and attempt.number != last]
    lines = [attempt_line(attempt, told=status.reason) for attempt in ended[-EARLIER:]]
    more = [f"… {len(ended) - EARLIER} before these"] if len(ended) > EARLIER else []
    return "\n" + "\n".join(more + lines) if lines else None


def attempt_line(attempt: Attempt, told: str = "") -> str:
    """An attempt: its number, when it began and ended, and how.

    Args:
        attempt: the attempt.
        told: what is shown beside it; its reason is left out if that is in it.
    """
    began = f"attempt {attempt.number}, {rfc3339(attempt.started_at)}"
    if attempt.ended_at is None:
        return f"{began}, in progress"
    how = "queued again" if attempt.end == "queued" else attempt.end
    why = "" if attempt.reason in told else f": {one_line(attempt.reason)}"
    return f"{began} to {rfc3339(attempt.ended_at)}: {how}{why}"


def _partial(job: Job) -> str | None:
    """Where to find what a workflow made before it failed."""
    if job.state != "failed" or job.outputs is None:
        return None
    return f"some were made before it failed: lando-fsm outputs {job.id[:8]}"


def _worker(version: str | None) -> str | None:
    if version is None:
        return None
    return "; ".join(filter(None, (f"lando-fsm {version}", versions.hint(version))))


def _deadline(at: float | None) -> str | None:
    return None if at is None else f"{rfc3339(at)} (in {duration(at - time.time())})"


def reason_so_far(status: JobStatus) -> str:
    """Why a job that is followed to its end is where it is, without how it failed, which is told last."""
    if status.job.state == "failed":
        return ""
    if status.job.state == "terminating":
        return status.reason.removeprefix(f"{status.job.reason}; ")
    return status.reason


def live_line(status: JobStatus) -> RenderableType:
    """The one line of ``--wait`` and ``run``: state, step k of n, elapsed time, reason."""
    from rich.spinner import Spinner  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    job = status.job
    line = Text.assemble(
        (job.id[:8], "dim"),
        "  ",
        (status.state_text, COLORS[job.state]),
        f"  step {status.step_text}" if status.step_text else "",
        f"  {duration(time.time() - job.submitted_at)}",
        (f"  {shown(one_line(reason_so_far(status)), sys.stderr)}", "dim"),
        no_wrap=True,
        overflow=overflow(sys.stderr),
    )
    return line if status.ended else Spinner("dots" if has_all_signs(sys.stderr) else "line", line)
