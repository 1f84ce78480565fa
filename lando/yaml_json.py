"""The JSON of an input object: numbers stay as they are written, and YAML readers understand it the same.

CWL runners pass a number on as it is written: ``1.50`` as 1.50, ``1e-5`` as 0.00001. So a job's numbers keep
their digits from the job file to the runner, through the queue and the database, where they are JSON numbers
like any other. A program that reads them with another JSON reader has the right numbers, without the digits.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any


class WrittenFloat(float):
    """A float that keeps its text, which is a number of JSON (RFC 8259, section 6)."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> WrittenFloat:  # noqa: D102
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # what copies are made from
        return (self.text,)

    def __repr__(self) -> str:
        return self.text


def read_json(text: str | bytes) -> Any:
    """``json.loads``, with the floats as ``WrittenFloat``."""
    return json.loads(text, parse_float=WrittenFloat)


def write_json(value: object) -> str:
    """``value`` as JSON, each ``WrittenFloat`` as it is written.

    Raises:
        ValueError: a number is infinite or not a number.
    """
    pieces: list[str] = []
    _write(value, pieces)
    return "".join(pieces)


def yaml_safe_json(value: object) -> str:
    """``value`` as JSON, with the characters escaped that YAML reads differently.

    YAML takes an escaped surrogate pair for two characters, folds the line breaks of Unicode, and refuses
    control characters: https://yaml.org/spec/1.2.2/#51-character-set

    Raises:
        ValueError: a number is infinite or not a number.
    """
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]",
        lambda found: f"\\u{ord(found[0]):04x}",
        write_json(value),
    )


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def _write(value: object, pieces: list[str]) -> None:
    if isinstance(value, dict):
        before = "{"
        for key, item in value.items():
            pieces += before, _ENCODER.encode(key), ": "
            _write(item, pieces)
            before = ", "
        pieces.append("}" if value else "{}")
    elif isinstance(value, (list, tuple)):
        before = "["
        for item in value:
            pieces.append(before)
            _write(item, pieces)
            before = ", "
        pieces.append("]" if value else "[]")
    elif isinstance(value, WrittenFloat) and math.isfinite(value):
        pieces.append(value.text)
    else:
        pieces.append(_ENCODER.encode(value))
