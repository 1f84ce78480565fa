"""Text in Graphviz's HTML-like labels. Source: https://graphviz.org/doc/info/shapes.html#html"""

from __future__ import annotations

import html
import re
import textwrap
from typing import NamedTuple

from lando.views.diagram.layout import Size

WRAP_BOX = 39
WRAP_LABEL = 24
"""Characters of a line in a box, and beside an arrow."""
TITLE, TEXT, SMALL = 16, 11, 10
"""Sizes of the font, in points."""
LINE_HEIGHT = {TITLE: 21.0, TEXT: 15.0, SMALL: 14.0}
CHARACTER_WIDTH = 6.2
"""Of a bold character of the small size, in points, on average."""


class Text(NamedTuple):
    """A label: lines of markup, each with the size of its font."""

    lines: tuple[tuple[str, int], ...]

    @property
    def size(self) -> Size:
        """Estimated: Graphviz knows the true widths, but only when it draws."""
        longest = max((len(_plain(line)) for line, _ in self.lines), default=0)
        return Size(longest * CHARACTER_WIDTH, sum(LINE_HEIGHT[size] for _, size in self.lines))

    def table(self, width: float, space_above: int = 0) -> str:
        """The label as a table, whose lines begin at its left side.

        Args:
            width: of the table, in points, if its lines are not longer.
            space_above: points above the first line.
        """
        rows = f'<TR><TD HEIGHT="{space_above}"></TD></TR>' if space_above else ""
        rows += "".join(
            f'<TR><TD ALIGN="LEFT">{font(line, None if size == SMALL else size)}</TD></TR>'
            for line, size in self.lines
        )
        return f'<<TABLE BORDER="0" WIDTH="{width:.0f}" CELLSPACING="0" CELLPADDING="1">{rows}</TABLE>>'


def wrapped(text: str, heading: str = "") -> list[str]:
    """A text of a box, with an italic heading, as lines of markup."""
    lines = textwrap.wrap(f"{heading} {text}".strip(), WRAP_BOX, break_on_hyphens=False) if text else []
    escaped = [html.escape(line) for line in lines]
    if heading and escaped:
        escaped[0] = f"<I>{heading}</I>{escaped[0].removeprefix(heading)}"
    return escaped


def bold(text: str) -> str:
    """Bold markup."""
    return f"<B>{html.escape(text)}</B>"


def italic(text: str) -> str:
    """Italic markup."""
    return f"<I>{html.escape(text)}</I>"


def font(markup: str, size: int | None = None, color: str | None = None) -> str:
    """Markup with another size (in points) or color of the font."""
    attributes = (f' POINT-SIZE="{size}"' if size else "") + (f' COLOR="{color}"' if color else "")
    return f"<FONT{attributes}>{markup}</FONT>" if attributes else markup


def _plain(markup: str) -> str:
    return html.unescape(re.sub(r"<[^<>]*>", "", markup))
