"""What is kept in memory, marked in rows or found through indexes is what a reading of all would find."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import sqlalchemy as sa

from lando.engine.ledger import Effect, StateChange, rank
from lando.states.job import LIVE_STATES, Job, State
from lando.states.records import replace
from lando.states.table import EffectKind
from lando.store.live_jobs import LiveJobs
from lando.store.pending import StaleRecord
from lando.store.store import Store
from lando.store.tables import EFFECTS
from lando.store.transaction import Transaction
from tests.model.ledger import MemoryLedger

STATES: tuple[State, ...] = ("queued", "booting", "running", "terminating", "done", "failed")
KINDS: tuple[EffectKind, ...] = (
    "create_server",
    "attach_floating_ip",
    "save_console_log",
    "delete_twins",
    "delete_server",
)
FLAVORS = (None, "large", "gpu")
SEEDS = 15


class Failure(Exception):
    """Rolls back."""


def in_random_steps(
    store: Store, seed: int, act: Callable[[random.Random, Transaction], None]
) -> random.Random:
    """Act in transactions and parts of them, of which some fail."""
    dice = random.Random(seed)
    for _ in range(8):
        with suppress(Failure, StaleRecord), store.transaction() as transaction:
            for _ in range(dice.randrange(4)):
                act(dice, transaction)
            with suppress(Failure), transaction.part():
                act(dice, transaction)
                if dice.random() < 0.3:
                    raise Failure
            act(dice, transaction)
            if dice.random() < 0.2:
                raise Failure
    return dice


def change_a_job(dice: random.Random, transaction: Transaction) -> None:
    job_id = str(dice.randrange(12))
    job, state = transaction.job(job_id), dice.choice(STATES)
    flavor = dice.choice(FLAVORS)
    wishes = "" if flavor is None else f"{flavor} {dice.randrange(2)}"
    if job is None:
        new = Job(job_id, state, wishes=wishes, flavor=flavor, outputs="{}", log_tail="the end", heard_at=1.0)
        transaction.insert_job(new, {}, None)
        transaction.append_change(StateChange(job_id, 1.0, "start_worker", None, state, "", 0))
    elif dice.random() < 0.3 and job.state in LIVE_STATES:
        transaction.hear(replace(job, heard_at=(job.heard_at or 0.0) + 1, seq=job.seq + 1))
    else:
        if dice.random() < 0.1:
            job = replace(job, version=job.version + 5)  # somebody else has changed it
        transaction.save_job(replace(job, state=state, server_id=f"s{dice.random()}"))
        transaction.append_change(StateChange(job_id, 1.0, "e", job.state, state, "", 0))
    if dice.random() < 0.3:
        transaction.live()


def what_is_known(transaction: Transaction) -> list[Any]:
    owners = sorted(transaction.owners(), key=lambda job: job.id)
    return [owners, transaction.live(), transaction.wishes(), transaction.queued_wishes()]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_in_memory_is_what_the_database_has(store: Store, seed: int) -> None:
    heard: dict[tuple[str, int], float] = {}
    in_random_steps(store, seed, change_a_job)
    with store.transaction() as transaction:
        known = what_is_known(transaction)
        for job in transaction.owners():
            full = transaction.job(job.id)
            assert full is not None
            assert job == replace(full, outputs=None, log_tail="")
            heard[job.id, job.version] = full.heard_at or 0.0
        store._live_jobs.forget()
        assert what_is_known(transaction) == known, "what was heard outlives what else is forgotten"
    store._live_jobs = LiveJobs()
    with store.transaction() as transaction:
        for job in transaction.owners():
            assert (job.heard_at or 0.0) <= heard[job.id, job.version], "a daemon that starts may know less"
        assert what_is_known(transaction)[1:] == known[1:]


def test_what_was_heard_is_lost_with_its_transaction_and_kept_by_others_that_fail(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.insert_job(Job("a", "running", heard_at=1.0), {}, None)
    for heard_at, fails in ((2.0, True), (3.0, False), (4.0, True)):
        with suppress(Failure), store.transaction() as transaction:
            job = transaction.job("a")
            assert job is not None and job.heard_at == (1.0 if heard_at < 4.0 else 3.0)
            transaction.hear(replace(job, heard_at=heard_at, seq=int(heard_at)))
            if fails:
                raise Failure
    with store.transaction() as transaction:
        job = transaction.job("a")
        assert job is not None and (job.heard_at, job.seq, job.version) == (3.0, 3, 0)
        assert [owner.heard_at for owner in transaction.owners()] == [3.0]
        transaction.save_job(replace(job, phase="running"))
    store._live_jobs = LiveJobs()
    with store.transaction() as transaction:
        job = transaction.job("a")
        assert job is not None and (job.heard_at, job.seq) == (3.0, 3), "written with the next change"


def change_an_effect(dice: random.Random, transaction: Transaction) -> None:
    job_id = str(dice.randrange(4))
    if transaction.job(job_id) is None:
        transaction.insert_job(Job(job_id, "booting", server_id=dice.choice((None, "s"))), {}, None)
    turns = transaction.next_effects()
    if turns and dice.random() < 0.4:
        transaction.remove_effect(dice.choice(turns))
    elif turns and dice.random() < 0.3:
        transaction.postpone_effect(dice.choice(turns), dice.random(), 1, "")
    else:
        transaction.add_effect(job_id, dice.choice(KINDS), (), dice.random())


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_next_effect_of_each_job_and_no_other_is_in_a_lane(store: Store, seed: int) -> None:
    in_random_steps(store, seed, change_an_effect)
    with store.transaction() as transaction:
        rows = transaction._connection.execute(sa.select(EFFECTS)).all()
        first: dict[str, Any] = {}
        for row in sorted(rows, key=lambda row: (row.rank, row.id)):
            assert row.rank == rank(row.kind)
            first.setdefault(row.job_id, row)
        turns: list[Effect] = transaction.next_effects()
        assert {effect.id for effect in turns} == {row.id for row in first.values()}
        assert [effect.due_at for effect in turns] == sorted(effect.due_at for effect in turns)
        for row in first.values():
            job = transaction.job(row.job_id)
            assert job is not None
            needs_no_call = row.kind == "delete_server" and job.server_id is None
            assert (row.lane == 5) == needs_no_call


@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_admission_order_is_that_of_the_ledger_in_memory(store: Store, seed: int) -> None:
    dice = random.Random(seed)
    memory = MemoryLedger()
    with store.transaction() as transaction:
        for number in range(20):
            flavor = dice.choice(FLAVORS)
            job = Job(
                f"{number:02}",
                dice.choice(("queued", "queued", "queued", "running")),
                priority=dice.randrange(3),
                wishes="" if flavor is None else f"{flavor} {dice.randrange(2)}",
                flavor=flavor,
                not_before=dice.choice((0.0, 1.0, 2.0)),
                doubtful=dice.randrange(2),
                unanswered=dice.randrange(2),
            )
            transaction.insert_job(job, {}, None)
            memory.insert_job(job, {}, None)
    every = ["", *(f"{flavor} {number}" for flavor in FLAVORS[1:] for number in range(2))]
    for now in (0.0, 1.0, 0.5, 2.0):
        with store.transaction() as transaction:
            transaction.held_back = memory.held_back = frozenset(
                dice.sample(["01", "05", "09"], dice.randrange(3))
            )
            for _ in range(6):
                skip, small = dice.sample(every, dice.randrange(3)), dice.sample(FLAVORS, dice.randrange(2))
                among = None if dice.random() < 0.5 else dice.sample(every, 2)
                after = dice.choice((None, *every))
                for ledger in (transaction, memory):
                    assert isinstance(ledger, (Transaction, MemoryLedger))
                found = [
                    (
                        ledger.next_queued(now, skip, small, among),
                        ledger.least_doubtful(now, skip, small, among),
                        ledger.next_wishes(now, skip, small, after),
                    )
                    for ledger in (transaction, memory)
                ]
                assert found[0] == found[1]
            chosen = transaction.next_queued(now)
            if chosen is not None:
                for ledger in (transaction, memory):
                    ledger.save_job(replace(chosen, state="booting"))
                    ledger.append_change(StateChange(chosen.id, now, "admitted", "queued", "booting", "", 1))


def test_after_a_step_of_the_clock_whose_back_off_has_ended_is_found_again(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.insert_job(Job("a", not_before=100.0), {}, None)
        assert transaction.next_queued(99.0) is None
        assert transaction.next_queued(100.0) is not None
    with store.transaction() as transaction:
        transaction.limit_due_times(effects=60.0, jobs=60.0)
        assert transaction.next_queued(59.0) is None
        job = transaction.next_queued(60.0)
        assert job is not None and job.not_before == 60.0


def test_a_back_off_that_was_recorded_and_has_ended_within_a_transaction_is_noticed(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.insert_job(Job("a"), {}, None)
        assert transaction.next_queued(100.0, among=["w"]) is None
        job = transaction.next_queued(100.0)
        assert job is not None
        transaction.save_job(replace(job, not_before=50.0))
        job = transaction.next_queued(100.0)
        assert job is not None and job.not_before == 50.0


def test_what_was_heard_does_not_come_back_after_times_were_shifted(store: Store) -> None:
    with store.transaction() as transaction:
        transaction.insert_job(Job("a", "running", heard_at=1.0), {}, None)
    with store.transaction() as transaction:
        job = transaction.job("a")
        assert job is not None
        transaction.hear(replace(job, heard_at=5000.0))
    with store.transaction() as transaction:
        [job] = transaction.jobs_in(("running",))
        assert job.heard_at == 5000.0
        transaction.save_job(replace(job, heard_at=1400.0))
    with store.transaction() as transaction:
        job = transaction.job("a")
        assert job is not None and job.heard_at == 1400.0
        assert [owner.heard_at for owner in transaction.owners()] == [1400.0]
