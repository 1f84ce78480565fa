"""The daemon: takes messages, fires, commits, acks; begins due effects and concludes them.

One thread decides and writes, turn after turn; a small pool does what waits for the cloud, and hands its
results back to the next turn. Nothing but rows survives a turn, so a daemon that dies is continued by the
next one.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from lando.cloud.interface import Cloud, CloudError, Server
from lando.cloud.snapshot import CloudSnapshot, SnapshotRequest, take_snapshot
from lando.daemon.effects import Effects
from lando.daemon.pool import Pool
from lando.engine import leaks
from lando.engine.engine import Admission, Engine, Taken
from lando.engine.leaks import CloudResource, Sweeper
from lando.engine.ledger import Effect, StateChange
from lando.engine.operations import DeleteServers, Operation, OperationResult
from lando.engine.outlook import QuotaView
from lando.errors import UsageError
from lando.failpoints import reach
from lando.messages import Malformed, Message, Origin, decode
from lando.states.job import LIVE_STATES
from lando.states.table import EffectKind
from lando.store.store import CLOUD_FACT, QUEUE_FACT, ROOM_FACT, Store, StoreUnavailable, Transaction
from lando.workqueue.interface import Delivery, QueueUnavailable, WorkQueue, whose

log = logging.getLogger("lando")

BATCH = 500
"""Messages a transaction."""
POOL = 8
"""Effects under way at the same time."""
CREATES = 6
"""How many of them may be creates: those that hang must not keep servers from being deleted."""
TICK = 1.0
"""Seconds between looks at the deadlines."""
UNSURE_WAIT = 0.05
"""Seconds between questions whether the queue has been read to its end."""
PAUSE = 30.0
"""Seconds without a turn after which the daemon must have been suspended: nothing was heard meanwhile."""
AFTER_DELETION = 3.0
"""Seconds after a deletion until the cloud is looked at: the server may be gone."""
OUTLOOK_LASTS = 60.0
"""Seconds for which at least what the quota left is believed."""
TELL_AGAIN = 300.0
"""Seconds between two lines of the log about a cloud that does not answer."""
LAST_MOMENTS = 3.0
"""Seconds that effects under way are waited for when the daemon ends."""
REMEMBERED: tuple[tuple[Origin, float], ...] = (("client", 30 * 86400.0), ("worker", 86400.0))
"""Seconds for which processed messages are remembered; workers' also have token and sequence number."""
TOLD_AT_ONCE = 10
"""Dead letters of one turn that are told one by one."""
FORGET_EVERY = 60.0
FORGET_AT_ONCE = 5000
"""Rows."""
CLOCK_STEP = 5.0
"""Seconds by which the clock must have been set, or the machine have slept, to matter."""


@dataclass(frozen=True)
class Finished:
    """An effect that the pool has carried out."""

    effect: Effect
    operation: Operation
    result: OperationResult


@dataclass(frozen=True)
class Numbers:
    """How much and how often; times in seconds."""

    max_workers: int
    observe: float
    """Between two looks at the cloud."""
    grace: float
    """Between two looks at its floating IPs."""


