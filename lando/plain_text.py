"""Text of others made harmless for a terminal and for a log: the one filter of everything that is shown.

The name of a step, a reason, the name of a file or a cloud's message may hold anything. Characters that move
the cursor, begin a line, turn the direction of text or are not seen are shown as escapes (``\\x1b``).
"""

from __future__ import annotations

import json
import re

_OTHERS = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_ESCAPED = re.compile(rf"[\t\n{_OTHERS}]")
"""The characters of Unicode's categories Cc, Cf, Cs, Zl and Zp: https://www.unicode.org/reports/tr44/"""
_ESCAPED_OF_LINES = re.compile(f"[{_OTHERS}]")
_DECEIVING = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

# The control sequences of ECMA-48, section 5.4, in 7 bits: colours, and where the cursor goes.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


def one_line(text: str) -> str:
    """The text as one line: every control character is escaped, line ends and tabs too."""
    return _ESCAPED.sub(_escape, text)


def lines(text: str) -> str:
    """The same, but line ends (``\\n``) and tabs stay."""
    return _ESCAPED_OF_LINES.sub(_escape, text)


def log_lines(text: str) -> str:
    """The output of a program, as lines: without its colours and movements of the cursor.

    A carriage return ends a line: with it a program draws its progress over the line before.
    """
    return lines(re.sub(r"\r+\n?", "\n", _SEQUENCE.sub("", text)))


def is_one_line(text: str) -> bool:
    """Whether it has no control characters, no line ends, and nothing that turns the direction of other text.

    Characters that are not seen but belong to a script or an emoji, such as U+200D, are allowed: a person may
    write them.
    """
    return text.isprintable() or _DECEIVING.search(text) is None


def json_text(text: str) -> str:
    """JSON with the control characters in its texts escaped that JSON itself allows, such as U+009B."""
    return _ESCAPED_OF_LINES.sub(lambda found: json.dumps(found[0])[1:-1], text)


def _escape(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]
