"""The result of one check: a line of ``lando-fsm check``, or of the log of a daemon that starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True)
class CheckResult:
    """What was checked, the verdict, and a message that says what to do where it is not ok."""

    what: str
    verdict: Verdict
    message: str
