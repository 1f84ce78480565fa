"""Follows one job to its end, on stderr: a live line on a terminal, a line per change elsewhere."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lando.cli import formatting
from lando.cli.output import console, note
from lando.cli.text import last_untold_lines, one_line
from lando.errors import LandoError
from lando.views.job_status import JobStatus
from lando.views.jobs import Views

if TYPE_CHECKING:
    from rich.live import Live

POLL = 0.1
"""Seconds between two reads of the database."""
_COUNTDOWN = re.compile(r"in \d+ s\b")
"""What changes every second, and is not printed again."""


def follow(views: Views, job_id: str, before_each_read: Callable[[], None] = lambda: None) -> JobStatus:
    """Show the job until it has finished.

    Args:
        views: reads the database.
        job_id: the job.
        before_each_read: called before each read of the database.

    Returns:
        The finished job.

    Raises:
        LandoError: there is no such job (any more).
        KeyboardInterrupt: Ctrl-C; the job continues.
    """
    with _display() as display:
        while True:
            before_each_read()
            status = views.job(job_id)
            if status is None:
                raise LandoError(f"job {job_id} does not exist (any more)")
            display(status)
            if status.ended:
                return status
            time.sleep(POLL)


@contextlib.contextmanager
def _display() -> Iterator[Callable[[JobStatus], None]]:
    if not sys.stderr.isatty():
        yield _PlainLines().show
        return
    with contextlib.closing(LiveLine(keep=True)) as line:
        yield line.show


class _PlainLines:
    """Prints a line whenever something has changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, status: JobStatus) -> None:
        step = f"  step {status.step_text}" if status.step_text else ""
        why = one_line(formatting.reason_so_far(status))
        line = f"{status.job.id[:8]}  {status.state_text}{step}  {why}".rstrip()
        without_countdown = _COUNTDOWN.sub("", line)
        if without_countdown != self._last:
            self._last = without_countdown
            note(line)


class LiveLine:
    """A live line; nothing where stderr is no terminal.

    Args:
        keep: leave the last line on the terminal; False where it stands between other output.
    """

    def __init__(self, keep: bool = False) -> None:
        self._keep = keep
        self._live: Live | None = None

    def show(self, status: JobStatus) -> None:
        """Draw the line."""
        if not sys.stderr.isatty():
            return
        if self._live is None:
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=console(sys.stderr), refresh_per_second=10, transient=not self._keep)
            self._live.start()
        self._live.update(formatting.live_line(status))

    def pause(self) -> None:
        """End the line until the next ``show``."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    close = pause


def report_outcome(status: JobStatus) -> int:
    """Print on stderr the end of the job's log and why it failed, if so.

    Args:
        status: the finished job.

    Returns:
        The exit code: 0 only for ``done``.
    """
    job = status.job
    if job.state == "done":
        return 0
    note(*(f"    {line}" for line in last_untold_lines(job.log_tail, job.reason)))
    code = f", exit code {job.exit_code}" if job.exit_code is not None else ""
    reason, *more = job.reason.split("\n")
    note(f"job {job.id} failed ({job.outcome}{code}): {reason}", *(f"    {line}" for line in more))
    return 1
