"""The start-up script with bash, git, the embedded queue, and cwltool or a small runner in its place."""

import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from lando.app.user_data import WorkerSettings, installed_command, render
from lando.config.worker import WorkerConfig
from lando.messages import decode
from lando.states.job import JobSpec
from lando.workqueue.embedded import EmbeddedQueue

JOB = "00000000-0000-4000-8000-000000000001"
TIMEOUT = 100.0

ECHO_WORKFLOW = """
cwlVersion: v1.2
class: Workflow
inputs: {text: File, password: string}
outputs: {out: {type: File, outputSource: second/out}}
steps:
  first: {run: say.cwl, in: {text: text, password: password}, out: [out]}
  second: {run: say.cwl, in: {text: first/out, password: password}, out: [out]}
"""
SAY_TOOL = """
cwlVersion: v1.2
class: CommandLineTool
requirements: {InlineJavascriptRequirement: {}}
baseCommand: [bash, -c, 'echo "the password is $1" >&2; cat "$0"']
inputs:
  text: {type: File, inputBinding: {position: 1}}
  password: {type: string, inputBinding: {position: 2}}
outputs: {out: stdout}
stdout: out.txt
"""
SCATTER_WORKFLOW = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {texts: 'string[]', on: {type: boolean, default: false}}
outputs: []
steps:
  many: {run: inner/values.cwl, scatter: value, in: {value: texts}, out: [out]}
  never: {run: fail.cwl, when: $(inputs.on), in: {on: on}, out: []}
"""
FAILING_TOOL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [bash, -c, 'echo "all is lost" >&2; exit 7']
inputs: {}
outputs: []
"""
DOCKER_TOOL = """
cwlVersion: v1.2
class: CommandLineTool
requirements: {DockerRequirement: {dockerPull: debian}}
baseCommand: [echo]
inputs: {}
outputs: []
"""
VALUES_TOOL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [printf, '%s\\n']
inputs: {value: {type: string, inputBinding: {position: 1}}}
outputs: {out: stdout}
stdout: out.txt
"""
HOSTILE = "it's \"quoted\" $(touch /tmp/pwned) `id` \\ !x\n\nEOF\n'EOF'\n🧬 ü \u2028 end"


class Vm:
    """One VM's directory, and the queue that its worker reports to."""

    def __init__(self, base):
        self.directory = base / "vm"
        self.database = base / "lando.db"
        self.runner = base / "runner.sh"
        self.environment = {**os.environ, "LANDO_VM_DIR": str(self.directory)}
        self.settings = {}
        self._base = base
        self._queue = None
        self._heard = []
        self.largest_report = 0

    def script(self, **spec):
        settings = {"user": None, **self.settings}
        reporting = {
            key: settings.pop(key) for key in ("heartbeat", "run_timeout", "outputs") if key in settings
        }
        queue = {"kind": "embedded", "database": str(self.database)}
        if self.runner.exists():
            settings["cwl_base_command"] = (str(self.runner),)
        script = self._base / "user-data"
        script.write_bytes(
            render(
                JobSpec(**{"cd": ".", "input": {}, "run_cwl": "w.cwl", **spec}),
                job_id=JOB,
                attempt=1,
                token="the-secret-token",
                server_name="lando 'x' 🧬",
                settings=WorkerSettings(WorkerConfig(installed_command(), **settings), queue, **reporting),
            )
        )
        return script

    def open_queue(self):
        self._queue = self._queue or EmbeddedQueue(self.database)

    def start(self, **spec):
        return subprocess.Popen(
            ["bash", self.script(**spec)],
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, **spec):
        """Run to the end. Returns the exit code, the console, and the body of the final report."""
        self.open_queue()
        console, _ = (process := self.start(**spec)).communicate(timeout=TIMEOUT)
        return process.returncode, console, self.finished()

    def run_measured(self, **spec):
        """The same; returns the body of the final report, and the memory of the largest process in KiB."""
        self.open_queue()
        process = self.start(**spec)
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return self.finished(), usage.ru_maxrss

    def heard(self, timeout=0.0):
        self.open_queue()
        for delivery in self._queue.receive(1000, timeout):
            self.largest_report = max(self.largest_report, len(delivery.raw))
            self._heard.append(decode(delivery.raw, delivery.origin))
        return self._heard

    def wait_for(self, condition):
        deadline = time.monotonic() + TIMEOUT
        while not condition(self.heard(1.0)):
            assert time.monotonic() < deadline, self._heard

    def finished(self):
        last = [message for message in self.heard() if message.type == "workflow_finished"]
        assert len(last) == 1
        assert self._heard[-1] is last[0]
        assert [message.seq for message in self._heard] == list(range(1, len(self._heard) + 1))
        assert "the-secret-token" not in json.dumps([dict(message.body) for message in self._heard])
        return last[0].body

    def log(self):
        return "".join(message.body.get("log", "") for message in self.heard())

    def site_runner(self, body):
        """Use a shell script as the site's runner, which is fast and can misbehave."""
        self.runner.write_text(f"#!/bin/bash\n{body}\n")
        self.runner.chmod(0o755)


