"""The rules between the state machine and the world: what a message means for a job, and how an event is
fired.

Every rule runs inside one transaction that its caller commits, and touches nothing but that transaction:

    message -> take -> fire -> new record + history + effects, one commit -> ack

``reports`` has the rules for messages of workers, ``admission`` those for queued jobs, ``deadlines`` those
for time, ``outbox`` those for effects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lando.engine import boot_outcomes, boot_times, reports, workers
from lando.engine.ledger import Ledger, StateChange, make_due
from lando.engine.pace import Pace
from lando.engine.reports import LogBound
from lando.engine.submission import Submission, submission
from lando.engine.taken import Taken, taken
from lando.errors import UsageError
from lando.message_limits import REASON, shorten
from lando.messages import Message
from lando.states import actions
from lando.states.events import (
    BootTimeout,
    Cancel,
    Event,
    Rejected,
    Report,
    Retry,
    WorkerStarted,
)
from lando.states.job import ENDED_STATES, Job, JobSpec
from lando.states.machine import MACHINE, Fired, JobMachine, fire
from lando.states.records import replace
from lando.states.table import Policy

COPIED = ("attempts", "priority", "boot_timeout", "run_timeout", "flavor", "wishes")
"""What a job's record copies from its job file."""


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
        if _was_only_heard(job, fired):
            heard = replace(job, heard_at=fired.job.heard_at, seq=fired.job.seq)
            return replace(fired, job=ledger.hear(heard))
        after = ledger.save_job(_bounded(fired.job))
        if after.state != job.state:
            since, to, why = job.entered_at, after.state, after.reason
            ledger.append_change(
                StateChange(job.id, event.at, event.name, job.state, to, why, after.attempt, since)
            )
        for effect in fired.effects:
            ledger.add_effect(job.id, effect.kind, effect.servers, event.at)
        if after.state == "booting" and job.state != after.state:
            ledger.set_seen_at(event.at)  # the first live job: the daemon records its life from here on
        if job.state == "booting" and after.state != job.state and self._learns_boot:
            self._learn_boot_time(ledger, job, event)
        if job.state == "booting" and after.state != "booting":
            boot_outcomes.ended(ledger, job, after, event, self.policy, self.fire)
            after = ledger.job(job.id) or after
        if after.state == "terminating" and after.floating_ip is not None:
            # The attach effect runs before the deletion: its back-off must not delay that.
            make_due(ledger, ledger.effects(("attach_floating_ip",), [job.id]), event.at)
        return replace(fired, job=after)

    def _learn_boot_time(self, ledger: Ledger, job: Job, event: Event) -> None:
        if isinstance(event, (Report, BootTimeout)):
            seconds = None if isinstance(event, BootTimeout) else event.at - job.entered_at
            if seconds is not None and not 0 <= seconds <= actions.boot_timeout(job, self.policy):
                return  # the clock was set, or no daemon ran
            recent = boot_times.remembered(ledger.boots(), seconds)
            ledger.set_boots(recent)
            self.policy = replace(self.policy, boot_timeout=boot_times.timeout(recent))

    def examine(self, message: Message) -> Message:
        """Check a start_worker message, outside any transaction; other messages stay as they are.

        Returns:
            A ``Submission``, for ``take``.
        """
        if message.type != "start_worker" or isinstance(message, Submission):
            return message
        try:
            return submission(message, self._accept(message.body))
        except UsageError as error:
            return submission(message, None, shorten(str(error), REASON))

    def prefetch(self, ledger: Ledger, messages: Sequence[Message]) -> None:
        """Tell the ledger of a batch of messages that is about to be taken."""
        jobs = {message.job for message in messages if message.job is not None}
        commands = [_key(message) for message in messages if message.origin == "client"]
        ledger.prefetch(commands, sorted(jobs))

    def take(self, ledger: Ledger, message: Message, now: float, sender: str | None = None) -> Taken:
        """Give a message its effect, once.

        Args:
            message: a valid message; one that ``examine`` returned is not checked again.
            now: the daemon's clock; the sender's ``sent_at`` decides nothing.
            sender: the account that sent it, as the queue verified.
        """
        if message.origin == "worker":
            return self.take_reports(ledger, [message], now)[0]
        key = _key(message)
        if ledger.is_processed(key):
            return Taken("duplicate", job_id=message.job)
        result = self._answer(ledger, message, now, sender)
        ledger.mark_processed(key, now)
        return result

    def take_reports(
        self, ledger: Ledger, messages: Sequence[Message], now: float, bound: LogBound | None = None
    ) -> list[Taken]:
        """Give messages of workers their effect, those of each job together: see ``lando.engine.reports``.

        Args:
            messages: valid messages of workers, in the order of their arrival.
            now: the daemon's clock.
            bound: how much log is stored; all of it if None.

        Returns:
            The result of each.
        """
        return reports.take(ledger, messages, now, self.fire, self._judged, bound or reports.Unbounded())

    def _answer(self, ledger: Ledger, message: Message, now: float, sender: str | None) -> Taken:
        if message.type == "start_worker":
            return self._start(ledger, message, now, sender)
        if message.type == "shutdown_server":
            return Taken("shutdown")
        if message.type == "terminate_worker":
            job = ledger.job_of_server(message.body["vm_name"])
            if job is None:
                return Taken("ignored", f"no job has a server named {message.body['vm_name']!r}")
            return taken(self.fire(ledger, job, Cancel(now)))
        return self._answer_for_job(ledger, message, now)

    def _answer_for_job(self, ledger: Ledger, message: Message, now: float) -> Taken:
        assert message.job is not None
        job = ledger.job(message.job)
        if message.type == "forget_job":
            return _forget(ledger, message.job, job, now)
        if ledger.is_forgotten(message.job):
            return Taken("ignored", "the job had ended and was removed", message.job)
        if job is None and message.type == "cancel_job":
            ledger.remember_cancel(message.job, now)
            return Taken(
                "taken",
                "the cancel arrived before its job; it takes effect when the job arrives",
                message.job,
            )
        if job is None:
            return Taken("ignored", f"no such job: {message.job}", message.job)
        if message.type == "cancel_job":
            return taken(self.fire(ledger, job, Cancel(now)))
        return taken(self.fire(ledger, job, Retry(now)))

    def _start(self, ledger: Ledger, message: Message, now: float, sender: str | None) -> Taken:
        assert message.job is not None
        if ledger.job(message.job) is not None:
            return Taken("duplicate", "the job exists already", message.job)
        if ledger.is_forgotten(message.job):
            return Taken("duplicate", "the job had ended and was removed; it is not run again", message.job)
        checked = self.examine(message)
        assert isinstance(checked, Submission)
        spec, problem = checked.spec, checked.problem
        copied = {} if spec is None else {name: getattr(spec, name) for name in COPIED}
        job = Job(message.job, reason="submitted", submitted_at=now, entered_at=now, updated_at=now, **copied)
        ledger.insert_job(job, checked.body, sender)
        ledger.append_change(StateChange(job.id, now, "start_worker", None, "queued", job.reason, 0))
        if spec is None:
            self.fire(ledger, job, Rejected(now, problem))
            return Taken("refused", problem, job.id)
        if ledger.was_canceled(job.id):
            self.fire(ledger, job, Cancel(now))
        return Taken("taken", job_id=job.id)

    def _judged(self, ledger: Ledger, job: Job, event: Report, body: Mapping[str, Any]) -> Report:
        """The report; in its place the end of the attempt, if its worker cannot do what the job needs."""
        if not isinstance(event, WorkerStarted) or job.worker_version is not None:
            return event
        return workers.refuse(event, body, self._needs(ledger.body(job.id))) or event


