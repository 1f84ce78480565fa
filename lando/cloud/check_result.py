"""What a look at one thing that jobs need has found: a line of ``check``, or of the daemon's log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class CheckResult:
    """What was looked at, how it is, and in words, which say what to do where it is not ok."""

    what: str
    verdict: Verdict
    words: str
