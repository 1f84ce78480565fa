"""Shows what the explorations saw at the end of a test run, in parallel runs too."""

from __future__ import annotations

from typing import Any

SEEN = "exploration"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = terminalreporter.getreports("passed")
    lines = [value for report in reports for name, value in report.user_properties if name == SEEN]
    if lines:
        terminalreporter.section("explorations of the model")
        for line in lines:
            terminalreporter.write_line(line)
