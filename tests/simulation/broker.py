"""The simulated work queue, which is down while the broker is."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lando.messages import Message, Origin
from lando.workqueue.interface import CLOSE_TIMEOUT, Delivery, QueueUnavailable
from tests.simulation.outages import Outages
from tests.simulation.world import TURN, World


@dataclass
class _Fence:
    asked_at: float
    behind: int | None = None
    """The number of the last message before it; None until it is set."""


class SimulatedQueue:
    """See ``lando.workqueue.interface.WorkQueue``. What is in it survives the daemon and the broker.

    Args:
        world: has the time, which passes in ``receive``.
        outages: of the broker.
    """

    def __init__(self, world: World, outages: Outages) -> None:
        self._world = world
        self._outages = outages
        self._commands: deque[Delivery] = deque()
        self._reports: deque[Delivery] = deque()
        self._unacked: dict[int, Delivery] = {}
        self._serial = itertools.count(1)
        self._last = 0
        self._fence: _Fence | None = None
        self._passed: float | None = None
        self._is_woken = False
        self.on_receive: list[Callable[[], None]] = []
        """Called once each when the daemon asks for messages next: it may die there, or pause."""
        self.dead_letters: list[str] = []

    @property
    def waiting(self) -> int:
        """Messages that wait to be received."""
        return len(self._commands) + len(self._reports)

    def publish(self, message: Message) -> None:
        """Queue a message.

        Raises:
            QueueUnavailable: the broker is down.
        """
        self._check()
        origin: Origin = message.origin
        delivery = Delivery(next(self._serial), message.encode(), origin, "somebody")
        self._last = delivery.tag
        (self._commands if origin == "client" else self._reports).append(delivery)

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        self._world.wait(self._world.now + TURN)
        if self._fence is not None and self._fence.behind is None:
            self._fence.behind = self._last
        if self._fence is None or self.is_down:
            self._world.wait(self._world.now + timeout, self._may_return)
        self._is_woken = False
        while self.on_receive:
            self.on_receive.pop()()
        self._check()
        batch = self._taken(limit)
        self._unacked.update({delivery.tag: delivery for delivery in batch})
        self._meet_fence()
        return batch

    def _may_return(self) -> bool:
        return self._is_woken or bool(self.on_receive) or (bool(self.waiting) and not self.is_down)

    def _taken(self, limit: int) -> list[Delivery]:
        batch = []
        for queue in (self._commands, self._reports):
            while queue and len(batch) < limit:
                batch.append(queue.popleft())
        return batch

    def _meet_fence(self) -> None:
        fence = self._fence
        first = min((queue[0].tag for queue in (self._commands, self._reports) if queue), default=None)
        if fence is not None and fence.behind is not None and (first is None or first > fence.behind):
            self._fence, self._passed = None, fence.asked_at

    def obstacle(self) -> str | None:
        return None

    def request_fence(self) -> None:
        self._check()
        if self._fence is None:
            self._fence = _Fence(self._world.monotonic())

    def passed_fence(self) -> float | None:
        return self._passed

    def refused_at(self) -> float | None:
        return None

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self._check()
        for delivery in deliveries:
            if delivery.tag not in self._unacked:
                raise QueueUnavailable("the connection is another one")
            del self._unacked[delivery.tag]

    def dead_letter(self, rejected: Sequence[tuple[Delivery, str]]) -> None:
        self.ack([delivery for delivery, _ in rejected])
        self.dead_letters += [reason for _, reason in rejected]

    def rewind(self) -> None:
        """The connection ends: what was not acked is there again."""
        for delivery in sorted(self._unacked.values(), key=lambda each: -each.tag):
            (self._commands if delivery.origin == "client" else self._reports).appendleft(delivery)
        self._unacked = {}
        self._fence = self._passed = None

    def wake(self) -> None:
        self._is_woken = True

    def close(self, timeout: float = CLOSE_TIMEOUT) -> None:
        self.rewind()

    @property
    def is_down(self) -> bool:
        return self._outages.lasts("broker", self._world.now)

    def _check(self) -> None:
        if self.is_down:
            self.rewind()
            raise QueueUnavailable("the broker does not answer: Connection refused")
