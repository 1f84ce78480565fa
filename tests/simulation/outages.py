"""What is broken, and when."""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "nova", "keystone", "login", "neutron", "glance", "slow", "rate", "lists", "quota", "capacity",
    "creates", "answers", "builds", "workers",
    "broker", "disk", "lock",
]  # fmt: skip
"""What is broken:

nova, keystone      does not answer: nothing of the cloud can be read
login               Keystone refuses the account
neutron, glance     does not answer: no create is possible, all servers can be read
slow                half of all calls are answered after a minute only, which nobody waits for
rate                half of all calls are refused, since there are too many
lists               lists of servers lack some of them
quota               others use up the quota
capacity            builds end with "No valid host was found"
creates             creates are answered 500, and mostly make nothing; everything else works
answers             half of the answers to creates are lost, and the servers exist; some are listed late
builds              every server that is built in that time ends in ERROR
workers             servers boot, but their workers cannot report, now or later
broker              the broker is down for everybody
disk                the disk is full: nothing can be committed
lock                another process locks the database
"""

KINDS: tuple[Kind, ...] = get_args(Kind)
OF_CLOUD: tuple[Kind, ...] = KINDS[: KINDS.index("broker")]


@dataclass(frozen=True)
class Outage:
    """Something is broken; times in seconds since the beginning."""

    kind: Kind
    start: float
    end: float


class Outages:
    """All outages of a simulation; they may overlap.

    Args:
        outages: in any order.
    """

    def __init__(self, outages: Iterable[Outage] = ()) -> None:
        self.all = sorted(outages, key=lambda outage: outage.start)
        self._spans = {kind: merged([each for each in self.all if each.kind == kind]) for kind in KINDS}

    def lasts(self, kind: Kind, now: float) -> bool:
        """Whether it is broken then."""
        return self.end_of(kind, now) is not None

    def end_of(self, kind: Kind, now: float) -> float | None:
        """When the outage ends that lasts then; None if none does."""
        spans = self._spans[kind]
        place = bisect.bisect_right(spans, (now, float("inf"))) - 1
        return spans[place][1] if place >= 0 and now < spans[place][1] else None

    def any_between(self, start: float, end: float) -> bool:
        """Whether anything is broken in that time."""
        return any(each.start < end and start < each.end for each in self.all)

    def of_cloud(self) -> list[tuple[float, float]]:
        """From when to when something of the cloud is broken."""
        return merged([each for each in self.all if each.kind in OF_CLOUD])


def merged(outages: Iterable[Outage]) -> list[tuple[float, float]]:
    """The spans of time that these cover together."""
    spans: list[tuple[float, float]] = []
    for outage in sorted(outages, key=lambda each: each.start):
        if spans and outage.start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], outage.end))
        else:
            spans.append((outage.start, outage.end))
    return spans
