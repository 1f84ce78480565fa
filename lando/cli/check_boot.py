"""``lando-fsm check --boot``: one VM, from the queue to its deletion, with the time that each phase took.

It is an ordinary job, for the daemon that is running or for one in this process. The job clones a repository
that does not exist, so it needs nothing but the VM, and ends by itself. A clone that fails as expected proves
that the image, the worker, its account on the queue, git, and the network between VM and queue work.
"""

from __future__ import annotations

import contextlib
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from lando.app.app import App
from lando.cli.common import ENDING_SIGNALS, send
from lando.cli.ensure_daemon import FallbackDaemon
from lando.cli.follow import LiveLine
from lando.cli.output import note
from lando.cli.submit import message_of, publish
from lando.cli.text import count, last_lines, one_line
from lando.cloud.check_result import CheckResult, Verdict
from lando.cloud.interface import CloudError
from lando.engine import boot_times
from lando.engine.ownership import CloudResource, described
from lando.errors import LandoError
from lando.messages import Message
from lando.states.job import Job, JobSpec
from lando.times import duration
from lando.views.job_status import JobStatus

POLL = 0.1
"""Seconds between two reads of the database."""
MISSING_REPOSITORY = "/nonexistent/lando-fsm-check"
CLONE_FAILED = "does not exist"
"""In git's message about it: the job ended as intended."""
PROTECTION = "lando: protection: "
READY_TIMEOUT = 10.0
"""Seconds that a daemon of this process may take to connect to its queue."""
RUN_TIMEOUT = 60.0
"""Seconds that the worker may take to fail."""
PRIORITY = 1_000_000
"""So that the check runs before queued jobs."""


def results(app: App) -> Iterator[CheckResult]:
    """Boot one VM; a result for each phase, as it ends.

    Args:
        app: its queue and cloud are tested.

    Raises:
        LandoError: the job could not be queued, or its state not be read.
        KeyboardInterrupt: Ctrl-C; nothing is left.
    """
    _refuse_to_start_other_jobs(app)
    interruptions: list[int] = []
    with contextlib.closing(FallbackDaemon(app)) as daemon:
        for ending in ENDING_SIGNALS:
            signal.signal(ending, lambda number, _: interruptions.append(number))
        message = _start_message(app)
        daemon.wait_until_ready(READY_TIMEOUT)
        publish(app, message)
        check = _BootCheck(app, message, daemon, interruptions)
        yield from check.follow()
        yield check.nothing_left()
    if interruptions:
        raise KeyboardInterrupt


def _refuse_to_start_other_jobs(app: App) -> None:
    """A daemon of this process would start all jobs that wait, and abandon them when the check has ended.

    Raises:
        LandoError: no daemon is running, and there are jobs for one.
    """
    views = app.views()
    if views.daemon().pid is None:
        others = views.count_unfinished() + views.unread()
        if others:
            raise LandoError(
                f"no daemon is running, and there is work for one ({count(others, 'job')}), which this check "
                "would start and then abandon; start `lando-fsm daemon`, and check again"
            )


def _start_message(app: App) -> Message:
    spec = JobSpec(
        git_clone=MISSING_REPOSITORY,
        cd=".",
        input={},
        run_cwl="nothing.cwl",
        name="boot check (fails on purpose)",
        attempts=1,
        run_timeout=RUN_TIMEOUT,
        priority=PRIORITY,
        labels={"check": "boot"},
    )
    app.server_requests.check(spec)
    return message_of(spec, str(uuid.uuid4()))


