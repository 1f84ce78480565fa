"""How many transitions a second the daemon makes of messages that wait in RabbitMQ, beside a bare loop, and
how many jobs a second it takes through their whole life: on SQLite and on PostgreSQL, in one run.

Drain: all sides empty a quorum queue of the same messages, commit the same rows with every commit fsynced,
and ack after the commit. The bare loop only does that: pika, json, sqlite3, and no rule at all. No side's
time to connect counts; the daemon has been running, and was disconnected meanwhile.

Lifecycle: see ``benchmarks.lifecycle``. With ten times as many jobs it must not be slower.

usage: python -m benchmarks.throughput [MESSAGES [ROUNDS [JOBS]]]
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pika
import sqlalchemy as sa

from benchmarks.emptycloud import EmptyCloud
from benchmarks.lifecycle import lifecycle
from lando.app.app import App
from lando.app.service import Service
from lando.cloud.interface import Server, ServerRequest
from lando.config import site_config as config
from lando.daemon.receive import BATCH
from lando.messages import Message
from lando.states.job import JobSpec
from lando.workqueue.interface import Delivery
from lando.workqueue.rabbitmq.consumer import RabbitMQQueue
from lando.workqueue.rabbitmq.publisher import OutgoingMessage, RabbitMQPublisher
from lando.workqueue.rabbitmq.session import PREFETCH, Session
from tests.support import postgres_server as postgres
from tests.support.postgres_server import URL as POSTGRES_URL
from tests.support.postgres_server import Postgres
from tests.support.rabbitmq_server import URL, Broker, VirtualHost, at_url

WARM_UP = 21
"""Messages before anything is measured: a daemon that runs for long has compiled its statements."""
TARGET = 0.5
"""Of the bare loop's speed."""
STEADY = 0.9
"""Of the lifecycle's speed, with ten times as many jobs."""