class Daemon:
    """One daemon over its parts, all made by ``lando.app.app``.

    Args:
        store: where everything is.
        queue: where messages come from.
        cloud: where servers are.
        engine: the rules.
        effects: the handlers.
        sweeper: finds leaked servers.
        numbers: how much and how often.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        cloud: Cloud,
        engine: Engine,
        effects: Effects,
        sweeper: Sweeper,
        numbers: Numbers,
    ) -> None:
        self._store = store
        self._queue = queue
        self._cloud = cloud
        self._engine = engine
        self._effects = effects
        self._sweeper = sweeper
        self._numbers = numbers
        self._pool = Pool(POOL)
        self._eyes = Pool(1)  # creates that hang keep nobody from looking
        self._finished: collections.deque[Finished] = collections.deque()
        self._sightings: collections.deque[CloudSnapshot] = collections.deque()
        self._under_way: dict[int, EffectKind] = {}
        self._looking = False
        self._sweeping: set[str] = set()
        self._swept: dict[str, CloudResource] = {}
        self._outlook = QuotaView(cloud.has_quota, max(OUTLOOK_LASTS, 3 * numbers.observe))
        self._obstacle: str | None = None
        self._blind_since: float | None = None
        self._cloud_reason = ""
        self._tell_of_blindness_at = 0.0
        self._cloud_news = True
        self._next_look = 0.0
        self._next_look_at_floating_ips = 0.0
        self._next_tick = 0.0
        self._next_forgetting = 0.0
        self._last_turn = time.time()
        self._clock_offset = time.time() - time.monotonic()
        self._disconnected_since: float | None = None
        self._disconnected_reason = ""
        self._queue_news = True
        self._listening_since: float | None = None
        self._has_read_backlog = False
        self._up_to_date = False
        self._stopping = False
        self._wait = 0.0

    # life

    def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Work until ``stop`` is called or a shutdown_server comes; then finish what is in hand.

        Args:
            ready: called once, when the queue has been read up to date for the first time.

        Raises:
            UsageError: a setting is wrong, as the first connection shows.
        """
        self._begin_life()
        trouble = 0
        told = False
        while not self._stopping:
            try:
                self._turn()
                trouble = 0
            except StoreUnavailable as error:
                trouble += 1
                self._pause(str(error), trouble)
            except UsageError:
                self._end_life()
                raise
            except Exception as error:
                log.exception("a turn failed; this is a bug in lando-fsm")
                trouble += 1
                self._pause(f"{type(error).__name__}: {error}", trouble)
            if self._listening_since is not None and not told:
                told = True
                ready()
        self._end_life()

    def stop(self) -> None:
        """End soon. May be called from a signal handler or another thread."""
        self._stopping = True
        self._queue.wake()

    def _begin_life(self) -> None:
        with self._store.transaction() as transaction:
            transaction.set_fact(
                "daemon", {"pid": os.getpid(), "host": socket.gethostname(), "started_at": time.time()}
            )
            hold = transaction.hold()
            if hold is not None and hold.kind == "site":
                transaction.set_hold(None)  # landoconfig.yml may have been mended

    def _end_life(self) -> None:
        deadline = time.monotonic() + LAST_MOMENTS
        with contextlib.suppress(QueueUnavailable, StoreUnavailable):
            while self._under_way and time.monotonic() < deadline:
                time.sleep(0.05)
                with self._store.transaction() as transaction:
                    self._conclude(transaction)
                self._log(transaction.changes)
        if self._under_way:
            log.info("%d effects are still under way; the next daemon takes them up", len(self._under_way))
        self._queue.close()

    def _pause(self, reason: str, trouble: int) -> None:
        """Nothing can be written down: take nothing from the queue for a while."""
        longest = min(30.0, 0.5 * 2.0 ** min(trouble, 10))
        wait = longest * random.uniform(0.5, 1.0)  # noqa: S311
        log.error("%s; trying again in %.1f s, nothing is lost", reason, wait)
        self._listening_since = None
        self._queue_news = True
        self._queue.rewind()
        deadline = time.monotonic() + wait
        while not self._stopping and time.monotonic() < deadline:
            time.sleep(0.05)

    # a turn

    def _turn(self) -> None:
        snapshots = len(self._sightings)  # the queue, read after these, knows more than they do
        self._up_to_date = False
        try:
            self._read_queue(snapshots)
        except QueueUnavailable as error:
            self._note_disconnection(str(error))
            time.sleep(0.1)  # a queue that fails at once must not make this loop spin
        self._notice_clock()
        self._work(snapshots if self._up_to_date else 0)

    def _read_queue(self, snapshots: int) -> None:
        deliveries = self._queue.receive(BATCH, self._wait)
        obstacle = self._queue.obstacle()
        if obstacle is None:
            self._note_connection()
        else:
            self._note_disconnection(obstacle)
        self._notice_clock()
        if deliveries:
            self._take_all(deliveries)
        to_be_judged = snapshots or self._listening_since is None or self._is_tick()
        if obstacle is not None or len(deliveries) == BATCH or not to_be_judged:
            return
        self._notice_clock()
        self._up_to_date = self._queue.is_read_up_to_date()
        if self._up_to_date:
            self._has_read_backlog = True
            if self._listening_since is None:
                self._listening_since = time.time()

    def _note_disconnection(self, reason: str) -> None:
        self._listening_since = None
        if self._disconnected_since is None:
            self._disconnected_since = time.time()
        if reason != self._disconnected_reason:
            self._disconnected_reason = reason
            self._queue_news = True
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._disconnected_since))
            log.error("disconnected from the work queue since %s: %s; trying again", since, reason)

    def _note_connection(self) -> None:
        if self._disconnected_since is None:
            return
        log.info("connected to the work queue, after %.1f s", time.time() - self._disconnected_since)
        self._disconnected_since = None
        self._disconnected_reason = ""
        self._queue_news = True

    def _notice_clock(self) -> None:
        """After a pause nothing was heard; after a step of the clock, times mean something else."""
        now = time.time()
        offset = now - time.monotonic()
        step = offset - self._clock_offset
        if abs(step) > CLOCK_STEP:
            log.warning(
                "the clock was set, or the machine slept: %+.0f s; all that is due moves with it", step
            )
            with self._store.transaction() as transaction:
                transaction.shift_times(step)
            self._clock_offset = offset
        if abs(now - self._last_turn) > PAUSE and self._listening_since is not None:
            log.warning("no turn for %.0f s: silence counts anew", now - self._last_turn)
            self._listening_since = None
        self._last_turn = now

    # messages

    def _take_all(self, deliveries: Sequence[Delivery]) -> None:
        messages = self._decode(deliveries)
        try:
            self._take_together(messages)
        except (QueueUnavailable, StoreUnavailable):
            raise
        except Exception:
            log.exception("a batch of %d messages failed; each is tried alone", len(messages))
            for delivery, message in messages:
                self._take_alone(delivery, message)

    def _decode(self, deliveries: Sequence[Delivery]) -> list[tuple[Delivery, Message]]:
        messages, malformed = [], []
        for delivery in deliveries:
            try:
                messages.append((delivery, decode(delivery.raw, delivery.origin)))
            except Malformed as error:
                malformed.append((delivery, str(error)))
        if malformed:
            self._bury(malformed)
        return messages

    def _bury(self, malformed: Sequence[tuple[Delivery, str]]) -> None:
        for delivery, reason in malformed[:TOLD_AT_ONCE]:
            log.warning("a message from %s went to the dead letters: %s", whose(delivery), reason)
        if len(malformed) > TOLD_AT_ONCE:
            log.warning("%d more went there", len(malformed) - TOLD_AT_ONCE)
        self._queue.dead_letter(malformed)

    def _take_together(self, messages: Sequence[tuple[Delivery, Message]]) -> None:
        with self._store.transaction() as transaction:
            self._engine.prefetch(transaction, [message for _, message in messages])
            taken = [self._take(transaction, delivery, message) for delivery, message in messages]
            reach("before-take-commit")
        # Before the ack, which may fail: when the messages come again, they are duplicates.
        self._log(transaction.changes)
        results = list(zip(messages, taken, strict=True))
        for (delivery, message), what in results:
            self._tell(delivery, message, what)
        reach("before-ack")
        self._queue.ack([delivery for (delivery, _), what in results if what.disposition != "unknown"])
        reach("after-ack")
        strays = [(delivery, what.detail) for (delivery, _), what in results if what.disposition == "unknown"]
        if strays:
            self._bury(strays)  # perhaps somebody else's: they can be requeued

    def _take_alone(self, delivery: Delivery, message: Message) -> None:
        try:
            self._take_together([(delivery, message)])
        except (QueueUnavailable, StoreUnavailable):
            raise
        except Exception as error:
            log.exception("message %s could not be taken", message.id)
            self._bury([(delivery, f"{type(error).__name__}: {error}")])

    def _take(self, transaction: Transaction, delivery: Delivery, message: Message) -> Taken:
        return self._engine.take(transaction, message, time.time(), delivery.sender)

    def _tell(self, delivery: Delivery, message: Message, taken: Taken) -> None:
        if taken.disposition == "shutdown":
            if not self._has_read_backlog:
                log.info("a shutdown_server from before this daemon's start is ignored")
            else:
                log.info("shutdown_server: ending")
                self._stopping = True
        elif taken.disposition not in ("taken", "unknown"):
            about = f"{message.type} {taken.job_id or ''}".strip()
            reason = f": {taken.detail}" if taken.detail else ""
            log.info("%s from %s %s%s", about, whose(delivery), taken.disposition, reason)

    # everything else

    def _work(self, snapshots: int) -> None:
        now = time.time()
        operations: list[tuple[Effect, Operation]] = []
        with self._store.transaction() as transaction:
            self._tell_of_queue(transaction)
            self._tell_of_cloud(transaction)
            self._conclude(transaction)
            leaked = self._take_snapshots(transaction, snapshots, now)
            if self._up_to_date and self._is_tick():
                self._next_tick = time.monotonic() + TICK
                self._check_deadlines(transaction, now)
            self._admit(transaction, now)
            self._begin(transaction, operations, time.time())
            wanted = self._what_to_look_for(transaction)
            self._forget(transaction, now)
            reach("before-work-commit")
        reach("after-work-commit")
        self._log(transaction.changes)
        for effect, operation in operations:
            self._under_way[effect.id] = effect.kind
            self._pool.submit(partial(self._carry_out, effect, operation))
        if any(isinstance(operation, DeleteServers) for _, operation in operations):
            self._next_look = min(self._next_look, time.monotonic() + AFTER_DELETION)
        if wanted is not None:
            self._looking = True
            self._eyes.submit(partial(self._look, wanted))
        for thing in leaked:
            self._sweep(thing)

    @contextlib.contextmanager
    def _guarded(self, transaction: Transaction, what: str) -> Iterator[None]:
        """A part whose failure is a bug, told in the log, and harms nothing else."""
        try:
            with transaction.part():
                yield
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("%s failed; this is a bug in lando-fsm", what)

    def _is_tick(self) -> bool:
        return time.monotonic() >= self._next_tick

    def _tell_of_queue(self, transaction: Transaction) -> None:
        """Write down, for ``status``, whether the queue can be heard."""
        if self._queue_news:
            transaction.set_fact(
                QUEUE_FACT,
                {"disconnected_since": self._disconnected_since, "words": self._disconnected_reason},
            )
            self._queue_news = False

    def _admit(self, transaction: Transaction, now: float) -> None:
        """Nobody is admitted while no cancel, and no result, can be heard, or what room there is not seen."""
        admission = Admission()
        if self._disconnected_since is None:
            obstacle = self._outlook.obstacle
            with self._guarded(transaction, "admission"):
                if obstacle is None:
                    admission = self._engine.admit(
                        transaction, now, self._numbers.max_workers, self._free_creates(), self._outlook.room
                    )
                elif transaction.next_queued(now) is not None:
                    admission = Admission(obstacle=obstacle)
        if admission.obstacle != self._obstacle:
            self._obstacle = admission.obstacle
            transaction.set_fact(ROOM_FACT, admission.obstacle)

    def _forget(self, transaction: Transaction, now: float) -> None:
        if time.monotonic() >= self._next_forgetting:
            self._next_forgetting = time.monotonic() + FORGET_EVERY
            for origin, seconds in REMEMBERED:
                if transaction.forget_processed(origin, now - seconds, FORGET_AT_ONCE) == FORGET_AT_ONCE:
                    self._next_forgetting = 0.0  # there is more

    def _conclude(self, transaction: Transaction) -> None:
        while self._finished:
            finished = self._finished.popleft()
            try:
                with transaction.part():
                    self._engine.conclude(
                        transaction, finished.effect, finished.operation, finished.result, time.time()
                    )
            except StoreUnavailable:
                self._finished.appendleft(finished)
                raise
            except Exception as error:
                log.exception("%s of job %s", finished.effect.kind, finished.effect.job_id)
                self._postpone(transaction, finished.effect, error)
            self._under_way.pop(finished.effect.id, None)
        reach("before-conclude-commit")

    def _postpone(self, transaction: Transaction, effect: Effect, error: Exception) -> None:
        wait = self._engine.pace.back_off(effect.tries)
        reason = f"{type(error).__name__}: {error}"
        transaction.postpone_effect(effect, time.time() + wait, effect.tries + 1, reason)

    def _begin(
        self, transaction: Transaction, operations: list[tuple[Effect, Operation]], now: float
    ) -> None:
        unsure = self._listening_since is None and self._disconnected_since is None
        self._wait = UNSURE_WAIT if unsure else TICK
        free, free_creates, creates = POOL - len(self._under_way), self._free_creates(), 0
        for effect in transaction.next_effects():
            if effect.id in self._under_way:
                continue
            if effect.due_at > now:
                self._wait = min(self._wait, effect.due_at - now)
                break
            creates += effect.kind == "create_server"
            if len(operations) >= free or (effect.kind == "create_server" and creates > free_creates):
                continue  # the next result makes a turn
            try:
                with transaction.part():
                    operation = self._engine.begin(transaction, effect, now)
            except StoreUnavailable:
                raise
            except Exception as error:
                log.exception("%s of job %s", effect.kind, effect.job_id)
                self._postpone(transaction, effect, error)
                continue
            if operation is None:
                self._wait = 0.0  # the job's next effect may be due
            else:
                operations.append((effect, operation))

    def _free_creates(self) -> int:
        return CREATES - sum(kind == "create_server" for kind in self._under_way.values())

    def _carry_out(self, effect: Effect, operation: Operation) -> None:
        reach("before-effect")
        result = self._effects.carry_out(operation)
        reach("after-effect")
        self._finished.append(Finished(effect, operation, result))
        self._queue.wake()

    def _check_deadlines(self, transaction: Transaction, now: float) -> None:
        if self._listening_since is None:
            return
        with self._guarded(transaction, "looking at deadlines"):
            jobs = transaction.jobs_in(("booting", "running"))
            for job, event in self._engine.overdue(jobs, now, self._listening_since):
                self._engine.fire(transaction, job, event)

    # observation

    def _what_to_look_for(self, transaction: Transaction) -> SnapshotRequest | None:
        """What the cloud is to be asked now; None: nothing."""
        if self._looking or self._sightings:
            return None  # what was seen last is to be taken first
        waiting, flavors = transaction.flavors() if self._cloud.has_quota else (False, ())
        now = time.monotonic()
        hurries = waiting and self._blind_since is None and not self._outlook.shows(flavors)
        if now < self._next_look and not hurries:
            return None
        self._next_look = now + self._numbers.observe
        floating_ips = self._cloud.floating_ips is not None and now >= self._next_look_at_floating_ips
        jobs = transaction.jobs_in(("booting", "running"))
        known = tuple(job.server_id for job in jobs if job.server_id is not None)
        return SnapshotRequest(known, flavors if waiting else None, floating_ips)

    def _look(self, wanted: SnapshotRequest) -> None:
        try:
            snapshot = take_snapshot(self._cloud, wanted)
            self._note_sight(snapshot.troubles)
            self._sightings.append(snapshot)
            self._queue.wake()
        except CloudError as error:
            self._note_sight((str(error),))
            self._next_look = max(self._next_look, time.monotonic() + (error.retry_after or 0.0))
        except Exception as error:
            log.exception("the cloud could not be looked at")
            self._note_sight((f"{type(error).__name__}: {error}",))
        finally:
            self._looking = False

    def _note_sight(self, troubles: Sequence[str]) -> None:
        """Tell when the cloud begins not to answer, and when it answers again."""
        reason = "; ".join(troubles)
        if reason == self._cloud_reason:
            return
        now = time.time()
        if not reason and self._blind_since is not None:
            log.info("the cloud answers again, after %.1f s", now - self._blind_since)
        if reason and (self._blind_since is None or now >= self._tell_of_blindness_at):
            self._tell_of_blindness_at = now + TELL_AGAIN
            log.error("the cloud cannot be asked: %s; trying again", reason)
        self._blind_since = (self._blind_since or now) if reason else None
        self._cloud_reason = reason  # which may have the id of a request in them, and differ each time
        self._cloud_news = True

    def _tell_of_cloud(self, transaction: Transaction) -> None:
        """Write down, for ``status``, whether the cloud answers."""
        if self._cloud_news:
            self._cloud_news = False
            since, reason = self._blind_since, self._cloud_reason
            transaction.set_fact(CLOUD_FACT, {"unreachable_since": since, "words": reason})
            if reason:
                self._outlook.fail(reason)

    def _take_snapshots(self, transaction: Transaction, count: int, now: float) -> list[CloudResource]:
        leaked: list[CloudResource] = []
        for _ in range(count):
            snapshot = self._sightings.popleft()
            with self._guarded(transaction, "looking at servers"):
                jobs = transaction.jobs_in(LIVE_STATES)
                self._outlook.take(snapshot, jobs)
                if snapshot.floating_ips is not None:
                    self._next_look_at_floating_ips = time.monotonic() + self._numbers.grace
                leaked += self._sweeper.leaked(snapshot, jobs, time.monotonic())
                self._count_swept(transaction, snapshot)
                for job, event in leaks.events(snapshot, jobs, now):
                    self._engine.fire(transaction, job, event)
                self._engine.notice_absence(transaction, {server.id for server in snapshot.servers}, now)
        return leaked

    # what is leaked

    def _sweep(self, thing: CloudResource) -> None:
        if thing.id not in self._sweeping:
            self._sweeping.add(thing.id)
            self._pool.submit(partial(self._delete_leaked, thing))

    def _delete_leaked(self, thing: CloudResource) -> None:
        what = leaks.described(thing)
        try:
            leaks.delete(self._cloud, thing)
            if thing.id not in self._swept:
                self._swept[thing.id] = thing
                log.warning("%s belongs to no job; its deletion was asked for", what)
        except Exception as error:
            log.warning("%s belongs to no job, and could not be deleted (yet): %s", what, error)
        finally:
            self._sweeping.discard(thing.id)

    def _count_swept(self, transaction: Transaction, snapshot: CloudSnapshot) -> None:
        """Count, for ``servers``, what had leaked and is gone: it is not listed any more."""
        listed = {server.id for server in snapshot.servers}
        listed.update(floating_ip.id for floating_ip in snapshot.floating_ips or ())
        for thing in tuple(self._swept.values()):
            is_known = isinstance(thing, Server) or snapshot.floating_ips is not None
            if is_known and thing.id not in listed:
                del self._swept[thing.id]
                transaction.count_swept(leaks.kind_of(thing))
                log.warning("%s, which belonged to no job, is gone", leaks.described(thing))

    def _log(self, changes: Sequence[StateChange]) -> None:
        for change in changes:
            log.info(
                "job %s  %s → %s  %s", change.job_id[:8], change.source or "new", change.target, change.reason
            )
