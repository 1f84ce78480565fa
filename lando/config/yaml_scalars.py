"""Plain scalars of YAML 1.2: which text is a number, ``true`` or nothing, and which number it is.

The patterns are those of ruamel.yaml, with which cwltool reads input objects, also where they differ from the
core schema (https://yaml.org/spec/1.2.2/#103-core-schema): ``1_000`` is a number, ``.5e3`` is text.
"""

from __future__ import annotations

import re

from lando.yaml_json import WrittenFloat

PATTERNS = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "float": (
        r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "int": (r"[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+", "-+0123456789"),
}
"""By YAML's name of the type: the pattern, and the characters with which a match may begin. The first that
matches counts."""
MAX_PREFIXED = 1000
"""Digits of a number that begins with 0b, 0o or 0x."""

_FLOAT = re.compile(r"([-+]?)([0-9_]*)(?:(\.)([0-9_]*))?(?:[eE]([-+]?[0-9]+))?")


def integer(text: str) -> int:
    """The whole number that ``text`` is.

    Raises:
        ValueError: it is none, or has too many digits.
    """
    digits = text.replace("_", "")
    prefixed = digits.lstrip("+-")[:2] in ("0b", "0o", "0x")
    if prefixed and len(digits) > MAX_PREFIXED:
        raise ValueError  # as for decimal digits: Python could not write the number as JSON
    return int(digits, 0 if prefixed else 10)


def floating(text: str) -> float:
    """The number that ``text`` is, with its digits.

    Raises:
        ValueError: it is none.
    """
    if text.lower().lstrip("+-") in (".inf", ".nan"):
        return float(text.replace(".", ""))
    match = _FLOAT.fullmatch(text)
    if match is None or not re.search("[0-9]", f"{match[2]}{match[4]}"):
        raise ValueError
    sign, whole, _, fraction, exponent = match.groups()
    return WrittenFloat(_json_number(sign, whole, fraction, exponent))


def _json_number(sign: str, whole: str, fraction: str | None, exponent: str | None) -> str:
    """The same number in JSON, of which ruamel.yaml makes the same digits as of the original.

    It leaves out a point at the end, hence ``e0``; takes an underscore in a fraction for a digit; writes
    ``.5e-3`` as 0.00050; and cannot write -0e0.
    """
    units = whole.replace("_", "").lstrip("0") or "0"
    digits = (fraction or "").replace("_", "")
    if exponent is None:
        digits += "0" * (len(fraction or "") - len(digits))
        exponent = None if digits else "0"
    elif not whole and not sign:
        digits += "0" * (len(digits) - len(digits.lstrip("0")) + 1)
    if sign == "-" and units == "0" and not digits:
        digits = "0"
    return (
        ("-" if sign == "-" else "")
        + units
        + (f".{digits}" if digits else "")
        + ("" if exponent is None else f"e{exponent}")
    )
