"""A site of a test's own: state directory, configuration with short times, real daemon processes."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pty
import re
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lando.app.app import App
from lando.cli.common import send
from lando.cli.submit import start_message
from lando.config.site_config import load
from lando.store.store import Store
from lando.views.jobs import Views
from tests.support.forked_commands import Started, Target, start_command, start_server

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


@functools.cache
def migrated_database() -> bytes:
    """The file of a database without jobs. To migrate one takes half a second of processor time."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "lando.db"
        Store(f"sqlite:///{path}").close()
        return path.read_bytes()


class LocalSite:
    """Commands run as a person would run them, in a directory of their own.

    What only prepares or waits is done in this process: starting a command costs up to half a second of
    processor time.
    """

    def __init__(self, root: Path, max_workers: int = 4, config: str = CONFIG) -> None:
        start_server()  # now, so that no command takes longer for it
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
        self.fresh = False
        """Whether each is a new interpreter; see ``tests.support.forked_commands``."""
        self.daemons: list[Started] = []
        self.started: list[Started] = []
        self.terminals: list[Terminal] = []
        self.logs = 0
        self._views: Views | None = None

    def make_state(self) -> None:
        """Make the state directory as a daemon leaves it that has had no job, unless there is one."""
        if not self.state.exists():
            self.state.mkdir(mode=0o700, parents=True)
            database = self.state / "lando.db"
            database.touch(mode=0o600)
            database.write_bytes(migrated_database())

    # commands

    def command(
        self, *arguments: str | Path, check: bool = True, program: str = "lando-fsm", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self._start(arguments, program, environment)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        result = subprocess.CompletedProcess(process.args, process.wait(), out, err)
        assert not check or result.returncode == 0, (arguments, result.stdout, result.stderr)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    def submit(self, job: Path, job_id: str | None = None) -> str:
        """What ``submit`` does, without the cost of a process; the job's id."""
        if self.inside:
            return self.command("submit", job, *([] if job_id is None else ["--id", job_id])).stdout.strip()
        self.make_state()
        app = self.app()
        message = start_message(app, job, job_id)
        send(app, message)
        assert message.job is not None
        return message.job

    def status(self, *jobs: str) -> list[dict[str, Any]]:
        """What ``status --json`` says."""
        found: list[dict[str, Any]] = json.loads(self.command("status", "--json", *jobs).stdout)
        return found

    def look(self, *jobs: str) -> list[dict[str, Any]]:
        """The same as ``status``, without the cost of a process: for waiting."""
        return [shown.as_json() for shown in self.views().jobs(ids=jobs)]

    def app(self) -> App:
        """The parts of this installation, as commands put them together."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LANDO_STATE_DIR", str(self.state))
            return App(load(self.config))

    def views(self) -> Views:
        """What commands show of jobs; made once, since its database is opened once."""
        if self._views is None:
            self._views = self.app().views()
        return self._views

    def job(self, job: str) -> dict[str, Any]:
        """What ``status --json`` says of one job, once it is shown."""
        found: list[dict[str, Any]] = wait_for(lambda: self.look(job), f"job {job} to be shown")
        return found[0]

    def path(self, job: str) -> list[str]:
        """The states that a job went through."""
        return [change.target for change in self.views().history(job)]

    def wait(self, job: str, *states: str) -> dict[str, Any]:
        """Wait until the job is in one of these states."""
        self._wait_for_states([job], states, PATIENCE)
        return self.job(job)

    def wait_all_ended(self, jobs: Iterable[str], patience: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait until all have ended."""
        wanted = list(jobs)
        self._wait_for_states(wanted, ("done", "failed"), patience)
        return self.look(*wanted)

    def states(self) -> dict[str, str]:
        """The states of the jobs that a daemon has taken, by id; cheap enough to be asked again and again."""
        database = self.state / "lando.db"
        if not database.exists():
            return {}
        with contextlib.closing(sqlite3.connect(database, timeout=PATIENCE)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchone():
                return {}  # nobody has migrated it yet
            return dict(connection.execute("SELECT id, state FROM jobs"))

    def _wait_for_states(self, jobs: list[str], states: tuple[str, ...], patience: float) -> None:
        def are_there() -> bool:
            seen = self.states()
            return all(seen.get(job) in states for job in jobs)

        wait_for(are_there, f"{len(jobs)} jobs ({', '.join(jobs[:3])}) in {states}", patience)

    def start(self, *arguments: str | Path, program: str = "lando-fsm") -> Started:
        """Start a command that is waited for, or ended, later."""
        process = self._start(arguments, program)
        self.started.append(process)
        return process

    def _start(
        self,
        arguments: Sequence[str | Path],
        program: str = "lando-fsm",
        environment: Mapping[str, str] | None = None,
        stderr: Target = None,
        stdout: Target = None,
    ) -> Started:
        return start_command(
            [*self.inside, str(BIN / program), *map(str, arguments)],
            {**self.environment, **(environment or {})},
            self.root,
            stderr,
            self.fresh,
            stdout,
        )

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

    def start_onto(
        self, stdout: Target, stderr: Target, *arguments: str | Path, **environment: str
    ) -> Started:
        """Start a command with these streams in place of pipes; see ``forked_commands.Command``."""
        process = self._start(arguments, environment=environment, stdout=stdout, stderr=stderr)
        self.started.append(process)
        return process

    # daemons

    def start_daemon(self, ready: bool = True, make_state: bool = True, **environment: str) -> Started:
        """Start a daemon.

        Args:
            ready: wait until it says that it is ready.
            make_state: save it the time to migrate a new database.
            environment: more environment variables.
        """
        if make_state and not self.inside:
            self.make_state()
        self.logs += 1
        with (self.root / f"daemon-{self.logs}.log").open("w") as log:
            daemon = self._start(["daemon"], environment=environment, stderr=log)
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
        wait_for(lambda: not self.vms(), "every VM's directory to be gone")
        wait_for(lambda: not self.vm_processes(), "every process of every VM to be gone")


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

    def hang_up(self) -> None:
        """Be gone, as a window that is closed."""
        os.close(self._ours)
        self._ours = -1

    def close(self) -> None:
        """End the command."""
        self.process.kill()
        self.process.wait()
        if self._ours >= 0:
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


def workflow_on_vms(root: Path, script: str, name: str = "wf") -> Path:
    """The same for jobs on OpenStack: its address says that VMs have the folder, too."""
    job = workflow(root, script, name)
    job.write_text(job.read_text().replace(f"git_clone: {name}", f"git_clone: {(root / name).as_uri()}"))
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
