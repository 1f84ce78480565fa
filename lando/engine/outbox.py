"""The outbox: what each effect asks of the cloud, and what its result means for the job.

    effect due -> begin: an operation, one commit -> the operation is carried out -> conclude, one commit

An effect is carried out at least once; its operation can be repeated without harm.

A create whose answer was lost is never repeated. Its effect is begun again as ``FindServers``, which looks
for the request's mark in a full list. Found: the server is the job's, duplicates are deleted. Not listed
twice, the cloud's settle time apart: the request is void, and a new one is sent with a mark and a token of
its own; or the job is queued again, if the cloud does not answer creates. Where it was the daemon that was
stopped, that says nothing about the cloud. The time apart is from the end of the first look to the begin of
the second, which may take long. So it is, too, with a create that a daemon finds unsent when it begins: its
database may be a restored copy, older than the cloud, and the create may have been sent since.
"""

from __future__ import annotations

from collections.abc import Container

from lando.credentials import job_secrets
from lando.engine import admission, boot_outcomes
from lando.engine.engine import Engine
from lando.engine.ledger import Effect, Ledger, make_due
from lando.engine.operations import (
    AnswerLost,
    Attached,
    AttachFloatingIp,
    Console,
    Created,
    CreateRejected,
    DeleteServers,
    FetchConsole,
    FindServers,
    Listed,
    Operation,
    OperationResult,
    SendCreate,
    StillExists,
    Trouble,
)
from lando.redaction import mask
from lando.states import create_requests
from lando.states.booting import why_unanswered
from lando.states.events import (
    CreateAbsent,
    CreateRefused,
    CreateSent,
    Event,
    ServerActive,
    ServerCreated,
    ServerGone,
)
from lando.states.job import CreateRequest, Job
from lando.states.table import EffectKind

DELETIONS: tuple[EffectKind, ...] = ("delete_server", "delete_twins")
CONSOLE_TRIES = 3
"""After this many failed tries to fetch a console log, the deletion goes on without it."""


OTHER_SERVER = "the cloud has another VM of this job: no second one is created while that exists"


