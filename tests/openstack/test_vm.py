"""A job on a real VM: the worker image, booted through Nova, with a configuration in the original's keys."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.openstack.cloud import LabCloud
from tests.openstack.lab import contents
from tests.openstack.lab.place import HOME
from tests.support.local_site import wait_for
from tests.support.rabbitmq_server import VirtualHost
from tests.support.rabbitmq_site import BrokerSite
from tests.vm.offers import Offers

EXAMPLE = Path(__file__).parents[2] / "examples" / "toyworkflow.yml"
PATIENCE = 1500.0
"""Seconds; an emulated processor takes two or three minutes to boot, and the other one is the cloud's."""
CONFIG = """
deployment: vm-test
timeouts:
  boot: 1200
  heartbeat: 10
  observe: 3
"""

pytestmark = pytest.mark.timeout(2 * PATIENCE)


@pytest.fixture
def offers(tmp_path: Path, lab: LabCloud) -> Iterator[Offers]:
    (tmp_path / "offered").mkdir()
    here = Offers(tmp_path / "offered", lab.worker_host, lab.worker_host)
    yield here
    here.close()


@pytest.fixture
def site(tmp_path: Path, lab: LabCloud, virtual_host: VirtualHost) -> Iterator[BrokerSite]:
    """A site whose VMs get a floating IP and find the broker under another address than the daemon."""
    contents.add_image(contents.IMAGE, Path(os.environ["LANDO_TEST_WORKER_IMAGE"]))
    vm_settings = lab.vm_settings | {"floating_ip_pool_name": lab.floating_ip_pool_name}
    cloud = yaml.safe_dump({"vm_settings": vm_settings, "cloud_settings": lab.cloud_settings})
    root = tmp_path / "site"
    here = BrokerSite(root, virtual_host, config=CONFIG, cloud=cloud, worker_host=lab.worker_host)
    yield here
    here.close()


def test_the_toy_workflow_runs_in_a_vm_that_is_gone_afterwards(
    lab: LabCloud,
    site: BrokerSite,
    offers: Offers,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    job_file = tmp_path / "job.yml"
    example = re.sub("git_clone: .*", f"git_clone: {offers.repository()}", EXAMPLE.read_text())
    job_file.write_text(re.sub("cd: .*", "cd: .", example))
    site.start_daemon()
    job = site.command(site.config.name, "start_worker", job_file, program="lando-client").stdout.strip()

    began = time.monotonic()
    phases = []

    def seen(what: str, is_so: Callable[[], object]) -> None:
        def is_so_or_over() -> object:
            return is_so() or site.job(job)["state"] in ("done", "failed")

        wait_for(is_so_or_over, what, PATIENCE)
        phases.append(f"{what} {time.monotonic() - began:.0f} s")

    seen("server created", lambda: site.job(job)["vm"]["id"])
    seen("up", lambda: site.job(job)["vm"]["ip"])
    seen("worker's first report", lambda: site.job(job)["state"] not in ("queued", "booting"))
    seen("workflow ended", lambda: site.job(job)["state"] not in ("queued", "booting", "running"))
    seen("server gone", lambda: False)
    told = f"a VM of the worker image, emulated: {', '.join(phases)}"
    print(told)
    record_property("seen", told)

    console = site.command("logs", "--console", job).stdout
    ended = site.job(job)
    assert ended["state"] == "done", (ended, console[-5000:], site.daemon_log())
    assert (ended["attempt"], ended["exit_code"]) == (1, 0)
    assert site.path(job) == ["queued", "booting", "running", "terminating", "done"]
    lab.assert_clean()
    assert "vm-test: 0 VMs, 0 floating IPs" in site.command("servers").stdout


def test_a_hostile_workflow_cannot_read_user_data_and_root_can(
    lab: LabCloud,
    site: BrokerSite,
    offers: Offers,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    job_file = tmp_path / "job.yml"
    job = {"git_clone": offers.repository(), "cd": ".", "input": {}, "run_cwl": "hostile.cwl#main"}
    job_file.write_text(yaml.safe_dump(job))
    site.start_daemon()
    job_id = site.command("submit", job_file).stdout.strip()
    wait_for(lambda: site.job(job_id)["state"] not in ("queued", "booting"), "a running workflow", PATIENCE)
    address = site.job(job_id)["vm"]["ip"]
    asks = "curl -s -m 20 http://169.254.169.254/openstack/latest/user_data"
    told = {who: inside(address, f"sudo -u {who} {asks} | head -n 1") for who in ("root", "lando", "debian")}
    (tmp_path / "offered" / "root-has-tried").touch()
    wait_for(lambda: site.job(job_id)["state"] in ("done", "failed"), "its end", PATIENCE)

    log = site.command("logs", job_id).stdout
    assert site.job(job_id)["state"] == "done", (log, site.daemon_log())
    outputs = json.loads(site.command("outputs", "--json", job_id).stdout)
    record_property("seen", f"user data in a VM: {told}; the workflow: {outputs}")
    assert told == {"root": "#!/bin/bash", "lando": "", "debian": ""}, log
    assert outputs == {"directly": "end\n", "in_a_container": "end\n"}
    assert "protection: only root can reach the metadata service (nft)" in log
    assert "protection: warning" not in log


def inside(address: str, command: str) -> str:
    """The output of a command in a VM, as its administrator."""
    options = (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "ConnectTimeout=60",
        "LogLevel=ERROR",
    )
    ssh = ["ssh", "-i", str(HOME / "lando.pem"), *(f"-o{option}" for option in options), f"debian@{address}"]
    done = subprocess.run([*ssh, command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 255, done.stderr
    return done.stdout.strip()


def test_check_boots_a_vm_and_leaves_nothing(
    lab: LabCloud, site: BrokerSite, record_property: Callable[[str, object], None]
) -> None:
    site.start_daemon()
    check = site.start("check", "--boot")
    out, err = check.communicate(timeout=PATIENCE)
    record_property("seen", f"lando-fsm check --boot, on a VM of the worker image, emulated:\n{out}")
    assert check.returncode == 0, (out, err, site.daemon_log())
    assert re.search(r"^nothing left +ok ", out, re.MULTILINE)
    assert re.search(r"^protection +ok +only root can reach the metadata service", out, re.MULTILINE)
    lab.assert_clean()
