"""Following one job to its end: a live line on a terminal, a line per change elsewhere. All on stderr."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lando.cli import formatting
from lando.errors import LandoError
from lando.views.jobs import JobStatus, Views

if TYPE_CHECKING:
    from rich.live import Live

LOOK = 0.1
"""Seconds between looks at the database, which is on this machine."""
_COUNTDOWN = re.compile(r"(?:not before|in) \d+ s\b")
"""What changes every second, and is no news."""


def follow(views: Views, job_id: str, before_each_look: Callable[[], None] = lambda: None) -> JobStatus:
    """Show the job until it has ended; the answer is how.

    Args:
        views: where to look.
        job_id: the job.
        before_each_look: called before each look at the database.

    Raises:
        LandoError: the job is not to be found (any more).
        KeyboardInterrupt: the person has seen enough; the job goes on.
    """
    with _display() as display:
        while True:
            before_each_look()
            status = views.job(job_id)
            if status is None:
                raise LandoError(f"job {job_id} is not to be found any more")
            display(status)
            if status.ended:
                return status
            time.sleep(LOOK)


@contextlib.contextmanager
def _display() -> Iterator[Callable[[JobStatus], None]]:
    if not sys.stderr.isatty():
        yield _PlainLines().show
        return
    from rich.live import Live  # noqa: PLC0415

    with Live(console=formatting.console(sys.stderr), refresh_per_second=10) as live:
        yield lambda status: live.update(formatting.live_line(status))


class LiveLine:
    """A live line while something else is printed now and then; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def show(self, status: JobStatus) -> None:
        """Show how the job is now."""
        if not sys.stderr.isatty():
            return
        if self._live is None:
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=formatting.console(sys.stderr), refresh_per_second=10, transient=True)
            self._live.start()
        self._live.update(formatting.live_line(status))

    def pause(self) -> None:
        """Take the line away, until it is shown again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    close = pause


class _PlainLines:
    """A line whenever something changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, status: JobStatus) -> None:
        step = f"  step {status.step_text}" if status.step_text else ""
        line = f"{status.job.id[:8]}  {status.state_text}{step}  {formatting.one_line(status.reason)}"
        lasting = _COUNTDOWN.sub("", line)
        if lasting != self._last:
            self._last = lasting
            print(line, file=sys.stderr, flush=True)


def report_outcome(status: JobStatus) -> int:
    """Say on stderr how the job failed; the exit code: 0 only for done."""
    if status.job.state == "done":
        return 0
    code = f", exit code {status.job.exit_code}" if status.job.exit_code is not None else ""
    print(f"job {status.job.id} failed ({status.job.outcome}{code}): {status.job.reason}", file=sys.stderr)
    for line in formatting.last_lines(status.job.log_tail):
        print(f"    {line}", file=sys.stderr)
    return 1
