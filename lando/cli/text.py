"""Text for people: aligned columns, counts, and foreign output that is cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lando import plain_text

MAX_LINE = 500
"""Characters of a line of foreign output that are shown."""
MAX_LINES = 20
"""Lines of the end of a log or a console that are shown."""
_LEVEL = re.compile(r"^\s*(?:\[[^]]*\] )?(?:WARNING|ERROR|CRITICAL) ")
"""How cwltool's errors begin in its log, with --timestamps or without."""
_ADVICE = ", try again with --debug for more information"
"""Of cwltool; reasons do not quote it."""


def aligned(headings: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines with columns of text; nothing is cut."""
    rows = [headings, *cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [line.rstrip() for line in lines]


def count(number: int, what: str) -> str:
    """A number with its noun: ``1 job``, ``1,024 jobs``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def one_line(text: str) -> str:
    """The first line of a text, harmless for a terminal, and cut."""
    first, *rest = text.strip().split("\n")
    return printable(f"{first} …" if rest else first)


def last_lines(text: str) -> list[str]:
    """The last lines of foreign output, harmless for a terminal, and cut."""
    return [printable(line) for line in plain_text.log_lines(text).rstrip().split("\n")[-MAX_LINES:]]


def last_untold_lines(text: str, told: str) -> list[str]:
    """The last lines of a log, but for those that ``told`` quotes: a failure is told once."""
    if not text.strip():
        return []
    words = " ".join(told.split())
    return [line for line in last_lines(text) if not _is_quoted(line, words)]


def _is_quoted(line: str, words: str) -> bool:
    bare = " ".join(_LEVEL.sub("", line).replace(_ADVICE, "").split())
    return bool(bare) and re.search(rf"(?<!\S){re.escape(bare)}(?=[;,.]?(?:\s|$))", words) is not None


def printable(line: str) -> str:
    """A line of foreign output, harmless for a terminal, and cut."""
    shown = plain_text.one_line(line[:MAX_LINE])
    return shown if len(line) <= MAX_LINE else f"{shown} …"
