"""Effects that are due: begun in a transaction, carried out by a pool, concluded in a later transaction.

While the cloud does not answer, one deletion at a time is tried, a back-off apart: the others would meet the
same.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from lando.daemon.effects import Effects
from lando.daemon.log import log
from lando.daemon.meter import NO_METER, Meter
from lando.daemon.pool import Pool
from lando.engine.ledger import Effect
from lando.engine.operations import DeleteServers, Operation, OperationResult, Trouble
from lando.engine.outbox import DELETIONS, Outbox
from lando.engine.pace import Pace
from lando.failpoints import reach
from lando.states.table import EffectKind
from lando.store.database import StoreUnavailable
from lando.store.transaction import Transaction

POOL = 8
"""Operations in progress at the same time."""
CREATES = 6
"""How many of them may be creates: if all hang, servers can still be deleted."""


@dataclass(frozen=True)
class Begun:
    """What was begun, to be carried out after the commit, and when the next effect is due."""

    operations: tuple[tuple[Effect, Operation], ...]
    next_due: float
    """Seconds from now; 0.0 for at once, infinite if nothing waits."""
    is_silent: bool = False
    """The cloud does not answer: deletions wait for one that succeeds."""

    @property
    def deletes(self) -> bool:
        """Whether a deletion is among them."""
        return any(isinstance(operation, DeleteServers) for _, operation in self.operations)


@dataclass(frozen=True)
class _Finished:
    effect: Effect
    operation: Operation
    result: OperationResult
    history: int
    """Of the database, in which it was begun; see ``Dispatcher.begin_anew``."""


class Dispatcher:
    """Carries effects out.

    Args:
        outbox: the rules for effects.
        effects: the handlers.
        pace: the back-off of an effect whose rule failed.
        wake: makes the loop collect what is finished.
        meter: told of each operation.
    """

    def __init__(
        self,
        outbox: Outbox,
        effects: Effects,
        pace: Pace,
        wake: Callable[[], None],
        meter: Meter = NO_METER,
    ) -> None:
        self._outbox = outbox
        self._effects = effects
        self._pace = pace
        self._meter = meter
        self._pool: Pool[_Finished] = Pool(POOL, wake)
        self._finished: collections.deque[_Finished] = collections.deque()
        self._in_progress: dict[int, EffectKind] = {}
        self._failed_deletions = 0
        """How many failed since one succeeded."""
        self._next_deletion = 0.0
        """When one may be tried while the cloud does not answer; seconds of the monotonic clock."""
        self._was_silent = False
        self._history = 0
        self._strays = self._ended_strays = 0
        """Operations in progress that the database may not know of any more, and how many of them ended."""

    def begin_anew(self) -> None:
        """The database has another history, which may lack the last transactions of the one before: effects
        that were begun in those may be missing, and others have their ids."""
        self._strays += len(self._in_progress) - len(self._finished)
        self._history += 1
        self._finished.clear()
        self._in_progress.clear()

    def have_strays_ended(self) -> bool:
        """Whether the last of those that ``begin_anew`` found in progress has ended since this was asked."""
        had_strays = self._strays > 0
        self._strays, self._ended_strays = self._strays - self._ended_strays, 0
        return had_strays and not self._strays

    @property
    def in_progress(self) -> int:
        """How many operations are in progress, or finished and not concluded."""
        return len(self._in_progress)

    @property
    def _is_deleting(self) -> bool:
        return any(kind in DELETIONS for kind in self._in_progress.values())

    @property
    def free_creates(self) -> int:
        """How many creates can be sent now; none while a stray may be one for the same job."""
        if self._strays:
            return 0
        return CREATES - sum(kind == "create_server" for kind in self._in_progress.values())

    def conclude(self, transaction: Transaction, now: float) -> None:
        """Give the results of finished operations their effect."""
        for finished in self._pool.collect():
            if finished.history == self._history:
                self._finished.append(finished)
            else:
                self._ended_strays += 1
            self._meter.carried_out(finished.effect.kind, finished.result)
        while self._finished:
            finished = self._finished.popleft()
            try:
                with transaction.part():
                    self._outbox.conclude(
                        transaction, finished.effect, finished.operation, finished.result, now
                    )
            except StoreUnavailable:
                self._finished.appendleft(finished)
                raise
            except Exception as error:
                self._rule_failed(transaction, finished.effect, error, now)
            self._in_progress.pop(finished.effect.id, None)
            if isinstance(finished.operation, DeleteServers):
                self._note_deletion(finished.result)
        reach("before-conclude-commit")

    def _note_deletion(self, result: OperationResult) -> None:
        if isinstance(result, Trouble):
            self._next_deletion = time.monotonic() + self._pace.back_off(self._failed_deletions)
            self._failed_deletions += 1
        else:
            self._failed_deletions = 0

    def begin(self, transaction: Transaction, now: float, is_cloud_silent: bool = False) -> Begun:
        """Begin the effects that are due, as far as the pool has threads for them.

        Args:
            transaction: the caller's.
            now: the daemon's clock.
            is_cloud_silent: the cloud's servers could not be listed when that was last tried.
        """
        is_silent = is_cloud_silent and self._failed_deletions > 0
        if self._was_silent and not is_silent:
            self._outbox.cloud_answers(transaction, now)
        wait, is_deleting = self._next_deletion - time.monotonic(), self._is_deleting
        free, free_creates, creates = POOL - len(self._in_progress), self.free_creates, 0
        operations: list[tuple[Effect, Operation]] = []
        next_due = math.inf
        for effect in transaction.next_effects(limit=POOL + 1):  # as many as may be in progress, and one more
            if effect.id in self._in_progress:
                continue
            if effect.due_at > now:
                next_due = min(next_due, effect.due_at - now)
                break
            creates += effect.kind == "create_server"
            if len(operations) >= free or (effect.kind == "create_server" and creates > free_creates):
                continue  # the next result wakes the loop
            try:
                with transaction.part():
                    operation = self._outbox.begin(transaction, effect, now)
            except StoreUnavailable:
                raise
            except Exception as error:
                self._rule_failed(transaction, effect, error, now)
                continue
            if operation is None:
                next_due = 0.0  # the job's next effect may be due
            elif is_silent and isinstance(operation, DeleteServers) and (is_deleting or wait > 0):
                next_due = min(next_due, math.inf if is_deleting else wait)
            else:
                is_deleting |= isinstance(operation, DeleteServers)
                operations.append((effect, operation))
        return Begun(tuple(operations), next_due, is_silent)

    def carry_out(self, begun: Begun) -> None:
        """Hand what was begun to the pool. The caller has committed: creates are recorded as sent."""
        self._was_silent = begun.is_silent
        for effect, operation in begun.operations:
            self._in_progress[effect.id] = effect.kind
            self._meter.carries_out(effect.kind)
            self._pool.submit(partial(_carry_out, self._effects, effect, operation, self._history))

    def stop(self) -> None:
        """Carry out nothing more."""
        self._pool.stop()

    def _rule_failed(self, transaction: Transaction, effect: Effect, error: Exception, now: float) -> None:
        log.exception("%s of job %s failed; this is a bug in lando-fsm", effect.kind, effect.job_id)
        wait = self._pace.back_off(effect.tries)
        reason = f"{type(error).__name__}: {error}"
        transaction.postpone_effect(effect, now + wait, effect.tries + 1, reason)


def _carry_out(effects: Effects, effect: Effect, operation: Operation, history: int) -> _Finished:
    """In a thread of the pool: one try, whose outcome is data."""
    reach("before-effect")
    result = effects.carry_out(operation)
    reach("after-effect")
    return _Finished(effect, operation, result, history)