class FullCloud(EmptyCloud):
    """Has no room, ever."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def create(self, request: ServerRequest) -> Server:
        """Wait until the measurement is over."""
        self.over.wait()
        return Server(request.mark, request.name, "ERROR", request.mark, request.deployment)


class Timed(RabbitMQQueue):
    """Stays away from the queue until it may go on; tells how long it then takes to ack so many messages."""

    def begin(self, wanted: int) -> None:
        """Get ready to count."""
        self.left = wanted
        self.begun: float | None = None
        self.took = 0.0
        self.done = threading.Event()
        self.may_go_on = threading.Event()
        self.away = threading.Event()

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """As ever, once it may."""
        if not self.may_go_on.is_set():
            self.rewind()
            self.away.set()
            self.may_go_on.wait()
        return super().receive(limit, timeout)

    def _connect(self, session: Session, patience: float) -> None:
        super()._connect(session, patience)
        self.begun = self.begun or time.monotonic()

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """As ever, and count."""
        super().ack(deliveries)
        self.left -= len(deliveries)
        if self.left <= 0 and self.begun is not None:
            self.took = time.monotonic() - self.begun
            self.done.set()


def messages(count: int) -> list[Message]:
    """Jobs, each canceled right after it was submitted: every message is one transition."""
    body = JobSpec("https://example.org/workflows.git", "align", {"reads": "r.fastq"}, "align.cwl").as_body()
    found = []
    for _ in range(count // 2):
        job = str(uuid.uuid4())
        found += [Message("start_worker", body, job=job), Message("cancel_job", job=job)]
    return found


@contextlib.contextmanager
def a_postgres(root: Path) -> Iterator[Callable[[], str]]:
    """Makes the URLs of empty databases, on the server that the environment names, or one of our own."""
    if os.environ.get(POSTGRES_URL):
        server = postgres.shared(root)
        yield lambda: server.create().url
        return
    own = Postgres(root / "postgres", durable=True)
    with own.running():
        own.server().prepare()
        yield lambda: own.server().create().url


@contextlib.contextmanager
def a_virtual_host(root: Path) -> Iterator[VirtualHost]:
    """On the broker that the environment names, or one of our own."""
    if os.environ.get(URL):
        with contextlib.closing(at_url(os.environ[URL])) as given:
            yield given
        return
    broker = Broker(root / "broker")
    broker.start()
    try:
        yield broker.virtual_host()
    finally:
        broker.stop()


def site_of(virtual_host: VirtualHost, root: Path, database: str | None = None) -> App:
    """A site on this broker, and on SQLite where no other database is given."""
    root.mkdir()
    url = "" if database is None else f"database: {{url: '{database}'}}\n"
    file = root / "landoconfig.yml"
    file.write_text(
        f"{virtual_host.landoconfig()}cloud: local\nmax_workers: 1\nstate_dir: {root / 'state'}\n{url}"
    )
    file.chmod(0o600)
    return App(config.load(file))


def fill(site: App, waiting: Sequence[Message]) -> None:
    """Put the messages there."""
    publisher = RabbitMQPublisher(site.broker, site.names.commands, site.names.queue)
    publisher.publish_all([OutgoingMessage(message.encode(), site.names.commands) for message in waiting])
    publisher.close()


def with_lando(site: App, waiting: Sequence[Message]) -> float:
    """Seconds in which a daemon empties the queue."""
    cloud = FullCloud()
    site.__dict__["cloud"] = cloud
    assert site.config.work_queue is not None
    queue = Timed(site.broker, site.names, site.config.work_queue.queue_type)
    site.queue = lambda: queue  # type: ignore[method-assign]
    queue.begin(WARM_UP)
    queue.may_go_on.set()
    service = Service(site)
    ready = threading.Event()
    thread = threading.Thread(target=service.run, args=(ready.set,))
    thread.start()
    try:
        assert ready.wait(60)
        fill(site, [*messages(WARM_UP - 1), messages(2)[0]])  # the last takes the only place, for ever
        assert queue.done.wait(60)
        queue.begin(len(waiting))
        assert queue.away.wait(60)
        fill(site, waiting)
        queue.may_go_on.set()
        assert queue.done.wait(120)
    finally:
        cloud.over.set()
        queue.may_go_on.set()
        service.daemon.stop()
        thread.join()
        service.close()
    engine = sa.create_engine(site.config.database_url)
    with engine.connect() as connection:
        made = sa.text("SELECT count(*) FROM history WHERE event != 'admitted'")
        transitions = int(connection.execute(made).scalar_one())
    engine.dispose()
    assert transitions >= WARM_UP + len(waiting), transitions
    return queue.took


def bare(site: App, directory: Path, waiting: int) -> float:
    """Seconds in which a bare loop empties the queue, with the rows that the daemon would write."""
    schema = Schema(site.config.database_path or Path())
    database = sqlite3.connect(directory / "bare.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    schema.make(database)
    connection = pika.BlockingConnection(site.broker.parameters())
    channel = connection.channel()
    channel.basic_qos(prefetch_count=PREFETCH)
    batch: list[tuple[int, bytes]] = []
    channel.basic_consume(
        site.names.queue, lambda _, method, __, raw: batch.append((method.delivery_tag, raw))
    )
    begun = time.monotonic()
    done = 0
    while done < waiting:
        while len(batch) < min(BATCH, waiting - done):
            connection.process_data_events(time_limit=5)
        taken, batch[:] = batch[:BATCH], batch[BATCH:]
        database.execute("BEGIN IMMEDIATE")
        for _, raw in taken:
            schema.write(database, json.loads(raw))
        database.execute("COMMIT")
        channel.basic_ack(taken[-1][0], multiple=True)
        done += len(taken)
    connection.process_data_events(time_limit=0)
    took = time.monotonic() - begun
    connection.close()
    database.close()
    return took


class Schema:
    """The tables that the daemon made, and the rows that it wrote, to be written again by the bare loop."""

    def __init__(self, database: Path) -> None:
        source = sqlite3.connect(database)
        source.row_factory = sqlite3.Row
        self._sql = [
            row["sql"]
            for row in source.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
            if "sqlite_sequence" not in row["sql"]
        ]
        self._jobs = {row["id"]: tuple(row) for row in source.execute("SELECT * FROM jobs")}
        self._columns = len(next(iter(self._jobs.values())))
        self._history: dict[tuple[str, str], tuple[Any, ...]] = {}
        for row in source.execute("SELECT * FROM history"):
            self._history[row["job_id"], row["target"]] = tuple(row)[1:]
        source.close()

    def make(self, database: sqlite3.Connection) -> None:
        """Make the same tables and indices."""
        for sql in self._sql:
            database.execute(sql)

    def write(self, database: sqlite3.Connection, message: dict[str, Any]) -> None:
        """The rows of one message."""
        job, now, key = message["job"], time.time(), f"client:{message['id']}"
        database.execute("INSERT INTO processed_messages (id, at) VALUES (?, ?)", (key, now))
        if message["type"] == "start_worker":
            marks = ",".join("?" * self._columns)
            database.execute(f"INSERT INTO jobs VALUES ({marks})", self._jobs[job])
            change = self._history[job, "queued"]
        else:
            database.execute(
                "UPDATE jobs SET state = ?, outcome = ?, reason = ?, updated_at = ?, version = version + 1 "
                "WHERE id = ?",
                ("failed", "canceled", "canceled", now, job),
            )
            change = self._history[job, "failed"]
        marks = ",".join("?" * len(change))
        database.execute(
            f"INSERT INTO history SELECT NULL, {marks}",
            change,
        )


def main() -> None:
    """Measure and print."""
    count, rounds, jobs = ([int(each) for each in sys.argv[1:]] + [1000, 5, 1000][len(sys.argv) - 1 :])[:3]
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        virtual_host = stack.enter_context(a_virtual_host(root))
        new_postgres = stack.enter_context(a_postgres(root))
        drain(virtual_host, new_postgres, root, count, rounds)
        live(new_postgres, root, jobs, min(3, rounds))


def drain(
    virtual_host: VirtualHost, new_postgres: Callable[[], str], root: Path, count: int, rounds: int
) -> None:
    """Print how fast a queue is emptied."""
    seen: dict[str, list[float]] = {"SQLite": [], "PostgreSQL": [], "bare loop": []}
    for round_ in range(rounds):
        for name, database in (("SQLite", None), ("PostgreSQL", new_postgres())):
            directory = root / f"{name}-{round_}"
            site = site_of(virtual_host, directory, database)
            waiting = messages(count)
            seen[name].append(len(waiting) / with_lando(site, waiting))
            if database is None:
                again = App(site.config)
                fill(again, waiting)
                seen["bare loop"].append(len(waiting) / bare(again, directory, len(waiting)))
    print(f"{count} messages waiting in a quorum queue, {rounds} rounds, {os.cpu_count()} CPUs:")
    for name, values in seen.items():
        print(f"{name:10}: {_spread(values)} transitions a second")
    for name in ("SQLite", "PostgreSQL"):
        pairs = zip(seen[name], seen["bare loop"], strict=True)
        _judge(f"{name} to bare loop", statistics.median(mine / floor for mine, floor in pairs), TARGET)


def live(new_postgres: Callable[[], str], root: Path, jobs: int, rounds: int) -> None:
    """Print how fast jobs live."""
    logging.disable(logging.INFO)
    print(f"whole lives of {jobs} and of {10 * jobs} jobs, {rounds} rounds:")
    for name in ("SQLite", "PostgreSQL"):
        seen: dict[int, list[float]] = {jobs: [], 10 * jobs: []}
        for round_ in range(rounds):
            for number, values in seen.items():
                file = root / f"lives-{round_}-{number}.db"
                url = new_postgres() if name == "PostgreSQL" else f"sqlite:///{file}"
                values.append(lifecycle(url, number))
        for number, values in seen.items():
            print(f"{name:10}: {_spread(values)} jobs a second, of {number}")
        slower = statistics.median(seen[10 * jobs]) / statistics.median(seen[jobs])
        _judge(f"{name}, {10 * jobs} jobs to {jobs}", slower, STEADY)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):7.0f} (from {min(values):.0f} to {max(values):.0f})"


def _judge(what: str, ratio: float, target: float) -> None:
    print(
        f"{what} (median): {ratio:.2f}; target: at least {target}: {'met' if ratio >= target else 'missed'}"
    )


if __name__ == "__main__":
    main()