@pytest.fixture
def vm(tmp_path):
    vm = Vm(tmp_path)
    stubs = tmp_path / "no-engine"
    stubs.mkdir()
    for engine in ("docker", "podman"):
        (stubs / engine).write_text("#!/bin/sh\necho 'Is the daemon running?' >&2\nexit 1\n")
        (stubs / engine).chmod(0o755)
    vm.environment["PATH"] = f"{stubs}:{os.environ['PATH']}"
    return vm


@pytest.fixture
def repo(tmp_path):
    """A repository with two commits: the first is tagged v1 and on the branch old."""
    repo = tmp_path / "toy"
    files = {
        "w.cwl": ECHO_WORKFLOW,
        "say.cwl": SAY_TOOL,
        "fail.cwl": FAILING_TOOL,
        "docker.cwl": DOCKER_TOOL,
        "inner/values.cwl": VALUES_TOOL,
        "data/in.txt": "hello\n",
        "version": "1",
    }
    for name, text in files.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(text)
    git(repo, "init", "--quiet", "--initial-branch", "main")
    commit(repo)
    git(repo, "tag", "v1")
    git(repo, "branch", "old")
    git(repo, "branch", "20240131")
    (repo / "version").write_text("2")
    commit(repo)
    return repo


def git(repo, *arguments):
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=repo, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(repo):
    git(repo, "add", ".")
    git(repo, "commit", "--quiet", "--message", "change")


def test_a_workflow_of_two_steps(vm, repo, tmp_path):
    outputs = tmp_path / "state" / "outputs"
    outputs.mkdir(parents=True)
    (outputs / "of an earlier attempt").touch()
    vm.settings["outputs"] = str(outputs)
    text = {"class": "File", "location": "data/in.txt"}
    status, console, final = vm.run(
        git_clone=str(repo), cd="toy", input={"text": text, "password": "hunter22"}
    )
    assert (status, final["outcome"], final["exit_code"], final["reason"]) == (0, "succeeded", 0, "")
    assert final["git_commit"] == git(repo, "rev-parse", "HEAD")
    assert [path.name for path in outputs.iterdir()] == ["out.txt"]
    assert Path(final["outputs"]["out"]["path"]).read_text() == "hello\n"
    started, *_ = vm.heard()
    assert (started.type, started.body["phase"]) == ("worker_started", "cloning")
    last = vm.heard()[-2].body
    assert [last[key] for key in ("phase", "step", "steps", "step_name")] == ["running", 2, 2, "second"]
    assert vm.log().count("the password is ***") == 2
    assert "hunter22" not in vm.log() + final["log_tail"] + console


def test_a_scattered_step_counts_once_and_a_skipped_one_is_done(vm, repo):
    (repo / "scatter.cwl").write_text(SCATTER_WORKFLOW)
    commit(repo)
    _, _, final = vm.run(git_clone=str(repo), run_cwl="scatter.cwl", input={"texts": ["a", "b", "c"]})
    assert final["outcome"] == "succeeded"
    steps = [message.body for message in vm.heard() if message.body.get("step")]
    # Changes within a second are reported together, so the first report may be of the second step.
    assert {(step["step"], step["steps"]) for step in steps} <= {(1, 2), (2, 2)}
    assert [steps[-1][key] for key in ("step", "steps", "step_name")] == [2, 2, "many"]


