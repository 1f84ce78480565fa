"""Reports of workers, taken in batches.

The token is checked before anything else is done with a report. So whoever has a wrong one can neither delay
nor silence another's job, nor use up its bounds. The valid reports of one job in a batch become one event
and one piece of log, whatever their number; the end of a workflow is an event of its own.

Taking a report again changes nothing: the machine compares sequence numbers, an attempt's outcome stands, and
a piece of log is stored once. So reports need not be remembered as processed. Twins, which are servers of one
create request, have the same token and the same sequence numbers: only what a report says is compared by its
number, never whether its worker was heard, or has finished.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Protocol

from lando.engine import workers
from lando.engine.ledger import Ledger
from lando.engine.taken import Taken, taken
from lando.messages import Message
from lando.states import create_requests
from lando.states.events import Report, WorkerProgress, WorkerStarted, WorkflowFinished
from lando.states.job import Job
from lando.states.machine import Fired
from lando.states.records import replace

PROOF = ("at", "attempt", "token", "seq")
SAYS = tuple(field.name for field in fields(Report) if field.name not in (*PROOF, "version"))
"""What a report says about its work, if it is not None or empty."""

Fire = Callable[[Ledger, Job, Report], Fired]
Judge = Callable[[Ledger, Job, Report, Mapping[str, Any]], Report]


class LogBound(Protocol):
    """How much log a job may add to what is stored."""

    def is_behind(self, job_id: str) -> bool:
        """Text of this job was left out, and it is not noted in its log yet."""
        ...

    def bounded(self, job_id: str, attempt: int, text: str, is_last: bool) -> str:
        """What is stored of a new text, with a note about what was left out.

        Args:
            job_id: whose log it is.
            attempt: whose worker sent it.
            text: what its reports add to the log.
            is_last: the worker has finished.
        """
        ...


class Unbounded:
    """Everything is stored."""

    def is_behind(self, job_id: str) -> bool:
        """See ``LogBound``."""
        return False

    def bounded(self, job_id: str, attempt: int, text: str, is_last: bool) -> str:
        """See ``LogBound``."""
        return text


def take(
    ledger: Ledger,
    reports: Sequence[Message],
    now: float,
    fire: Fire,
    judge: Judge,
    bound: LogBound,
) -> list[Taken]:
    """Give reports their effect, as if they were taken one by one.

    Args:
        ledger: the transaction.
        reports: valid messages of workers, in the order of their arrival.
        now: the daemon's clock.
        fire: answers an event.
        judge: the event that is fired for a valid report, from the report and its body.
        bound: how much log is stored.

    Returns:
        The result of each.
    """
    places: dict[str, list[int]] = {}
    for place, report in enumerate(reports):
        assert report.job is not None
        places.setdefault(report.job, []).append(place)
    found: dict[int, Taken] = {}
    for job_id, its_places in places.items():
        job = ledger.job(job_id)
        if job is None and ledger.is_forgotten(job_id):
            gone = Taken("ignored", "its job had ended and was removed", job_id)
            found.update(dict.fromkeys(its_places, gone))
        elif job is None:
            detail = (
                f"no job {job_id} in this database; does another daemon serve the queue, too? If the "
                "database was restored, the job was submitted later: submit it again, with --id and this id, "
                "once its VM is gone"
            )
            found.update(dict.fromkeys(its_places, Taken("unknown", detail, job_id)))
        else:
            its_reports = [reports[place] for place in its_places]
            results = _ReportsOfJob(ledger, job, now, fire, judge).take(its_reports, bound)
            found.update(zip(its_places, results, strict=True))
    return [found[place] for place in range(len(reports))]


class _ReportsOfJob:
    """The reports of one job in a batch."""

    def __init__(self, ledger: Ledger, job: Job, now: float, fire: Fire, judge: Judge) -> None:
        self._ledger = ledger
        self._job = job
        self._now = now
        self._fire = fire
        self._judge = judge
        self._is_judged = False
        """A report has told the worker's version."""
        self._results: dict[int, Taken] = {}
        self._gathered: dict[int, Report] = {}
        """Valid reports that become one event, by their places in the batch."""
        self._without_effect: dict[tuple[str, str], Taken] = {}
        """By the job's state and the event."""

    def take(self, reports: Sequence[Message], bound: LogBound) -> list[Taken]:
        valid: list[tuple[Report, str]] = []
        for place, message in enumerate(reports):
            event = report_event(message, self._now)
            if event.attempt > self._job.attempt:
                self._results[place] = self._of_another_history(event)
                continue
            if not self._is_valid(event):
                self._results[place] = self._without_valid_token(event)
                continue
            if not self._is_judged:  # once: its job's body is read for it
                event = self._judge(self._ledger, self._job, event, message.body)
                self._is_judged = event.version is not None
            valid.append((event, message.body.get("log") or ""))
            if isinstance(event, WorkflowFinished):
                self._conclude_gathered()
                self._results[place] = self._answer(event)
            else:
                self._gathered[place] = event
        self._conclude_gathered()
        if valid:
            self._keep_log(valid, bound)
        return [self._results[place] for place in range(len(reports))]

    def _is_valid(self, event: Report) -> bool:
        if not create_requests.is_valid_report(self._job, event):
            return False
        first = next(iter(self._gathered.values()), event)
        if first.token == event.token:
            return True
        # The first report voids the tokens of all other requests.
        self._conclude_gathered()
        return create_requests.is_valid_report(self._job, event)

    def _of_another_history(self, event: Report) -> Taken:
        """An attempt is committed before its server is requested: this one is not in the database any more. A
        result is worth keeping for people."""
        known = f"up to attempt {self._job.attempt}" if self._job.attempt else "no attempt"
        detail = (
            f"about attempt {event.attempt} of job {self._job.id}, of which this database knows {known}; "
            "was it restored, or does another daemon serve the queue, too?"
        )
        is_result = isinstance(event, WorkflowFinished)
        return Taken("unknown" if is_result else "ignored", detail, self._job.id)

    def _without_valid_token(self, event: Report) -> Taken:
        key = (self._job.state, event.name)
        if key not in self._without_effect:
            self._without_effect[key] = self._answer(event)
        return self._without_effect[key]

    def _conclude_gathered(self) -> None:
        if self._gathered:
            result = self._answer(_together(list(self._gathered.values()), self._job.seq))
            self._results.update(dict.fromkeys(self._gathered, result))
            self._gathered = {}

    def _answer(self, event: Report) -> Taken:
        fired = self._fire(self._ledger, self._job, event)
        self._job = fired.job
        return taken(fired)

    def _keep_log(self, valid: Sequence[tuple[Report, str]], bound: LogBound) -> None:
        is_behind = bound.is_behind(self._job.id)
        texts: dict[int, str] = {}
        for event, text in valid:
            if text or is_behind:
                texts.setdefault(event.seq, text)
        attempt = self._job.attempt
        unseen = self._ledger.unseen_log(self._job.id, attempt, sorted(texts)) if texts else []
        if unseen:
            is_last = any(isinstance(event, WorkflowFinished) for event, _ in valid)
            text = "".join(texts[seq] for seq in unseen)
            text = bound.bounded(self._job.id, attempt, text, is_last)
            self._ledger.append_log(self._job.id, attempt, unseen, text)


def _together(events: Sequence[Report], heard: int) -> Report:
    """One event for several, by their sequence numbers: what a later one says replaces what an earlier one
    says. Those that are not newer than ``heard`` say only that the worker is alive, and its version."""
    newer: dict[int, Report] = {}
    for event in events:
        if event.seq > heard:
            newer.setdefault(event.seq, event)
    version = next((event.version for event in reversed(events) if event.version is not None), None)
    if not newer:
        return replace(events[0], version=version)
    says: dict[str, Any] = dict.fromkeys(SAYS)
    for _, event in sorted(newer.items()):
        says.update({name: value for name in SAYS if (value := getattr(event, name)) not in (None, "")})
    return replace(events[0], seq=max(newer), version=version, **says)


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
