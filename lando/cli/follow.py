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
from lando.views.jobs import Shown, Views

if TYPE_CHECKING:
    from rich.live import Live

LOOK = 0.1
"""Seconds between looks at the database, which is on this machine."""
_COUNTDOWN = re.compile(r"(?:not before|in) \d+ s\b")
"""What changes every second, and is no news."""


def follow(views: Views, job_id: str, at_each_look: Callable[[], None] = lambda: None) -> Shown:
    """Show the job until it has ended; the answer is how.

    Args:
        views: where to look.
        job_id: the job.
        at_each_look: called before each look.

    Raises:
        LandoError: the job is not to be found (any more).
        KeyboardInterrupt: the person has seen enough; the job goes on.
    """
    with _display() as display:
        while True:
            at_each_look()
            shown = views.job(job_id)
            if shown is None:
                raise LandoError(f"job {job_id} is not to be found any more")
            display(shown)
            if shown.ended:
                return shown
            time.sleep(LOOK)


@contextlib.contextmanager
def _display() -> Iterator[Callable[[Shown], None]]:
    if not sys.stderr.isatty():
        yield _Plain().show
        return
    from rich.live import Live  # noqa: PLC0415

    with Live(console=formatting.console(sys.stderr), refresh_per_second=10) as live:
        yield lambda shown: live.update(formatting.live_line(shown))


class Waiting:
    """A live line while something else is printed now and then; nothing where stderr is no terminal."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def show(self, shown: Shown) -> None:
        """Show how the job is now."""
        if not sys.stderr.isatty():
            return
        if self._live is None:
            from rich.live import Live  # noqa: PLC0415

            self._live = Live(console=formatting.console(sys.stderr), refresh_per_second=10, transient=True)
            self._live.start()
        self._live.update(formatting.live_line(shown))

    def pause(self) -> None:
        """Take the line away, until it is shown again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    close = pause


class _Plain:
    """A line whenever something changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, shown: Shown) -> None:
        step = f"  step {shown.step_text}" if shown.step_text else ""
        line = f"{shown.job.id[:8]}  {shown.state_text}{step}  {formatting.one_line(shown.why)}"
        lasting = _COUNTDOWN.sub("", line)
        if lasting != self._last:
            self._last = lasting
            print(line, file=sys.stderr, flush=True)


def verdict(shown: Shown) -> int:
    """Say on stderr how the job failed; the exit code: 0 only for done."""
    if shown.job.state == "done":
        return 0
    code = f", exit code {shown.job.exit_code}" if shown.job.exit_code is not None else ""
    print(f"job {shown.job.id} failed ({shown.job.outcome}{code}): {shown.job.reason}", file=sys.stderr)
    for line in formatting.last_lines(shown.job.log_tail):
        print(f"    {line}", file=sys.stderr)
    return 1
