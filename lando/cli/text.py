"""Text for terminals: aligned columns, counts, and foreign output made harmless."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LINE = 500
"""Characters of a line of foreign output that are shown."""
MAX_LINES = 20
"""Lines of the end of a log or a console that are shown."""
_COLOR_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def aligned(headings: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> str:
    """Columns of text; nothing is cut."""
    rows = [headings, *cells]
    widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def count(number: int, what: str) -> str:
    """A number with its noun: ``1 job``, ``1,024 jobs``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def one_line(text: str) -> str:
    """The first line of a text, harmless for a terminal."""
    first, *rest = text.strip().splitlines() or [""]
    return printable(f"{first} …" if rest else first)


def last_lines(text: str) -> list[str]:
    """The last lines of foreign output, harmless for a terminal."""
    return [printable(line) for line in without_colors(text).rstrip().splitlines()[-MAX_LINES:]]


def printable(line: str) -> str:
    """A line of foreign output, harmless for a terminal, and cut."""
    shown = escaped(line[:MAX_LINE], keep="\t")
    return shown if len(line) <= MAX_LINE else f"{shown} …"


def escaped(text: str, keep: str) -> str:
    """A text whose control characters are escaped, but for those to keep."""
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def without_colors(text: str) -> str:
    """The output of a console without its color codes, and with the line ends of files."""
    return _COLOR_CODES.sub("", text).replace("\r\n", "\n")
