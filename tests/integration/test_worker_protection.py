"""On a VM, workflows cannot read what the worker may do: with real packets, devices and files."""

from __future__ import annotations

import codecs
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lando.app.user_data import WorkerSettings, installed_command, render
from lando.config.worker import WorkerConfig
from lando.messages import decode
from lando.states.job import JobSpec
from lando.workqueue.embedded import EmbeddedQueue
from lando_worker.metadata_service import IPV4, IPV6
from tests.support import vm_namespaces
from tests.support.vm_namespaces import ACCOUNT, SUBORDINATE, UID, Namespaces

JOB = "00000000-0000-4000-8000-000000000001"
PROGRAMS = ("nft", "iptables", "ip")
TIMEOUT = 60.0
LINK_LOCAL = f"{IPV6}%cloud"
WHO = (0, UID, SUBORDINATE, None)

# What a hostile workflow tries, as the account that it runs as. What it has got is printed in rot13, since
# the worker masks its secrets in the log.
ATTEMPTS = f"""#!/bin/bash
exec 8>&1 > >(tr A-Za-z N-ZA-Mn-za-m >&2) 2>/dev/null
get='exec 3<>/dev/tcp/{IPV4}/80 && printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3 && cat <&3'
timeout 5 bash -c "$get" | sed 's/^/SERVICE /'
for path in /dev/vda /dev/sg0 /proc/$PPID/mem; do (exec 3<"$path") && echo "OPENED $path"; done
cd ../../..
for path in /var/lib/cloud/instance/* /var/log/cloud-init* /run/cloud-init/* *.json *.yml; do
    sed "s!^!FILE $path !" "$path"
done
ls spool/* && echo "FILES of the spool"
cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n' | grep -E '[u]ser-data-of|[t]he-token-of' |
    sed 's/^/PROCESS /'
echo "END $(id -un)"
exec >&- && wait
echo '{{}}' >&8
"""

ENGINE = """
import os, socket, time
engine = socket.socket(socket.AF_UNIX)
engine.bind("/run/docker.sock")
engine.listen()
os.chmod("/run/docker.sock", 0o666)
print("ready", flush=True)
time.sleep(3600)
"""