def test_a_failing_workflow_says_why(vm, repo):
    status, _, final = vm.run(git_clone=str(repo), run_cwl="fail.cwl")
    assert (status, final["outcome"], final["exit_code"]) == (0, "workflow_failed", 1)
    assert final["reason"].startswith("cwltool exited with status 1: [job fail.cwl] exited with status: 7")
    assert "all is lost" in final["log_tail"]
    assert final["outputs"] is None


def test_a_required_container_says_what_to_install(vm, repo):
    _, _, final = vm.run(git_clone=str(repo), run_cwl="docker.cwl")
    assert (final["outcome"], final["exit_code"]) == ("workflow_failed", 33)
    assert "apt install docker.io" in final["reason"]
    assert "docker does not answer (Is the daemon running?)" in final["reason"]


def test_an_option_that_cwltool_does_not_know(vm, repo):
    _, _, final = vm.run(git_clone=str(repo), cwl_args=("--no-such-option",))
    assert (final["outcome"], final["exit_code"]) == ("workflow_failed", 2)
    assert final["reason"] == "cwl_args: cwltool: error: unrecognized arguments: --no-such-option"


def test_options_of_an_old_client_that_would_lose_the_results(vm, repo):
    _, _, final = vm.run(git_clone=str(repo), cwl_args=("--outd=/elsewhere",))
    assert (final["outcome"], final["exit_code"]) == ("workflow_failed", 2)
    assert final["reason"].startswith("cwl_args: --outdir is refused: ")


def test_values_are_not_interpreted_by_a_shell(vm, repo):
    hostile_directory = "a $(touch pwned) 'b' \"c\" ü"
    shutil.copytree(repo / "inner", repo / hostile_directory)
    commit(repo)
    status, _, final = vm.run(
        git_clone=str(repo), cd=hostile_directory, run_cwl="values.cwl", input={"value": HOSTILE}
    )
    assert (status, final["outcome"]) == (0, "succeeded")
    assert Path(final["outputs"]["out"]["path"]).read_text() == HOSTILE + "\n"
    assert not list(vm.directory.rglob("pwned"))


def test_files_that_hold_secrets_are_private(vm, repo):
    vm.site_runner("echo '{}'")
    vm.run(git_clone=str(repo), input={"password": "hunter22"})
    files = {path for path in vm.directory.rglob("*") if path.is_file()}
    holders = {path for path in files if re.search(b"hunter22|the-secret-token", path.read_bytes())}
    names = {path.name for path in holders}
    assert names == {"worker.json", "parameters.yml", "inputs.yml"}
    assert not [path for path in {vm.directory, *holders} if path.stat().st_mode & 0o077]


def test_the_sites_own_runner(vm, repo):
    vm.site_runner('printf \'{"args": "%s", "pwd": "%s"}\' "$*" "$PWD"; cat version >&2')
    _, _, final = vm.run(git_clone=str(repo), cwl_args=("--fast",), run_cwl="w.cwl#main")
    clone = vm.directory / "clone" / "toy"
    assert final["outputs"] == {
        "args": f"--outdir {vm.directory}/outputs --fast {clone}/w.cwl#main {vm.directory}/run/inputs.yml",
        "pwd": str(clone),
    }


def test_the_sites_own_runner_fails(vm, repo):
    vm.site_runner("echo the cluster is on fire >&2; exit 9")
    _, _, final = vm.run(git_clone=str(repo))
    assert (final["outcome"], final["exit_code"]) == ("workflow_failed", 9)
    assert final["reason"].endswith("exited with status 9: the cluster is on fire")


@pytest.mark.parametrize("site", [None, 0.5, 3600.0])
def test_a_workflow_that_runs_too_long_is_ended_by_the_worker(vm, repo, site):
    vm.settings["run_timeout"] = site
    vm.site_runner("echo working; sleep 60")
    code, _, final = vm.run(git_clone=str(repo), run_timeout=None if site == 0.5 else 0.5)
    assert (code, final["outcome"], final["exit_code"]) == (0, "workflow_failed", None)
    assert final["reason"] == "the workflow ran longer than 0.5 s (run_timeout)"


def test_a_missing_runner_is_a_system_failure(vm, repo):
    vm.settings["cwl_base_command"] = ("/no/such/runner",)
    _, _, final = vm.run(git_clone=str(repo))
    assert final["outcome"] == "system_failed"
    assert final["reason"] == "cwl_base_command: /no/such/runner: No such file or directory"


