"""The simulated machine: its clocks, what is planned to happen, and the threads that call the cloud.

``simulated`` replaces the module ``time``, the thread pools and the kill points in all of ``lando`` that is
loaded.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import logging
import math
import random
import sys
import time as real_time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import tenacity

R = TypeVar("R")

EPOCH = 1_750_000_000.0
"""What the wall clock shows at the beginning."""
BOOTED = 1_000.0
"""What the monotonic clock shows then."""
TURN = 0.001
"""Seconds that each turn of the daemon takes at least."""
GRID = 1.0
"""Results come at whole seconds: what ends at nearly the same time costs one turn of the daemon."""


class Killed(BaseException):
    """The daemon is killed here; no handler of errors sees it."""


class World:
    """Simulated time, and what happens in it. Stands for the module ``time`` in ``lando``.

    Args:
        seed: of everything that is random.
    """

    CLOCK_MONOTONIC, CLOCK_BOOTTIME = real_time.CLOCK_MONOTONIC, getattr(real_time, "CLOCK_BOOTTIME", 7)

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        """True seconds since the beginning. Within a call to the cloud: ahead of the daemon."""
        self.set_by = 0.0
        """Seconds by which the wall clock is ahead of the true time."""
        self.slept = 0.0
        """Seconds for which the machine was suspended."""
        self.kill_at: str | None = None
        """The kill point at which the daemon is killed when it comes there."""
        self.life = 0
        """Number of the daemon's process; what an earlier one waits for does not come."""
        self.bugs: list[str] = []
        """What the daemon's log calls a bug."""
        self._calling = False
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()

    # what lando.daemon takes from the module time

    def time(self) -> float:
        return EPOCH + self.now + self.set_by

    def monotonic(self) -> float:
        return BOOTED + self.now - self.slept

    def clock_gettime(self, clock: int) -> float:
        return BOOTED + self.now if clock == self.CLOCK_BOOTTIME else self.monotonic()

    def sleep(self, seconds: float) -> None:
        if self._calling:
            self.now += seconds
        else:
            self.wait(self.now + seconds)

    # what happens

    def plan(self, at: float, action: Callable[[], None]) -> None:
        """Let it happen at that time; at once if that has passed."""
        heapq.heappush(self._planned, (at, next(self._serial), action))

    def wait(self, until: float, ends: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until then, or until the condition holds after something has happened."""
        assert not self._calling
        while self._planned and self._planned[0][0] <= until:
            at, _, action = heapq.heappop(self._planned)
            self.now = max(self.now, at)
            action()
            if ends():
                return
        self.now = max(self.now, until)

    def call(self, call: Callable[[], R]) -> tuple[R, float]:
        """Carry out a call now. Returns its result, and the time at which it ends."""
        began = self.now
        self._calling = True
        try:
            return call(), self.now
        finally:
            self._calling = False
            self.now = began

    def reach(self, point: str) -> None:
        """A kill point of the daemon."""
        if self.kill_at == point:
            self.die()

    def die(self) -> None:
        """Kill the daemon."""
        self.kill_at = None
        raise Killed


class SimulatedPool(Generic[R]):
    """``lando.daemon.pool.Pool``: calls are carried out when they begin, and their results come later."""

    def __init__(self, world: World, size: int, wake: Callable[[], None]) -> None:
        self._world = world
        self._life = world.life
        self._free = size
        self._wake = wake
        self._waiting: collections.deque[Callable[[], R]] = collections.deque()
        self._results: list[R] = []

    def submit(self, call: Callable[[], R]) -> None:
        self._waiting.append(call)
        self._begin()

    def stop(self) -> None:
        self._waiting.clear()

    def collect(self) -> list[R]:
        results, self._results = self._results, []
        return results

    def _begin(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            result, ends = self._world.call(self._waiting.popleft())
            self._world.plan(math.ceil(ends / GRID) * GRID, partial(self._end, result))

    def _end(self, result: R) -> None:
        if self._life == self._world.life:
            self._free += 1
            self._results.append(result)
            self._begin()
            self._wake()


@contextlib.contextmanager
def simulated(world: World, look: float) -> Iterator[None]:
    """Within, ``lando`` lives in this world.

    Args:
        world: the machine.
        look: seconds between two looks at the deadlines, in place of one: most of a day's turns are looks.
    """
    from lando.daemon import clock, daemon, deadline_check  # noqa: F401, PLC0415 - loads all parts

    assert look < clock.LONGEST_ITERATION, "the daemon would take each wait for a suspension"
    random_state = random.getstate()
    random.seed(world.random.random())
    with contextlib.ExitStack() as undo, _listening(world):
        for name, module in list(sys.modules.items()):
            if name.startswith("lando.") and vars(module).get("time") is real_time:
                undo.callback(setattr, module, "time", real_time)
                module.time = world  # type: ignore[attr-defined]
            if name.startswith("lando.daemon."):
                _replace(undo, module, "Pool", partial(SimulatedPool, world))
                _replace(undo, module, "reach", world.reach)
                _replace(undo, module, "Retrying", partial(tenacity.Retrying, sleep=world.sleep))
                for part in vars(module).values():
                    _replace_default(undo, part, world)
        _replace(undo, deadline_check, "EVERY", look)
        try:
            yield
        finally:
            random.setstate(random_state)


def _replace(undo: contextlib.ExitStack, module: Any, name: str, value: Any) -> None:
    if name in vars(module) and module.__name__ != "lando.daemon.pool":
        undo.callback(setattr, module, name, vars(module)[name])
        setattr(module, name, value)


def _replace_default(undo: contextlib.ExitStack, part: Any, world: World) -> None:
    """The clock that a part has unless it is given one."""
    make = vars(part).get("__init__") if isinstance(part, type) else None
    defaults = getattr(make, "__defaults__", None) or ()
    if make is not None and real_time.monotonic in defaults:
        undo.callback(setattr, make, "__defaults__", defaults)
        make.__defaults__ = tuple(
            world.monotonic if default is real_time.monotonic else default for default in defaults
        )


@contextlib.contextmanager
def _listening(world: World) -> Iterator[None]:
    """The daemon's log is kept short, and searched for bugs."""
    log = logging.getLogger("lando")
    before = (log.level, log.propagate, log.handlers[:])
    log.setLevel(logging.ERROR)
    log.propagate = False
    log.handlers = [_Bugs(world)]
    try:
        yield
    finally:
        log.level, log.propagate, log.handlers = before
        log.setLevel(before[0])


class _Bugs(logging.Handler):
    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world
        self.setFormatter(logging.Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "bug" in str(record.msg):
            self._world.bugs.append(f"at {self._world.now:.0f} s: {self.format(record)}")
