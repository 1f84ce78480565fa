"""Admission in the loop: none without a queue or a quota; what the next job waits for is written."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lando.cloud.interface import Quota, Share, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon.admit import Admitter, NoStart
from lando.daemon.unknown import NOT_LISTED, Unknown
from lando.engine.admission import Admission
from lando.engine.holds import Hold, Holds
from lando.engine.ledger import StateChange
from lando.engine.quota import QuotaView
from lando.messages import Message
from lando.store.facts import NO_START_FACT, OBSTACLE_FACT
from lando.store.store import Store
from tests.support.engine_rules import NOW, new_engine

QUOTA = Quota(Share(0, 2), Share(0, None), Share(0, None))


class Services:
    """A check of the cloud's services."""

    obstacle: str | None = None
    trouble = ""


class Loop:
    """The admitter, driven as the loop drives it, over three jobs and a quota of two servers."""

    def __init__(self, store: Store, has_quota: bool = True) -> None:
        self.store = store
        self.view = QuotaView(has_quota, valid_for=60.0)
        engine = new_engine()
        self.services = Services()
        self.unknown = Unknown("ours", 60.0)
        admission = Admission(engine, 9)
        self.admitter = Admitter(admission, self.view, self.services, self.unknown)  # type: ignore[arg-type]
        with store.transaction() as transaction:
            for job in "abc":
                engine.take(transaction, Message("start_worker", {}, job), NOW)

    def read_quota(self) -> None:
        snapshot = CloudSnapshot((), quota=QUOTA, sizes={None: Size(1, 1, 512)})
        self.unknown.look(snapshot, [], 0.0)
        self.view.update(snapshot, [])

    def admit(self, free_creates: int = 6, connected: bool = True, now: float = NOW) -> list[str]:
        """The jobs that have started so far."""
        with self.store.transaction() as transaction:
            self.admitter.admit(transaction, now, free_creates, connected)
        with self.store.transaction() as transaction:
            return [job.id for job in transaction.jobs_in(("booting",))]

    @property
    def obstacle(self) -> object:
        with self.store.reading() as queries:
            return queries.fact(OBSTACLE_FACT)

    def write(self, value: object) -> None:
        with self.store.transaction() as transaction:
            transaction.set_fact(OBSTACLE_FACT, value)


@pytest.fixture
def loop(store: Store) -> Loop:
    return Loop(store)


def test_no_job_starts_before_the_quota_was_read(loop: Loop) -> None:
    assert loop.admit() == []
    assert loop.obstacle == "the project's quota is being read"


def test_no_job_starts_before_the_servers_were_listed_where_there_is_no_quota(store: Store) -> None:
    loop = Loop(store, has_quota=False)
    assert loop.admit() == []
    assert loop.obstacle == NOT_LISTED
    loop.unknown.look(CloudSnapshot(()), [], 0.0)
    assert loop.admit() == ["a", "b", "c"]
    assert loop.obstacle is None


def test_jobs_start_as_far_as_the_quota_goes_and_the_next_one_has_a_reason(loop: Loop) -> None:
    loop.read_quota()
    assert loop.admit() == ["a", "b"]
    assert loop.obstacle == "waits for the project's quota: 2 of 2 VMs are in use"


def test_no_more_jobs_start_than_creates_can_be_sent(loop: Loop) -> None:
    loop.read_quota()
    assert loop.admit(free_creates=1) == ["a"]


def test_no_job_starts_while_the_queue_is_disconnected(loop: Loop) -> None:
    loop.read_quota()
    assert loop.admit(connected=False) == []
    assert loop.admit(connected=True) == ["a", "b"]


def test_a_cloud_that_does_not_answer_is_no_reason_where_no_job_waits(store: Store) -> None:
    view = QuotaView(has_quota=True, valid_for=60.0)
    admitter = Admitter(Admission(new_engine(), 9), view, Services(), Unknown("ours", 60.0))  # type: ignore[arg-type]
    with store.transaction() as transaction:
        admitter.admit(transaction, NOW, 6, True)
    with store.reading() as queries:
        assert queries.fact(OBSTACLE_FACT) is None


def test_the_reason_is_written_when_it_changes_and_after_a_rollback(loop: Loop) -> None:
    loop.admit()
    loop.write("as it was")
    loop.admit()
    assert loop.obstacle == "as it was", "nothing has changed"
    loop.admitter.write_again()
    loop.admit()
    assert loop.obstacle == "the project's quota is being read"


def test_no_job_starts_while_a_service_does_not_answer(loop: Loop) -> None:
    loop.read_quota()
    loop.services.obstacle = "no job is started at present: Neutron does not answer"
    assert loop.admit() == []
    assert loop.obstacle == loop.services.obstacle
    loop.services.obstacle = None
    assert loop.admit() == ["a", "b"]


def no_start(loop: Loop) -> object:
    with loop.store.reading() as queries:
        return queries.fact(NO_START_FACT)


def hold(loop: Loop, holds: Holds) -> None:
    with loop.store.transaction() as transaction:
        transaction.set_holds(holds)


def test_since_when_everybody_waits_is_written_over_restarts(loop: Loop) -> None:
    loop.read_quota()
    hold(loop, Holds(everybody=Hold("unreachable", NOW + 600.0, "HTTP 503", account=True)))
    loop.admit()
    assert no_start(loop) == {"since": NOW, "words": "HTTP 503"}
    loop.admitter._no_start = NoStart()  # another daemon
    loop.services.trouble = "Neutron does not answer"
    loop.admit(now=NOW + 60.0)
    assert no_start(loop) == {"since": NOW, "words": "Neutron does not answer"}
    loop.services.trouble = ""
    hold(loop, Holds())
    assert loop.admit(now=NOW + 90.0) == ["a", "b"]
    assert no_start(loop) is None


def test_nobody_waits_where_no_job_is_queued(loop: Loop) -> None:
    hold(loop, Holds(everybody=Hold("site", NOW - 1.0, "a right is missing")))
    loop.admit()
    assert no_start(loop) == {"since": NOW, "words": "a right is missing"}
    with loop.store.transaction() as transaction:
        for job in transaction.jobs_with("abc"):
            transaction.save_job(replace(job, state="failed"))
            transaction.append_change(StateChange(job.id, NOW, "cancel", "queued", "failed", "canceled", 0))
    loop.admit()
    assert no_start(loop) is None
