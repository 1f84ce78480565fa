"""The rules between the state machine and the world: what a message means for a job, and how an event is
fired.

Every rule runs inside one transaction that its caller commits, and touches nothing but that transaction:

    message -> take -> fire -> new record + history + effects, one commit -> ack

``admission`` has the rules for queued jobs, ``deadlines`` those for time, ``outbox`` those for effects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lando.engine import boot_times, workers
from lando.engine.ledger import Ledger, StateChange, make_due
from lando.engine.pace import Pace
from lando.errors import UsageError
from lando.messages import Message
from lando.states import actions, create_requests
from lando.states.events import (
    BootTimeout,
    Cancel,
    Event,
    Rejected,
    Report,
    Retry,
    WorkerProgress,
    WorkerStarted,
    WorkflowFinished,
)
from lando.states.job import Job, JobSpec
from lando.states.machine import MACHINE, Fired, JobMachine, fire
from lando.states.records import replace
from lando.states.table import Policy

COPIED = ("attempts", "priority", "boot_timeout", "run_timeout", "flavor", "wishes")
"""What a job's record copies from its job file."""

Disposition = Literal["taken", "duplicate", "ignored", "refused", "shutdown", "unknown"]


@dataclass(frozen=True)
class Taken:
    """The result of a message; ``detail`` says why."""

    disposition: Disposition
    detail: str = ""
    job_id: str | None = None


