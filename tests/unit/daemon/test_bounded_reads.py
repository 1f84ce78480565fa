"""What the loop costs does not grow with the jobs that there are, counted: at a hundred and at ten thousand,
a tenth of them of each kind."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from benchmarks.emptycloud import EmptyCloud
from lando.cloud.interface import Server, ServerRequest
from lando.daemon.daemon import Daemon
from lando.daemon.dispatch import POOL
from lando.daemon.effects import Effects
from lando.engine.holds import Hold, Holds
from lando.engine.leaks import Sweeper
from lando.messages import Message
from lando.states.job import CreateRequest, Job, State
from lando.store import effect_rows
from lando.store.pending import job_values
from lando.store.store import Store
from lando.store.tables import EFFECTS, JOBS, PROCESSED
from lando.workqueue.interface import Delivery
from tests.support.counted_reads import Cost, Reads, scans
from tests.support.engine_rules import new_engine

FEW, MANY = 10, 1_000
REPORTS = 5
PATIENCE = 30.0
SORTED = "AS wished"
"""In the one statement that sorts: the first of the jobs of each wishes."""
GROWING = ("jobs", "history", "effects", "processed_messages", "logs", "log_totals", "consoles")
GPU = '{"flavor": "gpu"}'
LATER = 1_000_000.0
NUMBERED = ("id", "server_id", "server_name", "requests")
"""Columns that differ between copies of a job: the number of the copy is in them."""
NUMBER = "########"
KINDS = (
    "runs",
    "boots",
    "deletes",
    "tells",
    "waits",
    "ready",
    "refused",
    "backs off",
    "done",
    "failed",
)


def job_id(kind: str, number: int | str = NUMBER) -> str:
    """The id of a copy."""
    return f"{KINDS.index(kind):08}-0000-4000-8000-0000{number:>08}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def a_job(kind: str, state: State, **more: Any) -> Job:
    """The first of many of this kind."""
    name = job_id(kind)
    if state in ("booting", "running", "terminating"):
        more = {
            "server_id": f"server-{name}",
            "server_name": f"lando-{name}",
            "requests": (CreateRequest(f"mark-{name}", f"token-{name}", "adopted"),),
            "attempt": 1,
            **more,
        }
    return Job(name, state, **more)


def jobs(now: float) -> list[Job]:
    """One of each kind that there are many of."""
    return [
        a_job("runs", "running", heard_at=now, deadline_at=now + LATER, server_ip="192.0.2.1", seq=1),
        a_job("boots", "booting", deadline_at=now + LATER, entered_at=now),
        a_job("deletes", "terminating", verdict="succeeded"),
        a_job("tells", "terminating", verdict="system_failed"),
        a_job("waits", "terminating", verdict="succeeded"),
        a_job("ready", "queued"),
        a_job("refused", "queued", priority=5, wishes=GPU, flavor="gpu"),
        a_job("backs off", "queued", priority=9, not_before=now + LATER),
        a_job("done", "done", outcome="succeeded"),
        a_job("failed", "failed", outcome="workflow_failed"),
    ]


def effects(now: float) -> Iterator[dict[str, Any]]:
    """Of the first of each kind: due, behind another one, and not due."""
    for kind, ordered in (
        ("deletes", (("delete_server", now - 1),)),
        ("tells", (("save_console_log", now - 1), ("delete_server", now - 1))),
        ("waits", (("delete_server", now + LATER),)),
    ):
        job = a_job(kind, "terminating")
        for position, (effect, due_at) in enumerate(ordered):
            row = effect_rows.values(job, effect, (), due_at)  # type: ignore[arg-type]
            yield row if position == 0 else {**row, "lane": None}


def fill(store: Store, size: int, now: float) -> None:
    """As many of each kind."""
    numbers = sa.select(sa.literal(0).label("n")).cte(recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < size - 1))
    digits = sa.cast(numbers.c.n, sa.Text)
    zeros = sa.literal("0" * len(NUMBER))
    text = sa.func.substr(zeros.concat(digits), sa.func.length(digits) + 1)

    def copies(table: sa.Table, row: dict[str, Any], numbered: Sequence[str]) -> None:
        values = [
            sa.func.replace(sa.literal(value), NUMBER, text)
            if name in numbered and value
            else sa.literal(value, table.c[name].type)
            for name, value in row.items()
        ]
        connection.execute(sa.insert(table).from_select([*row], sa.select(*values).select_from(numbers)))

    with store._engine.begin() as connection:
        for job in jobs(now):
            copies(JOBS, {**job_values(job), "name": "w/x", "body": "{}"}, NUMBERED)
        for row in effects(now):
            copies(EFFECTS, row, ("job_id",))
        copies(PROCESSED, {"id": f"client:{NUMBER}", "at": now}, ("id",))
        connection.exec_driver_sql("ANALYZE")


class Queue:
    """A work queue that is read up to date at once."""

    def __init__(self) -> None:
        self.waiting: list[Delivery] = []
        self.acked = 0
        self.woken = threading.Event()
        self._fence: float | None = None

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        found, self.waiting = self.waiting, []
        return found

    def obstacle(self) -> None:
        return None

    def refused_at(self) -> None:
        return None

    def request_fence(self) -> None:
        self._fence = time.monotonic()

    def passed_fence(self) -> float | None:
        return self._fence

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += len(deliveries)

    def wake(self) -> None:
        self.woken.set()


class Cloud(EmptyCloud):
    """Shows the server of every job that has one; calls that change something take for ever."""

    def __init__(self, listed: list[Server]) -> None:
        self.listed = listed
        self.over = threading.Event()

    def servers(self) -> list[Server]:
        return self.listed

    def create(self, request: ServerRequest) -> Server:
        self.over.wait()
        return self.listed[0]

    def delete(self, server_id: str) -> bool:
        self.over.wait()
        return True

    def console_log(self, server_id: str) -> str:
        self.over.wait()
        return ""


class Loop:
    """A daemon, driven turn by turn."""

    def __init__(self, store: Store, size: int, reads: Reads) -> None:
        now = time.time()
        self.store, self.reads = store, reads
        fill(store, size, now)
        with store.transaction() as transaction:
            servers = sum(transaction.live().values())
            listed = [
                Server(
                    str(job.server_id),
                    str(job.server_name),
                    "ACTIVE",
                    job.requests[0].mark,
                    "ours",
                    job.id,
                    1,
                )
                for job in transaction.owners()
            ]
        self.queue, self.cloud = Queue(), Cloud(listed)
        engine = new_engine()
        self.daemon = Daemon(
            store,
            self.queue,  # type: ignore[arg-type]
            self.cloud,  # type: ignore[arg-type]
            engine,
            Effects(self.cloud, "ours", lambda job, request: None),  # type: ignore[arg-type]
            Sweeper("ours", 60.0),
            max_workers=servers + 3,
            observe=3600.0,
            grace=60.0,
        )
        # Once a minute, from an index that has 100,000 entries at most: see ``MAX_PROCESSED``.
        self.daemon._receiver._next_forgetting = math.inf
        # Every few seconds, whenever a turn takes long.
        self.daemon._clock._next_record = math.inf
        with store.transaction() as transaction:
            transaction.set_holds(
                Holds(refused=((GPU, Hold("site", now + 3000.0, "not allowed", own=True)),))
            )
        reads.seen.clear()  # a start reads all that is live

    def turn(self) -> Cost:
        """Deadlines are checked in each."""
        self.daemon._deadlines._next_look = 0.0
        with self.reads.counted() as cost:
            self.daemon._iterate()
        return cost

    def look(self) -> Cost:
        """The turn that judges a new snapshot."""
        self.daemon._watcher._next = 0.0
        self.turn()
        return self.judged()

    def judged(self) -> Cost:
        assert self.queue.woken.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not self.daemon._watcher.collect():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        cost = self.turn()
        assert not self.daemon._watcher._snapshots
        return cost

    def report(self, seq: int, count: int = REPORTS) -> Cost:
        for number in range(count):
            name = job_id("runs", number)
            message = Message("worker_progress", {}, name, attempt=1, token=f"token-{name}", seq=seq)
            self.queue.waiting.append(Delivery(number, message.encode(), "worker"))
        return self.turn()


def costs(store: Store, size: int, reads: Reads) -> dict[str, Cost]:
    """What each kind of turn costs."""
    loop = Loop(store, size, reads)
    try:
        found = {"first turn, effects begin": loop.turn()}
        assert loop.daemon._dispatcher.in_progress == POOL
        found["first look, jobs are admitted"] = loop.judged()
        with store.transaction() as transaction:
            ready = [transaction.job(job_id("ready", number)) for number in range(4)]
            assert [job and job.state for job in ready] == ["booting"] * 3 + ["queued"]
        found["turn in which nothing is due"] = loop.turn()
        found["look that shows nothing new"] = loop.look()
        found["heartbeats"] = loop.report(2)
        assert loop.queue.acked == REPORTS
        gone = loop.cloud.listed.pop(2 * size)
        assert gone.job_id == job_id("deletes", 0)
        found["look in which a server is gone"] = loop.look()
    finally:
        loop.cloud.over.set()
    return found


def empty(store: Store) -> None:
    with store._engine.begin() as connection:
        for table in reversed(JOBS.metadata.sorted_tables):
            connection.execute(sa.delete(table))
    store._live_jobs.forget()


def test_what_the_loop_reads_does_not_grow_with_the_jobs(store: Store) -> None:
    reads = Reads(store)
    few = costs(store, FEW, reads)
    empty(store)
    many = costs(store, MANY, reads)
    is_sqlite = store._engine.dialect.name == "sqlite"
    for what, cost in few.items():
        assert many[what].statements == cost.statements, what
        # PostgreSQL plans for the size, and counts what was removed before: less than all of a kind.
        grown = many[what].read - cost.read
        assert grown == 0 if is_sqlite else grown < MANY / 2, (what, many[what].read, cost.read)
        assert cost.read < 4000, what
    assert many["heartbeats"].writes == []
    for text, plan in reads.plans().items():
        assert not scans(plan, GROWING) or SORTED in text, (text, plan)
