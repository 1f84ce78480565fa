"""Commands as forks of one process that has imported them: most of what a command costs is its imports.

A command that is started so has its own pid, files, environment and directory, and ends as any process does;
only the imports are done. Each process that runs tests has one such server, started when it is first needed,
which ends with it. LANDO_TEST_FRESH_COMMANDS makes every command a new interpreter again.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import math
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from lando import failpoints

CHECKOUT = Path(__file__).parents[2]
FRESH = "LANDO_TEST_FRESH_COMMANDS"
ENTRIES = {"lando-fsm": "lando.cli.main", "lando-client": "lando.cli.client"}
"""The modules whose ``main`` the installed programs call."""
HEAVY = (
    "lando.app.service",
    "lando.cloud.local.driver",
    "lando.cloud.nova.driver",
    "lando.views.inventory",
    "lando.workqueue.rabbitmq.consumer",
    "lando.workqueue.rabbitmq.dead_letters",
    "lando.workqueue.rabbitmq.inspection",
    "lando.workqueue.rabbitmq.publisher",
    "rich.live",
    "rich.spinner",
    "rich.table",
)
"""What commands import when they are called."""
READY = b"ready"
CLOSED = -1
"""In place of a file: the command has no such stream, as after ``>&-``."""
Target = IO[str] | IO[bytes] | int | None
MAX_REQUEST = 1 << 20
"""Bytes of a request: arguments and environment."""


# in tests


class Command:
    """A command that was started; its methods are those of ``subprocess.Popen``.

    Args:
        arguments: the program, then its arguments.
        environment: its environment.
        cwd: its directory.
        stdout, stderr: a file, or its descriptor, for what it writes there; CLOSED; None: a pipe.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        stderr: Target = None,
        stdout: Target = None,
    ) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        closed = [number for number, target in ((1, stdout), (2, stderr)) if target == CLOSED]
        request = json.dumps([self.args, dict(environment), str(cwd), closed]).encode()
        self._report, report_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with report_end, open(os.devnull) as nothing, contextlib.ExitStack() as ends:
            self.stdout, out = _end(ends, stdout, nothing)
            self.stderr, err = _end(ends, stderr, nothing)
            files = [nothing.fileno(), out, err, report_end.fileno()]
            socket.send_fds(start_server(), [request], files)
        self.pid = int(self._report.recv(64) or 0)
        assert self.pid, "the server of forked commands has ended"

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._report.settimeout(timeout)
            try:
                said = self._report.recv(64)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            assert said, "the server of forked commands has ended"
            self.returncode = int(said)
            self._report.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        reading = [_Reading(file) for file in (self.stdout, self.stderr)]
        for each in reading:
            each.join(min(deadline - time.monotonic(), threading.TIMEOUT_MAX))
            if each.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        self.wait(None if timeout is None else max(0.0, deadline - time.monotonic()))
        out, err = (each.text for each in reading)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since, as ``subprocess`` allows, too
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _end(ends: contextlib.ExitStack, target: Target, nothing: IO[str]) -> tuple[IO[str] | None, int]:
    """What reads from a pipe, and its other end, which ``ends`` closes; or where else to write."""
    if target == CLOSED:
        return None, nothing.fileno()
    if target is not None:
        return None, target if isinstance(target, int) else target.fileno()
    ours, theirs = os.pipe()
    ends.callback(os.close, theirs)
    return os.fdopen(ours, encoding="utf-8", errors="replace"), theirs


class _Reading(threading.Thread):
    """Reads a file, if there is one, to its end, and closes it."""

    def __init__(self, file: IO[str] | None) -> None:
        super().__init__(daemon=True)
        self._file = file
        self.text = ""
        self.start()

    def run(self) -> None:
        if self._file is not None and not self._file.closed:
            with self._file:
                self.text = self._file.read()


Started = Command | subprocess.Popen[str]


def start_command(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    cwd: Path,
    stderr: Target = None,
    fresh: bool = False,
    stdout: Target = None,
) -> Started:
    """Start a command.

    Args:
        arguments, environment, cwd, stderr, stdout: see ``Command``; not CLOSED in a new interpreter.
        fresh: in a new interpreter. So is one that is started through another program, such as ``nsenter``.
    """
    if Path(arguments[0]).name in ENTRIES and not fresh and FRESH not in os.environ:
        return Command(arguments, environment, cwd, stderr, stdout)
    return subprocess.Popen(
        arguments,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE if stderr is None else stderr,
        text=True,
    )


def start_server() -> socket.socket:
    """Start this process's server, unless it runs; returns when it is ready, with its socket."""
    with _starting:
        return _start_server()


_starting = threading.Lock()


@functools.cache
def _start_server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked_commands", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the tests
        )
    assert ours.recv(64) == READY, "the server of forked commands cannot be started"
    return ours


# in the server


def import_commands() -> None:
    """Import all that a command may need."""
    for name in ENTRIES.values():
        importlib.import_module(name)
    package = importlib.import_module("lando.cli")
    for module in pkgutil.iter_modules(package.__path__, "lando.cli."):
        importlib.import_module(module.name)
    for name in HEAVY:
        importlib.import_module(name)


def serve(control: socket.socket) -> list[Any] | None:
    """Fork for each request until the tests have ended.

    Returns:
        In a fork, the request: its caller carries it out. In the server, None.
    """
    reports: dict[int, socket.socket] = {}
    with selectors.DefaultSelector() as selector, control:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not control:
                    selector.unregister(key.fileobj)
                    _report_end(key.fileobj, key.data, reports.pop(key.data))  # type: ignore[arg-type]
                    continue
                message, files, _, _ = socket.recv_fds(control, MAX_REQUEST, 4)
                if not message:
                    return None
                pid = os.fork()
                if pid == 0:
                    for report in reports.values():
                        report.close()
                    for number, file in enumerate(files[:3]):
                        os.dup2(file, number)
                    for file in files:
                        os.close(file)
                    request: list[Any] = json.loads(message)
                    return request
                for file in files[:3]:
                    os.close(file)
                reports[pid] = socket.socket(fileno=files[3])
                reports[pid].send(str(pid).encode())
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)


def _report_end(pidfd: int, pid: int, report: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(pidfd)
    with report, contextlib.suppress(OSError):  # nobody waits for it any more
        report.send(str(os.waitstatus_to_exitcode(status)).encode())


def become(request: list[Any]) -> None:
    """Be the command; ends as its program does."""
    sys.argv, environment, cwd, closed = request
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(cwd)
    for number in closed:
        os.close(number)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = None if number in closed else _stream(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    importlib.reload(failpoints)  # it has read the environment
    importlib.import_module(ENTRIES[Path(sys.argv[0]).name]).main()


def _stream(number: int) -> IO[str]:
    """stdout or stderr as a new interpreter has it, in the encoding that its environment names."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    errors = errors or ("strict" if number == 1 else "backslashreplace")
    is_line = number == 2 or os.isatty(number)
    return open(number, "w", 1 if is_line else -1, encoding or "utf-8", errors, closefd=False)


def main() -> None:
    """Serve; a fork returns from here to become its command, in a stack as flat as that of a new process."""
    import_commands()
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.send(READY)
    request = serve(control)
    if request is not None:
        become(request)


if __name__ == "__main__":
    main()
