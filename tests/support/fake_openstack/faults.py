"""Injected faults, and the counters of calls."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

Work = Literal["none", "once", "twice"]
Ending = Literal["close", "reset", "cut"]


@dataclass
class Fault:
    """A fault that happens to some calls. Fields that are not set change nothing.

    The usual ones: a request that never arrived is ``Fault(calls, ending="close")``; an answer that was lost
    is ``Fault(calls, work="once", ending="close")``; duplicates are ``Fault(calls, work="twice", ...)``; a
    proxy that times out is ``Fault(calls, work="once", hang=60, status=504, html=True)``.
    """

    calls: str
    """Which calls: labels such as ``POST compute /servers``, with ``*`` and ``?`` as wildcards."""
    nth: int | None = None
    """Only the nth of these calls since the fault was added, from 1."""
    share: float = 1.0
    """The probability that it happens to one of these calls."""
    times: int | None = None
    """How often it happens, at most."""
    work: Work = "none"
    """How often the cloud carries out the call nevertheless."""
    hang: float = 0.0
    """Seconds before the answer, or before the connection is closed."""
    status: int | None = None
    """Status of the answer that replaces the cloud's."""
    message: str = "Injected by the test."
    """The message of that answer."""
    html: bool = False
    """Answer with an HTML page, as a proxy in front of the service does."""
    retry_after: str | None = None
    """The header Retry-After: seconds, or a date."""
    ending: Ending | None = None
    """The connection is closed or reset without an answer, or within the answer."""
    surface_after: float = 0.0
    """Seconds for which no list shows the last server that the call created."""
    seen: int = field(default=0, init=False)
    """Matching calls so far."""
    happened: int = field(default=0, init=False)
    """How many of them it happened to."""

    def __post_init__(self) -> None:
        if self.work == "none" and self.status is None and self.ending in (None, "cut"):
            raise ValueError(f"{self}: a call that is not carried out has no answer; set status or ending")

    def strikes(self, label: str, chance: random.Random) -> bool:
        """Whether it happens to this call, which is counted."""
        if not fnmatchcase(label, self.calls):
            return False
        self.seen += 1
        if self.nth not in (None, self.seen) or self.happened == self.times:
            return False
        if chance.random() >= self.share:
            return False
        self.happened += 1
        return True


class Faults:
    """The active faults; the first that matches a call happens.

    Args:
        seed: of the random ones.
    """

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Activate a fault, and return it, for its counters."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def strike(self, label: str) -> Fault | None:
        """The fault that happens to this call."""
        with self._lock:
            return next((fault for fault in self._faults if fault.strikes(label, self._chance)), None)

    def describe(self) -> list[dict[str, Any]]:
        """All of them with their counters, as JSON."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]


class Calls:
    """How often each call arrived, with and without faults, by label."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, label: str) -> None:
        """Count a call."""
        with self._lock:
            self._counts[label] += 1

    def count(self, pattern: str = "*") -> int:
        """Calls whose label matches, such as ``GET compute /servers/*``."""
        with self._lock:
            return sum(n for label, n in self._counts.items() if fnmatchcase(label, pattern))

    def by_label(self) -> dict[str, int]:
        """All counts, the largest first."""
        with self._lock:
            return dict(self._counts.most_common())

    def clear(self) -> None:
        """Reset the counters."""
        with self._lock:
            self._counts.clear()

    def __str__(self) -> str:
        return "\n".join(f"{n:7} {label}" for label, n in self.by_label().items())
