"""The init of a local "VM": records itself, runs the start-up script, and stays until the VM is deleted.

Started by the driver as ``python -I -S launcher.py LOCK_FD CHECK_SECONDS`` in the VM's directory,
with the VM's lock inherited, stderr on its console log, and stdout a pipe that hears whether it is up. It
imports little, for it must start in milliseconds, and nothing of lando, which -I -S hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys

RECORD = "record.json"
USER_DATA = "user_data"
CONSOLE = "console.log"

CONSOLE_HEAD = 64 * 1024
"""Bytes of the console's beginning that are kept."""
CONSOLE_TAIL = 1024 * 1024
"""Bytes of the console's end that are kept, at least; twice as many at most."""
OMISSION = b"\n[... the console log is bounded: output was left out here ...]\n"

_PIPE_BYTES = 64 * 1024
_CONSOLE, _REPORT = 2, 1
_PR_SET_CHILD_SUBREAPER = 36


def boot_id() -> str:
    """The random id of this boot of the machine (random(4))."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def stat_fields(pid: int) -> list[str]:
    """``/proc/PID/stat`` from its third field (the state) on; see proc_pid_stat(5).

    Raises:
        OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].decode("ascii").split()


def start_time(pid: int) -> int:
    """When the process started, in clock ticks since boot: with the pid, its identity within one boot."""
    return int(stat_fields(pid)[19])


def main(lock: int, check_seconds: float) -> None:
    """Become the VM's init; ends, and ends all that runs, on SIGTERM or when its directory is gone."""
    os.set_inheritable(lock, False)
    if os.fork():
        os._exit(0)  # what the daemon reaps; the init itself is nobody's child
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the creator's may block what ends us
    # What escapes with setsid and a double fork comes back to us, so that deleting finds it.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    crash_at = os.environ.pop("LANDO_LAUNCHER_CRASH_AT", "")
    try:
        _crash_if(crash_at == "before-record")
        _record()
        _crash_if(crash_at == "after-record")
    except OSError as error:
        _report(b"%d" % (error.errno or 0))
        return
    _report(b"up")
    signals = _wake_on_signals()
    _stay(_run(), signals, check_seconds)
    _end_children()


def _crash_if(wanted: bool) -> None:
    if wanted:
        os.kill(os.getpid(), signal.SIGKILL)


def _record() -> None:
    """Say durably who we are, before anything runs."""
    pid = os.getpid()
    # Formatted by hand: importing json would take as long as everything else here.
    text = f'{{"pid": {pid}, "started": {start_time(pid)}, "boot_id": "{boot_id()}"}}\n'
    file = os.open(f"{RECORD}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(f"{RECORD}.new", RECORD)
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _report(word: bytes) -> None:
    """Tell the creator, who may be dead by now, and close the pipe that it reads."""
    with contextlib.suppress(OSError):
        os.write(_REPORT, word)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, _REPORT)
    os.close(null)


def _wake_on_signals() -> int:
    """A pipe from which the numbers of signals can be read as they come."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)
    return reader


def _run() -> int:
    """Start the user data; answers the read end of the pipe that it writes its output to."""
    output, script_output = os.pipe()
    try:
        argv = interpreter(USER_DATA)
        os.posix_spawn(
            argv[0],
            argv,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, script_output, 1),
                (os.POSIX_SPAWN_DUP2, script_output, 2),
            ],
            # A session of its own, so that `kill 0` in a script does not reach the init.
            setsid=True,
            setsigmask=[],
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError as error:
        _append(f"the start-up script cannot be run: {error}\n".encode())
    finally:
        os.close(script_output)
    return output


def interpreter(script: str) -> list[str]:
    """The command that the script's ``#!`` line asks for, split as the kernel does (execve(2)).

    Not left to the kernel: it refuses on a noexec file system, and as busy while any process that another
    thread of the creator is just forking still has the script open for writing.
    """
    with open(script, "rb") as file:
        first = file.readline(4096)
    words = os.fsdecode(first[2:].strip()).split(None, 1) if first.startswith(b"#!") else []
    return [*(words or ["/bin/sh"]), os.path.abspath(script)]


def _stay(output: int, signals: int, check_seconds: float) -> None:
    """Collect output and ended children until the VM is to end."""
    directory = os.getcwd()
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(signals, select.POLLIN)
    while not _gone(directory):
        ready = [fd for fd, _ in poll.poll(check_seconds * 1000)]
        if signals in ready:
            if signal.SIGTERM in os.read(signals, _PIPE_BYTES):
                return
            _reap()
        if output in ready:
            data = os.read(output, _PIPE_BYTES)
            _append(data)
            if not data:
                poll.unregister(output)


def _gone(directory: str) -> bool:
    """Only what is surely so counts: a disk that fails to answer must not end the work."""
    try:
        os.stat(directory)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    return False


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _append(data: bytes) -> None:
    """Write to the console log; a full disk loses output, but never stops the script."""
    with contextlib.suppress(OSError):
        os.write(_CONSOLE, data)
        if os.fstat(_CONSOLE).st_size > CONSOLE_HEAD + len(OMISSION) + 2 * CONSOLE_TAIL:
            shorten(CONSOLE)


def shorten(console: str) -> None:
    """Replace the log by its head and tail, at once for whoever reads it, and write on to the new one."""
    with open(console, "rb") as file:
        head = file.read(CONSOLE_HEAD)
        file.seek(-CONSOLE_TAIL, os.SEEK_END)
        tail = file.read()
    new = os.open(f"{console}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        for part in (head, OMISSION, tail):
            os.write(new, part)
        os.rename(f"{console}.new", console)
        os.dup2(new, _CONSOLE, inheritable=False)
    finally:
        os.close(new)


def _end_children() -> None:
    """Kill until none is left, which we know for sure: what loses its parent on the way comes to us."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)  # not waited for yet: the number is not anybody else's
                os.waitpid(pid, 0)
            os.waitpid(-1, os.WNOHANG)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


if __name__ == "__main__":
    main(lock=int(sys.argv[1]), check_seconds=float(sys.argv[2]))
