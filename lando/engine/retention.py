"""How long what has ended is kept, and what is left of a job's body without its secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lando.credentials import job_secrets
from lando.redaction import MASK, mask

SECRETS = 7 * 86400.0
KNOWN = 366 * 86400.0
"""Seconds for which it is at least known that a job was removed: no server or message of it is as late."""
JUMP, BELIEVED = 2 * 86400.0, 86400.0
"""The clock is not believed that has gone on by so many seconds while nobody looked, until it has gone on by
so many more: whoever has set it wrong has time to correct that."""


@dataclass(frozen=True)
class Retention:
    """Seconds from a job's end, or from the time at which a message was dead-lettered; None: for ever."""

    ended: float | None = None
    """The job, with its history and its log; not its results."""
    logs: float | None = None
    """Its log."""
    dead_letters: float | None = None
    secrets: float | None = SECRETS
    """The secrets that it was submitted with."""
    results: float | None = None
    """The files in its directory of outputs."""

    @property
    def least(self) -> float | None:
        """The shortest of them."""
        return min((each for each in vars(self).values() if each is not None), default=None)


@dataclass(frozen=True)
class BelievedClock:
    """The time that counts for what is removed: what is removed by a clock that was wrong is lost.

    Time that no daemon lived through counts, too. But a gap of more than JUMP counts only once the clock was
    seen to be beyond it twice, BELIEVED or more apart, however long the daemon runs each time.
    """

    at: float
    """Epoch seconds: the time that is believed."""
    seen_at: float | None = None
    """When it was first seen that the clock is further; None if it is not."""

    def next(self, now: float) -> BelievedClock:
        """What is believed when the daemon's clock shows ``now``."""
        if now - self.at <= JUMP:
            return BelievedClock(now)
        if self.seen_at is None or now < self.seen_at:
            return BelievedClock(self.at, now)
        if now - self.seen_at < BELIEVED:
            return self
        return BelievedClock(self.seen_at).next(now)


def without_secrets(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """A start_worker body, which need not be valid, with its secrets masked; None if it has none."""
    secrets = _secrets_of(body)
    if not secrets:
        return None
    masked: dict[str, Any] = _masked(dict(body), secrets)
    # What a rule finds by its place is masked as a whole where masking the text has left a part of it.
    rest = _secrets_of(masked)
    return _blanked(masked, rest) if rest else masked


def _secrets_of(body: Mapping[str, Any]) -> list[str]:
    return [secret for secret in job_secrets(body) if MASK not in secret]


def _masked(body: dict[str, Any], secrets: list[str]) -> Any:
    known = frozenset(secrets)

    def leaf(value: object) -> object:
        if isinstance(value, str):
            return MASK if value in known else mask(value, secrets)
        return MASK if _is_number(value) and str(value) in known else value

    return _with_leaves(body, leaf)


def _blanked(body: dict[str, Any], secrets: list[str]) -> Any:
    def leaf(value: object) -> object:
        is_shown = isinstance(value, str) and any(secret in value for secret in secrets)
        return MASK if is_shown or (_is_number(value) and str(value) in secrets) else value

    return _with_leaves(body, leaf)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _with_leaves(value: Any, leaf: Any) -> Any:
    """A copy of a JSON value, each text and number in it replaced by what ``leaf`` makes of it, keys too."""
    # Not by recursion: a message from the queue may be nested deeper than Python's stack.
    root: list[Any] = [value]
    left: list[tuple[Any, Any]] = [(root, 0)]
    while left:
        holder, place = left.pop()
        inner = holder[place]
        if isinstance(inner, dict):
            inner = holder[place] = {leaf(key): item for key, item in inner.items()}
            left += [(inner, key) for key in inner]
        elif isinstance(inner, list):
            inner = holder[place] = list(inner)
            left += [(inner, index) for index in range(len(inner))]
        else:
            holder[place] = leaf(inner)
    return root[0]
