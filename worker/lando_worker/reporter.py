"""Sends reports to the daemon: heartbeats, changes, log and the end. Each is retried until delivered."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from lando import backoff
from lando.message_limits import EXACT, shortened
from lando.messages import Message
from lando.workqueue.interface import Publisher, QueueFull, QueueUnavailable
from lando_worker.log_buffer import LogBuffer
from lando_worker.spool import Spool

MIN_INTERVAL = 1.0
"""Seconds between two reports of changes; what changes within them is reported together."""
LONG_LOG_INTERVAL = 4.0
"""Seconds between two reports of nothing but log, once it is a long one."""
FIRST_WAIT, LONGEST_WAIT = 0.1, 30.0
"""Seconds between two tries to publish; never longer than the heartbeat."""
FULL_WAIT = 1.0, 2.0
"""The same, at random between these, if too many reports wait: the daemon makes room all the time, and should
not have to wait for the reports of workers that are well."""


class Reporter:
    """Publishes from a thread of its own, so that a slow queue never delays the workflow.

    Args:
        job: its id; each report carries it, ``attempt`` and ``token``, and the daemon verifies them.
        attempt: see ``job``.
        token: see ``job``.
        spool: keeps reports until they are delivered.
        log: goes into the reports.
        connect: makes a publisher.
        heartbeat: seconds between two reports when nothing changes.
    """

    def __init__(
        self,
        job: str,
        attempt: int,
        token: str,
        *,
        spool: Spool,
        log: LogBuffer,
        connect: Callable[[], Publisher],
        heartbeat: float,
    ) -> None:
        self._proof: dict[str, Any] = {"job": job, "attempt": attempt, "token": token}
        self._spool = spool
        self._log = log
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

    def start(self, phase: str | None = None, about: Mapping[str, Any] | None = None) -> None:
        """Start to report; delivers what an earlier process left in the spool, too.

        Args:
            phase: of the work; reported as the worker's start. None if the worker does not run the job.
            about: what else the worker's start says.
        """
        if phase and not self._spool.closed:
            self._state["phase"] = phase
            self._add("worker_started", {"phase": phase, **(about or {})})
        self._thread.start()

    def update(self, changes: Mapping[str, Any]) -> None:
        """Report a change of phase, step, steps, step_name or git_commit, each within its limit."""
        fit = self._fit(changes)
        with self._news:
            self._state.update(fit)
            self._changed = True
            self._news.notify()

    def log_grew(self) -> None:
        """The log may have grown: it is reported with the next change, or within seconds."""
        if not self._log_grew:
            with self._news:
                self._log_grew = True
                self._news.notify()

    def finish(self, body: Mapping[str, Any]) -> None:
        """Report the end, after the rest of the log. Returns once everything is delivered."""
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
                self._add_final(final)
            self._deliver()
        if self._publisher:
            self._publisher.close()

    def _wait(self) -> Mapping[str, Any] | None:
        """Wait until a report is due. Returns the body of the final report if it is that one."""
        with self._news:
            while self._final is None and (wait := self._due_at() - time.monotonic()) > 0:
                self._news.wait(wait)
            return self._final

    def _due_at(self) -> float:
        due = self._reported_at + self._heartbeat
        if self._log_grew:
            interval = LONG_LOG_INTERVAL if self._log.is_long else MIN_INTERVAL
            due = min(due, self._reported_at + interval)
        if self._changed:
            due = min(due, self._change_reported_at + MIN_INTERVAL)
        return due

    def _add_progress(self) -> None:
        with self._news:
            if self._changed:
                self._change_reported_at = time.monotonic()
            self._changed = False
            body = dict(self._state)
            log = self._log.take()
            self._log_grew = self._log.has_pending
        self._add("worker_progress", {**body, "log": log})

    def _add_final(self, final: Mapping[str, Any]) -> None:
        while self._changed or self._log.has_pending:
            self._add_progress()
        self._add("workflow_finished", {**final, "git_commit": self._state.get("git_commit")})

    def _fit(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What the daemon takes: a report that it refuses is lost, and then the VM seems to be silent."""
        masked = {
            key: self._log.masked(value) if isinstance(value, str) else value
            for key, value in changes.items()
        }
        return {
            key: None if key in EXACT and isinstance(value, str) and len(value) > EXACT[key] else value
            for key, value in shortened(masked).items()
        }

    def _add(self, kind: str, body: Mapping[str, Any]) -> None:
        self._reported_at = time.monotonic()
        fit = shortened(body)
        self._spool.add(lambda seq: Message(kind, body=fit, seq=seq, **self._proof))

    def _deliver(self) -> None:
        """Publish all reports of the spool, in order. Retries without limit."""
        failures = 0
        longest = min(LONGEST_WAIT, self._heartbeat)
        while (report := self._spool.first()) is not None:
            seq, raw = report
            try:
                self._publish(raw)
            except Exception as error:  # retry after any error
                print(f"lando: cannot report: {self._log.masked(str(error))}; retrying", flush=True)
                if not isinstance(error, QueueUnavailable):
                    self._disconnect()
                if isinstance(error, QueueFull):
                    self._pause(min(random.uniform(*FULL_WAIT), longest))  # noqa: S311
                    continue
                failures += 1
                self._pause(backoff.jittered(failures, FIRST_WAIT, longest))
            else:
                self._spool.remove(seq)
                failures = 0

    def _publish(self, raw: bytes) -> None:
        if self._publisher is None:
            self._publisher = self._connect()
        self._publisher.publish(raw)

    def _disconnect(self) -> None:
        publisher, self._publisher = self._publisher, None
        if publisher:
            with contextlib.suppress(Exception):
                publisher.close()

    def _pause(self, seconds: float) -> None:
        """Wait; if the work ends meanwhile, add the final report to the spool, on disk, at once."""
        with self._news:
            ended = self._news.wait_for(lambda: self._final is not None and not self._spool.closed, seconds)
        if ended and self._final is not None:
            self._add_final(self._final)
