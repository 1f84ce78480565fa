"""Reports of workers in batches: tokens first, then few events, as if each had been taken alone."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from lando.engine.operations import Console, Created, Gone, OperationResult
from lando.engine.taken import Taken
from lando.messages import Message
from lando.states.events import WorkerLost
from lando.states.job import CreateRequest, Job
from lando.states.records import replace
from lando.store.store import Store
from tests.model.ledger import Books, MemoryLedger
from tests.support.engine_rules import PACE, Rules

STATES = ("queued", "booting", "running", "lost", "canceled", "finished", "done", "second attempt")


def report(rules: Rules, seq: int, type: str = "worker_progress", job: str = "a", **body: Any) -> Message:
    """A report of the job's worker."""
    record = rules.job(job)
    proof = {"attempt": record.attempt, "token": record.requests[-1].token}
    if type == "workflow_finished":
        body.setdefault("outcome", "succeeded")
    return Message(type, body, job, seq=seq, **proof)


def take(rules: Rules, messages: Sequence[Message]) -> list[Taken]:
    """Take them together."""
    with rules.ledgers() as ledger:
        return rules.engine.take_reports(ledger, messages, rules.now)


class Saves(MemoryLedger):
    """Counts what is written."""

    saves = 0

    def save_job(self, job: Job) -> Job:
        self.saves += 1
        return super().save_job(job)


def in_memory(ledger: MemoryLedger, *needs: str) -> Rules:
    return Rules(lambda: contextlib.nullcontext(ledger), needs=lambda body: needs)


# coalescing


def test_reports_of_a_job_are_one_event_and_one_piece_of_log() -> None:
    ledger = Saves()
    rules = in_memory(ledger)
    for job in ("a", "b"):
        rules.boot(job, f"server-{job}")
    ledger.saves = 0
    batch = [report(rules, 1, "worker_started", phase="cloning")]
    batch += [report(rules, seq, step=seq, steps=99, log=f"{seq} ") for seq in range(2, 90)]
    batch.insert(7, report(rules, 1, "worker_progress", "b", phase="running"))
    assert {taken.disposition for taken in take(rules, batch)} == {"taken"}
    assert ledger.saves == 2
    assert [(change.job_id, change.event) for change in ledger.changes if change.target == "running"] == [
        ("a", "worker_started"),
        ("b", "worker_progress"),
    ]
    job = rules.job("a")
    assert (job.seq, job.phase, job.step, job.steps) == (89, "cloning", 89, 99)
    texts = {key: text for key, text in ledger.logs.items() if text}
    assert texts == {("a", 1, 2): "".join(f"{seq} " for seq in range(2, 90))}


def test_what_was_heard_before_says_nothing_new(rules: Rules) -> None:
    rules.run()
    take(rules, [report(rules, 9, phase="running", step=5)])
    rules.now += 7.0
    late = [report(rules, 3, phase="cloning", step=1), report(rules, 2, step_name="early")]
    take(rules, late)
    job = rules.job("a")
    assert (job.seq, job.phase, job.step, job.step_name, job.heard_at) == (9, "running", 5, None, rules.now)
    take(rules, [late[0], report(rules, 10, step=6), report(rules, 8, phase="collecting")])
    job = rules.job("a")
    assert (job.seq, job.phase, job.step) == (10, "running", 6)


def test_within_a_batch_the_sequence_numbers_decide(rules: Rules) -> None:
    rules.run()
    take(rules, [report(rules, 5, step=3, git_commit=""), report(rules, 4, step=2, git_commit="abc")])
    assert (rules.job("a").step, rules.job("a").git_commit, rules.job("a").seq) == (3, "abc", 5)


def test_an_end_is_never_taken_together_with_anything(rules: Rules) -> None:
    rules.boot()
    batch = [
        report(rules, 1, "worker_started"),
        report(rules, 2, log="all of it\n"),
        report(rules, 3, "workflow_finished", outcome="system_failed", reason="no memory"),
        report(rules, 4, step=9),
        report(rules, 3, "workflow_finished", outcome="succeeded", exit_code=0, outputs={"n": 1}),
        report(rules, 5, "workflow_finished", outcome="workflow_failed"),
    ]
    results = take(rules, batch)
    assert [taken.disposition for taken in results] == ["taken"] * 3 + ["ignored", "taken", "ignored"]
    job = rules.job("a")
    assert (job.state, job.verdict, job.output_object, job.step) == (
        "terminating",
        "succeeded",
        {"n": 1},
        None,
    )


def test_a_worker_is_judged_by_its_first_report_as_if_each_were_taken_alone() -> None:
    for together in (True, False):
        rules = in_memory(MemoryLedger(), "run_timeout")
        rules.boot()
        batch = [
            report(rules, 1, "worker_started", version="0.3.0", abilities=["run_timeout"]),
            report(rules, 2, "worker_started", version="0.3.0", abilities=[]),
        ]
        for part in [batch] if together else [batch[:1], batch[1:]]:
            take(rules, part)
        assert (rules.job("a").state, rules.job("a").worker_version) == ("running", "0.3.0")


