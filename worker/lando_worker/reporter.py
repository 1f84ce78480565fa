"""Reports to the daemon: signs of life, changes, log, and the end, each until it is delivered."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from lando import backoff
from lando.messages import Message
from lando.workqueue.interface import Publisher, QueueUnavailable
from lando_worker.log_buffer import Logbook
from lando_worker.spool import Spool

BETWEEN_CHANGES = 1.0
"""Seconds between two reports of changes; what changes sooner goes into one report."""
FIRST_WAIT = 0.1
LONGEST_WAIT = 30.0
"""Seconds between two tries to reach the queue."""


class Reporter:
    """Sends what it is told from a thread of its own, so that a slow queue never holds up the workflow.

    Args:
        job, attempt, token: what the reports prove themselves with.
        spool: where reports wait.
        logbook: whose text goes into the reports.
        connect: makes a publisher.
        heartbeat: seconds between signs of life.
    """

    def __init__(
        self,
        job: str,
        attempt: int,
        token: str,
        *,
        spool: Spool,
        logbook: Logbook,
        connect: Callable[[], Publisher],
        heartbeat: float,
    ) -> None:
        self._proof: dict[str, Any] = {"job": job, "attempt": attempt, "token": token}
        self._spool = spool
        self._logbook = logbook
        self._connect = connect
        self._heartbeat = heartbeat
        self._publisher: Publisher | None = None
        self._state: dict[str, Any] = {}
        self._final: Mapping[str, Any] | None = None
        self._changed = False
        self._log_grew = False
        self._news = threading.Condition()
        self._reported_at = time.monotonic()
        self._change_reported_at = float("-inf")
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)

    def start(self, phase: str | None = None) -> None:
        """Begin to report: that the worker runs, where ``phase`` says so, and what earlier calls left."""
        if phase and not self._spool.closed:
            self._state["phase"] = phase
            self._add("worker_started", {"phase": phase})
        self._thread.start()

    def update(self, changes: Mapping[str, Any]) -> None:
        """Something changed: phase, step, steps, step_name or git_commit."""
        with self._news:
            self._state.update(changes)
            self._changed = True
            self._news.notify()

    def log_grew(self) -> None:
        """The logbook may have more: it goes with the next change, or a little later by itself."""
        if not self._log_grew:
            with self._news:
                self._log_grew = True
                self._news.notify()

    def finish(self, body: Mapping[str, Any]) -> None:
        """Report the end, after the rest of the log; returns once everything is delivered."""
        with self._news:
            self._final = body
            self._news.notify()
        self._thread.join()

    def _run(self) -> None:
        self._deliver()
        while not self._spool.closed:
            final = self._wait()
            if final is None:
                self._add_progress()
            else:
                self._add_end(final)
            self._deliver()
        if self._publisher:
            self._publisher.close()

    def _wait(self) -> Mapping[str, Any] | None:
        """Until a report is due; the body of the final report when that is the one."""
        with self._news:
            while self._final is None and (wait := self._due_at() - time.monotonic()) > 0:
                self._news.wait(wait)
            return self._final

    def _due_at(self) -> float:
        due = self._reported_at + self._heartbeat
        if self._log_grew:
            due = min(due, self._reported_at + BETWEEN_CHANGES)
        if self._changed:
            due = min(due, self._change_reported_at + BETWEEN_CHANGES)
        return due

    def _add_progress(self) -> None:
        with self._news:
            if self._changed:
                self._change_reported_at = time.monotonic()
            self._changed = False
            body = dict(self._state)
            log = self._logbook.take()
            self._log_grew = self._logbook.waiting
        if body.get("step_name"):
            body["step_name"] = self._logbook.masked(body["step_name"])
        self._add("worker_progress", {**body, "log": log})

    def _add_end(self, final: Mapping[str, Any]) -> None:
        while self._changed or self._logbook.waiting:
            self._add_progress()
        self._add("workflow_finished", {**final, "git_commit": self._state.get("git_commit")})

    def _add(self, kind: str, body: Mapping[str, Any]) -> None:
        self._reported_at = time.monotonic()
        self._spool.add(lambda seq: Message(kind, body=body, seq=seq, **self._proof))

    def _deliver(self) -> None:
        """Publish everything that waits, in order; never gives up."""
        failures = 0
        longest = min(LONGEST_WAIT, self._heartbeat)
        while (report := self._spool.first()) is not None:
            seq, raw = report
            try:
                self._publish(raw)
            except Exception as error:  # whatever it is, the report must get through
                print(f"lando: cannot report: {self._logbook.masked(str(error))}; trying again", flush=True)
                if not isinstance(error, QueueUnavailable):
                    self._disconnect()
                failures += 1
                self._pause(backoff.jittered(failures, FIRST_WAIT, longest))
            else:
                self._spool.delivered(seq)
                failures = 0

    def _pause(self, seconds: float) -> None:
        """The end does not wait until earlier reports are delivered: it is kept on disk at once."""
        with self._news:
            ended = self._news.wait_for(lambda: self._final is not None and not self._spool.closed, seconds)
        if ended and self._final is not None:
            self._add_end(self._final)

    def _publish(self, raw: bytes) -> None:
        if self._publisher is None:
            self._publisher = self._connect()
        self._publisher.publish(raw)

    def _disconnect(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher:
            with contextlib.suppress(Exception):
                publisher.close()
