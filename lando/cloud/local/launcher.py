"""The launcher, which is the init of a local VM: it runs the start-up script and stays until the deletion.

The driver starts it as ``python -I -S launcher.py LOCK_FD CHECK_SECONDS`` in the VM's directory. It inherits
the VM's lock; stderr is the console log; stdout is a pipe on which it reports whether it has started. It
imports little, because it must start in milliseconds, and nothing of lando, which -I -S keep off the path.
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
"""Bytes that are kept of the beginning of the console log."""
CONSOLE_TAIL = 1024 * 1024
"""Bytes that are kept of its end, at least; at most twice as many."""
OMISSION = b"\n[... output omitted here: the size of the console log is limited ...]\n"

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
    """Run the VM until SIGTERM, or until its directory is removed; then kill all its processes.

    Args:
        lock: the descriptor of the VM's lock.
        check_seconds: between two checks whether the directory still exists.
    """
    os.set_inheritable(lock, False)
    if os.fork():
        os._exit(0)  # the driver waits for this process; the other one must not be the daemon's child
    os.setsid()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the creator may block the signals that are used here
    # Processes that leave the session by setsid and a double fork become children of this one.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    crash_at = os.environ.pop("LANDO_LAUNCHER_CRASH_AT", "")
    try:
        _crash_if(crash_at == "before-record")
        _write_record()
        _crash_if(crash_at == "after-record")
    except OSError as error:
        _report(b"%d" % (error.errno or 0))
        return
    _report(b"up")
    signals = _wake_on_signals()
    _supervise(_start_user_data(), signals, check_seconds)
    _kill_children()


def _crash_if(wanted: bool) -> None:
    if wanted:
        os.kill(os.getpid(), signal.SIGKILL)


def _write_record() -> None:
    """Write durably which process this is, before anything else runs."""
    pid = os.getpid()
    # Formatted by hand: importing json takes as long as everything else here.
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


def _report(result: bytes) -> None:
    """Write the result to the driver, which may have died, and close the pipe."""
    with contextlib.suppress(OSError):
        os.write(_REPORT, result)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, _REPORT)
    os.close(null)


def _wake_on_signals() -> int:
    """A pipe from which the numbers of received signals can be read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for signum in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(signum, lambda *_: None)
    return reader


def _start_user_data() -> int:
    """Start the start-up script. Returns the read end of the pipe of its output."""
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
            # A session of its own, so that `kill 0` in a script does not reach the launcher.
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
    """The command of the script's ``#!`` line, split as the kernel does (execve(2)).

    The kernel itself would refuse to run the script on a file system mounted noexec, and with ETXTBSY while a
    process that another thread of the creator forks still has the script open for writing.
    """
    with open(script, "rb") as file:
        first = file.readline(4096)
    command = os.fsdecode(first[2:].strip()).split(None, 1) if first.startswith(b"#!") else []
    return [*(command or ["/bin/sh"]), os.path.abspath(script)]


def _supervise(output: int, signals: int, check_seconds: float) -> None:
    """Copy output to the console log and reap children, until SIGTERM or the removal of the directory."""
    directory = os.getcwd()
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(signals, select.POLLIN)
    while not _is_removed(directory):
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


def _is_removed(directory: str) -> bool:
    """Whether the directory is known to be gone: an I/O error must not stop the VM."""
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
    """Write to the console log; when the disk is full, output is lost and the script continues."""
    with contextlib.suppress(OSError):
        os.write(_CONSOLE, data)
        if os.fstat(_CONSOLE).st_size > CONSOLE_HEAD + len(OMISSION) + 2 * CONSOLE_TAIL:
            shorten(CONSOLE)


def shorten(console: str) -> None:
    """Replace the log by its beginning and its end, atomically for readers, and write to the new file."""
    # The script may have put something else there by now: nothing here may wait for it, or follow a link.
    with open(os.open(console, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        head = file.read(CONSOLE_HEAD)
        file.seek(-CONSOLE_TAIL, os.SEEK_END)
        tail = file.read(CONSOLE_TAIL)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{console}.new")
    new = os.open(f"{console}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        for part in (head, OMISSION, tail):
            os.write(new, part)
        os.rename(f"{console}.new", console)
        os.dup2(new, _CONSOLE, inheritable=False)
    finally:
        os.close(new)


def _kill_children() -> None:
    """Kill until none is left: orphans of killed processes become children of this one."""
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is not reused
                os.waitpid(pid, 0)
            os.waitpid(-1, os.WNOHANG)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


if __name__ == "__main__":
    main(lock=int(sys.argv[1]), check_seconds=float(sys.argv[2]))
