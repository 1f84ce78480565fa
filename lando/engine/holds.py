"""Holds: what refused creates mean for the next ones. Plain records and pure rules.

The cloud refuses a create for one of these reasons:

- ``rate_limit``, ``unreachable``, and ``site`` where it is about the account or the cloud's address, as a
  refused login: the account's. No job is admitted for a while.
- ``quota``, ``site``: it is unclear whether every job would be refused, or only those with the same wishes
  (``JobSpec.wishes``). Jobs with those wishes wait, and one job with other wishes finds out. If its create is
  accepted, the refusal is those wishes' **own**: they back off alone. If it is refused, too, the refusal is
  the site's: no job is admitted for a while, then one at a time, with wishes that take turns. An outage may
  begin between an acceptance and a refusal, so that one of each proves little: a job fails when its wishes
  were refused, others accepted, its refused, others accepted, and its are refused again (``PROOFS``).
- ``capacity``, ``job``: that job's alone; there is no hold.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lando import backoff
from lando.states.records import replace

if TYPE_CHECKING:
    from lando.states.events import RefusalKind

ACCOUNT: tuple[RefusalKind, ...] = ("rate_limit", "unreachable")
UNCLEAR: tuple[RefusalKind, ...] = ("quota", "site")
OF_SERVICES: tuple[RefusalKind, ...] = ("unreachable", "site")
"""What creates may be refused for while a service of the cloud does not answer."""
LONGEST = 3600.0
"""Seconds: no hold ends later than this from now. One that does was written by a clock that was ahead."""
MEMORY = 3600.0
"""Seconds after its end for which a hold is remembered, so that the next refusal counts as another one."""
PROOFS = 2
"""Times that others are accepted after refusals of the same wishes before the next refusal fails its job."""
MOST = 64
"""Wishes whose holds are kept: those refused last."""
MOST_ACCEPTED = 8
"""Wishes that are remembered as accepted: the last."""


@dataclass(frozen=True)
class Hold:
    """Creates were refused, the last for ``reason``: there is no other until ``until`` (epoch seconds)."""

    kind: RefusalKind
    until: float
    reason: str
    times: int = 1
    """Refusals in a row."""
    own: bool = False
    """Other wishes were accepted since the first of these refusals."""
    account: bool = False
    """It says nothing about wishes: the account was refused."""
    proofs: int = 0
    """After how many of these refusals other wishes were accepted before the next one; at most ``PROOFS``."""
    proven: bool = False
    """Other wishes were accepted since the last of these refusals."""


@dataclass(frozen=True)
class Refusal:
    """A refused create, and how long that holds the next ones; all in seconds."""

    kind: RefusalKind
    reason: str
    """For people."""
    first: float
    """How long the first refusal holds; doubled by each further one in a row."""
    longest: float
    """Where the doubling stops."""
    longest_own: float
    """Where it stops for wishes that are refused alone."""
    retry_after: float | None = None
    """How long it holds where the cloud names a time."""
    account_wide: bool = False
    """See ``CreateRejected``."""

    @property
    def account(self) -> bool:
        """It says nothing about wishes."""
        return self.account_wide or self.kind in ACCOUNT

    def hold(self, before: Hold | None, now: float) -> Hold:
        """The hold after this refusal. Creates that were in progress together are refused together, and count
        as one.

        Args:
            before: the hold until now; None: there was none.
            now: the daemon's clock.
        """
        times, own, proofs, at_least = 1, False, 0, 0.0
        if before is not None:
            times = times_in_a_row(before.times, before.until, now)
            own, proofs, at_least = before.own, before.proofs, before.until
        wait = backoff.delay(times, self.first, self.longest_own if own else self.longest)
        if self.retry_after is not None:
            # What a proxy says of a service that is down is the same however long it is down.
            is_outage = self.kind == "unreachable" and times > 1
            wait = max(wait, self.retry_after) if is_outage else self.retry_after
        until = max(at_least, now + min(LONGEST, wait))
        return Hold(self.kind, until, self.reason, times, own, self.account, proofs)


def times_in_a_row(times: int, until: float, now: float) -> int:
    """How often a hold was set in a row, with the one that is set now.

    Creates that were in progress together fail together, before the hold that they set ends: they count once.

    Args:
        times: until now.
        until: when the last one ends or ended, epoch seconds.
        now: the daemon's clock.
    """
    return times + 1 if until <= now else max(1, times)


@dataclass(frozen=True)
class Holds:
    """All holds, and what decides which job finds out whether one is over."""

    everybody: Hold | None = None
    """The account's or the site's: no job is admitted until it ends, then one at a time."""
    refused: tuple[tuple[str, Hold], ...] = ()
    """By wishes, those refused last at the end."""
    accepted: tuple[str, ...] = ()
    """Wishes that were accepted lately: if these are refused, it is the site's."""
    turn: str = ""
    """The wishes whose turn was last while everybody is held."""
    flavor_turn: str = ""
    """The wishes that were tried last because they have another flavor."""
    probe: str | None = None
    """The id of the job that finds out, until its create is answered."""

    def of(self, wishes: str) -> Hold | None:
        """The hold of these wishes."""
        return next((hold for each, hold in self.refused if each == wishes), None)

    def closed(self, now: float) -> frozenset[str]:
        """The wishes that are not to be tried yet. While everybody is held, the turns decide about wishes
        whose refusals may be the site's."""
        return frozenset(
            wishes
            for wishes, hold in self.refused
            if hold.until > now and (hold.own or self.everybody is None)
        )

    def short(self, now: float) -> dict[str, Hold]:
        """The wishes that are refused alone for the quota: it may be enough once other jobs have ended."""
        return {
            wishes: hold
            for wishes, hold in self.refused
            if hold.own and hold.kind == "quota" and hold.until > now
        }

    @property
    def own(self) -> frozenset[str]:
        """The wishes that are refused alone."""
        return frozenset(wishes for wishes, hold in self.refused if hold.own)

    @property
    def unclear(self) -> frozenset[str]:
        """The wishes that were refused, and no others accepted since."""
        return frozenset(wishes for wishes, hold in self.refused if not hold.own)

    @property
    def proven(self) -> tuple[str, ...]:
        """Wishes that worked before, and the site's defaults."""
        return (*self.accepted, "")

    def at(self, now: float) -> Holds:
        """What counts now: without what ended long ago, and with no end later than can be."""
        everybody = None if self.everybody is None else _at(self.everybody, now)
        refused = tuple(
            (wishes, _at(hold, now)) for wishes, hold in self.refused if hold.until + MEMORY > now
        )
        return replace(self, everybody=everybody, refused=refused)

    def limited(self, latest: float) -> Holds:
        """The same with no hold that ends later than this (epoch seconds)."""
        everybody = self.everybody
        if everybody is not None:
            everybody = replace(everybody, until=min(everybody.until, latest))
        return replace(
            self, everybody=everybody, refused=_with_until(self.refused, lambda hold: min(hold.until, latest))
        )

    def without(self, kind: RefusalKind) -> Holds:
        """The same without the holds of this kind: what caused them may have been corrected."""
        everybody = None if self.everybody is not None and self.everybody.kind == kind else self.everybody
        return replace(
            self, everybody=everybody, refused=tuple(each for each in self.refused if each[1].kind != kind)
        )

    def due(self, kind: RefusalKind, now: float) -> Holds:
        """The same, with the holds of this kind ending now.

        Not those of wishes that are refused alone: these would be tried whenever one of many short jobs ends.
        """
        everybody = self.everybody
        if everybody is not None and everybody.kind == kind:
            everybody = replace(everybody, until=min(everybody.until, now))
        refused = _with_until(
            self.refused,
            lambda hold: min(hold.until, now) if hold.kind == kind and not hold.own else hold.until,
        )
        return replace(self, everybody=everybody, refused=refused)

    @property
    def doubt_services(self) -> bool:
        """Whether no job is admitted for a reason that services which do not answer may have."""
        return self.everybody is not None and self.everybody.kind in OF_SERVICES

    def after_services_answer(self, now: float) -> Holds:
        """All services answer again: the hold of everybody ends now. Those of single wishes do not, which may
        be refused for what they ask for."""
        everybody = self.everybody
        if everybody is None or everybody.kind not in OF_SERVICES:
            return self
        return replace(self, everybody=replace(everybody, until=min(everybody.until, now)))

    def answered(self, job_id: str) -> Holds:
        """The same once this job's create was answered."""
        return replace(self, probe=None) if self.probe == job_id else self

    def after_acceptance(self, wishes: str, now: float, was_probe: bool) -> Holds:
        """A create with these wishes was accepted: what others are refused is their own.

        Those that were refused while everybody was held may try at once. A hold of the account that still
        lasts began after this create was sent, unless it was the one that finds out.
        """
        others = tuple((each, _proven(hold)) for each, hold in self.refused if each != wishes)
        everybody = self.everybody
        if everybody is not None and not (everybody.account and everybody.until > now and not was_probe):
            everybody, others = None, _with_until(others, lambda hold: min(hold.until, now))
        known = self.accepted if wishes in self.accepted else (wishes, *self.accepted)
        return replace(self, everybody=everybody, refused=others, accepted=known[:MOST_ACCEPTED])

    def after_no_answer(self, wishes: str) -> Holds:
        """A create with these wishes was sent, and nobody knows whether it was accepted: it was not refused,
        and says nothing about others or the account."""
        account = self.everybody if self.everybody is not None and self.everybody.account else None
        return replace(
            self, everybody=account, refused=tuple(each for each in self.refused if each[0] != wishes)
        )

    def after_refusal(self, wishes: str, refusal: Refusal, now: float) -> Holds:
        """A create with these wishes was refused, for a reason of ``ACCOUNT`` or ``UNCLEAR``."""
        if refusal.account:
            return replace(self, everybody=refusal.hold(self.everybody, now))
        before = self.of(wishes)
        if before is not None and before.kind != refusal.kind:
            before = None  # it is refused for something else: whom that concerns is open again
        hold = refusal.hold(before, now)
        others = [each for each in self.refused if each[0] != wishes]
        after = replace(self, refused=(*others, (wishes, hold))[-MOST:])
        return replace(after, everybody=after._everybody_after(refusal, hold, now))

    def _everybody_after(self, refusal: Refusal, hold: Hold, now: float) -> Hold | None:
        before = self.everybody
        if before is not None and before.account and before.until <= now:
            before = None  # the cloud answers the account again
        if before is not None:
            return refusal.hold(before, now)
        if hold.own or len(self.unclear) < 2:
            return None
        times = max(each.times for _, each in self.refused if not each.own)
        return refusal.hold(Hold(refusal.kind, now, "", times - 1), now)

    def is_own(self, wishes: str, kind: RefusalKind, now: float) -> bool:
        """Whether a refusal that comes now is these wishes' own beyond doubt: they were refused for the same
        reason before, others were accepted after each of ``PROOFS`` refusals and after the last one, and
        nothing keeps everybody waiting."""
        before = self.of(wishes)
        return (
            self.everybody is None
            and before is not None
            and before.proven
            and before.proofs >= PROOFS
            and before.kind == kind
            and before.until <= now
        )


def flavor_of(wishes: str) -> str | None:
    """The flavor that these wishes name; None: the site's default."""
    flavor: str | None = _of(wishes).get("flavor")
    return flavor


def volume_of(wishes: str) -> int | None:
    """The size of the volume that these wishes ask for, GB; None: what the site has."""
    volume: int | None = _of(wishes).get("volume_size")
    return volume


@functools.lru_cache(maxsize=1024)
def _of(wishes: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(wishes) if wishes else {}
    return found


def _proven(hold: Hold) -> Hold:
    proofs = hold.proofs if hold.proven else min(PROOFS, hold.proofs + 1)
    return replace(hold, own=True, proofs=proofs, proven=True)


def _at(hold: Hold, now: float) -> Hold:
    return replace(hold, until=now) if hold.until > now + LONGEST else hold


def _with_until(
    refused: tuple[tuple[str, Hold], ...], until: Callable[[Hold], float]
) -> tuple[tuple[str, Hold], ...]:
    return tuple((wishes, replace(hold, until=until(hold))) for wishes, hold in refused)
