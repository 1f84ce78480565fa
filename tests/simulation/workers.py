"""The workers on the simulated servers, and the people who submit jobs."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lando.messages import Message
from lando.workqueue.interface import QueueUnavailable
from tests.simulation.broker import SimulatedQueue
from tests.simulation.cloud import START, SimulatedServer
from tests.simulation.world import World

TRY_AGAIN = 15.0
"""Seconds after which a worker tries again to deliver a report, and a client a job."""


@dataclass(frozen=True)
class Workflow:
    """What a job's workflow does."""

    seconds: float
    succeeds: bool = True


@dataclass
class Workers:
    """All workers, and all clients.

    Args:
        world: has the time.
        queue: where they send.
        heartbeat: seconds between two reports of a worker.
    """

    world: World
    queue: SimulatedQueue
    heartbeat: float
    workflows: dict[str, Workflow] = field(default_factory=dict)
    """By the jobs' ids."""
    finished: Counter[str] = field(default_factory=Counter)
    """How many workflows of each job ended."""

    def submit(self, job: str, workflow: Workflow, **body: Any) -> None:
        """Submit a job now; see ``send``."""
        self.workflows[job] = workflow
        self.send(Message("start_worker", body, job, id=f"start-{job}"))

    def send(self, message: Message) -> None:
        """Send a message of a client; if the broker is down, as soon as it is back."""
        try:
            self.queue.publish(message)
        except QueueUnavailable:
            self.world.plan(self.world.now + TRY_AGAIN, partial(self.send, message))

    def boot(self, server: SimulatedServer) -> None:
        """The server will become ACTIVE; its worker reports a while after that."""
        worker = _Worker(self, server)
        self.world.plan(server.built + self.world.random.uniform(*START), worker.start)


class _Worker:
    """A worker: it keeps its reports until they are delivered, in their order."""

    def __init__(self, workers: Workers, server: SimulatedServer) -> None:
        self._workers = workers
        self._world = workers.world
        self._server = server
        self._job = server.request.job_id
        self._spool: deque[Message] = deque()
        self._seq = 0
        self._is_working = True

    @property
    def _is_alive(self) -> bool:
        return self._server.exists(self._world.now)

    def start(self) -> None:
        workflow = self._workers.workflows[self._job]
        self._report("worker_started")
        self._world.plan(self._world.now + workflow.seconds, partial(self._finish, workflow))
        self._plan_beat()

    def _plan_beat(self) -> None:
        """All workers beat together: that costs one turn of the daemon to simulate."""
        each = self._workers.heartbeat
        self._world.plan((self._world.now // each + 1) * each, self._beat)

    def _beat(self) -> None:
        if self._is_working and self._is_alive:
            if not self._spool:  # the oldest heartbeats are enough
                self._report("worker_progress")
            self._plan_beat()

    def _finish(self, workflow: Workflow) -> None:
        if self._is_alive:
            self._is_working = False
            self._workers.finished[self._job] += 1
            outcome = "succeeded" if workflow.succeeds else "workflow_failed"
            self._report("workflow_finished", outcome=outcome, exit_code=0 if workflow.succeeds else 1)

    def _report(self, type: str, **body: Any) -> None:
        self._seq += 1
        request = self._server.request
        token = request.user_data.decode()
        was_empty = not self._spool
        self._spool.append(
            Message(type, body, self._job, request.attempt, token, self._seq, id=f"{token}-{self._seq}")
        )
        if was_empty:
            self._deliver()

    def _deliver(self) -> None:
        if not self._is_alive:
            return
        try:
            while self._spool:
                self._workers.queue.publish(self._spool[0])
                self._spool.popleft()
        except QueueUnavailable:
            self._world.plan(self._world.now + TRY_AGAIN, self._deliver)