class _BootCheck:
    """The job's phases, and which of them were reported so far."""

    def __init__(self, app: App, message: Message, daemon: FallbackDaemon, interruptions: list[int]) -> None:
        self._app = app
        self._job_id = str(message.job)
        self._daemon = daemon
        self._interruptions = interruptions
        self._views = app.views()
        self._views.add_published(message, None)
        self._timeout = self._boot_timeout()
        self._begun = self._last = time.monotonic()
        self._reported: set[str] = set()
        self._floating_ips: set[str] = set()
        self._canceled_because = ""

    def _boot_timeout(self) -> float:
        configured = self._app.config.timeouts.boot
        with self._views.reading() as queries:
            recent = [] if queries is None else queries.boots()
        return boot_times.timeout(recent) if configured is None else configured

    def follow(self) -> Iterator[CheckResult]:
        """A result for each phase, until the job has finished.

        Raises:
            LandoError: the VM is not deleted in time, or the job does not exist any more.
        """
        with contextlib.closing(LiveLine()) as live_line:
            while True:
                self._daemon.ensure()
                status = self._views.job(self._job_id)
                if status is None:
                    raise LandoError(f"job {self._job_id} does not exist (any more)")
                for result in self._new_results(status.job):
                    live_line.pause()
                    yield result
                if status.ended:
                    return
                live_line.show(status)
                self._cancel_in_time(status)
                time.sleep(POLL)

    def _new_results(self, job: Job) -> Iterator[CheckResult]:
        if job.floating_ip is not None:
            self._floating_ips.add(job.floating_ip)
        for phase, detail in _reached(job):
            late = phase == "VM active" and "worker reported" in self._reported
            if phase not in self._reported and not late:
                yield self._phase(phase, detail)
        if job.state in ("terminating", "done", "failed") and "ended" not in self._reported:
            self._reported.add("ended")
            yield from _protection(job)
            yield self._verdict(job)
        if job.state == "failed":
            yield self._phase("VM deleted", "")
            yield from self._console(job)

    def _phase(self, phase: str, detail: str) -> CheckResult:
        """A phase that has just ended, and how long it took."""
        self._reported.add(phase)
        now = time.monotonic()
        took, self._last = now - self._last, now
        if phase == "worker reported":
            detail = f"{duration(now - self._begun)} after the job was queued"
        return CheckResult(phase, "ok", f"{duration(took):<10} {detail}".rstrip())

    def _verdict(self, job: Job) -> CheckResult:
        verdict = job.verdict or job.outcome
        if verdict == "workflow_failed" and job.heard_at is not None and CLONE_FAILED in job.reason:
            return self._phase("job started", "git works; there was nothing to clone, as intended")
        canceled = verdict == "canceled" and self._canceled_because
        return replace(self._phase("boot", canceled or one_line(job.reason)), verdict="wrong")

    def _console(self, job: Job) -> Iterator[CheckResult]:
        saved = self._views.console(job.id)
        if saved is not None:
            lines = last_lines(saved[1])
            message = "the last lines of the VM's console:" if lines else "the VM's console is empty"
            yield CheckResult("console", "warning", "\n".join((message, *lines)))

    def _cancel_in_time(self, status: JobStatus) -> None:
        """Cancel the job where waiting cannot help; a booting one has a deadline of its own."""
        job, waited = status.job, time.monotonic() - self._last
        if job.state == "terminating" or self._canceled_because:
            if waited > self._timeout:
                raise LandoError(
                    f"job {self._job_id} has not finished after {duration(waited)}: {status.reason}; "
                    f"`lando-fsm status {self._job_id[:8]}` shows its state"
                )
        elif self._interruptions:
            note("canceling; waiting until cleanup has finished")
            self._cancel("interrupted")
        elif job.state == "queued" and job.attempt:
            self._cancel(f"back in the queue: {job.reason}")
        elif job.state == "queued" and waited > self._timeout:
            self._cancel(f"not started after {duration(waited)}: {status.reason}")

    def _cancel(self, reason: str) -> None:
        self._canceled_because = reason
        send(self._app, Message("cancel_job", job=self._job_id))

    def nothing_left(self) -> CheckResult:
        """Whether the cloud still has a server or a floating IP of the job."""
        cloud = self._app.cloud
        try:
            servers = [server for server in cloud.servers() if server.job_id == self._job_id]
            addresses = [] if cloud.floating_ips is None else cloud.floating_ips.all()
        except CloudError as error:
            return CheckResult("nothing left", "wrong", f"the cloud cannot be asked: {error}")
        ours = [each for each in addresses if each.mark in self._floating_ips]
        left: list[CloudResource] = [*servers, *ours]
        if left:
            what = ", ".join(described(each) for each in left)
            return CheckResult("nothing left", "wrong", f"still there: {what}; see `lando-fsm servers`")
        return self._phase("nothing left", "no VM and no floating IP of the job is left")


def _protection(job: Job) -> Iterator[CheckResult]:
    """What the worker has printed about who can read its rights (``lando_worker.protection``)."""
    for line in job.log_tail.splitlines():
        _, found, told = line.partition(PROTECTION)
        if found:
            verdict: Verdict = "warning" if told.startswith("warning: ") else "ok"
            yield CheckResult("protection", verdict, one_line(told.removeprefix("warning: ")))


def _reached(job: Job) -> Iterator[tuple[str, str]]:
    """The phases that have ended, in their order, each with a detail."""
    if job.attempt:
        yield "admitted", f"job {job.id}"
    if job.server_id is not None:
        yield "VM created", f"{job.server_name} ({job.server_id})"
    if job.server_ip is not None:
        yield "VM active", job.server_ip
    if job.heard_at is not None:
        yield "worker reported", ""