class Outbox:
    """Begins and concludes effects, each inside a transaction that the caller commits.

    Args:
        engine: fires the events.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def resume(self, ledger: Ledger, now: float) -> None:
        """A daemon begins: every create counts as sent, and is looked for before another one is.

        Args:
            ledger: the caller's transaction.
            now: the daemon's clock.
        """
        for job in ledger.jobs_in(("booting",)):
            unsent = _unsent(job)
            if unsent is not None:
                self._engine.fire(ledger, job, CreateSent(now, unsent.mark))

    def begin(self, ledger: Ledger, effect: Effect, now: float) -> Operation | None:
        """Turn a due effect into an operation for the cloud; None when there is nothing to carry out, or
        not yet.

        The caller commits before it carries the operation out: a create that may have been sent is recorded
        as sent.
        """
        job = ledger.job(effect.job_id)
        assert job is not None
        look_at = create_requests.second_look_at(job, self._engine.pace.settle)
        if effect.kind == "create_server" and look_at is not None and look_at > now:
            # The clock was set forward: the effect is due, but less time was lived through.
            ledger.postpone_effect(effect, look_at, effect.tries, effect.reason)
            return None
        unsent = _unsent(job) if effect.kind == "create_server" else None
        if unsent is not None and not ledger.is_cloud_known:
            ledger.postpone_effect(effect, now + self._engine.pace.first, effect.tries, effect.reason)
            return None
        if unsent is not None and job.id in ledger.held_back:  # its place in the queue is where it waits
            refused = CreateRefused(now, unsent.mark, "quota", OTHER_SERVER, sent=False)
            self._engine.fire(ledger, job, refused)
            ledger.remove_effect(effect)
            return None
        operation = self._operation(ledger, job, effect, now)
        if operation is None:
            ledger.remove_effect(effect)
        return operation

    def _operation(self, ledger: Ledger, job: Job, effect: Effect, now: float) -> Operation | None:
        if effect.kind == "create_server":
            return self._create(ledger, job, now)
        if effect.kind == "attach_floating_ip":
            return self._attach(job)
        if effect.kind == "save_console_log":
            return None if job.server_id is None else FetchConsole(job.server_id)
        if effect.kind == "delete_twins":
            # In terminating the job's own server goes, too: a duplicate that stays must not delay its
            # deletion.
            own = (job.server_id,) if job.state == "terminating" and job.server_id is not None else ()
            return DeleteServers((*own, *effect.servers))
        if job.server_id is not None:
            return DeleteServers((job.server_id,), job.floating_ip)
        self._fire_gone(ledger, job, None, now)
        return None

    def _fire_gone(self, ledger: Ledger, job: Job, server_id: str | None, now: float) -> None:
        boot = boot_outcomes.verdict(ledger, job) if job.verdict == "not_booted" else "counts"
        self._engine.fire(ledger, job, ServerGone(now, server_id, boot))

    def _create(self, ledger: Ledger, job: Job, now: float) -> Operation | None:
        """Send the create, or look for its server if it may have been sent before."""
        request = create_requests.open_request(job)
        if request is None:
            return None
        fired = self._engine.fire(ledger, job, CreateSent(now, request.mark))
        if fired.answer == "stays":
            return SendCreate(fired.job, request.mark, request.token, ledger.body(job.id))
        return FindServers(request.mark)

    def _attach(self, job: Job) -> Operation | None:
        wanted = job.state in ("booting", "running") and self._engine.policy.floating_ip
        if not wanted or job.server_id is None or job.floating_ip is None:
            return None
        return AttachFloatingIp(job.server_id, job.floating_ip)

    def conclude(
        self, ledger: Ledger, effect: Effect, operation: Operation, result: OperationResult, now: float
    ) -> None:
        """Take an operation's result: fire the event that follows; remove the effect, or set its next try."""
        job = ledger.job(effect.job_id)
        assert job is not None
        if isinstance(result, Trouble):
            self._try_again(ledger, job, effect, result, now)
        elif effect.kind == "create_server":
            assert isinstance(operation, (SendCreate, FindServers))
            self._conclude_create(ledger, job, effect, operation.mark, result, now)
        elif isinstance(result, StillExists):
            # A deletion that takes long is asked about at growing intervals, without end.
            pace = self._engine.pace
            wait = max(pace.poll, min(pace.longest, (now - job.entered_at) / 10))
            ledger.postpone_effect(effect, now + wait, 0, "the cloud has not deleted it yet")
        else:
            ledger.remove_effect(effect)
            self._take_result(ledger, job, effect, operation, result, now)

    def _try_again(self, ledger: Ledger, job: Job, effect: Effect, trouble: Trouble, now: float) -> None:
        console_failed = effect.kind == "save_console_log" and effect.tries + 1 >= CONSOLE_TRIES
        if console_failed or (effect.kind == "attach_floating_ip" and job.state == "terminating"):
            ledger.remove_effect(effect)  # the deletion does not wait for it
            return
        wait = trouble.retry_after
        if wait is None:
            wait = self._engine.pace.back_off(effect.tries)
        ledger.postpone_effect(effect, now + wait, effect.tries + 1, trouble.reason)

    def _conclude_create(
        self, ledger: Ledger, job: Job, effect: Effect, mark: str, result: OperationResult, now: float
    ) -> None:
        if isinstance(result, CreateRejected):
            result = admission.refuse(ledger, self._engine, job, result, now)
        elif isinstance(result, AnswerLost):
            admission.miss_answer(ledger, job)
        elif isinstance(result, Created) or (isinstance(result, Listed) and result.servers):
            admission.accept(ledger, job, now)
            if job.state == "booting":
                boot_outcomes.accepted(ledger, job, now, self._engine.fire)
        event = self._create_event(ledger, job, effect, mark, result, now)
        after = job if event is None else self._engine.fire(ledger, job, event).job
        is_unanswered = isinstance(event, CreateAbsent) and create_requests.is_void(after, mark)
        if is_unanswered and effect.reason and job.state == "booting":
            reason = why_unanswered(effect.reason)
            boot_outcomes.unanswered(ledger, job, after, reason, now, self._engine.policy, self._engine.fire)
        request = create_requests.open_request(after)
        if request is None:
            ledger.remove_effect(effect)
        elif isinstance(result, Listed) and request.status != "ordered":
            pace = self._engine.pace
            wait = max(pace.settle, pace.back_off(effect.tries))
            ledger.postpone_effect(effect, now + wait, effect.tries + 1, effect.reason)
        else:
            reason = result.reason if isinstance(result, AnswerLost) else ""
            ledger.postpone_effect(effect, now, effect.tries, reason)

    def _create_event(
        self, ledger: Ledger, job: Job, effect: Effect, mark: str, result: OperationResult, now: float
    ) -> Event | None:
        if isinstance(result, Created):
            return ServerCreated(now, mark, result.server_id)
        if isinstance(result, CreateRejected):
            return CreateRefused(now, mark, result.kind, result.reason, result.retry_after, result.sent)
        if isinstance(result, Listed) and result.servers:
            first, *duplicates = sorted(result.servers)
            return ServerCreated(now, mark, first, tuple(duplicates))
        if isinstance(result, Listed):
            engine = self._engine
            again = not effect.reason or boot_outcomes.is_create_sent_again(ledger, job, now, engine.policy)
            secrets = engine.new_secret(), engine.new_secret()
            return CreateAbsent(now, mark, engine.pace.settle, effect.reason, again, *secrets)
        return None

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
            secrets = [*job_secrets(ledger.body(job.id)), *(request.token for request in job.requests)]
            ledger.save_console(job.id, job.attempt, mask(result.text, secrets))
        elif isinstance(result, Attached):
            assert isinstance(operation, AttachFloatingIp)
            self._engine.fire(ledger, job, ServerActive(now, operation.server_id, result.address))
        elif effect.kind == "delete_server":
            self._fire_gone(ledger, job, job.server_id, now)
            admission.quota_was_freed(ledger, now)

    def notice_absence(self, ledger: Ledger, listed: Container[str], now: float) -> None:
        """A full server list was read: deletions whose servers it lacks are due now, the others wait.

        So do those that have failed: their back-off holds.

        Args:
            ledger: the caller's transaction.
            listed: the ids of all servers.
            now: the daemon's clock.
        """
        terminating = ledger.owners(("terminating",))
        absent = [job.id for job in terminating if job.server_id is None or job.server_id not in listed]
        if absent:
            ledger.hasten_deletions(absent, now)
        twins = ledger.waiting_twins(now)
        make_due(ledger, (each for each in twins if not any(id_ in listed for id_ in each.servers)), now)

    def cloud_answers(self, ledger: Ledger, now: float) -> None:
        """The cloud did not answer at all, and does again: deletions that failed are due now.

        One that waits for longer than any back-off does so because the cloud has named a time.

        Args:
            ledger: the caller's transaction.
            now: the daemon's clock.
        """
        ledger.hasten_failed_deletions(now, latest=now + self._engine.pace.longest)


def _unsent(job: Job) -> CreateRequest | None:
    """The open request, if it was not sent yet; one that may have been is looked for, which harms nothing."""
    request = create_requests.open_request(job)
    return request if request is not None and request.status == "ordered" else None
