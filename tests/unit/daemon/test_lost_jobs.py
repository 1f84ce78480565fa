"""Reports about what the database does not have: told once, recorded, and forgotten once it has it."""

from __future__ import annotations

import logging

import pytest

from lando.daemon import lost_jobs
from lando.daemon.lost_jobs import KEPT, LOOK_EVERY, RECORDED, LostJobsRecord
from lando.messages import Message
from lando.states.job import Job
from lando.store.facts import LostJob, LostJobs
from lando.store.store import Store
from lando.views.daemon_status import DaemonStatus


class Recorder:
    """A daemon's record, and the store that it is in."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.now = 1000.0
        monkeypatch.setattr(lost_jobs.time, "monotonic", lambda: self.now)
        self.restart()

    def restart(self) -> None:
        self.record = LostJobsRecord(lambda: self.now)

    def reported(self, job: str, attempt: int = 1, outcome: str | None = None) -> None:
        type_ = "worker_progress" if outcome is None else "workflow_finished"
        body = {} if outcome is None else {"outcome": outcome}
        self.record.note([Message(type_, body, job, attempt, "token", 1)])

    @property
    def written(self) -> LostJobs:
        with self.store.transaction() as transaction:
            self.record.write(transaction)
        with self.store.reading() as queries:
            return queries.lost_jobs()


@pytest.fixture
def recorder(store: Store, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    with store.transaction() as transaction:
        transaction.insert_job(Job("known", attempt=1), {}, None)
    return Recorder(store, monkeypatch)


def test_each_is_told_once_and_recorded_with_the_result(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lando")
    assert recorder.written == LostJobs()
    recorder.reported("lost")
    recorder.reported("known", 2, "succeeded")
    recorder.reported("lost", outcome="workflow_failed")
    recorder.reported("lost")
    assert recorder.written.jobs == (
        LostJob("lost", 1, 1000.0, "workflow_failed"),
        LostJob("known", 2, 1000.0, "succeeded", is_job_known=True),
    )
    assert [message.partition(",")[0] for message in caplog.messages] == [
        "a worker reports about job lost",
        "a worker reports about attempt 2 of job known",
    ]
    recorder.restart()
    recorder.reported("lost")
    assert len(recorder.written.jobs) == 2
    assert len(caplog.messages) == 2, "the next daemon does not tell it again"


def test_it_is_forgotten_once_the_database_has_it_or_nobody_reports_it_any_more(recorder: Recorder) -> None:
    recorder.reported("lost")
    recorder.reported("old")
    assert len(recorder.written.jobs) == 2
    with recorder.store.transaction() as transaction:
        transaction.insert_job(Job("lost", attempt=0), {}, None)
    recorder.now += LOOK_EVERY
    assert len(recorder.written.jobs) == 2, "it is queued: its server is still to be deleted"
    with recorder.store.transaction() as transaction:
        transaction.save_job(Job("lost", attempt=1))
    recorder.now += LOOK_EVERY
    assert [each.job_id for each in recorder.written.jobs] == ["old"]
    recorder.now += KEPT
    assert recorder.written == LostJobs()


def test_a_flood_is_bounded(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "lando")
    for number in range(10 * RECORDED):
        recorder.reported(f"lost-{number}")
    written = recorder.written
    assert (len(written.jobs), written.more) == (RECORDED, True)
    assert len(caplog.messages) == RECORDED


def test_status_says_what_to_do() -> None:
    reported = LostJobs((LostJob("a", 1, 0.0, "succeeded"), LostJob("b", 2, 0.0, "succeeded", True)))
    (lost, advice), (later, result) = DaemonStatus(1, reported=reported).problems
    assert lost == "1 job that this database does not have is named by VMs or reports"
    assert advice.startswith("job a (no VM is known, reported succeeded); ") and "`--id`" in advice
    assert later == "workers have reported about an attempt that this database does not know"
    assert result.startswith("attempt 2 of job b, reported succeeded; ")
    many = LostJobs(tuple(LostJob(str(number), 1, 0.0) for number in range(5)), more=True)
    ((lost, advice),) = DaemonStatus(1, reported=many).problems
    assert lost == "5 jobs or more that this database does not have are named by VMs or reports"
    assert "; and 2 more; " in advice