# tokens


@pytest.mark.parametrize("attempt", [1, 2])
def test_who_has_no_token_neither_counts_nor_uses_anothers_sequence_numbers(attempt: int) -> None:
    ledger = MemoryLedger()
    rules = in_memory(ledger)
    rules.boot()
    proof: dict[str, Any] = {"attempt": attempt, "token": "another" if attempt == 1 else "secret-2"}
    forged = [
        Message("worker_progress", {"log": "x", "step": 9}, "a", seq=seq, **proof) for seq in (1, 2, 99)
    ]
    forged += [Message("workflow_finished", {"outcome": "succeeded"}, "a", seq=3, **proof)]
    right = report(rules, 1, "worker_started", log="from the worker\n", step=1)
    results = take(rules, [*forged, right, *forged])
    # The result of an attempt that the database does not know may be worth keeping.
    ignored = ["ignored"] * 3 + ["ignored" if attempt == 1 else "unknown"]
    assert [taken.disposition for taken in results] == [*ignored, "taken", *ignored]
    job = rules.job("a")
    assert (job.state, job.seq, job.step) == ("running", 1, 1)
    assert ledger.logs == {("a", 1, 1): "from the worker\n"}


def test_the_first_report_voids_the_tokens_of_all_other_requests() -> None:
    requests = (CreateRequest("m-1", "t-1", "sent"), CreateRequest("m-2", "t-2", "sent"))
    job = Job("a", "booting", attempt=1, requests=requests, deadline_at=99.0)
    rules = in_memory(MemoryLedger(Books((job,))))
    says = (("t-1", 1, {}), ("t-2", 2, {"step": 9, "log": "void"}), ("t-1", 3, {"step": 1}))
    batch = [
        Message("worker_progress", body, "a", attempt=1, token=token, seq=seq) for token, seq, body in says
    ]
    assert [taken.disposition for taken in take(rules, batch)] == ["taken", "ignored", "taken"]
    assert [request.status for request in rules.job("a").requests] == ["adopted", "void"]
    assert (rules.job("a").seq, rules.job("a").step) == (3, 1)


