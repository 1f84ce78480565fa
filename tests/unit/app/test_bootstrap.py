"""The start-up script of a stock image, with programs that only note that they were called."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from lando.app.server_request import ServerRequests
from lando.app.user_data import BOOTSTRAP, WorkerSettings, render
from lando.cloud.interface import MAX_USER_DATA
from lando.config.site_config import WorkerConfig, load
from lando.engine.operations import SendCreate
from lando.states.job import Job, JobSpec

SOURCE = "git+https://git.example.org/lando-fsm.git@v1"
REAL = ("bash", "base64", "cat", "ln", "mkdir", "printf", "rm", "tail", "chmod", "cp")
PYTHON = """
[ "$1" != -m ] || { rm -rf "$4" && mkdir -p "$4/bin" && cp "$BIN/pip" "$BIN/python" "$4/bin"; }
"""
PIP = """
mkdir -p "$SITE"
printf '#!/bin/bash\\necho "worker $*" >>"$CALLS"\\n' >"$SITE/lando_worker.sh"
chmod 755 "$SITE/lando_worker.sh"
"""
PROGRAMS = {
    "apt-get": "",
    "git": "",
    "id": "",
    "nft": "",
    "node": "",
    "pip": PIP,
    "podman": "",
    "poweroff": "",
    "python": 'echo "$SITE/__init__.py"',
    "python3": PYTHON,
    "sleep": "",
    "useradd": "",
}


class Vm:
    """A directory that is all there is of a VM, and its PATH."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.worker = root / "lando" / "lando_worker.sh"
        self._bin = root / "bin"
        self._bin.mkdir()
        self._calls = root / "calls"
        self._calls.touch()
        for name in REAL:
            self._bin.joinpath(name).symlink_to(shutil.which(name) or name)
        for name, body in PROGRAMS.items():
            self.has(name, body)

    def has(self, name: str, body: str) -> None:
        path = self._bin / name
        path.write_text(f'#!/bin/bash\necho "{name} $*" >>"$CALLS"\n{body}')
        path.chmod(0o755)

    def lacks(self, name: str) -> None:
        (self._bin / name).unlink()

    def start(self, source: str | None = SOURCE) -> subprocess.CompletedProcess[str]:
        worker = WorkerConfig(
            str(self.worker), "lando", bootstrap=source is not None, bootstrap_source=source
        )
        settings = WorkerSettings(worker, {"kind": "x"})
        script = script_of(settings)
        environment = {
            "PATH": str(self._bin),
            "BIN": str(self._bin),
            "CALLS": str(self._calls),
            "LANDO_VM_DIR": str(self._root / "vm"),
            "SITE": str(self._root / "lando" / ".venv" / "site"),
        }
        return subprocess.run(
            ["bash"],
            input=script,
            env=environment,
            cwd=self._root,
            capture_output=True,
            text=True,
            check=False,
        )

    def calls(self, of: str = "") -> list[str]:
        return [line for line in self._calls.read_text().splitlines() if line.startswith(of)]

    def mode(self, path: str) -> str:
        return oct((self._root / path).stat().st_mode & 0o777)


def script_of(settings: WorkerSettings, input: Mapping[str, object] | None = None) -> str:
    spec = JobSpec("https://h/r.git", ".", input or {}, "w.cwl")
    script = render(spec, job_id="j", attempt=1, token="t", server_name="s", settings=settings)
    return script.decode("ascii")


@pytest.fixture
def vm(tmp_path: Path) -> Vm:
    return Vm(tmp_path)


def test_a_worker_is_made_and_runs_the_job(vm: Vm) -> None:
    ended = vm.start()
    assert ended.returncode == 0, ended.stderr
    assert vm.calls("apt-get") == []
    assert vm.calls("pip") == [f"pip install -q {SOURCE}"]
    assert re.fullmatch(r"worker https://h/r\.git \. w\.cwl \S+ \S+ s", vm.calls("worker")[0])
    assert f"lando: going to install the worker from {SOURCE} with pip" in ended.stderr