class Engine:
    """Fires events, and gives messages their effect.

    Args:
        policy: the time limits and back-offs of the state machine.
        pace: the waits of the engine.
        accept: makes a spec of a start_worker body, or raises UsageError with what is wrong.
        new_secret: a fresh random string, for marks and tokens.
        machine: the table to run; another one only in tests that break it on purpose.
        learns_boot: the boot timeout is learned from the last boots.
        needs: the settings that the worker of a job must know, from its start_worker body.
    """

    def __init__(
        self,
        policy: Policy,
        pace: Pace,
        accept: Callable[[Mapping[str, Any]], JobSpec],
        new_secret: Callable[[], str],
        machine: JobMachine = MACHINE,
        learns_boot: bool = False,
        needs: Callable[[Mapping[str, Any]], Collection[str]] = lambda body: (),
    ) -> None:
        self.policy = policy
        self.pace = pace
        self.new_secret = new_secret
        self._accept = accept
        self._machine = machine
        self._learns_boot = learns_boot
        self._needs = needs

    def fire(self, ledger: Ledger, job: Job, event: Event) -> Fired:
        """Answer an event: new record, history and effects, all in the caller's transaction."""
        fired = fire(job, event, self.policy, self._machine)
        if fired.answer in ("ignored", "refused"):
            return fired
        after = ledger.save_job(fired.job)
        if after.state != job.state:
            ledger.append_change(
                StateChange(job.id, event.at, event.name, job.state, after.state, after.reason, after.attempt)
            )
        for effect in fired.effects:
            ledger.add_effect(job.id, effect.kind, effect.servers, event.at)
        if after.state == "booting" and job.state != after.state:
            ledger.set_seen_at(event.at)  # the first live job: the daemon records its life from here on
        if job.state == "booting" and after.state != job.state and self._learns_boot:
            self._learn_boot_time(ledger, job, event)
        if after.state == "terminating" and after.floating_ip is not None:
            # The attach effect runs before the deletion: its back-off must not delay that.
            make_due(ledger, ledger.effects(("attach_floating_ip",), job.id), event.at)
        return replace(fired, job=after)

    def _learn_boot_time(self, ledger: Ledger, job: Job, event: Event) -> None:
        if isinstance(event, (Report, BootTimeout)):
            seconds = None if isinstance(event, BootTimeout) else event.at - job.entered_at
            if seconds is not None and not 0 <= seconds <= actions.boot_timeout(job, self.policy):
                return  # the clock was set, or no daemon ran
            recent = boot_times.remembered(ledger.boots(), seconds)
            ledger.set_boots(recent)
            self.policy = replace(self.policy, boot_timeout=boot_times.timeout(recent))

    def prefetch(self, ledger: Ledger, messages: Sequence[Message]) -> None:
        """Tell the ledger of a batch of messages that is about to be taken."""
        jobs = {message.job for message in messages if message.job is not None}
        ledger.prefetch([_key(message) for message in messages], sorted(jobs))

    def take(self, ledger: Ledger, message: Message, now: float, sender: str | None = None) -> Taken:
        """Give a message its effect, once.

        Args:
            message: a valid message.
            now: the daemon's clock; the sender's ``sent_at`` decides nothing.
            sender: the account that sent it, as the queue verified.
        """
        key = _key(message)
        if ledger.is_processed(key):
            return Taken("duplicate", job_id=message.job)
        taken = self._answer(ledger, message, now, sender)
        # A report that was ignored is not recorded: it may come again, and workers must not fill the table.
        if message.origin == "client" or taken.disposition == "taken":
            ledger.mark_processed(key, now)
        return taken

    def _answer(self, ledger: Ledger, message: Message, now: float, sender: str | None) -> Taken:
        if message.type == "start_worker":
            return self._start(ledger, message, now, sender)
        if message.type == "shutdown_server":
            return Taken("shutdown")
        if message.type == "terminate_worker":
            job = ledger.job_of_server(message.body["vm_name"])
            if job is None:
                return Taken("ignored", f"no job has a server named {message.body['vm_name']!r}")
            return _taken(self.fire(ledger, job, Cancel(now)))
        return self._answer_for_job(ledger, message, now)

    def _answer_for_job(self, ledger: Ledger, message: Message, now: float) -> Taken:
        assert message.job is not None
        job = ledger.job(message.job)
        if job is None and message.type == "cancel_job":
            ledger.remember_cancel(message.job, now)
            return Taken(
                "taken",
                "the cancel arrived before its job; it takes effect when the job arrives",
                message.job,
            )
        if job is None and message.origin == "worker":
            detail = f"no job {message.job} in this database; does another daemon serve the queue, too?"
            return Taken("unknown", detail, message.job)
        if job is None:
            return Taken("ignored", f"no such job: {message.job}", message.job)
        if message.type == "cancel_job":
            return _taken(self.fire(ledger, job, Cancel(now)))
        if message.type == "retry_job":
            return _taken(self.fire(ledger, job, Retry(now)))
        return self._report(ledger, job, message, now)

    def _start(self, ledger: Ledger, message: Message, now: float, sender: str | None) -> Taken:
        assert message.job is not None
        if ledger.job(message.job) is not None:
            return Taken("duplicate", "the job exists already", message.job)
        problem, copied = None, {}
        try:
            spec = self._accept(message.body)
            copied = {name: getattr(spec, name) for name in COPIED}
        except UsageError as error:
            problem = str(error)
        job = Job(message.job, reason="submitted", submitted_at=now, entered_at=now, updated_at=now, **copied)
        ledger.insert_job(job, message.body, sender)
        ledger.append_change(StateChange(job.id, now, "start_worker", None, "queued", job.reason, 0))
        if problem is not None:
            self.fire(ledger, job, Rejected(now, problem))
            return Taken("refused", problem, job.id)
        if ledger.was_canceled(job.id):
            self.fire(ledger, job, Cancel(now))
        return Taken("taken", job_id=job.id)

    def _report(self, ledger: Ledger, job: Job, message: Message, now: float) -> Taken:
        event = self._judged(ledger, job, report_event(message, now), message.body)
        text = message.body.get("log")
        if text and create_requests.is_valid_report(job, event):
            ledger.append_log(job.id, event.attempt, event.seq, text)
        return _taken(self.fire(ledger, job, event))

    def _judged(self, ledger: Ledger, job: Job, event: Report, body: Mapping[str, Any]) -> Report:
        """The report; in its place the end of the attempt, if its worker cannot do what the job needs."""
        if not isinstance(event, WorkerStarted) or job.worker_version is not None:
            return event
        if not create_requests.is_valid_report(job, event):
            return event
        return workers.refuse(event, body, self._needs(ledger.body(job.id))) or event


def _key(message: Message) -> str:
    """With the origin, so that a worker cannot use the id of a client's message."""
    return f"{message.origin}:{message.id}"


def report_event(message: Message, now: float) -> Report:
    """The event that a worker's message is."""
    assert message.attempt is not None and message.token is not None and message.seq is not None
    body = message.body
    common: dict[str, Any] = {
        "at": now,
        "attempt": message.attempt,
        "token": message.token,
        "seq": message.seq,
        "version": workers.version_of(message.type, body),
        **{key: body.get(key) for key in ("phase", "step", "steps", "step_name", "git_commit")},
    }
    if message.type == "worker_started":
        return WorkerStarted(**common)
    if message.type == "worker_progress":
        return WorkerProgress(**common)
    return WorkflowFinished(
        **common,
        outcome=body["outcome"],
        exit_code=body.get("exit_code"),
        outputs=body.get("outputs"),
        log_tail=body.get("log_tail") or "",
        reason=body.get("reason") or "",
        final=body.get("final") is True,
    )


def _taken(fired: Fired) -> Taken:
    if fired.answer == "ignored":
        return Taken("ignored", fired.why, fired.job.id)
    if fired.answer == "refused":
        return Taken("refused", fired.why, fired.job.id)
    return Taken("taken", job_id=fired.job.id)
