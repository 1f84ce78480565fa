"""``lando-fsm check --boot``: one VM from the queue to its deletion, with the time that each phase took.

It is an ordinary job, for the daemon that runs or for one in this process. What it is to clone is not there,
so it needs nothing but the VM, and ends by itself: how it ends shows whether the image, the worker, its
account, git, and the way to the queue are as they should be.
"""

from __future__ import annotations

import contextlib
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace

from lando.app.app import App
from lando.cli import formatting
from lando.cli.common import note, send
from lando.cli.ensure_daemon import FallbackDaemon
from lando.cli.follow import LiveLine
from lando.cli.submit import publish
from lando.cloud.check_result import CheckResult
from lando.cloud.interface import CloudError
from lando.engine import boot_times
from lando.engine.ownership import CloudResource, described
from lando.errors import LandoError
from lando.messages import Message
from lando.states.job import Job, JobSpec
from lando.views.jobs import JobStatus

LOOK = 0.1
"""Seconds between looks at the database."""
NOT_THERE = "/nonexistent/lando-fsm-check"
ENDS_WELL = "does not exist"
"""Git's words for it."""
READY_TIMEOUT = 10.0
"""Seconds that a daemon of this process may take to find its queue."""
RUN_TIMEOUT = 60.0
"""Seconds that the worker may take to find out."""
FIRST = 1_000_000
"""The priority: somebody waits for it."""


def results(app: App) -> Iterator[CheckResult]:
    """Boot one VM; a line for each phase, as it ends.

    Raises:
        LandoError: the job could not be queued, or what became of it not be seen.
        KeyboardInterrupt: somebody interrupted it; nothing is left.
    """
    _refuse_to_start_other_jobs(app)
    interruptions: list[int] = []
    with contextlib.closing(FallbackDaemon(app)) as daemon:
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, lambda number, _: interruptions.append(number))
        message = _start(app)
        daemon.wait_until_ready(READY_TIMEOUT)
        publish(app, message)
        check = _BootCheck(app, message, daemon, interruptions)
        yield from check.follow()
        yield check.what_is_left()
    if interruptions:
        raise KeyboardInterrupt


def _refuse_to_start_other_jobs(app: App) -> None:
    """A daemon of this process would begin what waits, and leave it when the check has ended.

    Raises:
        LandoError: no daemon is running, and there are jobs for one.
    """
    views = app.views()
    if views.daemon().pid is None:
        others = sum(not status.ended for status in views.jobs()) + views.unread()
        if others:
            jobs = "a job waits or is" if others == 1 else f"{others} jobs wait or are"
            raise LandoError(
                f"no daemon is running, and {jobs} in progress: this command would take that up, and then "
                "leave it; start `lando-fsm daemon`, and check again"
            )


def _start(app: App) -> Message:
    spec = JobSpec(
        git_clone=NOT_THERE,
        cd=".",
        input={},
        run_cwl="nothing.cwl",
        name="boot check (fails on purpose)",
        attempts=1,
        run_timeout=RUN_TIMEOUT,
        priority=FIRST,
        labels={"check": "boot"},
    )
    app.server_requests.check(spec)
    job = str(uuid.uuid4())
    return Message("start_worker", spec.as_body(), job=job, id=f"start-{job}")