def test_workflows_can_read_the_worker_but_not_its_secrets(vm: Vm) -> None:
    vm.start()
    assert vm.mode("lando/.venv/bin") == "0o755"
    assert vm.mode("vm/worker.json") == "0o600"


def test_nothing_is_done_twice(vm: Vm) -> None:
    vm.start()
    vm.start()
    assert len(vm.calls("pip")) == 1 and len(vm.calls("worker")) == 2
    vm.start(SOURCE + ".1")
    assert len(vm.calls("pip")) == 2


def test_what_is_missing_is_installed(vm: Vm) -> None:
    vm.lacks("git")
    vm.lacks("nft")
    vm.lacks("node")
    vm.has("id", "exit 1")
    assert vm.start().returncode == 0
    update, install = vm.calls("apt-get")
    assert update.endswith(" update")
    assert install.endswith(" install --no-install-recommends git ca-certificates nodejs nftables")
    assert vm.calls("useradd") == ["useradd --create-home --shell /bin/bash lando"]


def test_the_network_may_come_late(vm: Vm) -> None:
    vm.has("pip", "[ -e late ] || { echo >late; exit 1; }" + PIP)
    assert vm.start().returncode == 0
    assert len(vm.calls("pip")) == 2 and vm.calls("sleep") == ["sleep 5"]


@pytest.mark.parametrize(
    "program, words",
    [
        ("apt-get", "install git ca-certificates with apt-get"),
        ("useradd", "make the account lando"),
        ("pip", f"install the worker from {SOURCE} with pip"),
    ],
)
def test_what_could_not_be_done_is_on_the_console_and_the_vm_goes_off(
    vm: Vm, program: str, words: str
) -> None:
    vm.lacks("git")
    vm.has("id", "exit 1")
    vm.has(program, "echo 'no route to host' >&2; exit 7")
    ended = vm.start()
    assert ended.returncode == 7
    assert f"lando: The VM could not {words} (exit status 7): no route to host\n" in ended.stderr
    assert "lando: this could not be reported." in ended.stderr
    assert vm.calls()[-1] == "poweroff "


def test_a_failure_with_an_image_that_has_the_worker_leaves_the_machine_on(vm: Vm) -> None:
    ended = vm.start(None)
    assert ended.returncode == 127 and "lando: this could not be reported." in ended.stderr
    assert vm.calls("poweroff") == []


@pytest.mark.parametrize("wanted", [True, False])
def test_landoconfig_asks_for_it(tmp_path: Path, wanted: bool) -> None:
    (tmp_path / "landoconfig.yml").write_text(
        "work_queue: {host: h, username: u, password: p, worker_username: w, worker_password: x}\n"
        "cloud_settings: {auth_url: 'http://h', username: u, password: p, project_name: n}\n"
        f"worker: {{bootstrap: {str(wanted).lower()}, bootstrap_source: '{SOURCE}'}}\n"
    )
    task = SendCreate(Job("j", server_name="s", attempt=1), "mark", "token")
    body = {"git_clone": "https://h/r.git", "cd": ".", "input": {}, "run_cwl": "w.cwl"}
    requests = ServerRequests(load(tmp_path / "landoconfig.yml"))
    user_data = requests.request(task, body, "d").user_data.decode()
    assert (f"source={SOURCE}\n" in user_data) is wanted
    assert (BOOTSTRAP.read_text() in user_data) is wanted


def test_it_is_ascii_and_counts() -> None:
    worker = WorkerConfig("/lando/lando_worker.sh", "lando", bootstrap=True, bootstrap_source=SOURCE)
    settings = WorkerSettings(worker, {})
    script = script_of(settings, {"x": "y" * 20_000})
    assert BOOTSTRAP.read_text() in script
    assert len(script) * 4 / 3 < MAX_USER_DATA
