"""Effects that are due are begun, carried out and concluded; a rule that fails delays its own effect only."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from lando.daemon import dispatch
from lando.daemon.dispatch import CREATES, POOL, Begun, Dispatcher
from lando.engine.ledger import Effect
from lando.engine.operations import (
    Created,
    DeleteServers,
    FetchConsole,
    Gone,
    Operation,
    OperationResult,
    SendCreate,
    Trouble,
)
from lando.engine.pace import Pace
from lando.states.job import Job
from lando.states.table import EffectKind
from lando.store.database import StoreUnavailable
from lando.store.store import Store
from lando.store.transaction import Transaction

PACE = Pace(first=10.0, longest=60.0)
PATIENCE = 30.0
"""Seconds after which a test gives up waiting."""


class Rules:
    """The outbox: begins every effect, unless told to fail, and notes what it concludes."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.concluded: list[str] = []
        self.begin_fails: dict[str, Exception] = {}
        self.conclude_fails: dict[str, Exception] = {}
        self.nothing_to_do: set[str] = set()
        self.answers_again = 0

    def begin(self, transaction: Transaction, effect: Effect, now: float) -> Operation | None:
        self.begun.append(effect.job_id)
        if effect.job_id in self.begin_fails:
            transaction.set_fact("written before the failure", effect.job_id)
            raise self.begin_fails[effect.job_id]
        if effect.job_id in self.nothing_to_do:
            transaction.remove_effect(effect)
            return None
        if effect.kind == "create_server":
            return SendCreate(Job(effect.job_id), "mark", "token")
        return DeleteServers(("server-1",)) if effect.kind == "delete_server" else FetchConsole("server-1")

    def conclude(
        self,
        transaction: Transaction,
        effect: Effect,
        operation: Operation,
        result: OperationResult,
        now: float,
    ) -> None:
        if effect.job_id in self.conclude_fails:
            transaction.set_fact("written before the failure", effect.job_id)
            raise self.conclude_fails[effect.job_id]
        self.concluded.append(effect.job_id)
        if not isinstance(result, Trouble):
            transaction.remove_effect(effect)

    def cloud_answers(self, transaction: Transaction, now: float) -> None:
        self.answers_again += 1


class Cloud:
    """The handlers of effects: each operation succeeds, or fails, once a test lets it."""

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        self.answers = threading.Event()
        self.answers.set()

    def carry_out(self, operation: Operation) -> OperationResult:
        assert self.answers.wait(PATIENCE)
        if self.trouble is not None:
            return self.trouble
        return Created("server-1") if isinstance(operation, SendCreate) else Gone()


