"""A site of a test's own: state directory, configuration with short times, real daemon processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from lando.app.app import App
from lando.config.site_config import load

BIN = Path(sys.executable).parent
PATIENCE = 90.0
"""Seconds after which a test gives up waiting; never waited for when all is well."""

CONFIG = """
max_workers: {max_workers}
timeouts:
  boot: 60
  silence: 60
  heartbeat: 1
  retry_first: 0.05
  retry_longest: 0.2
  observe: 0.2
  grace: 0.5
"""


QUICK = (
    CONFIG
    + """
worker:
  cwl_base_command: [bash, -c, 'bash script.sh >&2 && echo "{{}}"']
"""
)
"""A site's own CWL runner: it runs ``script.sh``, costs no start-up, and its output object is empty."""


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Ask until the answer is true; the answer."""
    deadline = time.monotonic() + patience
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {patience:g} s in vain for {what}"
        time.sleep(0.05)


class LocalSite:
    """Commands run as a person would run them, in a directory of their own."""

    def __init__(self, root: Path, max_workers: int = 4, config: str = CONFIG) -> None:
        self.root = root
        self.state = root / "state"
        self.config = root / "landoconfig.yml"
        self.config.write_text(config.format(max_workers=max_workers))
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("LANDO_")},
            "LANDO_STATE_DIR": str(self.state),
            "LANDO_CONFIG": str(self.config),
            "NO_COLOR": "1",
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        self.inside: list[str] = []
        """What commands and daemons are started through: ``nsenter``, say."""
        self.daemons: list[subprocess.Popen[str]] = []
        self.started: list[subprocess.Popen[str]] = []
        self.terminals: list[Terminal] = []
        self.logs = 0

    # commands

    def command(
        self, *arguments: str | Path, check: bool = True, program: str = "lando-fsm", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        result = subprocess.run(
            [*self.inside, BIN / program, *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**self.environment, **environment},
            cwd=self.root,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or result.returncode == 0, (arguments, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def submit(self, job: Path, *arguments: str) -> str:
        """Submit a job; its id."""
        return self.command("submit", job, *arguments).stdout.strip()

    def status(self, *jobs: str) -> list[dict[str, Any]]:
        """What ``status --json`` says."""
        found: list[dict[str, Any]] = json.loads(self.command("status", "--json", *jobs).stdout)
        return found

    def look(self, *jobs: str) -> list[dict[str, Any]]:
        """The same as ``status``, without the cost of a process: for waiting."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LANDO_STATE_DIR", str(self.state))
            views = App(load(self.config)).views()
        return [shown.as_json() for shown in views.jobs(ids=jobs)]

    def job(self, job: str) -> dict[str, Any]:
        """What ``status --json`` says of one job."""
        return self.look(job)[0]

    def path(self, job: str) -> list[str]:
        """The states that a job went through."""
        return [change["to"] for change in json.loads(self.command("history", "--json", job).stdout)]

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        """Wait until the job is in one of these states."""
        found: dict[str, Any] = wait_for(
            lambda: (seen := self.job(job))["state"] in states and seen, f"job {job} in {states}"
        )
        return found

    def wait_all_ended(self, jobs: Iterable[str], patience: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait until all have ended."""
        wanted = set(jobs)

        def ended() -> list[dict[str, Any]]:
            seen = self.look(*wanted)
            return (
                seen
                if len(seen) == len(wanted) and all(job["state"] in ("done", "failed") for job in seen)
                else []
            )

        found: list[dict[str, Any]] = wait_for(ended, f"{len(wanted)} jobs to end", patience)
        return found

    def start(self, *arguments: str | Path, program: str = "lando-fsm") -> subprocess.Popen[str]:
        """Start a command that is waited for, or ended, later."""
        process = subprocess.Popen(
            [*self.inside, BIN / program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=self.root,
        )
        self.started.append(process)
        return process

    def terminal(self, *arguments: str | Path, **environment: str) -> Terminal:
        """Start a command on a terminal of its own, in colour."""
        colourful = {key: value for key, value in self.environment.items() if key != "NO_COLOR"}
        terminal = Terminal(
            [str(BIN / "lando-fsm"), *map(str, arguments)],
            {**colourful, "TERM": "xterm-256color", **environment},
            self.root,
        )
        self.terminals.append(terminal)
        return terminal

    # daemons

    def start_daemon(self, ready: bool = True, **environment: str) -> subprocess.Popen[str]:
        """Start a daemon; wait until it says that it is ready."""
        self.logs += 1
        with (self.root / f"daemon-{self.logs}.log").open("w") as log:
            daemon = subprocess.Popen(
                [*self.inside, BIN / "lando-fsm", "daemon"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**self.environment, **environment},
                cwd=self.root,
            )
        self.daemons.append(daemon)
        if ready:
            assert daemon.stdout is not None
            line = daemon.stdout.readline()
            assert "ready" in line, (line, self.daemon_log())
        return daemon

    def daemon_log(self) -> str:
        """What the last daemon wrote."""
        return (self.root / f"daemon-{self.logs}.log").read_text()

    def close(self) -> None:
        """End daemons, commands, and what is left of VMs."""
        for process in self.started:
            process.kill()
            process.communicate()
        for terminal in self.terminals:
            terminal.close()
        for daemon in self.daemons:
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGKILL)
            daemon.wait()
            if daemon.stdout is not None:
                daemon.stdout.close()
        for pid in self.vm_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # VMs

    def vm_processes(self) -> list[int]:
        """Every process that belongs to a local VM of this site."""
        vms = f"{self.state}/vms/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                except OSError:
                    continue
                if vms in words:
                    found.append(int(entry.name))
        return found

    def vms(self) -> list[str]:
        """The directories of local VMs."""
        directory = self.state / "vms"
        return sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []

    def launcher(self) -> int:
        """The pid of the only VM's init."""
        (vm,) = self.vms()
        return int(json.loads((self.state / "vms" / vm / "record.json").read_text())["pid"])

    def nothing_is_left(self) -> None:
        """Wait until no VM is left: no process and no directory."""
        wait_for(lambda: not self.vm_processes(), "every process of every VM to be gone")
        wait_for(lambda: not self.vms(), "every VM's directory to be gone")


class Terminal:
    """A command on a terminal of its own, and what it shows there.

    Args:
        command: the command and its arguments.
        environment: its environment.
        cwd: its directory.
    """

    def __init__(self, command: list[str], environment: dict[str, str], cwd: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=cwd,
        )
        os.close(theirs)
        self._raw = b""

    @property
    def shown(self) -> str:
        """Everything so far, with its escape codes."""
        return self._raw.decode(errors="replace")

    @property
    def text(self) -> str:
        """Everything so far, without escape codes."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown)

    def wait_for(self, text: str) -> None:
        """Read until the text was shown."""

        def is_shown() -> bool:
            self._read(0.2)
            return text in self.text

        wait_for(is_shown, f"{text!r} to be shown")

    def type(self, keys: str) -> None:
        """Press keys; Ctrl-C is ``\\x03``."""
        os.write(self._ours, keys.encode())

    def wait(self) -> int:
        """Read until the command has ended; its exit code."""
        wait_for(lambda: not self._read(0.2) and self.process.poll() is not None, "the command to end")
        return self.process.wait()

    def _read(self, patience: float) -> bool:
        if not select.select([self._ours], [], [], patience)[0]:
            return False
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            read = os.read(self._ours, 65536)
            self._raw += read
            return bool(read)
        return False

    def close(self) -> None:
        """End the command."""
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


def workflow(root: Path, script: str, name: str = "wf") -> Path:
    """A job file beside a folder with a workflow of one step, a shell script; what it prints is ``out``."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.sh").write_text(script)
    (folder / "tool.cwl").write_text(
        json.dumps(
            {
                "cwlVersion": "v1.2",
                "class": "CommandLineTool",
                "baseCommand": ["bash"],
                "inputs": {
                    "script": {
                        "type": "File",
                        "inputBinding": {"position": 1},
                        "default": {"class": "File", "location": "script.sh"},
                    }
                },
                "outputs": {"out": {"type": "stdout"}},
                "stdout": "out.txt",
            }
        )
    )
    job = root / f"{name}.yml"
    job.write_text(f"git_clone: {name}\ncd: .\ninput: {{}}\nrun_cwl: tool.cwl\n")
    return job


class Gate:
    """Where workflows wait until a test lets them go on.

    Args:
        root: a directory of the test's own.
    """

    def __init__(self, root: Path) -> None:
        self._pipe = root / "gate"
        self._arrivals = root / "arrivals"
        os.mkfifo(self._pipe)
        self._end = os.open(self._pipe, os.O_RDWR)  # both ends, so that nobody waits for the other to open it

    @property
    def script(self) -> str:
        """What a workflow's script does to wait here."""
        return f'echo "$PWD" >> {self._arrivals}\nread -r line < {self._pipe}\n'

    @property
    def arrivals(self) -> int:
        """How many workflows have come here."""
        return len(self._arrivals.read_text().splitlines()) if self._arrivals.exists() else 0

    def wait_for_arrivals(self, count: int = 1) -> None:
        """Wait until so many workflows have come here."""
        wait_for(lambda: self.arrivals >= count, f"{count} workflows to begin")

    def let_through(self, count: int = 1) -> None:
        """Let so many workflows go on, now or when they come."""
        os.write(self._end, b"go\n" * count)

    def close(self) -> None:
        """Let go of the pipe."""
        os.close(self._end)