class _BootCheck:
    """The job's way, and what was seen of it so far."""

    def __init__(self, app: App, message: Message, daemon: FallbackDaemon, interruptions: list[int]) -> None:
        self._app = app
        self._job_id = str(message.job)
        self._daemon = daemon
        self._interruptions = interruptions
        self._views = app.views()
        self._views.add_published(message, None)
        self._timeout = self._boot_timeout()
        self._begun = self._last = time.monotonic()
        self._told: set[str] = set()
        self._floating_ips: set[str] = set()
        self._given_up = ""

    def _boot_timeout(self) -> float:
        configured = self._app.config.timeouts.boot
        with self._views.reading() as queries:
            recent = [] if queries is None else queries.recent_boots()
        return boot_times.timeout(recent) if configured is None else configured

    def follow(self) -> Iterator[CheckResult]:
        """A line for each phase, until the job has ended.

        Raises:
            LandoError: the server is not deleted in time, or the job is gone.
        """
        with contextlib.closing(LiveLine()) as live_line:
            while True:
                self._daemon.ensure()
                status = self._views.job(self._job_id)
                if status is None:
                    raise LandoError(f"job {self._job_id} is not to be found any more")
                for result in self._news(status.job):
                    live_line.pause()
                    yield result
                if status.ended:
                    return
                live_line.show(status)
                self._give_up_in_time(status)
                time.sleep(LOOK)

    def _news(self, job: Job) -> Iterator[CheckResult]:
        if job.floating_ip is not None:
            self._floating_ips.add(job.floating_ip)
        for what, words in _reached(job):
            if what not in self._told and not (what == "server up" and "worker reported" in self._told):
                yield self._phase(what, words)
        if job.state in ("terminating", "done", "failed") and "ended" not in self._told:
            self._told.add("ended")
            yield self._verdict(job)
        if job.state == "failed":
            yield self._phase("server deleted", "")
            yield from self._console(job)

    def _phase(self, what: str, words: str) -> CheckResult:
        """A phase that ended just now, and how long it took."""
        self._told.add(what)
        now = time.monotonic()
        took, self._last = now - self._last, now
        if what == "worker reported":
            words = f"{formatting.duration(now - self._begun)} after the job was queued"
        return CheckResult(what, "ok", f"{formatting.duration(took):<10} {words}".rstrip())

    def _verdict(self, job: Job) -> CheckResult:
        verdict = job.verdict or job.outcome
        if verdict == "workflow_failed" and job.heard_at is not None and ENDS_WELL in job.reason:
            return self._phase("job begun", "its git answers; there was nothing to clone, as intended")
        words = (
            self._given_up if verdict == "canceled" and self._given_up else formatting.one_line(job.reason)
        )
        return replace(self._phase("boot", words), verdict="wrong")

    def _console(self, job: Job) -> Iterator[CheckResult]:
        saved = self._views.console(job.id)
        if saved is not None:
            lines = formatting.last_lines(saved[1])
            words = "the last lines of the server that failed:" if lines else "the server wrote nothing"
            yield CheckResult("console", "warning", "\n    ".join((words, *lines)))

    def _give_up_in_time(self, status: JobStatus) -> None:
        """Cancel the job where waiting cannot help; a booting one has a deadline of its own."""
        job, waited = status.job, time.monotonic() - self._last
        if job.state == "terminating" or self._given_up:
            if waited > self._timeout:
                raise LandoError(
                    f"job {self._job_id} has not ended after {formatting.duration(waited)}: {status.reason}; "
                    f"`lando-fsm status {self._job_id[:8]}` tells what becomes of it"
                )
        elif self._interruptions:
            note("canceling; waiting until nothing is left")
            self._cancel("interrupted")
        elif job.state == "queued" and job.attempt:
            self._cancel(f"back in the queue: {job.reason}")
        elif job.state == "queued" and waited > self._timeout:
            self._cancel(f"not begun after {formatting.duration(waited)}: {status.reason}")

    def _cancel(self, words: str) -> None:
        self._given_up = words
        send(self._app, Message("cancel_job", job=self._job_id))

    def what_is_left(self) -> CheckResult:
        """Whether the cloud has anything yet that carries the job's marks."""
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
            return CheckResult(
                "nothing left", "wrong", f"{what}; `lando-fsm servers` shows what becomes of it"
            )
        return self._phase("nothing left", "no server and no floating IP carries the job's marks")


def _reached(job: Job) -> Iterator[tuple[str, str]]:
    """The phases that have ended, in their order."""
    if job.attempt:
        yield "admitted", f"job {job.id}"
    if job.server_id is not None:
        yield "create answered", f"server {job.server_name} ({job.server_id})"
    if job.server_ip is not None:
        yield "server up", job.server_ip
    if job.heard_at is not None:
        yield "worker reported", ""
