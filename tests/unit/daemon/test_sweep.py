"""Leaked resources are deleted, once at a time each, and counted when a snapshot no longer has them."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from benchmarks.emptycloud import EmptyCloud
from lando.cloud.interface import FloatingIp, Server, Unreachable
from lando.cloud.snapshot import CloudSnapshot
from lando.daemon import sweep
from lando.daemon.sweep import LONGEST, Sweep
from lando.engine.leaks import Sweeper
from lando.engine.ownership import CloudResource
from lando.store.facts import STAYING_FACT, Staying, staying_value
from lando.store.store import Store

SERVER = Server("server-1", "lando-a-1", "ACTIVE", "mark-1", "ours")
FLOATING_IP = FloatingIp("ip-1", "192.0.2.1", "mark-2", "ours")
EVERYTHING = CloudSnapshot((SERVER,), floating_ips=(FLOATING_IP,))
NOTHING = CloudSnapshot((), floating_ips=())
PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""


class Leaky(EmptyCloud):
    """Takes deletions, or fails them; a test may hold them up."""

    def __init__(self) -> None:
        self.floating_ips = self  # type: ignore[assignment]
        self.allocates = True
        self.requested: list[str] = []
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def delete(self, id_: str) -> bool:
        self.requested.append(id_)
        assert self.answers.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return True


class Swept:
    """A sweep, its cloud and its store, driven as the loop does."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.cloud = Leaky()
        self._woken = threading.Semaphore(0)
        self.now = 0.0
        self.next_daemon()

    def find(self, snapshot: CloudSnapshot, now: float) -> list[CloudResource]:
        with self.store.transaction() as transaction:
            return self.sweep.find(transaction, snapshot, [], now)

    def delete(self, *leaked: CloudResource) -> None:
        """Request deletions, long after the last ones, and take their results."""
        self.now += LONGEST
        self.sweep.delete(leaked)
        for _ in leaked:
            assert self._woken.acquire(timeout=PATIENCE)
        self.sweep.collect()

    def collect(self) -> None:
        assert self._woken.acquire(timeout=PATIENCE)
        self.sweep.collect()

    def stays(self) -> tuple[Staying, ...]:
        """What is recorded of what stays."""
        with self.store.transaction() as transaction:
            self.sweep.write(transaction)
        with self.store.reading() as queries:
            return queries.staying()

    def next_daemon(self) -> None:
        self.sweep = Sweep(
            self.cloud,  # type: ignore[arg-type]
            Sweeper("ours", grace=60.0),
            self._woken.release,
            lambda: self.now,
        )

    @property
    def counts(self) -> dict[str, int]:
        with self.store.reading() as queries:
            return dict(queries.swept())


@pytest.fixture
def swept(store: Store) -> Swept:
    return Swept(store)


def test_what_is_leaked_is_deleted_after_the_grace_period(swept: Swept) -> None:
    assert swept.find(EVERYTHING, 0.0) == []
    leaked = swept.find(EVERYTHING, 60.0)
    assert leaked == [SERVER, FLOATING_IP]
    swept.delete(*leaked)
    assert sorted(swept.cloud.requested) == ["ip-1", "server-1"]


def test_what_was_deleted_is_counted_once_when_it_is_gone(swept: Swept) -> None:
    swept.delete(SERVER, FLOATING_IP)
    swept.find(EVERYTHING, 0.0)
    assert swept.counts == {"servers": 0, "floating_ips": 0}, "it still exists"
    swept.find(CloudSnapshot(()), 1.0)
    assert swept.counts == {"servers": 1, "floating_ips": 0}, "no floating IP was asked for"
    for now in (2.0, 3.0):
        swept.find(NOTHING, now)
        assert swept.counts == {"servers": 1, "floating_ips": 1}


def test_what_goes_without_our_deletion_is_not_counted(swept: Swept) -> None:
    swept.find(EVERYTHING, 0.0)
    swept.find(NOTHING, 60.0)
    assert swept.counts == {"servers": 0, "floating_ips": 0}


