"""How many jobs a second the daemon takes through their whole life, and whether more jobs slow it down.

Everything is the daemon's own but the queue and the cloud, which are in memory and answer at once: a create
is followed by its worker's reports, a deletion is done. So what is measured is the loop and its database,
which has every commit fsynced.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from benchmarks.emptycloud import EmptyCloud
from lando.cloud.interface import Server, ServerRequest
from lando.config import job_file
from lando.daemon.daemon import Daemon
from lando.daemon.effects import Effects
from lando.engine.engine import Engine
from lando.engine.leaks import Sweeper
from lando.engine.operations import SendCreate
from lando.engine.pace import Pace
from lando.messages import Message, Origin
from lando.states.job import JobSpec
from lando.states.table import Policy
from lando.store.store import Store
from lando.workqueue.interface import Delivery

PATIENCE = 1800.0
"""Seconds for all of it."""
BODY = JobSpec("https://example.org/workflows.git", "align", {"reads": "r.fastq"}, "align.cwl").as_body()


class MemoryQueue:
    """A work queue in memory; any thread may send."""

    def __init__(self) -> None:
        self._waiting: list[Delivery] = []
        self._has_more = threading.Condition()
        self._is_woken = False
        self._fence: float | None = None

    def send(self, messages: Sequence[Message], origin: Origin) -> None:
        """They can be received from now on."""
        deliveries = [Delivery(0, message.encode(), origin) for message in messages]
        with self._has_more:
            self._waiting += deliveries
            self._has_more.notify()

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        """Up to ``limit`` messages."""
        with self._has_more:
            if not self._waiting and not self._is_woken:
                self._has_more.wait(min(timeout, 1.0))
            self._is_woken = False
            found, self._waiting = self._waiting[:limit], self._waiting[limit:]
            return found

    def wake(self) -> None:
        """End the wait."""
        with self._has_more:
            self._is_woken = True
            self._has_more.notify()

    def obstacle(self) -> None:
        """There is none."""

    def refused_at(self) -> None:
        """Nothing is refused."""

    def request_fence(self) -> None:
        """What waits is received in order."""
        self._fence = time.monotonic()

    def passed_fence(self) -> float | None:
        """As if it were."""
        return self._fence

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Nothing to do."""

    def close(self, timeout: float) -> None:
        """Nothing to do."""


class ReportingCloud(EmptyCloud):
    """Every server starts at once, and its worker reports at once that it has finished."""

    def __init__(self, queue: MemoryQueue) -> None:
        self._queue = queue
        self._servers: dict[str, Server] = {}

    def servers(self) -> list[Server]:
        """Those that were created and not deleted."""
        return list(self._servers.copy().values())

    def create(self, request: ServerRequest) -> Server:
        """The token is where the start-up script would be."""
        server = Server(
            f"id-{request.mark}",
            request.name,
            "ACTIVE",
            request.mark,
            request.deployment,
            request.job_id,
            request.attempt,
        )
        self._servers[server.id] = server
        common: dict[str, Any] = {
            "job": request.job_id,
            "attempt": request.attempt,
            "token": request.user_data.decode(),
        }
        done = {"outcome": "succeeded", "exit_code": 0, "outputs": {}, "log_tail": ""}
        self._queue.send(
            [
                Message("worker_started", {}, seq=1, **common),
                Message("workflow_finished", done, seq=2, **common),
            ],
            "worker",
        )
        return server

    def delete(self, server_id: str) -> bool:
        """It is gone at once."""
        self._servers.pop(server_id, None)
        return True


def lifecycle(url: str, jobs: int) -> float:
    """Jobs a second, from the first message to the last end.

    Args:
        url: of an empty database.
        jobs: how many, all of which wait at the beginning.
    """
    queue = MemoryQueue()
    cloud = ReportingCloud(queue)
    store = Store(url)
    engine = Engine(Policy(), Pace(), job_file.from_body, lambda: uuid.uuid4().hex)
    daemon = Daemon(
        store,
        queue,
        cloud,  # type: ignore[arg-type]
        engine,
        Effects(cloud, "benchmark", _request),  # type: ignore[arg-type]
        Sweeper("benchmark", 60.0),
        max_workers=10 * jobs,
        observe=1.0,
        grace=60.0,
    )
    thread = threading.Thread(target=daemon.run)
    begun = time.monotonic()
    queue.send([Message("start_worker", BODY, job=str(uuid.uuid4())) for _ in range(jobs)], "client")
    thread.start()
    try:
        while _ended(store) < jobs:
            assert time.monotonic() - begun < PATIENCE
            time.sleep(0.05)
        took = time.monotonic() - begun
    finally:
        daemon.stop()
        thread.join()
        store.close()
    return jobs / took


def _ended(store: Store) -> int:
    """Cheaply: what is measured shares the machine with us."""
    with store.reading() as queries:
        text = "SELECT count(*) FROM jobs WHERE state = 'done'"
        return int(queries._connection.exec_driver_sql(text).scalar_one())


def _request(operation: SendCreate, deployment: str) -> ServerRequest:
    job = operation.job
    return ServerRequest(
        job.server_name or "", operation.mark, deployment, job.id, job.attempt, operation.token.encode()
    )