class Loop:
    """The dispatcher, driven as the loop drives it; ``now`` is its clock."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = 10_000.0
        self.rules, self.cloud = Rules(), Cloud()
        self._woken = threading.Semaphore(0)
        self.dispatcher = Dispatcher(self.rules, self.cloud, PACE, self._woken.release)  # type: ignore[arg-type]

    def add(
        self, job: str, kind: EffectKind = "delete_server", due_in: float = 0.0, server: str | None = "server"
    ) -> None:
        with self.store.transaction() as transaction:
            transaction.insert_job(Job(job, server_id=server), {}, None)
            transaction.add_effect(job, kind, (), self.now + due_in)

    def iterate(self, is_cloud_silent: bool = False) -> Begun:
        """Conclude what is finished, begin what is due, and carry it out."""
        with self.store.transaction() as transaction:
            self.dispatcher.conclude(transaction, self.now)
            begun = self.dispatcher.begin(transaction, self.now, is_cloud_silent)
        self.dispatcher.carry_out(begun)
        return begun

    def wait(self, results: int = 1) -> None:
        """Wait until as many operations have ended."""
        assert all(self._woken.acquire(timeout=PATIENCE) for _ in range(results))

    def effects(self) -> dict[str, Effect]:
        with self.store.transaction() as transaction:
            return {effect.job_id: effect for effect in transaction.next_effects()}

    def fact(self) -> object:
        with self.store.reading() as queries:
            return queries.fact("written before the failure")


@pytest.fixture
def loop(store: Store) -> Iterator[Loop]:
    here = Loop(store)
    yield here
    here.cloud.answers.set()


def jobs(begun: Begun) -> list[str]:
    return [effect.job_id for effect, _ in begun.operations]


def test_an_effect_that_is_due_is_begun_carried_out_and_concluded_once(loop: Loop) -> None:
    loop.add("a")
    assert jobs(loop.iterate()) == ["a"]
    assert loop.dispatcher.in_progress == 1
    loop.wait()
    assert jobs(loop.iterate()) == []
    assert (loop.rules.begun, loop.rules.concluded) == (["a"], ["a"])
    assert loop.dispatcher.in_progress == 0


def test_an_effect_in_progress_is_not_begun_again(loop: Loop) -> None:
    loop.cloud.answers.clear()
    loop.add("a")
    loop.iterate()
    assert jobs(loop.iterate()) == []
    assert loop.rules.begun == ["a"]


def test_the_loop_is_told_when_the_next_effect_is_due(loop: Loop) -> None:
    assert loop.iterate().next_due == float("inf")
    loop.add("later", due_in=1000.0)
    loop.add("much later", due_in=2000.0)
    begun = loop.iterate()
    assert (jobs(begun), begun.next_due) == ([], 1000.0)


def test_an_effect_with_nothing_to_carry_out_makes_the_next_iteration_start_at_once(loop: Loop) -> None:
    loop.add("a")
    loop.rules.nothing_to_do.add("a")
    begun = loop.iterate()
    assert (jobs(begun), begun.next_due) == ([], 0.0)


def test_the_loop_is_told_whether_a_deletion_is_begun(loop: Loop) -> None:
    loop.add("a", "save_console_log")
    assert not loop.iterate().deletes
    loop.add("b", "delete_server")
    assert loop.iterate().deletes


def test_no_more_operations_are_in_progress_than_the_pool_has_threads(loop: Loop) -> None:
    loop.cloud.answers.clear()
    for number in range(POOL + 2):
        loop.add(f"{number:02}")
    assert len(loop.iterate().operations) == POOL
    assert loop.iterate().operations == ()
    loop.cloud.answers.set()
    loop.wait(results=POOL)
    assert len(loop.iterate().operations) == 2


def test_creates_that_hang_leave_threads_for_deletions(loop: Loop) -> None:
    loop.cloud.answers.clear()
    for number in range(POOL + 2):
        loop.add(f"create {number:02}", "create_server")
    assert len(loop.iterate().operations) == CREATES
    assert loop.dispatcher.free_creates == 0
    loop.add("to delete")
    assert jobs(loop.iterate()) == ["to delete"]


# a cloud that does not answer


class Silent:
    """Ten deletions that fail, in a cloud whose servers cannot be listed either."""

    def __init__(self, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop, self.now = loop, 0.0
        monkeypatch.setattr(dispatch.time, "monotonic", lambda: self.now)
        for number in range(10):
            loop.add(f"{number:02}")
        loop.cloud.trouble = Trouble("no route")
        self.fail(loop.iterate())

    def fail(self, begun: Begun) -> None:
        self.loop.wait(len(begun.operations))


@pytest.fixture
def silent(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> Silent:
    return Silent(loop, monkeypatch)


def test_while_the_cloud_is_silent_one_deletion_is_tried_per_back_off(silent: Silent) -> None:
    loop = silent.loop
    tried = []
    for _ in range(3600):
        begun = loop.iterate(is_cloud_silent=True)
        silent.fail(begun)
        tried += jobs(begun)
        silent.now += 1.0
    assert 55 <= len(tried) <= 61
    assert loop.iterate(is_cloud_silent=True).next_due == pytest.approx(60.0, abs=60.0)


def test_only_one_deletion_is_in_progress_while_the_cloud_is_silent(silent: Silent) -> None:
    loop = silent.loop
    loop.iterate(is_cloud_silent=True)
    silent.now += 60.0
    loop.cloud.answers.clear()
    assert len(loop.iterate(is_cloud_silent=True).operations) == 1
    silent.now += 1000.0
    begun = loop.iterate(is_cloud_silent=True)
    assert (begun.operations, begun.next_due) == ((), float("inf")), "its result wakes the loop"


def test_a_deletion_that_needs_no_call_and_other_effects_do_not_wait(silent: Silent) -> None:
    loop = silent.loop
    loop.add("without a server", server=None)
    loop.rules.nothing_to_do.add("without a server")
    loop.add("console", "save_console_log")
    begun = loop.iterate(is_cloud_silent=True)
    assert jobs(begun) == ["console"]
    assert "without a server" not in loop.effects()


@pytest.mark.parametrize("seen_by", ["list", "deletion"])
def test_once_the_cloud_answers_all_deletions_go_on(silent: Silent, seen_by: str) -> None:
    loop = silent.loop
    loop.iterate(is_cloud_silent=True)
    loop.cloud.trouble = None
    if seen_by == "deletion":
        silent.now += 60.0
        assert len(loop.iterate(is_cloud_silent=True).operations) == 1
        loop.wait()
    assert loop.rules.answers_again == 0
    begun = loop.iterate(is_cloud_silent=seen_by == "deletion")
    assert (len(begun.operations), loop.rules.answers_again) == (POOL, 1)
    loop.wait(POOL)
    loop.iterate()
    assert loop.rules.answers_again == 1, "it is told once"


def test_deletions_that_fail_in_a_cloud_that_answers_do_not_wait_for_each_other(silent: Silent) -> None:
    begun = silent.loop.iterate()
    assert len(begun.operations) == POOL
    silent.fail(begun)


# a rule that fails


def test_an_effect_whose_rule_fails_is_postponed_alone(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    loop.add("a")
    loop.add("b")
    loop.rules.begin_fails["a"] = ZeroDivisionError("a bug")
    begun = loop.iterate()
    assert jobs(begun) == ["b"]
    assert "delete_server of job a failed; this is a bug in lando-fsm" in caplog.text
    assert loop.fact() is None, "what the rule had written is rolled back"
    postponed = loop.effects()["a"]
    assert (postponed.tries, postponed.due_at) == (1, loop.now + 10.0)


def test_the_back_off_of_a_rule_that_fails_grows(loop: Loop) -> None:
    loop.add("a")
    loop.rules.begin_fails["a"] = ZeroDivisionError("a bug")
    waits = []
    for _ in range(4):
        loop.iterate()
        due_at = loop.effects()["a"].due_at
        waits.append(due_at - loop.now)
        loop.now = due_at
    assert waits == [10.0, 20.0, 40.0, 60.0]


def test_a_result_whose_rule_fails_frees_its_thread_and_its_effect_is_postponed(loop: Loop) -> None:
    loop.add("a")
    loop.add("b")
    loop.rules.conclude_fails["a"] = ZeroDivisionError("a bug")
    loop.iterate()
    loop.wait(results=2)
    loop.iterate()
    assert loop.rules.concluded == ["b"]
    assert loop.dispatcher.in_progress == 0
    assert loop.fact() is None, "what the rule had written is rolled back"
    assert loop.effects()["a"].tries == 1


# a store that fails


def test_a_result_that_could_not_be_written_is_concluded_in_the_next_transaction(loop: Loop) -> None:
    loop.add("a")
    loop.iterate()
    loop.wait()
    loop.rules.conclude_fails["a"] = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        loop.iterate()
    assert loop.dispatcher.in_progress == 1
    del loop.rules.conclude_fails["a"]
    assert jobs(loop.iterate()) == [], "it is not carried out a second time"
    assert loop.rules.concluded == ["a"]
    assert (loop.dispatcher.in_progress, loop.effects()) == (0, {})


def test_an_effect_is_not_postponed_because_the_store_failed(loop: Loop) -> None:
    loop.add("a")
    loop.rules.begin_fails["a"] = StoreUnavailable("the disk is full")
    with pytest.raises(StoreUnavailable):
        loop.iterate()
    assert loop.effects()["a"].tries == 0


def test_results_of_a_history_that_was_lost_are_dropped_and_no_create_is_sent_before_they_have_come(
    loop: Loop,
) -> None:
    """A promoted replica may lack the transaction that began them."""
    loop.cloud.answers.clear()
    loop.add("a", "create_server", server=None)
    loop.iterate()
    loop.dispatcher.begin_anew()
    assert (loop.dispatcher.in_progress, loop.dispatcher.free_creates) == (0, 0)
    assert jobs(loop.iterate()) == []
    assert not loop.dispatcher.have_strays_ended()
    loop.cloud.answers.set()
    loop.wait()
    loop.iterate()
    assert loop.rules.concluded == []
    assert loop.dispatcher.have_strays_ended() and not loop.dispatcher.have_strays_ended()
    assert jobs(loop.iterate()) == ["a"]
