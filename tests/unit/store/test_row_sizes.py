"""Nothing from outside is unbounded in the database: each entry is fed its worst, and its rows are small."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from lando.cloud.interface import Server
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon.health import CloudHealth, QueueHealth
from lando.engine import observation
from lando.engine.operations import CreateRejected, Trouble
from lando.messages import Message
from lando.states.events import BootFailed, ServerLost
from lando.store import message_rows
from lando.store.store import Store
from lando.store.tables import METADATA
from tests.support.engine_rules import NOW, Rules

A = "0b9f4a52-6d0e-4d0b-8f7c-3a8c0f4c9b11"
WORST = "word " * 800_000
MOST = 8 * 1024
"""Bytes of a row without log, console and outputs."""


def largest_row(store: Store) -> int:
    """Characters of the largest row of all tables."""
    with store.transaction() as transaction:
        return max(
            sum(len(str(value)) for value in row)
            for table in METADATA.sorted_tables
            for row in [(), *transaction._connection.execute(sa.select(table))]
        )


def test_reasons_of_jobs_and_of_their_history(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.boot(A)
    rules.fire(A, BootFailed(NOW, "server-1", WORST))
    assert rules.job(A).reason.startswith("the VM could not be built: word word")
    assert rules.job(A).reason.endswith("word ") and "characters left out]" in rules.job(A).reason
    assert largest_row(store) < MOST
    rules = Rules(store.transaction)
    other = A.replace("0", "1")
    rules.run(other)
    rules.fire(other, ServerLost(NOW, "server-1", WORST))
    assert largest_row(store) < MOST


def test_what_the_cloud_says_of_a_server(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.boot(A)
    server = Server("server-1", "n", "ERROR", "m", "d", A, 1, fault=WORST)
    ((_, event),) = observation.events(CloudSnapshot((server,)), [rules.job(A)], NOW, 30.0, 0.0)
    assert isinstance(event, BootFailed) and len(event.reason) <= 2000


@pytest.mark.parametrize("kind", ["quota", "site", "job", "capacity"])
def test_refused_creates_and_holds(store: Store, kind: str) -> None:
    rules = Rules(store.transaction)
    rules.submit(A)
    rules.admit()
    rules.conclude(CreateRejected(kind, WORST))  # type: ignore[arg-type]
    assert largest_row(store) < MOST


def test_failed_effects(store: Store) -> None:
    rules = Rules(store.transaction)
    rules.submit(A)
    rules.admit()
    rules.conclude(Trouble(WORST))
    assert largest_row(store) < MOST


def test_a_job_that_cannot_run(store: Store) -> None:
    rules = Rules(store.transaction)
    body = {"broken": WORST, "name": WORST, "git_clone": WORST, "run_cwl": WORST, "labels": {WORST: WORST}}
    with store.transaction() as transaction:
        message = Message("start_worker", body, A)
        rules.engine.take(transaction, message, NOW, sender=WORST)
    assert largest_row(store) < 2 * MOST
    with store.reading() as queries:
        (view,) = queries.jobs()
    assert (len(view.name), len(view.submitted_by or "")) == (200, 200)
    assert len(rules.job(A).reason) == 2000


def test_facts_about_queue_and_cloud(store: Store) -> None:
    queue, cloud = QueueHealth(), CloudHealth()
    queue.disconnected(WORST)
    cloud.note(WORST)
    with store.transaction() as transaction:
        queue.write(transaction)
        cloud.write(transaction)
    assert largest_row(store) < MOST


def test_early_cancels_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_rows, "MAX_EARLY_CANCELS", 10)
    for number in range(30):
        with store.transaction() as transaction:
            transaction.remember_cancel(f"job-{number:02}", float(number))
    with store.transaction() as transaction:
        kept = [number for number in range(30) if transaction.was_canceled(f"job-{number:02}")]
    assert kept == list(range(19, 30)), "the newest ten, and the last one"