@pytest.mark.parametrize(
    ("ref", "version"), [(None, "2"), ("old", "1"), ("20240131", "1"), ("v1", "1"), ("{first}", "1")]
)
@pytest.mark.parametrize("address", ["{repo}", "file://{repo}"])
def test_git_ref(vm, repo, ref, version, address):
    first = git(repo, "rev-parse", "v1")
    vm.site_runner('printf \'{"version": "%s"}\' "$(cat version)"')
    _, _, final = vm.run(git_clone=address.format(repo=repo), git_ref=ref and ref.format(first=first))
    assert final["outputs"] == {"version": version}
    assert final["git_commit"] == (first if version == "1" else git(repo, "rev-parse", "HEAD"))


def test_an_abbreviated_commit(vm, repo):
    first = git(repo, "rev-parse", "v1")
    vm.site_runner("echo '{}'")
    _, _, final = vm.run(git_clone=f"file://{repo}", git_ref=first[:8])
    assert final["git_commit"] == first


def test_a_plain_folder_is_copied_without_what_is_being_written(vm, tmp_path):
    (tmp_path / "w.cwl").write_text(ECHO_WORKFLOW)
    (tmp_path / "link").symlink_to("w.cwl")
    os.mkfifo(tmp_path / "pipe")
    vm.site_runner("printf '{\"files\": \"%s\"}' \"$(ls | tr '\\n' ' ')\"")
    _, _, final = vm.run(git_clone=str(tmp_path))
    assert final["outcome"] == "succeeded"
    assert final["git_commit"] is None
    files = final["outputs"]["files"].split()
    assert {"w.cwl", "link"} <= set(files)
    assert not {"vm", "pipe"} & set(files)


def test_submodules_are_cloned(vm, repo, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    (other / "file").write_text("sub")
    commit(other)
    git(repo, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "sub")
    commit(repo)
    vm.site_runner('printf \'{"sub": "%s"}\' "$(cat sub/file)"')
    assert vm.run(git_clone=str(repo))[2]["outputs"] == {"sub": "sub"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"git_clone": "/no/such/repo"}, "failed: fatal: repository '/no/such/repo' does not exist"),
        ({"git_clone": "ext::sh -c id"}, "fatal: transport 'ext' not allowed"),
        ({"git_clone": "--upload-pack=id"}, "fatal: repository '--upload-pack=id' does not exist"),
        ({"git_ref": "nope"}, "has no branch or tag nope; its branches: "),
        ({"git_ref": "0" * 40}, f"has no branch, tag or commit {'0' * 40}; its branches: "),
        ({"cd": "nope"}, "cd: the clone has no directory nope; the directories in it: data, escape, inner"),
        ({"run_cwl": "nope.cwl"}, "run_cwl: there is no file nope.cwl"),
        ({"cd": "escape"}, "cd: escape is outside the clone"),
        ({"run_cwl": "escape/passwd"}, "run_cwl: escape/passwd is outside the clone"),
    ],
)
def test_what_cannot_be_run_fails_with_the_reason(vm, repo, spec, words):
    (repo / "escape").symlink_to("/etc")
    commit(repo)
    vm.site_runner("echo '{}'")
    status, console, final = vm.run(**{"git_clone": str(repo), **spec})
    assert (status, final["outcome"], final["exit_code"]) == (0, "workflow_failed", None)
    assert words in final["reason"]
    assert words in console


def test_a_git_server_that_is_down_is_waited_for_with_heartbeats_and_told(vm):
    """Until the VM is deleted; the address is one that no resolver knows."""
    vm.settings["heartbeat"] = 0.2
    process = vm.start(git_clone="http://nonexistent.invalid/x.git")
    waiting = "waiting for git server: Could not resolve host: nonexistent.invalid"
    vm.wait_for(lambda heard: sum(message.body.get("phase") == waiting for message in heard) >= 3)
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=TIMEOUT)
    assert not [message for message in vm.heard() if message.type == "workflow_finished"]


def test_run_timeout_ends_the_wait_for_a_git_server(vm):
    _, _, final = vm.run(git_clone="http://nonexistent.invalid/x.git", run_timeout=2.0)
    assert final["outcome"] == "workflow_failed"
    assert "run_timeout" in final["reason"]