class Vm:
    """The namespaces, and a job that runs in there.

    Args:
        directory: an empty one that every account can enter.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "machine").mkdir()
        self.secret, self.token = (f"{what}-{uuid.uuid4()}" for what in ("user-data-of", "the-token-of"))
        self.namespaces = Namespaces(directory / "machine", self.secret)
        self._runs = 0
        (directory / "toy").mkdir()
        (directory / "toy" / "w.cwl").write_text("{}")
        self.runner = directory / "runner.sh"
        self.runner.write_text(ATTEMPTS)
        self.runner.chmod(0o755)

    def run(self, **worker: Any) -> tuple[dict[str, Any], str]:
        """Run the start-up script to its end: the body of the last report, and the log."""
        self._runs += 1
        database = self.directory / f"lando-{self._runs}.db"
        settings = {"user": ACCOUNT, "cwl_base_command": (str(self.runner),), **worker}
        script = render(
            JobSpec(str(self.directory / "toy"), ".", {"password": self.secret}, "w.cwl"),
            job_id=JOB,
            attempt=self._runs,
            token=self.token,
            server_name="s",
            settings=WorkerSettings(
                WorkerConfig(installed_command(), **settings),
                {"kind": "embedded", "database": str(database)},
            ),
        )
        queue = EmbeddedQueue(database)
        command = ("env", f"LANDO_VM_DIR={self.directory}/vm", "bash")
        ended = subprocess.run(
            self.namespaces.entering(self.namespaces.vm, *command),
            input=script,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        heard = [decode(delivery.raw, delivery.origin) for delivery in queue.receive(1000, 0.0)]
        queue.close()
        assert heard and heard[-1].type == "workflow_finished", ended
        return dict(heard[-1].body), "".join(message.body.get("log") or "" for message in heard)


@pytest.fixture
def vm() -> Iterator[Vm]:
    if reason := vm_namespaces.missing():
        pytest.skip(f"namespaces: {reason}")
    # Not below pytest's directory, which no other account can enter.
    with tempfile.TemporaryDirectory(prefix="lando-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        here = Vm(directory)
        try:
            yield here
        finally:
            here.namespaces.close()


def who_reaches(vm: Vm, address: str = IPV4) -> list[int | None]:
    """Which uids in the VM, and whether its container (None), get user data from the metadata service."""
    return vm.namespaces.who_gets_user_data(address, WHO)


def got(vm: Vm, log: str) -> list[str]:
    """What a hostile workflow has got."""
    printed = codecs.decode(log.partition("running w.cwl")[2], "rot13")
    words = ("SERVICE", "OPENED", "FILE", "END")
    return [
        line
        for line in printed.splitlines()
        if line.startswith(words) or (line.startswith("PROCESS") and (vm.token in line or vm.secret in line))
    ]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_hostile_workflow_gets_nothing_and_root_does(vm: Vm, program: str) -> None:
    assert who_reaches(vm) == [0, UID, SUBORDINATE, None]
    assert who_reaches(vm, LINK_LOCAL) == [0, UID, SUBORDINATE]
    vm.namespaces.hide(PROGRAMS[: PROGRAMS.index(program)])
    result, log = vm.run()
    assert f"only root can reach the metadata service ({program})" in log, (result, log)
    assert got(vm, log) == [f"END {ACCOUNT}"]
    assert result["outcome"] == "succeeded"
    assert who_reaches(vm) == who_reaches(vm, LINK_LOCAL) == [0]


def test_without_protection_it_gets_everything(vm: Vm) -> None:
    result, log = vm.run(protect=False)
    assert result["outcome"] == "succeeded"
    assert {line.split()[0] for line in got(vm, log)} == {"SERVICE", "OPENED", "FILE", "END"}, log
    assert who_reaches(vm) == [0, UID, SUBORDINATE, None]
    assert who_reaches(vm, LINK_LOCAL) == [0, UID, SUBORDINATE]


def test_where_no_program_can_do_it_nothing_of_the_job_runs(vm: Vm) -> None:
    vm.namespaces.hide(PROGRAMS)
    result, log = vm.run()
    assert (result["outcome"], result["final"]) == ("system_failed", True)
    assert (
        "cannot be refused to workflows (nft: not installed; iptables: not installed; ip: not installed)"
        in (result["reason"])
    )
    assert "worker.protect: false" in result["reason"]
    assert "cloning" not in log


def test_a_program_that_sets_rules_without_effect_is_not_believed(vm: Vm) -> None:
    vm.namespaces.do("mount --bind /bin/true $(command -v nft)")
    _, log = vm.run()
    assert "(iptables)" in log
    assert who_reaches(vm) == [0]


def test_a_firewall_that_is_locked_for_a_moment_is_tried_again(vm: Vm) -> None:
    wrapper = vm.directory / "nft"
    here = vm.directory
    wrapper.write_text(f'#!/bin/sh\n[ ! -e {here}/once ] || exec {here}/real "$@"\n: >{here}/once\nexit 1\n')
    wrapper.chmod(0o755)
    vm.namespaces.do(f"nft=$(command -v nft); cp $nft {here}/real; mount --bind {wrapper} $nft")
    _, log = vm.run()
    assert "(nft)" in log


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_second_start_sets_the_same_rules(vm: Vm, program: str) -> None:
    vm.namespaces.hide(PROGRAMS[: PROGRAMS.index(program)])
    vm.run()
    rules = vm.namespaces.rules()
    vm.run()
    assert vm.namespaces.rules() == rules
    assert who_reaches(vm) == [0]


def test_a_config_drive_that_is_mounted_is_unmounted(vm: Vm) -> None:
    """A tmpfs in its place, since not every kernel has iso9660."""
    vm.namespaces.do(
        "cd /run; mkdir 'a drive' other; mount -t tmpfs tmpfs 'a drive'; mount -t tmpfs tmpfs other;"
        " mkdir -p 'a drive/openstack/latest' other/data"
    )
    close = "root_only.CONFIG_DRIVE_TYPES = (b'tmpfs',); root_only.close([])"
    vm.namespaces.do(f'{sys.executable} -c "from lando_worker import root_only; {close}"')
    vm.namespaces.do("cd /run; [ -z \"$(ls 'a drive')\" ] && [ -d other/data ]")


def test_a_group_that_makes_root_is_told(vm: Vm) -> None:
    vm.namespaces.do(f"echo 'docker:x:999:{ACCOUNT}' >>/etc/group")
    _, log = vm.run()
    assert "warning: the account 'lando' can become root through the group 'docker'" in log


def test_an_engine_that_runs_as_root_is_told(vm: Vm) -> None:
    _, log = vm.run()
    assert "warning" not in log
    vm.namespaces.start(sys.executable, "-c", ENGINE)
    _, log = vm.run()
    assert "warning: the account 'lando' can become root through /run/docker.sock" in log


def test_workflows_that_run_as_root_are_told_of(vm: Vm) -> None:
    vm.namespaces.do("sed s/:61234:61234:/:0:0:/ /etc/passwd >/run/new; cat /run/new >/etc/passwd")
    result, log = vm.run()
    assert result["outcome"] == "succeeded"
    assert "warning: the workflow runs as root" in log
    assert who_reaches(vm) == [0, UID, SUBORDINATE, None]
