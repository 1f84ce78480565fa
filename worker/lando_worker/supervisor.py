"""The parent's side of the child: starts it first of all, passes on what it sends, and says how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from lando_worker.event_pipe import EventReceiver, EventSender
from lando_worker.result import Result

if TYPE_CHECKING:
    from lando_worker.log_buffer import LogBuffer
    from lando_worker.reporter import Reporter

CHUNK = 1024 * 1024
DRAIN_TIME = 0.2
"""Seconds for which output is read after the child has exited: another process may keep the pipe open."""
LONGEST_WAIT = 3600.0
"""Seconds that are waited at once: epoll_wait takes no more than 24 days."""
EXIT_SIGTERM = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Child:
    """The running child, and the parent's ends of its pipes."""

    pid: int
    events: int
    output: int
    started_at: float
    """Seconds of the monotonic clock, which no step of the wall clock changes."""


def start_child(work: Callable[[EventSender], Result]) -> Child:
    """Fork a child that does ``work``, in a session of its own. No other thread may exist yet."""
    events, events_in = os.pipe()
    output, output_in = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(output_in, fcntl.F_SETPIPE_SZ, CHUNK)
    pid = os.fork()
    if pid == 0:
        os.close(events)
        os.close(output)
        _run_child(work, events_in, output_in)
    os.close(events_in)
    os.close(output_in)
    return Child(pid, events, output, time.monotonic())


def _run_child(work: Callable[[EventSender], Result], events: int, output: int) -> NoReturn:
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        sender = EventSender(events)
        sender.result(work(sender))
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: freeing what the workflow has loaded would take a while.
        os._exit(0)


def terminate_with(child: Child) -> None:
    """Make SIGTERM and SIGINT end parent and child at once, without a report.

    The sender is deleting the VM, so no report is needed.
    """

    def terminate(number: int, frame: object) -> NoReturn:
        _signal(child, signal.SIGTERM)
        os._exit(EXIT_SIGTERM)

    signal.signal(signal.SIGTERM, terminate)
    signal.signal(signal.SIGINT, terminate)


def watch(child: Child, reporter: Reporter, log: LogBuffer, run_timeout: float | None = None) -> Result:
    """Pass on the child's events and output until it has exited. Returns how it ended.

    Args:
        child: as ``start_child`` returned it.
        reporter: told of its events.
        log: fed with its output.
        run_timeout: seconds after its start at which its process group is killed; None: never.
    """
    deadline = child.started_at + (math.inf if run_timeout is None else run_timeout)
    try:
        result = _pass_on(child, reporter, log, deadline)
    except _RunTimeout:
        # It is not waited for: a process that hangs in the kernel ends with the VM, which is deleted next.
        _signal(child, signal.SIGKILL)
        _drain(child.output, log)
        return Result("workflow_failed", f"the workflow ran longer than {run_timeout:g} s (run_timeout)")
    _, status = os.waitpid(child.pid, 0)
    _drain(child.output, log)
    return result or _result_of_exit(os.waitstatus_to_exitcode(status))


class _RunTimeout(Exception):
    """The deadline has passed, and no result has come."""


def _signal(child: Child, number: signal.Signals) -> None:
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(child.pid, number)


def _pass_on(child: Child, reporter: Reporter, log: LogBuffer, deadline: float) -> Result | None:
    """Until the events' pipe is closed, by the child's exit. Returns the result, if the child sent one.

    Raises:
        _RunTimeout: the deadline has passed; a result that was sent before counts.
    """
    receiver, result = EventReceiver(), None
    with selectors.DefaultSelector() as selector:
        selector.register(child.events, selectors.EVENT_READ)
        selector.register(child.output, selectors.EVENT_READ)
        while child.events in selector.get_map():
            for key, _ in selector.select(LONGEST_WAIT if result else _time_left(deadline)):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fd)
                elif key.fd == child.output:
                    log.feed(chunk)
                    reporter.log_grew()
                else:
                    for event in receiver.feed(chunk):
                        if "state" in event:
                            reporter.update(event["state"])
                        else:
                            result = Result(**event["result"])
            if result is None and _time_left(deadline) == 0.0:
                raise _RunTimeout
    return result


def _time_left(deadline: float) -> float:
    return min(LONGEST_WAIT, max(0.0, deadline - time.monotonic()))


def _drain(output: int, log: LogBuffer) -> None:
    os.set_blocking(output, False)
    deadline = time.monotonic() + DRAIN_TIME
    with contextlib.suppress(BlockingIOError):
        while time.monotonic() < deadline and (chunk := os.read(output, CHUNK)):
            log.feed(chunk)


def _result_of_exit(exit_code: int) -> Result:
    """The result of a child that exited without sending one, which is never the workflow's own failure."""
    if exit_code == -signal.SIGKILL:
        how = "was killed (SIGKILL), often by the kernel for lack of memory: a larger flavor may help"
    elif exit_code < 0:
        how = f"was terminated by {signal.Signals(-exit_code).name}"
    else:
        how = "exited without a result"
    return Result("system_failed", f"the process that runs the workflow {how}", quote_log=exit_code >= 0)