def test_a_workflow_that_replaces_what_its_runner_prints_to(vm, repo):
    printed = vm.directory / "run" / "printed.json"
    vm.site_runner(f"rm {printed}; mkfifo {printed}; echo '{{\"a\": 1}}'")
    _, _, final = vm.run(git_clone=str(repo))
    assert final["outputs"] == {"a": 1}


def test_a_gigabyte_of_log_fills_neither_memory_nor_disk(vm, repo):
    vm.site_runner("yes 'all work and no play makes jack a dull boy' | head -c 1G >&2; echo '{\"a\": 1}'")
    final, memory = vm.run_measured(git_clone=str(repo))
    assert final["outputs"] == {"a": 1}
    assert "a dull boy\n" in final["log_tail"]
    assert "bytes of log left out" in vm.log()
    assert len(vm.log()) < 1.1 * 2**20
    assert sum(path.stat().st_size for path in vm.directory.rglob("*") if path.is_file()) < 2**20
    # A child's record begins with the memory of the process that forked it, which is this one.
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert memory < max(300 * 1024, ours + 1024)  # KiB


@pytest.mark.parametrize("program", ["sleep 1000", "yes I am a daemon"])
def test_a_process_that_keeps_the_log_open_does_not_delay_the_end(vm, repo, tmp_path, program):
    vm.site_runner(f"setsid {program} >&2 & echo $! > {tmp_path}/pid; echo '{{}}'")
    began = time.monotonic()
    try:
        _, _, final = vm.run(git_clone=str(repo))
        assert time.monotonic() - began < 60
        assert final["outcome"] == "succeeded"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_heartbeats_go_on_while_the_workflow_works(vm, repo, tmp_path):
    os.mkfifo(tmp_path / "gate")
    vm.settings["heartbeat"] = 0.05
    vm.site_runner(f"cat {tmp_path}/gate; echo '{{}}'")
    vm.open_queue()
    process = vm.start(git_clone=str(repo))
    vm.wait_for(lambda heard: sum(message.body.get("phase") == "running" for message in heard) > 5)
    (tmp_path / "gate").write_text("")
    process.communicate(timeout=TIMEOUT)
    assert vm.finished()["outcome"] == "succeeded"


def test_reports_wait_until_the_queue_is_there(vm, repo):
    vm.site_runner("echo '{}'")
    process = vm.start(git_clone=str(repo))
    wait_for_line(process.stdout, "lando: succeeded")
    assert list((vm.directory / "spool").rglob("*.json"))
    vm.open_queue()
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    assert vm.heard()[0].type == "worker_started"
    assert vm.finished()["outcome"] == "succeeded"


def wait_for_line(stream, words):
    """Read until a line holds ``words``."""
    deadline = time.monotonic() + TIMEOUT
    text = ""
    while words not in text:
        assert select.select([stream], [], [], deadline - time.monotonic())[0], text
        chunk = os.read(stream.fileno(), 65536).decode()
        assert chunk, text
        text += chunk


LONG = "x" * 4_300_000


def test_a_giant_step_id_leaves_every_report_deliverable(vm, repo):
    document = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": [],
        "outputs": [],
        "steps": [{"id": f"first_{LONG}_last", "run": "fail.cwl", "in": [], "out": []}],
    }
    (repo / "giant.cwl").write_text(json.dumps(document))
    commit(repo)
    code, _, body = vm.run(git_clone=str(repo), run_cwl="giant.cwl")
    assert (code, body["outcome"]) == (0, "workflow_failed")
    assert len(body["reason"]) <= 2600
    names = {name for message in vm.heard() if (name := message.body.get("step_name"))}
    assert len(names) == 1
    (name,) = names
    assert len(name) == 300 and name.startswith("first_xxx") and name.endswith("xxx_last")
    assert "characters left out]" in name
    assert vm.largest_report < 256 * 1024


def test_a_runner_that_prints_what_no_report_can_hold(vm, repo):
    vm.site_runner(
        "head -c 5000000 /dev/zero | tr '\\0' y >&2\n"
        "printf '\\nNUL \\0 half \\xed\\xa0\\x80 end\\n' >&2; exit 3"
    )
    _, _, body = vm.run(git_clone=str(repo))
    assert (body["outcome"], body["exit_code"]) == ("workflow_failed", 3)
    assert body["reason"].endswith(" end") and "\0" not in body["reason"]
    assert len(body["reason"]) <= 2000
    assert vm.largest_report < 256 * 1024


