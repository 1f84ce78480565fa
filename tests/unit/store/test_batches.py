"""A batch is written together; what is asked in between is answered as if each row were written at once."""

from __future__ import annotations

import dataclasses

import pytest
import sqlalchemy as sa

from lando.engine.ledger import StateChange
from lando.states.job import CreateRequest, Job
from lando.states.records import replace
from lando.store.pending import StaleRecord
from lando.store.store import Store
from lando.store.transaction import Transaction

A, B, C = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "abc")
BODY = {"git_clone": "https://example.org/wf.git", "cd": ".", "input": {}, "run_cwl": "tool.cwl"}


class Statements:
    """Counts the statements of a transaction."""

    def __init__(self, store: Store) -> None:
        self.texts: list[str] = []
        sa.event.listen(store._engine, "before_cursor_execute", self._note)

    def _note(self, _: object, __: object, text: str, *___: object) -> None:
        self.texts.append(text)

    def count(self, reason: str) -> int:
        return sum(reason in text for text in self.texts)


def start(transaction: Transaction, job_id: str) -> Job:
    transaction.mark_processed(f"client:start-{job_id}", 1.0)
    transaction.insert_job(Job(job_id), BODY, "me")
    transaction.append_change(StateChange(job_id, 1.0, "start_worker", None, "queued", "", 0))
    job = transaction.job(job_id)
    assert job is not None
    return job


def test_a_batch_is_one_statement_a_table(store: Store) -> None:
    statements = Statements(store)
    ids = [f"{number:08}-0000-4000-8000-000000000000" for number in range(50)]
    with store.transaction() as transaction:
        transaction.prefetch([f"client:start-{job_id}" for job_id in ids], ids)
        for job_id in ids:
            assert not transaction.is_processed(f"client:start-{job_id}")
            assert transaction.job(job_id) is None
            assert not transaction.was_canceled(job_id)
            assert not transaction.is_forgotten(job_id)
            transaction.save_job(replace(start(transaction, job_id), reason="changed"))
            transaction.add_effect(job_id, "create_server", (), 2.0)
    assert [statements.count(f"INSERT INTO {table}") for table in ("jobs", "history", "effects")] == [1, 1, 1]
    assert statements.count("INSERT INTO processed_messages") == 1
    assert statements.count("UPDATE") == statements.count("UPDATE effects SET lane") == 1
    assert statements.count("SELECT") == 4 + 1, "the update has one, too"
    with store.reading() as queries:
        views = queries.jobs()
    assert [view.job.id for view in views] == ids
    assert {(view.job.reason, view.job.version) for view in views} == {("changed", 1)}


def test_what_is_foreseen_is_what_is_there(store: Store) -> None:
    with store.transaction() as transaction:
        known = start(transaction, A)
        transaction.remember_cancel(B, 1.0)
    with store.transaction() as transaction:
        transaction.prefetch([f"client:start-{A}", "client:new"], [A, B, C])
        assert transaction.job(A) == known
        assert (transaction.job(B), transaction.job(C)) == (None, None)
        assert [transaction.was_canceled(job_id) for job_id in (A, B, C)] == [False, True, False]
        assert [transaction.is_processed(key) for key in (f"client:start-{A}", "client:new")] == [True, False]
        transaction.remember_cancel(C, 2.0)
        assert transaction.was_canceled(C)
        transaction.mark_processed("client:new", 2.0)
        assert transaction.is_processed("client:new")
        saved = transaction.save_job(replace(known, reason="later"))
        assert transaction.job(A) == saved


def test_questions_see_what_is_not_written_yet(store: Store) -> None:
    with store.transaction() as transaction:
        job = start(transaction, A)
        assert transaction.next_queued(10.0) == job
        live = transaction.save_job(replace(job, state="booting", server_name="vm"))
        transaction.append_change(StateChange(A, 2.0, "admitted", "queued", "booting", "", 1))
        assert transaction.live() == {"": 1}
        assert transaction.job_of_server("vm") == live
        assert transaction.jobs_in(("booting",)) == [live]
        assert transaction.next_queued(10.0) is None
        transaction.add_effect(A, "create_server", (), 3.0)
        assert [effect.kind for effect in transaction.next_effects()] == ["create_server"]
        assert transaction.body(A) == BODY


