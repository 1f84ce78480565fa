"""The rules between the machine and the world: what a message, a timer or an effect's result does.

Every rule runs inside one transaction that its caller commits, and touches nothing but that transaction:

    message / timer / observation  -> fire -> new record + history + effects, one commit -> ack
    effect due                     -> begin -> a task for the cloud -> conclude with its result, one commit
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lando.engine import boot_times
from lando.engine.ledger import Effect, Hold, Ledger, StateChange
from lando.engine.operations import (
    AnswerLost,
    Attached,
    AttachFloatingIp,
    Console,
    Created,
    CreateWasRefused,
    DeleteServers,
    FetchConsole,
    FindServers,
    Listed,
    Operation,
    OperationResult,
    SendCreate,
    StillThere,
    Trouble,
)
from lando.engine.quota import QuotaHeadroom
from lando.errors import UsageError
from lando.messages import Message
from lando.states import create_requests
from lando.states.events import (
    Admitted,
    BootTimeout,
    Cancel,
    CreateAbsent,
    CreateRefused,
    CreateSent,
    Event,
    Rejected,
    Report,
    Retry,
    RunTimeout,
    ServerActive,
    ServerCreated,
    ServerGone,
    WorkerLost,
    WorkerProgress,
    WorkerStarted,
    WorkflowFinished,
)
from lando.states.job import Job, JobSpec
from lando.states.machine import MACHINE, Fired, JobMachine, fire
from lando.states.records import replace
from lando.states.table import EffectKind, Policy

HOLDING = ("quota", "rate_limit", "site", "unreachable")
"""Refusals that the next job would meet, too: nobody is admitted for a while."""
DELETIONS: tuple[EffectKind, ...] = ("delete_server", "delete_twins")
WISHES = ("attempts", "priority", "boot_timeout", "run_timeout", "flavor")
"""What a job file says that its record keeps, too."""
CONSOLE_TRIES = 3
"""How often a console log is asked for before the deletion goes on without it."""


@dataclass(frozen=True)
class Pace:
    """How the engine waits; all in seconds."""

    poll: float = 2.0
    """Between two looks at a server that is being deleted."""
    first: float = 1.0
    """Back-off after an effect's first failed try; doubled with each further one."""
    longest: float = 60.0
    site_longest: float = 300.0
    """Between two tries of what an administrator has to mend."""
    settle: float = 30.0
    """How long a created server may take to surface in a server list."""
    silence: float = 600.0
    """A worker that was silent for so long is lost."""
    heartbeat: float = 30.0
    """Between two reports of a worker."""

    def back_off(self, tries: int) -> float:
        """Seconds to wait after this many failed tries."""
        return min(self.longest, self.first * 2.0 ** min(tries, 30))


@dataclass(frozen=True)
class Admission:
    """Who was admitted, and what the next one in the order waits for, where that is the cloud's to give."""

    jobs: tuple[Job, ...] = ()
    obstacle: str | None = None


Disposition = Literal["taken", "duplicate", "ignored", "refused", "shutdown", "unknown"]


@dataclass(frozen=True)
class Taken:
    """What came of a message; ``detail`` says more."""

    disposition: Disposition
    detail: str = ""
    job_id: str | None = None