class Counting:
    """A bound that counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, str, bool]] = []

    def is_behind(self, job_id: str) -> bool:
        return False

    def bounded(self, job_id: str, attempt: int, text: str, is_last: bool) -> str:
        self.asked.append((job_id, attempt, text, is_last))
        return text.upper()


def test_the_bound_is_asked_once_a_job_about_what_is_valid_and_new() -> None:
    ledger = MemoryLedger()
    rules = in_memory(ledger)
    rules.run()
    take(rules, [report(rules, 2, log="seen ")])
    bound = Counting()
    batch = [
        Message("worker_progress", {"log": "forged "}, "a", attempt=1, token="forged", seq=3),
        report(rules, 4, log="four"),
        report(rules, 2, log="seen "),
        report(rules, 3, log="three "),
        report(rules, 4, log="again"),
        report(rules, 5, "workflow_finished"),
    ]
    with rules.ledgers() as transaction:
        rules.engine.take_reports(transaction, batch, rules.now, bound)
    assert bound.asked == [("a", 1, "three four", True)]
    assert ledger.logs["a", 1, 3] == "THREE FOUR"


def test_a_twin_that_was_deleted_does_not_silence_the_one_that_is_kept(store: Store) -> None:
    """Twins have one token, and count from 1 each."""
    rules = Rules(store.transaction)
    rules.run()
    take(rules, [report(rules, seq, phase="running", log=f"{seq} of the first\n") for seq in range(2, 50)])
    for seq in range(1, 4):
        rules.now += PACE.heartbeat
        kind = "worker_started" if seq == 1 else "worker_progress"
        assert take(rules, [report(rules, seq, kind)])[0].disposition == "taken"
        assert rules.job("a").heard_at == rules.now
    take(rules, [report(rules, 4, "workflow_finished", outcome="succeeded", outputs={"n": 2})])
    job = rules.job("a")
    assert (job.state, job.verdict, job.output_object) == ("terminating", "succeeded", {"n": 2})


def test_a_report_that_says_nothing_new_writes_nothing(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.run()
    take(rules, [report(rules, 2, phase="running", step=1, steps=2)])
    before, statements = rules.job("a"), []
    sa.event.listen(store._engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    rules.now += PACE.heartbeat
    take(rules, [report(rules, 3), report(rules, 4, phase="running", step=1)])
    assert [text for text in statements if text.startswith(("INSERT", "UPDATE", "DELETE"))] == []
    after = rules.job("a")
    assert after == replace(before, heard_at=rules.now, seq=4), "neither its version nor updated_at"
    rules.now += PACE.silence - 1
    assert rules.overdue(0.0) == []
    rules.now += 1
    assert [type(event) for event in rules.overdue(0.0)] == [WorkerLost]
    take(rules, [report(rules, 3, step=2)])
    assert rules.job("a").step == 1, "it is older than the last one"
    take(rules, [report(rules, 5, step=2)])
    after = rules.job("a")
    assert (after.step, after.version, after.updated_at) == (2, before.version + 1, rules.now)


# as if each were taken alone


def carry_out(rules: Rules, *results: OperationResult) -> None:
    """The next effect of job a gets these results, one after the other."""
    for result in results:
        rules.now += 100.0
        with rules.ledgers() as ledger:
            effect = next(effect for effect in ledger.next_effects() if effect.job_id == "a")
            operation = rules.outbox.begin(ledger, effect, rules.now)
            if operation is not None:
                rules.outbox.conclude(ledger, effect, operation, result, rules.now)


def site_in(state: str) -> tuple[Rules, MemoryLedger]:
    """Two jobs, the first with a request that was given up: its token is void. A job of an older version may
    have such a one beside the one that counts."""
    ledger = MemoryLedger()
    rules = in_memory(ledger, "run_timeout")
    rules.boot("b", "server-b")
    rules.submit("a")
    if state == "queued":
        return rules, ledger
    rules.admit(places=2)
    carry_out(rules, Created("server-a"))
    job = rules.job("a")
    ledger.save_job(
        dataclasses.replace(job, requests=(CreateRequest("mark-0", "token-0", "void"), *job.requests))
    )
    if state != "booting":
        take(rules, [report(rules, 1, "worker_started", abilities=["run_timeout"])])
    if state in ("lost", "second attempt"):
        rules.fire("a", WorkerLost(rules.now, 600.0))
    if state == "second attempt":
        carry_out(rules, Console(""), Gone())
        rules.now += 1000.0
        rules.admit(places=2)
    if state == "canceled":
        rules.take("cancel_job", "a")
    if state in ("finished", "done"):
        take(rules, [report(rules, 2, "workflow_finished")])
    if state == "done":
        carry_out(rules, Gone())
    return rules, ledger


def tokens_of(job: Job) -> list[str]:
    return [request.token for request in job.requests] or ["void"]


what_is_said = st.fixed_dictionaries(
    {"log": st.sampled_from((None, "", "x", "long\n"))},
    optional={
        "step": st.integers(0, 3),
        "phase": st.sampled_from(("", "cloning", "running")),
        "version": st.sampled_from(("", "0.1.0", "0.3.0")),
        "abilities": st.sampled_from(([], ["run_timeout"])),
    },
)
said = st.tuples(
    st.sampled_from(("a", "a", "b")),
    st.sampled_from(("worker_started", "worker_progress", "worker_progress", "workflow_finished")),
    st.integers(1, 8),  # seq
    st.integers(0, 3),  # which token: those of the job's requests, or another
    st.integers(0, 9),  # 0: of another attempt
    st.sampled_from(("succeeded", "workflow_failed", "system_failed")),
    what_is_said,
)


def outcome(rules: Rules, ledger: MemoryLedger, in_order: bool) -> Any:
    """All that a batch may change; the order between jobs is nobody's concern."""
    same = {"version": 0} if in_order else {"version": 0, "phase": None, "step": None}
    jobs = [dataclasses.replace(rules.job(job), **same) for job in ("a", "b")]
    log = {job: "".join(text for (of, *_), text in sorted(ledger.logs.items()) if of == job) for job in "ab"}
    changes = sorted(ledger.changes, key=lambda change: change.job_id)
    effects = sorted((effect.job_id, effect.kind, effect.due_at) for effect in ledger.books().effects)
    return jobs, changes, effects, log


@pytest.mark.parametrize("state", STATES)
@given(batch=st.lists(said, max_size=12), in_order=st.booleans())
def test_a_batch_is_as_if_each_were_taken_alone(state: str, batch: list[Any], in_order: bool) -> None:
    together, ledger = site_in(state)
    alone, other = site_in(state)
    if in_order:
        batch = sorted(batch, key=lambda each: each[2])
    messages = []
    for job, kind, seq, which, attempt, ended, says in batch:
        record = together.job(job)
        tokens = [*reversed(tokens_of(record)), "another", "another", "another"]
        proof = {"attempt": record.attempt + 1 if attempt == 0 else max(1, record.attempt), "seq": seq}
        body = {**says, "outcome": ended} if kind == "workflow_finished" else says
        messages.append(Message(kind, body, job, token=tokens[which], **proof))
    results = take(together, messages)
    one_by_one = [alone.deliver(message) for message in messages]
    assert outcome(together, ledger, in_order) == outcome(alone, other, in_order)
    assert [taken.disposition for taken in results] == [taken.disposition for taken in one_by_one]
    again = outcome(together, ledger, in_order)
    for message in messages:
        together.deliver(message)
    assert outcome(together, ledger, in_order) == again, "the same reports again change nothing"
