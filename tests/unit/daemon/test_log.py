"""A part of an iteration that fails is logged as a bug and rolled back; the rest of the iteration stays."""

from __future__ import annotations

import pytest

from lando.daemon.log import guarded
from lando.states.job import Job
from lando.store.database import StoreUnavailable
from lando.store.store import Store


def test_a_part_that_fails_is_logged_and_rolled_back_alone(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with store.transaction() as transaction:
        transaction.insert_job(Job("before"), {}, None)
        with guarded(transaction, "the check of deadlines"):
            transaction.insert_job(Job("in it"), {}, None)
            raise ZeroDivisionError
        transaction.insert_job(Job("after"), {}, None)
    with store.transaction() as transaction:
        assert [job.id for job in transaction.jobs_in(("queued",))] == ["before", "after"]
    assert "the check of deadlines failed; this is a bug in lando-fsm" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_store_that_fails_ends_the_whole_transaction(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(StoreUnavailable), store.transaction() as transaction:
        transaction.insert_job(Job("before"), {}, None)
        with guarded(transaction, "the check of deadlines"):
            raise StoreUnavailable("the disk is full")
    with store.transaction() as transaction:
        assert transaction.jobs_in(("queued",)) == []
    assert "bug" not in caplog.text
