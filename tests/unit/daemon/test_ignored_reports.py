"""Ignored reports: the first of a job is logged at once, a flood in a few lines."""

from __future__ import annotations

import re

import pytest

from lando.daemon.ignored_reports import EVERY, LINES, MAX_JOBS, IgnoredReports

STALE, OVER = "the report is another attempt's", "the attempt has ended already"


class Ignored:
    """Counts over a clock that a test moves."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.now = 1.0
        self.ignored = IgnoredReports(lambda: self.now)
        self._caplog = caplog
        caplog.set_level("INFO", "lando")

    def add(self, *jobs: str, reason: str = STALE) -> None:
        for job in jobs:
            self.ignored.add(job, reason, "worker lando")

    def lines(self) -> list[str]:
        """The lines that are written now."""
        self._caplog.clear()
        self.ignored.write()
        return [record.getMessage() for record in self._caplog.records]


@pytest.fixture
def ignored(caplog: pytest.LogCaptureFixture) -> Ignored:
    return Ignored(caplog)


def test_the_first_is_logged_at_once_and_the_others_together(ignored: Ignored) -> None:
    assert ignored.lines() == []
    ignored.add("a")
    assert ignored.lines() == [f"job a: 1 report was ignored, from worker lando: {STALE}"]
    for _ in range(5):
        ignored.add("a", "a")
        ignored.add("a", reason=OVER)
        ignored.now += EVERY / 6
        assert ignored.lines() == []
    ignored.now += EVERY / 6 + 0.1
    assert ignored.lines() == [
        f"job a: 15 reports were ignored, from worker lando: 10 of them: {STALE}; 5 of them: {OVER}"
    ]
    ignored.now += EVERY + 0.1
    assert ignored.lines() == []
    ignored.add("a")
    assert len(ignored.lines()) == 1


def test_of_many_jobs_a_few_get_a_line_and_the_others_one_together(ignored: Ignored) -> None:
    ignored.add(*(f"job-{number}" for number in range(LINES + 15)), "job-20")
    lines = ignored.lines()
    assert len(lines) == LINES + 1
    assert lines[-1] == "16 reports about other jobs were ignored, too"


def test_a_flood_over_many_jobs_is_a_few_lines_and_loses_no_count(ignored: Ignored) -> None:
    lines: list[str] = []
    for second in range(100):
        ignored.now += 1.0
        ignored.add(*(f"job-{number}" for number in range(second % 7, 3 * MAX_JOBS, 7)))
        lines += ignored.lines()
        assert len(ignored.ignored._counts) <= MAX_JOBS
    ignored.now += 2 * EVERY
    lines += ignored.lines()
    ignored.now += 2 * EVERY
    ignored.add("another")
    lines += ignored.lines()
    assert len(lines) <= 7 * (LINES + 1)
    told = sum(int(re.findall(r"(\d+) reports? (?:was|were|about)", line)[0]) for line in lines)
    assert told == sum(len(range(second % 7, 3 * MAX_JOBS, 7)) for second in range(100)) + 1
