"""What metrics read of the database: the counts, and that they are read from indexes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from lando.metrics.admission_held import held
from lando.metrics.sampler import read_sample
from lando.states.job import Job, State
from lando.store import measurements
from lando.store.facts import OBSTACLE_FACT, QUEUE_FACT
from lando.store.measurements import EffectCounts
from lando.store.store import Store
from lando.workqueue.embedded import EmbeddedQueue
from tests.support.query_plans import plan

BODY = {"git_clone": "https://example.org/wf.git", "cd": ".", "input": {}, "run_cwl": "tool.cwl"}
STATES: tuple[State, ...] = ("queued", "queued", "running", "done", "done", "done", "failed")


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with closing(Store(database_url)) as store:
        yield store


def fill(store: Store) -> list[str]:
    ids = [f"{number:08d}-0000-4000-8000-000000000000" for number in range(len(STATES))]
    with store.transaction() as transaction:
        for job_id, state in zip(ids, STATES, strict=True):
            transaction.insert_job(Job(job_id, state=state), BODY, None)
    return ids


def test_jobs_by_state_from_an_index_alone(store: Store) -> None:
    with store.reading() as queries:
        assert measurements.jobs_by_state(queries) == {}
    fill(store)
    with store.reading() as queries:
        assert measurements.jobs_by_state(queries) == {"queued": 2, "running": 1, "done": 3, "failed": 1}
        (*_, step) = plan(queries.connection, measurements._JOBS, {})
        assert "COVERING INDEX" in step or "Index Only Scan" in step, step
        assert "TEMP B-TREE" not in step


def test_effects_by_kind(store: Store) -> None:
    first, second, third, *_ = fill(store)
    with store.transaction() as transaction:
        transaction.add_effect(first, "delete_server", (), 100.0)
        transaction.add_effect(second, "delete_server", (), 300.0)
        transaction.add_effect(third, "create_server", (), 50.0)
    with store.transaction() as transaction:
        (effect,) = transaction.effects(("delete_server",), [second])
        transaction.postpone_effect(effect, 400.0, 5, "503")
    with store.reading() as queries:
        assert measurements.effects_by_kind(queries, 100.0) == {
            "delete_server": EffectCounts(2, 1, 100.0, 1, 5),
            "create_server": EffectCounts(1, 1, 50.0, 0, 0),
        }


def test_a_sample_of_a_new_database(store: Store, database_url: str, tmp_path: Path) -> None:
    is_sqlite = sa.make_url(database_url).get_backend_name() == "sqlite"
    path = Path(sa.make_url(database_url).database or "") if is_sqlite else None
    with closing(EmbeddedQueue(tmp_path / "queue.db")) as queue:
        sample = read_sample(store, path, queue)
    assert (sample.jobs, sample.effects, sample.held, sample.unknown_servers) == ({}, {}, frozenset(), 0)
    assert sample.size is not None
    assert sample.size > 50_000
    assert sample.queue is not None
    assert sample.queue.waiting == {"client": 0, "worker": 0}


@pytest.mark.parametrize(
    ("fact", "value", "reason"),
    [
        (OBSTACLE_FACT, None, None),
        (OBSTACLE_FACT, "waits for the project's quota: 5 of 5 VMs are in use", "quota"),
        (OBSTACLE_FACT, "no job is started at present: the cloud does not answer: 503", "cloud"),
        (QUEUE_FACT, {"disconnected_since": None, "words": ""}, None),
        (QUEUE_FACT, {"disconnected_since": 5.0, "words": "refused"}, "queue"),
    ],
)
def test_why_jobs_are_held(store: Store, fact: str, value: object, reason: str | None) -> None:
    with store.transaction() as transaction:
        transaction.set_fact(fact, value)
    with store.reading() as queries:
        assert held(queries, time.time()) == ({reason} if reason else frozenset())
