"""What goes wrong on purpose, and what was called."""

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
    """One thing that goes wrong with some calls. What is left out is as without the fault.

    The usual ones: a request that never arrived is ``Fault(calls, ending="close")``; an answer that was lost
    is ``Fault(calls, work="once", ending="close")``; twins are ``Fault(calls, work="twice", ...)``; a proxy
    that gives up is ``Fault(calls, work="once", hang=60, status=504, html=True)``.
    """

    calls: str
    """Which calls: labels such as ``POST compute /servers``, with ``*`` and ``?`` as in file names."""
    nth: int | None = None
    """Only the nth of these calls, counted from 1 since the fault was added."""
    share: float = 1.0
    """The random part of these calls that it happens to."""
    times: int | None = None
    """How often it happens at most."""
    work: Work = "none"
    """What the cloud does all the same."""
    hang: float = 0.0
    """Seconds before the answer, or before the connection ends."""
    status: int | None = None
    """Answered instead of the cloud's own answer."""
    words: str = "Injected by the test."
    """The message in that answer."""
    html: bool = False
    """Answer as a proxy in front of the service does: a page, not JSON."""
    retry_after: str | None = None
    """The header Retry-After: seconds, or a date."""
    ending: Ending | None = None
    """Instead of an answer: the connection is closed, is reset, or ends amid the answer."""
    surface_after: float = 0.0
    """Seconds for which no list shows the last server that the call made."""
    seen: int = field(default=0, init=False)
    """Matching calls so far."""
    happened: int = field(default=0, init=False)
    """How many of them it happened to."""

    def __post_init__(self) -> None:
        if self.work == "none" and self.status is None and self.ending in (None, "cut"):
            raise ValueError(f"{self}: a call that is not carried out has no answer; say status or ending")

    def strikes(self, label: str, chance: random.Random) -> bool:
        """Whether it happens to this call; counts it."""
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
    """The faults in force; the first that strikes a call is the one that happens.

    Args:
        seed: makes the random ones the same again.
    """

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> Fault:
        """Have it happen from now on; answers it, for its counters."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Have nothing go wrong any more."""
        with self._lock:
            self._faults.clear()

    def strike(self, label: str) -> Fault | None:
        """What goes wrong with this call."""
        with self._lock:
            return next((fault for fault in self._faults if fault.strikes(label, self._chance)), None)

    def describe(self) -> list[dict[str, Any]]:
        """All of them with their counters, as JSON."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]


class Calls:
    """How often each call arrived, struck by a fault or not, by label."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, label: str) -> None:
        """Count one."""
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
        """Start again from none."""
        with self._lock:
            self._counts.clear()

    def __str__(self) -> str:
        return "\n".join(f"{n:7} {label}" for label, n in self.by_label().items())