def test_a_deletion_in_progress_is_not_requested_again(swept: Swept) -> None:
    swept.cloud.answers.clear()
    swept.sweep.delete([SERVER])
    swept.sweep.delete([SERVER])
    swept.cloud.answers.set()
    swept.collect()
    assert swept.cloud.requested == ["server-1"]
    swept.delete(SERVER)
    assert swept.cloud.requested == ["server-1", "server-1"], "its result was collected"


def test_a_deletion_that_failed_is_logged_and_not_counted_until_one_succeeds(
    swept: Swept, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "lando")
    swept.cloud.error = Unreachable("no route")
    swept.delete(SERVER)
    assert "could not be deleted yet: no route" in caplog.text
    swept.find(NOTHING, 0.0)
    assert swept.counts["servers"] == 0
    swept.cloud.error = None
    swept.delete(SERVER)
    swept.find(NOTHING, 1.0)
    assert swept.counts["servers"] == 1


def test_a_driver_that_raises_what_it_may_not_does_not_end_the_thread(swept: Swept) -> None:
    swept.cloud.error = ZeroDivisionError()
    for _ in range(3):
        swept.delete(SERVER)
    assert len(swept.cloud.requested) == 3


def test_what_cannot_be_deleted_is_requested_ever_more_seldom(
    swept: Swept, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that an administrator has locked, with a list every ten seconds for a day."""
    swept.cloud.error = Unreachable("Instance is locked")
    for _ in range(8640):
        swept.now += 10.0
        before = len(swept.cloud.requested)
        swept.sweep.delete([SERVER])
        if swept.sweep._in_progress:
            swept.collect()
        assert len(swept.cloud.requested) - before <= 1
    assert len(swept.cloud.requested) == caplog.text.count("could not be deleted yet") <= 160
    swept.find(NOTHING, swept.now)
    swept.sweep.delete([SERVER])
    assert swept.sweep._in_progress, "it was gone: this is another one"
    swept.collect()


def test_what_stays_although_its_deletion_is_accepted_is_told(
    swept: Swept, caplog: pytest.LogCaptureFixture
) -> None:
    """Nova answers 404 for a server that it lists."""
    for _ in range(sweep.STAYS + 1):
        swept.delete(SERVER)
        swept.find(EVERYTHING, swept.now)
    said = [record.getMessage() for record in caplog.records if "server-1" in record.getMessage()]
    assert len(said) == 3
    assert f"{sweep.STAYS} times, and it still existed" in said[1]


def test_what_stays_is_recorded_until_it_is_gone(swept: Swept) -> None:
    before = time.time()
    swept.find(EVERYTHING, 0.0)
    for times in range(1, sweep.STAYS + 1):
        assert swept.stays() == ()
        swept.delete(SERVER, FLOATING_IP)
        swept.find(EVERYTHING, float(times))
    assert [(each.id, each.times, each.words) for each in swept.stays()] == [
        ("server-1", sweep.STAYS, ""),
        ("ip-1", sweep.STAYS, ""),
    ]
    assert all(before <= each.since <= time.time() for each in swept.stays())
    swept.cloud.error = Unreachable("it is locked")
    swept.delete(SERVER)
    assert [(each.times, each.words) for each in swept.stays()] == [(7, "it is locked"), (6, "")]
    swept.find(CloudSnapshot(()), 7.0)
    assert [each.id for each in swept.stays()] == ["ip-1"], "no floating IP was asked for"
    swept.find(NOTHING, 8.0)
    assert swept.stays() == ()


def test_the_next_daemon_knows_since_when_it_stays(swept: Swept) -> None:
    since = 1_700_000_000.0
    with swept.store.transaction() as transaction:
        value = staying_value([Staying("server-1", "server lando-a-1 (server-1)", since, 9, "locked")])
        transaction.set_fact(STAYING_FACT, value)
    assert [each.times for each in swept.stays()] == [9], "nothing was listed yet"
    swept.find(EVERYTHING, 0.0)
    for _ in range(sweep.STAYS):
        swept.delete(SERVER)
    (stays,) = swept.stays()
    assert (stays.since, stays.times, stays.words) == (since, sweep.STAYS, "")
