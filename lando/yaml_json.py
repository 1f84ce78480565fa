"""JSON that a YAML reader understands the same: CWL runners read parameters as YAML."""

from __future__ import annotations

import json
import re


def yaml_safe_json(value: object) -> str:
    """``value`` as JSON, with the characters escaped that YAML reads differently.

    YAML takes an escaped surrogate pair for two characters, folds the line breaks of Unicode, and refuses
    control characters: https://yaml.org/spec/1.2.2/#51-character-set

    Raises:
        ValueError: a number is infinite or not a number.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]",
        lambda found: f"\\u{ord(found[0]):04x}",
        text,
    )
