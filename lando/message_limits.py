"""How large a message and each of its fields may be.

The worker keeps these limits before it sends, and ``lando.messages.decode`` keeps them again, since a worker
may be old or hostile. A text for people is shortened and says so; any other text that is longer is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COMMAND_BYTES = 1024 * 1024
"""Bytes of a client's message."""
REPORT_BYTES = 4 * 1024 * 1024
"""Bytes of a worker's message."""

FOR_PEOPLE: Mapping[str, int] = {
    "phase": 100,
    "step_name": 300,
    "log": 32 * 1024,
    "log_tail": 16 * 1024,
    "reason": 2000,
}
"""Characters of the texts of a report; longer ones are shortened."""
EXACT: Mapping[str, int] = {"git_commit": 100, "version": 40, "vm_name": 255}
"""Characters of the other texts of a body; longer ones are refused."""
REASON = FOR_PEOPLE["reason"]
"""Characters of any reason that is stored, whoever gives it."""
NAME = 200
"""Characters of a job's name, and of who submitted it."""

ID = 100
TOKEN = 200
"""Characters."""
ABILITIES, ABILITY = 50, 40
"""How many abilities a worker may name, and the characters of one."""

OUTPUTS_BYTES = 3 * 1024 * 1024
"""Bytes of an output object as JSON."""
BESIDE_OUTPUTS_BYTES = 256 * 1024
"""More bytes than the rest of a ``workflow_finished`` has."""
OUTPUTS_VALUES = 100_000
"""Objects, lists, texts, numbers and so on in an output object; a File has seven or eight."""
JOB_VALUES = 20_000
"""The same in a job file; a start-up script has no room for as many."""
COMMAND_VALUES, REPORT_VALUES = 50_000, 250_000
"""The same in a whole message: one with more is not even parsed."""
LARGEST = 2**1024
"""Integers are smaller: no float holds a larger one, and to write one takes the square of its digits."""
DEPTH = 100
"""Levels of nesting, of an output object and of a job file."""


OUT_OF_RANGE = "has a number that is out of range"
"""What ``excess`` says of a number that is not between -LARGEST and LARGEST."""


def shorten(text: str, most: int) -> str:
    """``text`` with at most ``most`` characters: what is too much is left out before its last quarter.

    The end is kept, since what is added to a reason later is added there.
    """
    if len(text) <= most:
        return text
    mark = f"… [{len(text) - most:,} characters left out] …"
    # The mark itself takes some, which are left out, too.
    mark = f"… [{len(text) - most + len(mark):,} characters left out] …"
    end = most // 4
    start = most - end - len(mark)
    return text[:start] + mark + text[-end:] if start > 0 else text[:most]


def shortened(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a report with every text for people within its limit."""
    return {
        key: shorten(value, FOR_PEOPLE[key]) if key in FOR_PEOPLE and isinstance(value, str) else value
        for key, value in body.items()
    }


def excess(value: object, values: int, depth: int = DEPTH) -> str | None:
    """What is too much in a JSON value: its values, its levels of nesting, or a number.

    Takes no longer than ``values`` values need, whatever is given.

    Returns:
        For example ``has more than 20,000 values``; None if it is within the limits.
    """
    level, count = [value], 1
    for _ in range(depth):
        inner: list[object] = []
        for each in level:
            type_ = each.__class__
            if type_ is dict:
                inner.extend(each.values())  # type: ignore[attr-defined]
            elif type_ is list:
                inner.extend(each)  # type: ignore[arg-type]
            elif type_ is not str and isinstance(each, (int, float)) and not -LARGEST < each < LARGEST:
                return OUT_OF_RANGE
            if count + len(inner) > values:
                return f"has more than {values:,} values"
        if not inner:
            return None
        level, count = inner, count + len(inner)
    if any(isinstance(each, (dict, list)) for each in level):
        return f"is nested more than {depth} levels deep"
    numbers = (each for each in level if isinstance(each, (int, float)))
    return None if all(-LARGEST < number < LARGEST for number in numbers) else OUT_OF_RANGE
