"""The local cloud's parts, without starting a VM."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lando.cloud.interface import CloudError, NoCapacity, QuotaExceeded, Refused, ServerRequest, Unreachable
from lando.cloud.local import containers, launcher, processes
from lando.cloud.local.driver import LocalCloud
from lando.cloud.local.processes import Process

REQUEST = ServerRequest(
    name="vm", mark="a-mark", deployment="d", job_id="j", attempt=1, user_data=b"#!/bin/sh\n"
)


def process(pid: int, parent: int, session: int, group: int | None = None) -> Process:
    return Process(pid, started=pid * 10, parent=parent, group=group or session, session=session)


def closure(seeds: set[int], *table: Process) -> processes.VmProcesses:
    by_pid = {entry.pid: entry for entry in table}
    return processes._with_descendants({by_pid[pid] for pid in seeds}, by_pid)


def pids(found: processes.VmProcesses) -> set[int]:
    return {entry.pid for entry in found.processes}


def test_descendants_and_their_sessions_belong_to_the_vm() -> None:
    found = closure(
        {10},
        process(10, parent=1, session=10),
        process(11, parent=10, session=11),
        process(12, parent=1, session=11),
        process(13, parent=12, session=13),
        process(20, parent=1, session=20),
    )
    assert pids(found) == {10, 11, 12, 13}
    assert found.groups == {10, 11, 13}


def test_a_session_whose_leader_is_dead_is_evidence_of_nothing() -> None:
    assert pids(closure({11}, process(11, parent=1, session=9), process(12, parent=1, session=9))) == {11}


def test_a_persons_terminal_with_our_variable_set_is_spared() -> None:
    shell = process(5, parent=1, session=5)
    found = closure({11}, shell, process(11, parent=5, session=5), process(12, parent=5, session=5))
    assert pids(found) == {11}
    assert not found.groups


def test_session_0_of_another_container_is_nobodys() -> None:
    assert pids(closure({11}, process(11, parent=0, session=0), process(12, parent=0, session=0))) == {11}


def test_a_process_is_not_looked_up_when_it_is_a_zombie() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.look_up(child.pid) is None
    child.wait()
    assert processes.look_up(child.pid) is None


def test_a_signal_does_not_reach_a_stranger_with_the_same_pid() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        found = processes.look_up(child.pid)
        assert found is not None
        stale = Process(found.pid, found.started - 1, found.parent, found.group, found.session)
        processes.send(stale, signal.SIGTERM)
        processes.send(found, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL


def test_this_process_and_its_ancestors_are_never_found() -> None:
    mark = f"lineage-{os.getpid()}"
    code = (
        "import os; from lando.cloud.local import processes;"
        f"print([p.pid for p in processes.find({mark!r}, processes.look_up(os.getpid())).processes])"
    )
    environment = {**os.environ, processes.MARK_VARIABLE: mark}
    child = ["sh", "-c", '"$@"; :', "sh", sys.executable, "-c", code]
    assert subprocess.run(child, env=environment, capture_output=True, check=True).stdout == b"[]\n"


@pytest.mark.parametrize(
    ("first", "command"),
    [
        ("#!/bin/bash", ["/bin/bash"]),
        ("#! /usr/bin/env  -S python3 -u ", ["/usr/bin/env", "-S python3 -u"]),
        ("echo no interpreter", ["/bin/sh"]),
        ("#!", ["/bin/sh"]),
    ],
)
def test_interpreter_is_split_as_the_kernel_does(tmp_path: Path, first: str, command: list[str]) -> None:
    script = tmp_path / "script"
    script.write_text(f"{first}\nexit\n")
    assert launcher.interpreter(str(script)) == [*command, str(script)]


def fake_engine(directory: Path, name: str, script: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{script}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def id_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    ids = tmp_path / "containers"
    ids.mkdir()
    for number in (1, 2):
        (ids / f"{number}.cid").write_text(f"cid{number}")
    (ids / "3.cid").touch()
    return ids


def test_containers_are_removed_by_the_engine_on_path(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "podman", f'echo "$@" > {tmp_path}/called')
    containers.remove(id_files)
    assert (tmp_path / "called").read_text() == "rm --force cid1 cid2\n"


def test_containers_that_are_gone_already_are_no_error(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "docker", 'echo "Error: No such container: cid1" >&2; exit 1')
    containers.remove(id_files)


def test_one_engine_that_answers_is_enough(tmp_path: Path, id_files: Path) -> None:
    fake_engine(tmp_path / "bin", "docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')
    with pytest.raises(containers.NotStopped, match=r"cid1, cid2 may still.*Cannot connect"):
        containers.remove(id_files)
    fake_engine(tmp_path / "bin", "podman", "exit 0")
    containers.remove(id_files)


def test_containers_without_any_engine_are_an_error(id_files: Path) -> None:
    with pytest.raises(containers.NotStopped, match="none of docker, podman is on PATH"):
        containers.remove(id_files)


def test_no_containers_need_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    containers.remove(tmp_path / "absent")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, NoCapacity),
        (errno.EDQUOT, NoCapacity),
        (errno.EROFS, Refused),
        (errno.EACCES, Refused),
        (errno.EIO, Unreachable),
    ],
)
@pytest.mark.parametrize("step", ["write", "rename", "fork"])
def test_a_failed_create_is_definite_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[CloudError], step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "a-file")

    cloud = LocalCloud(tmp_path / "cloud")
    with monkeypatch.context() as broken:
        if step == "write":
            broken.setattr("json.dumps", fail)
        elif step == "rename":
            broken.setattr(Path, "rename", fail)
        else:
            broken.setattr(subprocess, "Popen", fail)
        with pytest.raises(kind) as caught:
            cloud.create(REQUEST)
    assert str(tmp_path / "cloud") in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert not isinstance(caught.value, QuotaExceeded)
    if isinstance(caught.value, Refused):
        assert caught.value.origin == "site"
    assert cloud.servers() == []
    assert list((tmp_path / "cloud" / "limbo").iterdir()) == []


def test_nothing_exists_before_the_first_create(tmp_path: Path) -> None:
    cloud = LocalCloud(tmp_path / "cloud")
    assert cloud.servers() == []
    assert cloud.get("absent") is None
    assert cloud.console_log("absent") == ""
    assert cloud.quota().servers.left is None
    assert cloud.delete("absent")
    assert not (tmp_path / "cloud").exists()


@pytest.mark.parametrize("mark", ["..", ".", "", "a/b", "../vms", "a\0b", "a\nb", "x" * 200])
def test_what_cannot_be_a_mark_names_no_directory(tmp_path: Path, mark: str) -> None:
    cloud = LocalCloud(tmp_path / "cloud")
    (tmp_path / "cloud" / "vms").mkdir(parents=True)
    cloud.delete(mark)
    assert cloud.get(mark) is None
    assert [path.name for path in (tmp_path / "cloud").iterdir()] == ["vms"]


def test_a_vm_without_readable_marks_is_still_listed(tmp_path: Path) -> None:
    (tmp_path / "vms" / "half").mkdir(parents=True)
    (tmp_path / "vms" / "half" / "server.json").write_text("{")
    (tmp_path / "vms" / "stray-file").touch()
    cloud = LocalCloud(tmp_path)
    (server,) = cloud.servers()
    assert (server.id, server.mark, server.deployment, server.status) == ("half", "half", None, "ERROR")
    cloud.delete("half")
    assert cloud.servers() == []


CRASH = (
    "import sys; from lando.failpoints import reach\n"
    "for name in ('a', 'b', 'a'): print(name, flush=True); reach(name)\n"
)


@pytest.mark.parametrize(
    ("at", "seen", "status"),
    [
        (None, "a b a", 0),
        ("", "a b a", 0),
        ("c", "a b a", 0),
        ("b", "a b", -signal.SIGKILL),
        ("a:2", "a b a", -signal.SIGKILL),
        ("a", "a", -signal.SIGKILL),
    ],
)
def test_crash_points(at: str | None, seen: str, status: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LANDO_CRASH_AT"}
    if at is not None:
        environment["LANDO_CRASH_AT"] = at
    done = subprocess.run(
        [sys.executable, "-c", CRASH], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.stdout.split() == seen.split()
    assert done.returncode == status
