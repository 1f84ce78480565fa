"""Local VMs as real processes: what survives, what is found again, and that nothing outlives a delete."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from lando.cloud.interface import NoCapacity, Server, ServerRequest, ServerStatus, Unreachable
from lando.cloud.local import launcher, processes
from lando.cloud.local.driver import CREATE_STEPS, LocalCloud

WAIT_SECONDS = 30.0
CONTAINER = "0123456789abcdef" * 4
GRACE = 0.2

CREATE = """
import json, sys
from pathlib import Path
from lando.cloud.interface import ServerRequest
from lando.cloud.local.driver import LocalCloud
request = json.loads(sys.argv[2])
request["user_data"] = request["user_data"].encode()
print(LocalCloud(Path(sys.argv[1])).create(ServerRequest(**request)).status, flush=True)
if "stay" in sys.argv:
    sys.stdin.read()
"""


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def running(mark: str) -> set[int]:
    """The processes whose environment names the VM: an independent look, not the driver's own."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"LANDO_VM={mark}".encode() in path.read_bytes().split(b"\0"):
                found.add(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    return processes.look_up(pid) is not None


def pid_in(path: Path) -> int:
    """The process id that a script writes to a file, once it is there in full."""
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def request(script: str, mark: str | None = None) -> ServerRequest:
    return ServerRequest(
        name="lando-1",
        mark=mark or uuid.uuid4().hex,
        deployment="d-1",
        job_id="j-1",
        attempt=2,
        user_data=f"#!/bin/bash\n{script}\n".encode(),
    )


def delete(cloud: LocalCloud, server_id: str) -> None:
    def gone() -> bool:
        cloud.delete(server_id)
        return cloud.get(server_id) is None

    eventually(gone)


def status(cloud: LocalCloud, mark: str) -> tuple[ServerStatus, str | None] | None:
    server = cloud.get(mark)
    return None if server is None else (server.status, server.fault)


@contextlib.contextmanager
def nohup() -> Iterator[None]:
    """As a daemon that ignores one signal and blocks another."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.signal(signal.SIGHUP, handler)


def ran_once(root: Path, mark: str) -> bool:
    """Once it is up, as launcher and one ``sleep``, the script has left exactly one line."""
    eventually(lambda: (root / "runs").exists() and len(running(mark)) == 2)
    return (root / "runs").read_text() == "ran\n"


def kill_launcher(cloud: LocalCloud, root: Path, mark: str) -> int:
    pid = int(json.loads((root / "vms" / mark / "record.json").read_text())["pid"])
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: status(cloud, mark) == ("SHUTOFF", f"its launcher (process {pid}) died"))
    return pid


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cloud"


@pytest.fixture
def cloud(root: Path) -> Iterator[LocalCloud]:
    cloud = LocalCloud(root, term_grace=GRACE, gone_check=0.05)
    yield cloud
    marks = [server.id for server in cloud.servers()]
    for mark in marks:
        delete(cloud, mark)
    assert [mark for mark in marks if running(mark)] == []


def creator(root: Path, wanted: ServerRequest, *words: str, **environment: str) -> subprocess.Popen[str]:
    text = json.dumps({**asdict(wanted), "user_data": wanted.user_data.decode()})
    return subprocess.Popen(
        [sys.executable, "-c", CREATE, str(root), text, *words],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# create


def test_a_vm_runs_its_user_data_and_stays_up_after_it(cloud: LocalCloud, root: Path) -> None:
    vm = request('echo "$LANDO_VM|$LANDO_VM_DIR|$PWD|$HOME|$PATH|$(cat)"; echo oops >&2; exit 3')
    server = cloud.create(vm)
    directory = root / "vms" / vm.mark
    assert server == Server(vm.mark, "lando-1", "ACTIVE", vm.mark, "d-1", "j-1", 2, "127.0.0.1", None)
    expected = "|".join((vm.mark, str(directory), str(directory), os.environ["HOME"], os.environ["PATH"], ""))
    eventually(lambda: cloud.console_log(vm.mark) == f"{expected}\noops\n")
    eventually(lambda: len(running(vm.mark)) == 1)
    assert cloud.servers() == [server] == [cloud.get(vm.mark)]
    for path in directory.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path
    assert directory.stat().st_mode & 0o777 == 0o700


def test_variables_and_signals_of_the_daemon_are_not_inherited(
    cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("LANDO_CRASH_AT", "somewhere")
    monkeypatch.setenv("LANDO_LAUNCHER_CRASH_AT", "somewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    vm = request("compgen -e; grep -E '^Sig(Ign|Blk)' /proc/self/status; ls -l /proc/self/fd | grep -c lock")
    with nohup():
        cloud.create(vm)
    eventually(lambda: cloud.console_log(vm.mark).endswith("\n0\n"))
    words = cloud.console_log(vm.mark).split()
    assert "HTTPS_PROXY" in words
    assert not {"NOTIFY_SOCKET", "LANDO_CRASH_AT", "LANDO_LAUNCHER_CRASH_AT"} & set(words)
    ours = sum(1 << (signum - 1) for signum in (signal.SIGHUP, signal.SIGTERM))
    assert int(words[words.index("SigIgn:") + 1], 16) & ours == 0
    assert int(words[words.index("SigBlk:") + 1], 16) & ours == 0


def test_a_script_that_cannot_be_run_says_so_in_the_console(cloud: LocalCloud) -> None:
    vm = ServerRequest("n", uuid.uuid4().hex, "d", "j", 1, user_data=b"#!/absent/interpreter\n")
    assert cloud.create(vm).status == "ACTIVE"
    eventually(lambda: "cannot be run" in cloud.console_log(vm.mark))
    assert "/absent/interpreter" in cloud.console_log(vm.mark)


def test_a_repeated_create_finds_the_vm_and_starts_nothing(cloud: LocalCloud, root: Path) -> None:
    vm = request(f"echo ran >> {root}/runs; exec sleep 1000")
    first = cloud.create(vm)
    assert cloud.create(vm) == first
    assert LocalCloud(root).create(vm) == first
    assert ran_once(root, vm.mark)
    kill_launcher(cloud, root, vm.mark)
    assert cloud.create(vm).status == "SHUTOFF"
    assert (root / "runs").read_text() == "ran\n"


def test_concurrent_creates_of_one_mark_make_one_vm(cloud: LocalCloud, root: Path) -> None:
    vm = request(f"echo ran >> {root}/runs; exec sleep 1000")
    creators = [creator(root, vm) for _ in range(4)]
    for process in creators:
        assert process.communicate(timeout=WAIT_SECONDS)[0] in ("ACTIVE\n", "BUILD\n")
        assert process.returncode == 0
    assert ran_once(root, vm.mark)
    assert list((root / "limbo").iterdir()) == []


def test_a_vm_survives_kill_9_of_its_creator(cloud: LocalCloud, root: Path, tmp_path: Path) -> None:
    vm = request(f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    process = creator(root, vm, "stay")
    assert process.stdout is not None
    assert process.stdout.readline() == "ACTIVE\n"
    os.killpg(os.getpgid(pid := pid_in(tmp_path / "pid")), signal.SIGCONT)
    process.kill()
    # The end of its stdout shows, too, that the VM does not hold it.
    assert process.communicate(timeout=WAIT_SECONDS)[0] == ""
    assert status(cloud, vm.mark) == ("ACTIVE", None)
    assert alive(pid)


@pytest.mark.parametrize("step", CREATE_STEPS)
def test_after_a_crash_at_each_step_of_create_the_status_is_true(
    cloud: LocalCloud, root: Path, step: str
) -> None:
    vm = request(f"echo ran >> {root}/runs; exec sleep 1000")
    process = creator(root, vm, LANDO_CRASH_AT=step)
    process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == -signal.SIGKILL
    expected = {"local-create-placed": ("ERROR", "it was never started"), CREATE_STEPS[3]: ("ACTIVE", None)}
    eventually(lambda: status(cloud, vm.mark) == expected.get(step))
    # What never ran and never will is withdrawn, so that the create can be asked for anew.
    assert [server.id for server in cloud.servers()] == ([vm.mark] if step == CREATE_STEPS[3] else [])
    eventually(lambda: not list((root / "limbo").glob("*")))
    if step == "local-create-placed":
        assert cloud.get(vm.mark) is None
        with pytest.raises(Unreachable):
            cloud.create(vm)
        vm = request(f"echo ran >> {root}/runs; exec sleep 1000")

    assert cloud.create(vm).status == "ACTIVE"
    assert ran_once(root, vm.mark)
    delete(cloud, vm.mark)
    assert running(vm.mark) == set()
    eventually(lambda: {path.parent.name for path in root.glob("*/*")} == {"deleted"})


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("before-record", ("ERROR", "it was never started")),
        ("after-record", "SHUTOFF"),
    ],
)
def test_a_launcher_that_dies_at_its_record_runs_nothing(
    cloud: LocalCloud, root: Path, monkeypatch: pytest.MonkeyPatch, at: str, expected: object
) -> None:
    monkeypatch.setenv("LANDO_LAUNCHER_CRASH_AT", at)
    vm = request(f"echo ran >> {root}/runs")
    server = cloud.create(vm)
    assert expected in (server.status, (server.status, server.fault))
    assert not (root / "runs").exists()
    delete(cloud, vm.mark)


def test_a_full_disk_is_no_capacity_and_leaves_nothing(cloud: LocalCloud, root: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system takes root")
    try:
        full = LocalCloud(small / "cloud", term_grace=GRACE)
        vm = request("exec sleep 1000")
        full.create(vm)
        with contextlib.suppress(OSError):
            (small / "filler").write_bytes(bytes(1 << 20))
        with pytest.raises(NoCapacity, match=r"No space left.*free some space"):
            full.create(request("true"))
        assert [server.id for server in full.servers()] == [vm.mark]
        delete(full, vm.mark)
        eventually(lambda: not list((small / "cloud" / "limbo").iterdir()))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_the_console_is_bounded_and_keeps_both_ends(cloud: LocalCloud, root: Path) -> None:
    vm = request("echo first; head -c 200M /dev/zero | tr '\\0' x; printf '\\xff last'")
    cloud.create(vm)
    eventually(lambda: cloud.console_log(vm.mark).endswith("x\N{REPLACEMENT CHARACTER} last"))
    assert len(cloud.console_log(vm.mark)) == 64 * 1024
    content = (root / "vms" / vm.mark / "console.log").read_bytes()
    assert content.startswith(b"first\nxxx")
    assert content.count(launcher.OMISSION) == 1
    most = launcher.CONSOLE_HEAD + len(launcher.OMISSION) + 2 * launcher.CONSOLE_TAIL
    assert launcher.CONSOLE_HEAD + launcher.CONSOLE_TAIL < len(content) <= most


# found again


def test_after_a_restart_of_the_machine_a_vm_is_shut_off(cloud: LocalCloud, root: Path) -> None:
    vm = request("exec sleep 1000")
    cloud.create(vm)
    kill_launcher(cloud, root, vm.mark)
    record = root / "vms" / vm.mark / "record.json"
    before = json.loads(record.read_text())
    record.write_text(json.dumps({**before, "boot_id": "0" * 36, "pid": os.getppid()}))
    assert status(cloud, vm.mark) == ("SHUTOFF", "the machine was restarted")
    delete(cloud, vm.mark)
    assert running(vm.mark) == set()


def test_another_process_with_the_launchers_pid_is_not_killed(cloud: LocalCloud, root: Path) -> None:
    vm = request("exec sleep 1000")
    cloud.create(vm)
    kill_launcher(cloud, root, vm.mark)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        record = {
            "pid": stranger.pid,
            "started": launcher.start_time(stranger.pid) - 1,
            "boot_id": launcher.boot_id(),
        }
        (root / "vms" / vm.mark / "record.json").write_text(json.dumps(record))
        assert status(cloud, vm.mark) == ("SHUTOFF", f"its launcher (process {stranger.pid}) died")
        delete(cloud, vm.mark)
        assert running(vm.mark) == set()
        assert alive(stranger.pid)
        stranger.kill()


def test_a_held_lock_without_a_visible_launcher_is_status_unknown(cloud: LocalCloud, root: Path) -> None:
    vm = request("exec sleep 1000")
    cloud.create(vm)
    record = root / "vms" / vm.mark / "record.json"
    truth = record.read_text()
    record.write_text(json.dumps({**json.loads(truth), "started": 1}))
    server = cloud.get(vm.mark)
    assert server is not None
    assert server.status == "UNKNOWN"
    record.write_text(truth)
    assert status(cloud, vm.mark) == ("ACTIVE", None)


# delete

ESCAPES = {
    "children of children": "(sleep 1000 & echo $BASHPID > {pid}; wait) & wait",
    "a daemon": "setsid bash -c '(echo $BASHPID > {pid}; exec sleep 1000 >/dev/null 2>&1 </dev/null) &'",
    "a daemon that hides": "env -i setsid bash -c '(echo $BASHPID > {pid}; exec sleep 1000) &'; exit",
    "deaf to SIGTERM": "trap '' TERM; echo $$ > {pid}; while :; do sleep 1000; done",
    "a stopped one": "echo $$ > {pid}; kill -STOP $$",
    "kill 0 at its end": "trap 'kill 0' EXIT; setsid sleep 1000 & echo $! > {pid}",
}


@pytest.mark.parametrize("script", ESCAPES.values(), ids=ESCAPES.keys())
def test_delete_stops_everything(cloud: LocalCloud, root: Path, tmp_path: Path, script: str) -> None:
    vm = request(script.format(pid=tmp_path / "pid"))
    cloud.create(vm)
    pid = pid_in(tmp_path / "pid")
    delete(cloud, vm.mark)
    assert not alive(pid)
    assert running(vm.mark) == set()
    assert cloud.servers() == []
    eventually(lambda: not list((root / "limbo").iterdir()))
    cloud.delete(vm.mark)


def test_delete_stops_the_orphans_of_a_killed_launcher(cloud: LocalCloud, root: Path, tmp_path: Path) -> None:
    vm = request(
        f"setsid bash -c '(echo $BASHPID > {tmp_path}/daemon; exec sleep 1000) &'\n"
        f"env -i bash -c 'echo $$ > {tmp_path}/hidden; exec sleep 1000' &\n"
        f"echo $$ > {tmp_path}/script; wait"
    )
    cloud.create(vm)
    pids = [pid_in(tmp_path / name) for name in ("daemon", "hidden", "script")]
    kill_launcher(cloud, root, vm.mark)
    assert all(map(alive, pids))
    delete(cloud, vm.mark)
    assert not any(map(alive, pids))
    assert running(vm.mark) == set()


@pytest.mark.parametrize(
    "last", ["while :; do sleep 1000 & wait; done", "kill -STOP $$"], ids=["running", "stopped"]
)
def test_delete_sends_sigterm_first_and_waits_no_longer_than_needed(
    root: Path, tmp_path: Path, last: str
) -> None:
    patient = LocalCloud(root, term_grace=WAIT_SECONDS * 10)
    vm = request(f"trap 'echo asked > {tmp_path}/asked; exit' TERM; echo $$ > {tmp_path}/pid; {last}")
    patient.create(vm)
    pid = pid_in(tmp_path / "pid")
    if "STOP" in last:
        eventually(lambda: launcher.stat_fields(pid)[0] == "T")
    delete(patient, vm.mark)
    assert (tmp_path / "asked").exists()
    assert running(vm.mark) == set()


def test_of_a_person_who_set_the_variable_only_that_process_is_killed(cloud: LocalCloud) -> None:
    vm = request("exec sleep 1000")
    cloud.create(vm)
    deaf = ["sh", "-c", "trap '' TERM; exec sleep 1000"]
    with subprocess.Popen(deaf, env={**os.environ, "LANDO_VM": vm.mark}) as started_by_hand:
        eventually(lambda: Path(f"/proc/{started_by_hand.pid}/comm").read_text() == "sleep\n")
        delete(cloud, vm.mark)
        assert started_by_hand.wait(WAIT_SECONDS) < 0
    assert running(vm.mark) == set()


def test_a_script_that_kills_its_group_does_not_end_the_vm(cloud: LocalCloud, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    vm = request(f"trap '' TERM; kill 0; echo killed; read -r < {tmp_path}/go; echo on")
    cloud.create(vm)
    eventually(lambda: cloud.console_log(vm.mark) == "killed\n")
    go = os.open(tmp_path / "go", os.O_RDWR)
    os.write(go, b"\n")
    eventually(lambda: cloud.console_log(vm.mark) == "killed\non\n")
    os.close(go)
    assert status(cloud, vm.mark) == ("ACTIVE", None)


def test_orphans_are_reaped_while_the_vm_runs(cloud: LocalCloud, root: Path, tmp_path: Path) -> None:
    vm = request(f"(true & echo $! > {tmp_path}/pid); exec sleep 1000")
    cloud.create(vm)
    pid = pid_in(tmp_path / "pid")
    eventually(lambda: not Path(f"/proc/{pid}").exists())


BOMBS = {
    "one that runs away": "os.fork() and os._exit(0)",
    "one that escapes": "os.fork() and os._exit(0); os.setsid()",
    "one that grows": "os.fork(); time.sleep(0.3)",
}


def bomb(kind: str, pulse: Path) -> ServerRequest:
    """Deaf to SIGTERM; each fork leaves a byte in ``pulse``; the fuse bounds what a failing test does."""
    code = f"""
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pulse = os.open("{pulse}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
end = time.monotonic() + 15
while time.monotonic() < end and os.fstat(pulse).st_size < 50000:
    os.write(pulse, b".")
    {BOMBS[kind]}
"""
    return request(f"exec {sys.executable} -I -S -c '{code}'")


def beats(pulse: Path) -> bool:
    """Whether the bomb still forks: in the time of a look through all processes, it would many times."""
    before = pulse.stat().st_size
    running("nobody")
    return pulse.stat().st_size > before


@pytest.mark.parametrize("kind", BOMBS)
def test_delete_stops_a_fork_bomb(cloud: LocalCloud, tmp_path: Path, kind: str) -> None:
    vm = bomb(kind, tmp_path / "pulse")
    cloud.create(vm)
    eventually(lambda: (tmp_path / "pulse").exists() and (tmp_path / "pulse").stat().st_size > 10)
    delete(cloud, vm.mark)
    assert not beats(tmp_path / "pulse")
    assert running(vm.mark) == set()
    assert (tmp_path / "pulse").stat().st_size < 50000


@pytest.mark.parametrize("kind", ["one that runs away", "one that escapes"])
def test_a_launcher_that_gets_sigterm_leaves_no_process(
    cloud: LocalCloud, root: Path, tmp_path: Path, kind: str
) -> None:
    vm = bomb(kind, tmp_path / "pulse")
    cloud.create(vm)
    eventually(lambda: (tmp_path / "pulse").exists() and (tmp_path / "pulse").stat().st_size > 10)
    pid = int(json.loads((root / "vms" / vm.mark / "record.json").read_text())["pid"])
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: status(cloud, vm.mark) == ("SHUTOFF", f"its launcher (process {pid}) died"))
    assert not beats(tmp_path / "pulse")
    assert (tmp_path / "pulse").stat().st_size < 50000


def test_a_delete_interrupted_by_kill_9_is_continued(cloud: LocalCloud, root: Path, tmp_path: Path) -> None:
    deaf = "while :; do sleep 1000 & wait; done"
    vm = request(f"trap 'echo asked > {tmp_path}/asked' TERM; echo $$ > {tmp_path}/pid; {deaf}")
    cloud.create(vm)
    pid = pid_in(tmp_path / "pid")
    code = (
        "import sys; from pathlib import Path; from lando.cloud.local.driver import LocalCloud\n"
        "LocalCloud(Path(sys.argv[1]), term_grace=1000).delete(sys.argv[2]); print('deleting', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(root), vm.mark], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"deleting\n"
        eventually((tmp_path / "asked").exists)
        process.kill()
    assert alive(pid)
    assert cloud.get(vm.mark) is not None
    delete(cloud, vm.mark)
    assert not alive(pid)


def test_files_left_by_an_interrupted_delete_are_removed_later(cloud: LocalCloud, root: Path) -> None:
    vm = request("true")
    cloud.create(vm)
    delete(cloud, vm.mark)
    waste = root / "limbo" / "old-x" / "read-only"
    waste.mkdir(parents=True)
    (waste / "file").touch()
    waste.chmod(0o500)
    assert LocalCloud(root).servers() == []
    eventually(lambda: not list((root / "limbo").iterdir()))


def test_a_deleted_vm_is_not_started_again(cloud: LocalCloud, root: Path) -> None:
    vm = request(f"echo ran >> {root}/runs")
    cloud.create(vm)
    eventually((root / "runs").exists)
    delete(cloud, vm.mark)
    with pytest.raises(Unreachable, match="was deleted"):
        cloud.create(vm)
    assert cloud.servers() == []
    assert (root / "runs").read_text() == "ran\n"


def test_a_create_in_progress_leaves_no_vm_after_the_delete(
    cloud: LocalCloud, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = request(f"echo ran >> {root}/runs")

    def delete_meanwhile(step: str) -> None:
        if step == "local-create-built":
            LocalCloud(root).delete(vm.mark)

    monkeypatch.setattr("lando.cloud.local.driver.reach", delete_meanwhile)
    with pytest.raises(Unreachable, match="was deleted"):
        cloud.create(vm)
    assert cloud.servers() == []
    assert running(vm.mark) == set()
    assert not (root / "runs").exists()


def test_a_delete_waits_for_a_launcher_that_is_being_started(
    cloud: LocalCloud, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = request("exec sleep 1000")
    deleter = LocalCloud(root, term_grace=GRACE)
    start = subprocess.Popen

    def delete_meanwhile(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        deleter.delete(vm.mark)
        assert deleter.get(vm.mark) is not None
        return start(*arguments, **options)

    with monkeypatch.context() as patched, contextlib.suppress(Unreachable):
        patched.setattr(subprocess, "Popen", delete_meanwhile)
        cloud.create(vm)
    delete(deleter, vm.mark)
    assert running(vm.mark) == set()


def test_delete_removes_containers_or_raises(
    cloud: LocalCloud, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tmp_path / "bin" / "docker"
    engine.parent.mkdir()
    engine.write_text("#!/bin/sh\necho 'the engine is down' >&2; exit 1\n")
    engine.chmod(0o755)
    vm = request(f"mkdir containers; echo -n {CONTAINER} > containers/1.cid; echo ready")
    cloud.create(vm)
    eventually(lambda: cloud.console_log(vm.mark) == "ready\n")
    monkeypatch.setenv("PATH", str(engine.parent))

    def fails() -> bool:
        try:
            cloud.delete(vm.mark)
        except Exception as error:
            return f"containers {CONTAINER} may still be running: docker rm: the engine is down" in str(error)
        return False

    eventually(fails)
    assert cloud.get(vm.mark) is not None
    engine.write_text(f"#!/bin/sh\necho $* > {tmp_path}/called\n")
    delete(cloud, vm.mark)
    assert (tmp_path / "called").read_text() == f"rm --force {CONTAINER}\n"


SABOTAGE = {
    "pipes": "for f in lock record.json server.json console.log; do rm $f; mkfifo $f; done",
    "directories": "for f in lock record.json server.json console.log; do rm $f; mkdir -p $f/x; done",
    "links": "for f in lock record.json server.json console.log; do ln -sf ../../../secret $f; done",
    "dangling links": "for f in lock record.json server.json console.log; do ln -sf nothing $f; done",
    "links to devices": "for f in lock record.json server.json console.log; do ln -sf /dev/zero $f; done",
    "sockets": "for f in lock record.json server.json console.log; do rm $f; python3 -c 'import socket, sys; "
    "socket.socket(socket.AF_UNIX).bind(sys.argv[1])' $f; done",
    "removed": "rm lock record.json server.json console.log",
    "binary": "for f in record.json server.json; do head -c 10000 /dev/urandom > $f; done",
    "deep": "for f in record.json server.json; do printf '%0100000d' 0 | tr 0 [ > $f; done",
    "large": "for f in record.json server.json console.log; do truncate -s 1T $f; done",
    "other types": 'echo \'{"pid": "../../../secrets", "started": [], "boot_id": {}}\' > record.json; '
    'echo \'{"name": {}, "deployment": 1, "job_id": [], "attempt": "x"}\' > server.json',
    "another process": 'echo "{\\"pid\\": $PPID, \\"started\\": 1, \\"boot_id\\": \\"x\\"}" > record.json',
    "a link for the directory": 'mv "$PWD" "$PWD-away"; ln -s ../../secrets "$LANDO_VM_DIR"',
    "a file for the directory": 'mv "$PWD" "$PWD-away"; touch "$LANDO_VM_DIR"',
    "a pipe for the directory": 'mv "$PWD" "$PWD-away"; mkfifo "$LANDO_VM_DIR"',
    "containers": "mkfifo containers; mkdir spool",
}


@pytest.mark.parametrize("kind", SABOTAGE)
def test_a_vm_that_replaces_its_own_files(cloud: LocalCloud, root: Path, tmp_path: Path, kind: str) -> None:
    """It hides no other VM, nothing waits for it, it is deleted, and no file elsewhere is touched."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o640)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "stat").write_text("secret")
    other = request("exec sleep 1000")
    vm = request(f"{SABOTAGE[kind]}; echo done > {tmp_path}/done; exec sleep 1000")
    cloud.create(other)
    cloud.create(vm)
    # The launcher may see that its directory is away before the script can go on, and end it.
    eventually(lambda: (tmp_path / "done").exists() or not running(vm.mark))
    assert other.mark in [server.mark for server in cloud.servers()]
    assert status(cloud, other.mark) == ("ACTIVE", None)
    cloud.get(vm.mark)
    assert "secret" not in cloud.console_log(vm.mark)
    delete(cloud, vm.mark)
    assert running(vm.mark) == set()
    assert not os.path.lexists(root / "vms" / vm.mark)
    assert status(cloud, other.mark) == ("ACTIVE", None)
    assert (tmp_path / "secret").read_text() == "secret"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o640
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["stat"]
    assert list((root / "limbo").iterdir()) == []


def test_a_vm_whose_directory_was_removed_by_hand_stops(
    cloud: LocalCloud, root: Path, tmp_path: Path
) -> None:
    vm = request(f"setsid bash -c '(echo $BASHPID > {tmp_path}/pid; exec sleep 1000) &'; exec sleep 1000")
    cloud.create(vm)
    pid = pid_in(tmp_path / "pid")
    shutil.rmtree(root)
    eventually(lambda: not running(vm.mark))
    assert not alive(pid)
