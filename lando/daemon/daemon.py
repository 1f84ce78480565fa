"""The daemon: one loop that takes messages, judges what the cloud shows, and carries effects out.

One thread decides and writes. The threads of the pools call the cloud and return results, nothing else. All
state is in the database: whatever kills the daemon, the next one continues.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from lando.cloud.interface import Cloud
from lando.daemon.abandon import abandon
from lando.daemon.admit import Admitter
from lando.daemon.checkpoints import Checkpoints
from lando.daemon.clock import Clock
from lando.daemon.deadline_check import DeadlineCheck
from lando.daemon.dispatch import Dispatcher
from lando.daemon.effects import Effects
from lando.daemon.health import BootHealth, DatabaseHealth, QueueHealth
from lando.daemon.log import log, log_changes
from lando.daemon.meter import NO_METER, Meter
from lando.daemon.receive import Receiver
from lando.daemon.retention import RetentionWork
from lando.daemon.retry import announce_retry
from lando.daemon.services_check import ServicesCheck
from lando.daemon.sweep import Sweep
from lando.daemon.unknown import Unknown
from lando.daemon.watch import Watcher
from lando.engine.admission import Admission
from lando.engine.engine import Engine
from lando.engine.leaks import Sweeper
from lando.engine.outbox import Outbox
from lando.errors import DatabaseUnusable, UsageError
from lando.failpoints import reach
from lando.store.conflicts import TRIES
from lando.store.database import StoreConflict, StoreUnavailable
from lando.store.facts import DAEMON_FACT
from lando.store.store import Store
from lando.workqueue.interface import QueueUnavailable, WorkQueue

FENCE_WAIT = 0.05
"""Seconds to wait for messages while a fence is asked for, and not met."""
LAST_OPERATIONS = 3.0
"""Seconds for which a daemon that stops waits for the operations in progress."""
CLOSE_TIMEOUT = 1.0
"""Seconds that the work queue has to be closed."""


class Daemon:
    """One daemon over its parts, all made by ``lando.app``.

    Args:
        store: all state.
        queue: where messages come from.
        cloud: where servers are.
        engine: the rules.
        effects: the handlers of effects.
        sweeper: finds leaked servers.
        max_workers: how many jobs may own a server at the same time.
        observe: seconds between two snapshots of the cloud.
        grace: seconds between two lists of its floating IPs, and for which what is gone must be missing.
        disk: who fills the disk, if it is full; asked when the database cannot be written.
        retention: removes what has ended; None: nothing is removed.
        state_dir: where an outage of the database is recorded; None: nowhere.
        meter: told what the daemon does.
    """

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        cloud: Cloud,
        engine: Engine,
        effects: Effects,
        sweeper: Sweeper,
        *,
        max_workers: int,
        observe: float,
        grace: float,
        disk: Callable[[], str] = lambda: "",
        retention: RetentionWork | None = None,
        state_dir: Path | None = None,
        meter: Meter = NO_METER,
    ) -> None:
        self._outbox = outbox = Outbox(engine)
        self._store = store
        self._queue = queue
        self._engine = engine
        self._history = store.history
        self._database_health = DatabaseHealth(state_dir)
        self._meter = meter
        self._queue_health = QueueHealth()
        self._boot_health = BootHealth()
        self._clock = Clock(store, engine)
        self._retention = retention
        forget = (lambda: None) if retention is None else retention.hurry
        self._receiver = Receiver(
            store, queue, engine, self._queue_health, self._clock, self.stop, forget, meter
        )
        self._dispatcher = Dispatcher(outbox, effects, engine.pace, queue.wake, meter)
        self._sweep = Sweep(cloud, sweeper, queue.wake, meter=meter)
        self._unknown = Unknown(sweeper.deployment, grace)
        self._watcher = Watcher(
            cloud, engine, outbox, self._sweep, self._unknown, observe, grace, queue.wake, meter
        )
        every = max(engine.policy.hold, observe)
        self._services = ServicesCheck(cloud, every, engine.policy.hold_longest, queue.wake)
        admission = Admission(engine, max_workers)
        self._admitter = Admitter(admission, self._watcher.quota, self._services, self._unknown)
        self._deadlines = DeadlineCheck(engine, self._receiver)
        self._checkpoints = Checkpoints(store)
        self._disk = disk
        self._snapshot_since: float | None = None
        self._wait = 0.0
        self._has_begun = False
        self._stopping = False
        self._on_stop: Callable[[], None] = lambda: None

    def run(
        self, ready: Callable[[], None] = lambda: None, on_stop: Callable[[], None] = lambda: None
    ) -> None:
        """Work until ``stop`` is called or a shutdown_server arrives; then conclude what is in progress.

        Args:
            ready: called once, when the queue was read up to date for the first time.
            on_stop: called as soon as the end is asked for, by whichever thread asks.

        Raises:
            UsageError: a setting is wrong, as the first connection shows.
            DatabaseUnusable: it is damaged, or was removed or replaced: nothing was done from then on.
        """
        self._on_stop = on_stop
        failures = conflicts = 0
        is_ready = False
        while not self._stopping:
            try:
                if failures:
                    self._reach_database()
                if not self._has_begun:
                    self._begin()
                begun = time.monotonic()
                self._iterate()
                self._meter.turned(time.monotonic() - begun - self._receiver.waited)
                failures = conflicts = 0
                self._database_health.works()
            except DatabaseUnusable as error:
                self._dispatcher.stop()
                self._sweep.stop()
                if self._retention is not None:
                    self._retention.stop()
                raise abandon(self._store, error) from error
            except StoreUnavailable as error:
                conflicts = conflicts + 1 if isinstance(error, StoreConflict) else TRIES
                if conflicts < TRIES:
                    self._meter.retried()
                    self._forget()  # no message is in hand: what they do is tried again by itself
                    continue
                failures += 1
                reason = "; ".join(filter(None, (str(error), self._disk())))
                self._database_health.failed(reason)
                self._meter.failed("database", str(error))
                self._pause(reason, failures)
            except UsageError:
                self._end()
                raise
            except Exception as error:
                log.exception("an iteration of the daemon failed; this is a bug in lando-fsm")
                failures += 1
                self._meter.failed("bug", f"{type(error).__name__}: {error}")
                self._pause(f"{type(error).__name__}: {error}", failures)
            if self._receiver.listening_since is not None and not is_ready:
                is_ready = True
                ready()
        self._end()

    def stop(self) -> None:
        """Stop soon. May be called from another thread."""
        self._stopping = True
        self._queue.wake()
        self._on_stop()

    def look(self) -> None:
        """Look at the database soon: its file is not the same any more. May be called from another thread."""
        self._queue.wake()

    def _iterate(self) -> None:
        """Take messages, then do everything else; each in a transaction of its own.

        Without the queue the rest goes on: effects are concluded and servers deleted, but no job is admitted,
        no snapshot judged, and no deadline checked. A snapshot is judged, and a deadline counts, once
        everything was taken that was queued before it came.
        """
        if self._dispatcher.have_strays_ended():
            self._look_anew()
        snapshots = self._watcher.collect()  # first: the fence is asked for after the snapshot was taken
        if not snapshots:
            self._snapshot_since = None
        elif self._snapshot_since is None:
            self._snapshot_since = time.monotonic()
        if self._needs_fence():
            self._receiver.request_fence()
        self._receiver.receive(self._wait)
        if self._stopping:
            return  # begin nothing; ``_end`` concludes what is finished
        self._receiver.check_clock()
        self._work(snapshots)
        if self._retention is not None:
            self._retention.work(self._clock.now(), is_idle=self._wait > 0)
            self._wait = min(self._wait, self._retention.next_look)

    def _needs_fence(self) -> bool:
        """Whether something waits until everything was taken that was queued before."""
        waits_since = [
            since for since in (self._snapshot_since, self._deadlines.waits_since) if since is not None
        ]
        return self._receiver.listening_since is None or any(
            not self._receiver.was_read_since(since) for since in waits_since
        )

    def _work(self, snapshots: int) -> None:
        now = self._clock.now()
        self._sweep.collect()
        may_judge = self._snapshot_since is not None and self._receiver.was_read_since(self._snapshot_since)
        with self._store.transaction() as transaction:
            self._queue_health.write(transaction)
            self._watcher.health.write(transaction)
            self._clock.record(transaction)
            self._unknown.hold_back(transaction)
            self._dispatcher.conclude(transaction, now)
            judged = snapshots if may_judge else 0
            leaked = self._watcher.judge(transaction, judged, now, self._receiver.listening_since)
            self._unknown.write(transaction)
            self._unknown.hold_back(transaction)
            self._sweep.write(transaction)
            self._receiver.lost_jobs.write(transaction)
            self._deadlines.check(transaction, now)
            self._services.judge(transaction, now)
            connected = self._queue_health.disconnected_since is None
            self._admitter.admit(transaction, now, self._dispatcher.free_creates, connected)
            failures = transaction.boot_failures().at(now)
            begun = self._dispatcher.begin(transaction, self._clock.now(), self._watcher.is_cloud_silent)
            request = self._watcher.request(transaction)
            self._receiver.forget(transaction, now)
            reach("before-work-commit")
        reach("after-work-commit")
        log_changes(transaction.changes)
        self._meter.changed(transaction.changes)
        self._boot_health.note(failures)
        if may_judge:
            self._snapshot_since = None
        self._dispatcher.carry_out(begun)
        self._watcher.start(request, deleting=begun.deletes)
        self._services.start()
        self._sweep.delete(leaked)
        waits = connected and self._needs_fence()
        self._checkpoints.make()
        self._wait = min(begun.next_due, self._deadlines.next_look, FENCE_WAIT if waits else math.inf)

    def _pause(self, reason: str, failures: int) -> None:
        """Wait after an iteration that failed; messages that were not acked are received again."""
        self._receiver.rewind()
        self._forget()
        wait = announce_retry(reason, failures, self._database_health.failing_since)
        deadline = time.monotonic() + wait
        while not self._stopping and time.monotonic() < deadline:
            time.sleep(0.05)
            self._meter.alive()

    def _forget(self) -> None:
        """What was done in a transaction that failed was not done, or that is not known."""
        self._queue_health.write_again()
        self._watcher.health.write_again()
        self._watcher.project.write_again()
        self._unknown.write_again()
        self._sweep.write_again()
        self._receiver.lost_jobs.write_again()
        self._admitter.write_again()
        self._wait = 0.0

    def _reach_database(self) -> None:
        """After a failure: before any message is received, since a broker counts deliveries in vain; and look
        whether the database is what it was.

        Raises:
            StoreUnavailable: it cannot be used yet.
        """
        self._store.reach()
        if self._store.history == self._history:
            return
        log.warning("the database server was replaced by another one, which may lack the last transactions")
        self._history = self._store.history
        self._has_begun = False
        self._dispatcher.begin_anew()
        self._look_anew()

    def _look_anew(self) -> None:
        """Servers may exist that the database does not know of: no job is admitted before another look."""
        self._watcher.begin_anew()
        self._unknown.begin_anew()
        self._snapshot_since = None

    def _begin(self) -> None:
        with self._store.transaction() as transaction:
            daemon = {"pid": os.getpid(), "host": socket.gethostname(), "started_at": self._clock.now()}
            transaction.set_fact(DAEMON_FACT, daemon)
            self._clock.resume(transaction)
            self._outbox.resume(transaction, self._clock.now())
            # landoconfig.yml may have been corrected.
            transaction.set_holds(transaction.holds().without("site"))
            transaction.set_boot_failures(transaction.boot_failures().due(self._clock.now()))
        self._has_begun = True

    def _end(self) -> None:
        deadline = time.monotonic() + LAST_OPERATIONS
        with contextlib.suppress(QueueUnavailable, StoreUnavailable):
            while self._dispatcher.in_progress and time.monotonic() < deadline:
                time.sleep(0.05)
                with self._store.transaction() as transaction:
                    self._dispatcher.conclude(transaction, self._clock.now())
                log_changes(transaction.changes)
                self._meter.changed(transaction.changes)
        in_progress = self._dispatcher.in_progress
        if in_progress:
            log.info("%d operations are still in progress; the next daemon resumes them", in_progress)
        self._queue.close(CLOSE_TIMEOUT)