def _forget(ledger: Ledger, job_id: str, job: Job | None, now: float) -> Taken:
    if ledger.is_forgotten(job_id):
        return Taken("duplicate", "the job was removed already", job_id)
    if job is None:
        return Taken("ignored", f"no such job: {job_id}", job_id)
    if job.state not in ENDED_STATES:
        detail = f"the job is {job.state}: cancel it first, and forget it once it has ended"
        return Taken("refused", detail, job_id)
    ledger.forget(job, now)
    return Taken("taken", job_id=job_id)


def _was_only_heard(before: Job, fired: Fired) -> bool:
    """The worker reports, and nothing new: nothing is written for it, so ``updated_at`` stays, too."""
    after = fired.job
    if after.heard_at == before.heard_at or before.heard_at is None or fired.effects:
        return False
    same = replace(after, heard_at=before.heard_at, seq=before.seq, updated_at=before.updated_at)
    return same == before


def _bounded(job: Job) -> Job:
    """The record with a reason of bounded length: the cloud's words and the worker's are part of reasons."""
    return job if len(job.reason) <= REASON else replace(job, reason=shorten(job.reason, REASON))


def _key(message: Message) -> str:
    """With the origin, so that a worker cannot use the id of a client's message."""
    return f"{message.origin}:{message.id}"
