"""The parent's side of the child: starts it before anything else, watches it, and tells how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from lando_worker.event_pipe import Receiver, Sender
from lando_worker.result import Result

if TYPE_CHECKING:
    from lando_worker.log_buffer import Logbook
    from lando_worker.reporter import Reporter

CHUNK = 1024 * 1024
GRACE = 0.2
"""Seconds for which output is still read once the child has ended: others may hold its pipe open for ever."""
TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Child:
    """The running child, and our ends of its pipes."""

    pid: int
    events: int
    output: int


def start_child(work: Callable[[Sender], Result]) -> Child:
    """Fork a child that does ``work``, in a session of its own. No thread may exist yet."""
    events, events_in = os.pipe()
    output, output_in = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(output_in, fcntl.F_SETPIPE_SZ, CHUNK)
    pid = os.fork()
    if pid == 0:
        os.close(events)
        os.close(output)
        _be_child(work, events_in, output_in)
    os.close(events_in)
    os.close(output_in)
    return Child(pid, events, output)


def _be_child(work: Callable[[Sender], Result], events: int, output: int) -> NoReturn:
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        sender = Sender(events)
        sender.result(work(sender))
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Not sys.exit: taking down all that the workflow loaded takes a while, and nobody needs it.
        os._exit(0)


def end_with(child: Child) -> None:
    """From now on SIGTERM ends parent and child at once: who sends it wants the VM to go, and knows of it."""

    def end(number: int, frame: object) -> NoReturn:
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(child.pid, signal.SIGTERM)
        os._exit(TERMINATED)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def watch(child: Child, reporter: Reporter, logbook: Logbook) -> Result:
    """Pass on what the child tells and prints, until it has ended; how it ended."""
    result = _listen(child, reporter, logbook)
    _, status = os.waitpid(child.pid, 0)
    _read_the_rest(child.output, logbook)
    return result or _died(os.waitstatus_to_exitcode(status))


def _listen(child: Child, reporter: Reporter, logbook: Logbook) -> Result | None:
    """Until the pipe of events closes, which only the child's end can do; the result, if it came."""
    receiver, result = Receiver(), None
    with selectors.DefaultSelector() as selector:
        selector.register(child.events, selectors.EVENT_READ)
        selector.register(child.output, selectors.EVENT_READ)
        while child.events in selector.get_map():
            for key, _ in selector.select():
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fd)
                elif key.fd == child.output:
                    logbook.feed(chunk)
                    reporter.log_grew()
                else:
                    for event in receiver.feed(chunk):
                        if "state" in event:
                            reporter.update(event["state"])
                        else:
                            result = Result(**event["result"])
    return result


def _read_the_rest(output: int, logbook: Logbook) -> None:
    os.set_blocking(output, False)
    deadline = time.monotonic() + GRACE
    with contextlib.suppress(BlockingIOError):
        while time.monotonic() < deadline and (chunk := os.read(output, CHUNK)):
            logbook.feed(chunk)


def _died(exit_code: int) -> Result:
    """The child ended without a result: that is never the workflow's own exit."""
    if exit_code == -signal.SIGKILL:
        how = "was killed (SIGKILL); often that is the kernel, out of memory: a larger flavor may help"
    elif exit_code < 0:
        how = f"was ended by {signal.Signals(-exit_code).name}"
    else:
        how = "ended without a result"
    return Result("system_failed", f"the process that runs the workflow {how}", quote_log=exit_code >= 0)