def test_several_changes_of_one_record_are_one_write(store: Store) -> None:
    request = CreateRequest("mark", "token")
    with store.transaction() as transaction:
        start(transaction, A)
    statements = Statements(store)
    with store.transaction() as transaction:
        job = transaction.job(A)
        assert job is not None
        once = transaction.save_job(replace(job, state="booting", requests=(request,)))
        twice = transaction.save_job(replace(once, reason="twice"))
    assert statements.count("UPDATE jobs") == 1
    with store.transaction() as transaction:
        assert transaction.job(A) == twice
    assert twice.version == job.version + 2


def test_an_old_record_within_a_batch_is_refused(store: Store) -> None:
    with store.transaction() as transaction:
        start(transaction, A)
    with pytest.raises(StaleRecord, match=A), store.transaction() as transaction:
        job = transaction.job(A)
        assert job is not None
        transaction.save_job(replace(job, reason="first"))
        transaction.save_job(replace(job, reason="second"))


def test_one_stale_record_undoes_the_whole_batch(store: Store) -> None:
    with store.transaction() as transaction:
        old, other = start(transaction, A), start(transaction, B)
    with store.transaction() as transaction:
        transaction.save_job(replace(old, reason="first"))
    with pytest.raises(StaleRecord, match=A), store.transaction() as transaction:
        transaction.save_job(replace(other, reason="with it"))
        transaction.save_job(replace(old, reason="second"))
        transaction.mark_processed("client:x", 1.0)
    with store.transaction() as transaction:
        assert not transaction.is_processed("client:x")
        assert transaction.job(B) == other


def test_a_part_that_fails_takes_only_its_own_rows_along(store: Store) -> None:
    with store.transaction() as transaction:
        job = start(transaction, A)
        with pytest.raises(ZeroDivisionError), transaction.part():
            transaction.save_job(replace(job, reason="undone"))
            start(transaction, B)
            raise ZeroDivisionError
        assert transaction.job(A) == job
        assert transaction.job(B) is None
        assert not transaction.is_processed(f"client:start-{B}")
        transaction.save_job(replace(job, reason="done"))
    with store.reading() as queries:
        assert [(view.job.id, view.job.reason) for view in queries.jobs()] == [(A, "done")]


def test_facts_are_asked_for_once_and_leave_a_batch_together(store: Store) -> None:
    with store.transaction() as transaction:
        start(transaction, A)
    statements = Statements(store)
    with store.transaction() as transaction:
        transaction.prefetch([], [A])
        job = transaction.job(A)
        assert job is not None
        transaction.save_job(replace(job, reason="changed"))
        assert transaction.fact("x") is transaction.fact("x") is None
        transaction.set_fact("x", [1])
        assert transaction.fact("x") == [1]
        assert statements.count("UPDATE jobs") == 0, "the record is still gathered"
    assert statements.count("SELECT facts") == 1


def test_a_part_that_fails_leaves_the_facts_as_they_were(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.set_fact("x", 1)
        with pytest.raises(ZeroDivisionError), transaction.part():
            transaction.set_fact("x", 2)
            raise ZeroDivisionError
        assert transaction.fact("x") == 1
    with store.reading() as queries:
        assert queries.fact("x") == 1


def test_replace_is_that_of_dataclasses() -> None:
    job = Job(A, reason="x", requests=(CreateRequest("m", "t"),))
    ours, theirs = replace(job, reason="y", seq=3), dataclasses.replace(job, reason="y", seq=3)
    assert (ours, hash(ours.requests), type(ours)) == (theirs, hash(theirs.requests), Job)
    assert job.reason == "x"
    with pytest.raises(TypeError, match="Job has no field rason"):
        replace(job, rason="y")  # type: ignore[call-arg]