def test_a_killed_child_is_a_system_failure(vm, repo):
    vm.site_runner("kill -9 $PPID")
    status, _, final = vm.run(git_clone=str(repo))
    assert (status, final["outcome"]) == (0, "system_failed")
    assert "was killed (SIGKILL)" in final["reason"]


def test_a_killed_worker_is_reported_by_the_start_up_script(vm, repo):
    vm.site_runner("kill -9 $(ps -o ppid= -p $PPID)")
    status, console, final = vm.run(git_clone=str(repo))
    assert (status, final["outcome"]) == (137, "system_failed")
    assert "(exit status 137)" in final["reason"]
    assert final["reason"] in console


def test_early_failures_are_reported(vm, repo, tmp_path):
    (tmp_path / "file").touch()
    vm.environment["LANDO_VM_DIR"] = str(tmp_path / "file" / "vm")
    status, _, final = vm.run(git_clone=str(repo))
    assert (status, final["outcome"]) == (1, "system_failed")
    assert final["reason"].startswith(f"The VM could not make the directory {tmp_path}/file/vm (exit")
    assert "Not a directory" in final["reason"]


def test_a_file_that_cannot_be_written_is_reported(vm, repo):
    vm.directory.mkdir()
    (vm.directory / "parameters.yml").mkdir()
    (vm.directory / "parameters.yml" / "x").touch()
    _, _, final = vm.run(git_clone=str(repo))
    assert final["outcome"] == "system_failed"
    assert "Is a directory" in final["reason"]


def test_a_missing_worker_is_reported_on_the_console(vm, repo):
    script = vm.script(git_clone=str(repo))
    script.write_bytes(script.read_bytes().replace(b"lando_worker.sh", b"no_such_worker.sh"))
    ended = subprocess.run(
        ["bash", script], env=vm.environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert ended.returncode == 127
    assert "this could not be reported" in ended.stderr


def test_sigterm_ends_everything_at_once(vm, repo, tmp_path):
    vm.site_runner(f"echo $$ > {tmp_path}/pid; sleep 1000")
    vm.open_queue()
    process = vm.start(git_clone=str(repo))
    vm.wait_for(lambda heard: (tmp_path / "pid").exists() or heard[-1].type == "workflow_finished")
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode in (143, -signal.SIGTERM)
    assert not [message for message in vm.heard() if message.type == "workflow_finished"]
    runner = int((tmp_path / "pid").read_text())
    wait_until_gone(runner)


def test_sigterm_of_the_worker_alone_is_not_a_failure(vm, repo):
    vm.site_runner("kill $(ps -o ppid= -p $PPID); sleep 1000")
    vm.open_queue()
    process = vm.start(git_clone=str(repo))
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == 143
    assert not [message for message in vm.heard() if message.type == "workflow_finished"]


def wait_until_gone(pid):
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([descriptor], [], [], TIMEOUT)[0]
    os.close(descriptor)


def test_a_missing_account_is_a_system_failure(vm, repo):
    vm.settings["user"] = "no-such-account"
    _, _, final = vm.run(git_clone=str(repo))
    assert final["outcome"] == "system_failed"
    assert "the account 'no-such-account' does not exist" in final["reason"]
    assert "worker.user" in final["reason"]


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root")
def test_workflows_run_as_their_own_account():
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        base.chmod(0o755)
        vm = Vm(base)
        vm.settings["user"] = "nobody"
        folder = base / "toy"
        folder.mkdir()
        (folder / "w.cwl").touch()
        vm.site_runner(
            f'test -r {vm.directory}/worker.json && touch readable; cat "${{@: -1}}" >&2;'
            ' printf \'{"user": "%s", "home": "%s"}\' "$(id -un)" "$HOME"; ls >&2; touch here'
        )
        _, _, final = vm.run(git_clone=str(folder), input={"x": "the input"})
        assert final["outputs"] == {"user": "nobody", "home": "/nonexistent"}
        assert "the input" in final["log_tail"]
        assert "readable" not in final["log_tail"]
