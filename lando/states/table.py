"""What a row of the transition table says; the state files are written in these terms.

A row answers one event in one state: the job *moves*, *stays* (something is recorded), or the event is
*ignored* or *refused*, with the reason. Rows of one event are tried in their order; the last has no guard, so
that every event has an answer in every state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from lando.states.job import Job, State

Answer = Literal["moves", "stays", "ignored", "refused"]
EffectKind = Literal[
    "create_server", "attach_floating_ip", "delete_server", "delete_twins", "save_console_log"
]


@dataclass(frozen=True)
class Policy:
    """The site's time limits and back-offs; all in seconds."""

    boot_timeout: float = 20 * 60
    run_timeout: float | None = None
    retry_first: float = 10.0
    """Back-off after the first system failure; doubled with each further one."""
    retry_longest: float = 600.0
    hold: float = 30.0
    """Back-off after a create that was refused, or for which the cloud had no capacity, unless the cloud
    names a time; doubled by each further one in a row."""
    hold_longest: float = 600.0
    floating_ip: bool = False
    """Whether servers get a floating IP."""

    @property
    def longest_wait(self) -> float:
        """Seconds: no job is queued for longer before it may be admitted, unless the cloud names a time."""
        return max(self.retry_longest, self.hold_longest)


Guard = Callable[[Job, Any], bool]
Action = Callable[[Job, Any, Policy], Job]


@dataclass(frozen=True)
class StateText:
    """What a state means, for people."""

    name: State
    means: str
    waits_for: str
    deadline: str


@dataclass(frozen=True)
class Row:
    """One line of the table; made by ``moves``, ``stays``, ``ignored`` and ``refused``."""

    event: str
    answer: Answer
    why: str
    to: State | None = None
    when: Guard | None = None
    action: Action | None = None
    effects: tuple[EffectKind, ...] = ()


def moves(
    event: str,
    to: State,
    *,
    why: str,
    action: Action,
    when: Guard | None = None,
    effects: tuple[EffectKind, ...] = (),
) -> Row:
    """The job goes to another state, and these effects are added to the outbox, in this order."""
    return Row(event, "moves", why, to, when, action, effects)


def stays(
    event: str,
    *,
    why: str,
    action: Action,
    when: Guard | None = None,
    effects: tuple[EffectKind, ...] = (),
) -> Row:
    """The job stays in its state, and something about it is recorded."""
    return Row(event, "stays", why, None, when, action, effects)


def ignored(event: str, *, why: str, when: Guard | None = None) -> Row:
    """Nothing changes; the event is expected in this state."""
    return Row(event, "ignored", why, None, when)


def refused(event: str, *, why: str, when: Guard | None = None) -> Row:
    """Nothing changes, and the sender is told why; if the daemon itself fired the event, that is a bug."""
    return Row(event, "refused", why, None, when)