class Engine:
    """The rules, with the site's numbers.

    Args:
        policy: what the machine reckons with.
        pace: what the engine waits.
        accept: makes a spec of a start_worker body, or raises UsageError with what is wrong.
        new_secret: a fresh random string, for marks and tokens.
        learns_boot: the boot timeout follows from the last boots.
        machine: the table to run; another one only in tests that break it on purpose.
    """

    def __init__(
        self,
        policy: Policy,
        pace: Pace,
        accept: Callable[[Mapping[str, Any]], JobSpec],
        new_secret: Callable[[], str],
        machine: JobMachine = MACHINE,
        learns_boot: bool = False,
    ) -> None:
        self.policy = policy
        self.pace = pace
        self._accept = accept
        self._new_secret = new_secret
        self._machine = machine
        self._learns_boot = learns_boot

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
        if job.state == "booting" and after.state != job.state and self._learns_boot:
            self._learn(ledger, job, event)
        if after.state == "terminating" and after.floating_ip is not None:
            self._hurry(ledger, ledger.effects(("attach_floating_ip",), job.id), event.at)
        return replace(fired, job=after)

    def _learn(self, ledger: Ledger, job: Job, event: Event) -> None:
        if isinstance(event, (Report, BootTimeout)):
            seconds = None if isinstance(event, BootTimeout) else event.at - job.entered_at
            recent = ledger.note_boot(seconds)
            self.policy = replace(self.policy, boot_timeout=boot_times.timeout(recent))

    def _hurry(self, ledger: Ledger, effects: Iterable[Effect], now: float) -> None:
        for effect in effects:
            if effect.due_at > now:
                ledger.postpone_effect(effect, now, effect.tries, "")

    # messages

    def prefetch(self, ledger: Ledger, messages: Sequence[Message]) -> None:
        """Tell the ledger of a batch of messages that is about to be taken."""
        jobs = {message.job for message in messages if message.job is not None}
        ledger.prefetch([_key(message) for message in messages], sorted(jobs))

    def take(self, ledger: Ledger, message: Message, now: float, sender: str | None = None) -> Taken:
        """Give a message its effect, once.

        Args:
            message: a valid message.
            now: the daemon's clock; the sender's is never used.
            sender: the account that the queue vouches for.
        """
        key = _key(message)
        if ledger.is_processed(key):
            return Taken("duplicate", job_id=message.job)
        taken = self._answer(ledger, message, now, sender)
        # A report that changed nothing can come again; workers make no rows of what is ignored.
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
        return self._about_a_job(ledger, message, now)

    def _about_a_job(self, ledger: Ledger, message: Message, now: float) -> Taken:
        assert message.job is not None
        job = ledger.job(message.job)
        if job is None and message.type == "cancel_job":
            ledger.remember_cancel(message.job, now)
            return Taken("taken", "the cancel came before its job; it is remembered", message.job)
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
            return Taken("duplicate", "the job is known already", message.job)
        problem, wishes = None, {}
        try:
            spec = self._accept(message.body)
            wishes = {name: getattr(spec, name) for name in WISHES}
        except UsageError as error:
            problem = str(error)
        job = Job(message.job, reason="submitted", submitted_at=now, entered_at=now, updated_at=now, **wishes)
        ledger.insert_job(job, message.body, sender)
        ledger.append_change(StateChange(job.id, now, "start_worker", None, "queued", job.reason, 0))
        if problem is not None:
            self.fire(ledger, job, Rejected(now, problem))
            return Taken("refused", problem, job.id)
        if ledger.was_canceled(job.id):
            self.fire(ledger, job, Cancel(now))
        return Taken("taken", job_id=job.id)

    def _report(self, ledger: Ledger, job: Job, message: Message, now: float) -> Taken:
        event = report_event(message, now)
        text = message.body.get("log")
        if text and create_requests.speaks(job, event):
            ledger.append_log(job.id, event.attempt, event.seq, text)
        return _taken(self.fire(ledger, job, event))

    # admission

    def admit(
        self, ledger: Ledger, now: float, places: int, at_once: int, room: QuotaHeadroom | None = None
    ) -> Admission:
        """Admit queued jobs, by priority and then first come first served, while there are places and room.

        Nobody overtakes the first one for whom there is no room. After a refusal that others would meet, too,
        one job at a time tries whether it still holds.

        Args:
            now: the daemon's clock.
            places: how many jobs may own a server at the same time.
            at_once: how many creates can be sent now; nobody is admitted whose create would have to wait.
            room: what the project's quota leaves; None where the cloud has none.
        """
        hold = ledger.hold()
        if hold is not None and (hold.until > now or self._is_trying(ledger, hold)):
            return Admission()
        most = at_once if hold is None else min(1, at_once)
        live = ledger.live()
        admitted: list[Job] = []
        while len(admitted) < most and sum(live.values()) < places:
            job = ledger.next_queued(now)
            if job is None:
                break
            lacking = None if room is None else room.lacks(live, job.flavor)
            if lacking is not None:
                return Admission(tuple(admitted), f"waits for the project's quota: {lacking}")
            name = server_name(job.id, job.attempt + 1)
            event = Admitted(now, mark=self._new_secret(), token=self._new_secret(), server_name=name)
            admitted.append(self.fire(ledger, job, event).job)
            live[job.flavor] = live.get(job.flavor, 0) + 1
        return Admission(tuple(admitted))

    def _is_trying(self, ledger: Ledger, hold: Hold) -> bool:
        """A job that was admitted since the hold has ended waits for the answer to its create."""
        booting = ledger.jobs_in(("booting",))
        return any(job.server_id is None and job.entered_at >= hold.until for job in booting)

    def _hold(self, ledger: Ledger, refusal: CreateWasRefused, reason: str, now: float) -> None:
        """Admit nobody for as long as the cloud says, or for a while that doubles with each vain try."""
        before = ledger.hold()
        times = 1
        if before is not None and before.kind == refusal.kind:
            # Creates that were under way together are refused together: that is one try.
            times = before.times + 1 if before.until <= now else before.times
        longest = self.pace.site_longest if refusal.kind == "site" else self.pace.longest
        wait = min(longest, self.policy.hold * 2.0 ** min(times - 1, 30))
        until = now + (wait if refusal.retry_after is None else refusal.retry_after)
        ledger.set_hold(
            Hold(refusal.kind, max(until, 0.0 if before is None else before.until), reason, times)
        )

    # deadlines

    def overdue(self, jobs: Iterable[Job], now: float, listening_since: float) -> list[tuple[Job, Event]]:
        """The deadlines that have passed, of jobs that are booting or running.

        Silence counts only while the daemon listened: it starts again in full after every reconnect.

        Args:
            jobs: the jobs to look at.
            now: the daemon's clock.
            listening_since: when the daemon had read the queue up to date, after it last connected.
        """
        found = ((job, self._overdue(job, now, listening_since)) for job in jobs)
        return [(job, event) for job, event in found if event is not None]

    def _overdue(self, job: Job, now: float, listening_since: float) -> Event | None:
        if job.state == "booting":
            request = create_requests.open_request(job)
            if request is not None and request.status == "ordered":
                return None  # nothing was asked of the cloud so far
            timeout = self.policy.boot_timeout if job.boot_timeout is None else job.boot_timeout
            given_up_at = max(job.deadline_at or job.entered_at + timeout, listening_since + timeout)
            return BootTimeout(now) if now >= given_up_at else None
        if job.state != "running":
            return None
        # The result of a workflow that ended while we were away may still be on its way.
        courtesy = 0.0 if listening_since <= job.entered_at else 2 * self.pace.heartbeat
        if job.deadline_at is not None and now >= max(job.deadline_at, listening_since + courtesy):
            return RunTimeout(now)
        silence = now - max(job.heard_at or job.entered_at, listening_since)
        return WorkerLost(now, silence) if silence >= self.pace.silence else None

    # effects

    def begin(self, ledger: Ledger, effect: Effect, now: float) -> Operation | None:
        """Turn a due effect into a task for the cloud; None when there is nothing to carry out.

        The caller commits before it carries the task out: a create that may have been sent is known as sent.
        """
        job = ledger.job(effect.job_id)
        assert job is not None
        operation = self._task(ledger, job, effect, now)
        if operation is None:
            ledger.remove_effect(effect)
        return operation

    def _task(self, ledger: Ledger, job: Job, effect: Effect, now: float) -> Operation | None:
        if effect.kind == "create_server":
            request = create_requests.open_request(job)
            if request is None:
                return None
            fired = self.fire(ledger, job, CreateSent(now, request.mark))
            if fired.answer == "stays":
                return SendCreate(fired.job, request.mark, request.token)
            return FindServers(request.mark)
        if effect.kind == "attach_floating_ip":
            wanted = job.state in ("booting", "running") and self.policy.floating_ip
            if not wanted or job.server_id is None or job.floating_ip is None:
                return None
            return AttachFloatingIp(job.server_id, job.floating_ip)
        if effect.kind == "delete_twins" and job.state == "terminating" and job.server_id is not None:
            # A twin that does not go must not keep the job's own server.
            return DeleteServers((job.server_id, *effect.servers))
        if effect.kind == "delete_twins":
            return DeleteServers(effect.servers)
        if effect.kind == "save_console_log":
            return FetchConsole(job.server_id) if job.server_id is not None else None
        if job.server_id is not None:
            return DeleteServers((job.server_id,), job.floating_ip)
        self.fire(ledger, job, ServerGone(now, None))
        return None

    def conclude(
        self, ledger: Ledger, effect: Effect, operation: Operation, result: OperationResult, now: float
    ) -> None:
        """Take the result of an effect: the events that follow, and whether it is done or tried again."""
        job = ledger.job(effect.job_id)
        assert job is not None
        if isinstance(result, Trouble):
            self._try_again(ledger, job, effect, result, now)
        elif effect.kind == "create_server":
            assert isinstance(operation, (SendCreate, FindServers))
            self._conclude_create(ledger, job, effect, operation.mark, result, now)
        elif isinstance(result, StillThere):
            # A deletion that takes long is asked about ever less often, and never given up.
            wait = max(self.pace.poll, min(self.pace.longest, (now - job.entered_at) / 10))
            ledger.postpone_effect(effect, now + wait, effect.tries, "the deletion is under way")
        else:
            ledger.remove_effect(effect)
            self._take_result(ledger, job, effect, operation, result, now)

    def _take_result(
        self,
        ledger: Ledger,
        job: Job,
        effect: Effect,
        operation: Operation,
        result: OperationResult,
        now: float,
    ) -> None:
        if isinstance(result, Console):
            ledger.save_console(job.id, job.attempt, result.text)
        elif isinstance(result, Attached):
            assert isinstance(operation, AttachFloatingIp)
            self.fire(ledger, job, ServerActive(now, operation.server_id, result.address))
        elif effect.kind == "delete_server":
            self.fire(ledger, job, ServerGone(now, job.server_id))
            hold = ledger.hold()
            if hold is not None and hold.kind == "quota":
                ledger.set_hold(replace(hold, until=min(hold.until, now)))  # what it took is free

    def notice_absence(self, ledger: Ledger, listed: Container[str], now: float) -> None:
        """A full list is there: deletions whose servers it lacks are asked about now, the others wait.

        Args:
            listed: the ids of all servers.
        """
        for effect in ledger.effects(DELETIONS):
            if effect.tries:
                continue  # it waits for another reason
            job = ledger.job(effect.job_id)
            assert job is not None
            servers = effect.servers or (job.server_id,)
            if not any(server is not None and server in listed for server in servers):
                self._hurry(ledger, (effect,), now)

    def _try_again(self, ledger: Ledger, job: Job, effect: Effect, trouble: Trouble, now: float) -> None:
        had_its_tries = effect.kind == "save_console_log" and effect.tries + 1 >= CONSOLE_TRIES
        if had_its_tries or (effect.kind == "attach_floating_ip" and job.state == "terminating"):
            ledger.remove_effect(effect)  # the deletion does not wait for it
            return
        wait = self.pace.back_off(effect.tries) if trouble.retry_after is None else trouble.retry_after
        ledger.postpone_effect(effect, now + wait, effect.tries + 1, trouble.reason)

    def _conclude_create(
        self, ledger: Ledger, job: Job, effect: Effect, mark: str, result: OperationResult, now: float
    ) -> None:
        event = self._create_event(mark, result, now)
        fired = self.fire(ledger, job, event) if event is not None else None
        after = fired.job if fired is not None else job
        if isinstance(result, CreateWasRefused) and result.kind in HOLDING:
            self._hold(ledger, result, after.reason, now)
        elif isinstance(result, (Created, AnswerLost)) and ledger.hold() is not None:
            ledger.set_hold(None)  # whatever became of it, it was not refused
        request = create_requests.open_request(after)
        if request is None:
            ledger.remove_effect(effect)
        elif isinstance(result, Listed) and request.status != "ordered":
            wait = max(self.pace.settle, self.pace.back_off(effect.tries))
            ledger.postpone_effect(effect, now + wait, effect.tries + 1, "the server is not listed (yet)")
        else:
            reason = result.reason if isinstance(result, AnswerLost) else "asking again"
            ledger.postpone_effect(effect, now, effect.tries, reason)

    def _create_event(self, mark: str, result: OperationResult, now: float) -> Event | None:
        if isinstance(result, Created):
            return ServerCreated(now, mark, result.server_id)
        if isinstance(result, CreateWasRefused):
            return CreateRefused(now, mark, result.kind, result.reason, result.retry_after)
        if isinstance(result, Listed) and result.servers:
            first, *twins = sorted(result.servers)
            return ServerCreated(now, mark, first, tuple(twins))
        if isinstance(result, Listed):
            return CreateAbsent(now, mark, self.pace.settle, self._new_secret(), self._new_secret())
        return None


def _key(message: Message) -> str:
    """By origin, so that no worker can use up the id of a client's message."""
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
    )


def server_name(job_id: str, attempt: int) -> str:
    """The name of an attempt's server: for people, and a valid host name. Marks identify, names do not."""
    return f"lando-{job_id[:13]}-{attempt}"


def _taken(fired: Fired) -> Taken:
    if fired.answer == "ignored":
        return Taken("ignored", fired.why, fired.job.id)
    if fired.answer == "refused":
        return Taken("refused", fired.why, fired.job.id)
    return Taken("taken", job_id=fired.job.id)
