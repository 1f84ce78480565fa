"""What people see of the cloud: ``servers``, ``check``, and what ``status`` says when the cloud refuses.

Against the fake cloud, with RabbitMQ: its servers run their user data as processes of this machine.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from lando.app.app import App
from lando.cloud.interface import Server, ServerRequest
from lando.config.site_config import load
from lando.states.job import Job
from lando.store.store import Store
from tests.conftest import Commands
from tests.support.fake_openstack import Fault, OpenStackFake
from tests.support.fake_openstack.certificate import self_signed
from tests.support.fake_openstack.cloud import Image
from tests.support.local_site import Gate, LocalSite, wait_for, workflow_on_vms
from tests.support.rabbitmq_server import VirtualHost

ROOT = Path(__file__).parents[2]
TIMES = {
    "boot": 60,
    "silence": 60,
    "heartbeat": 1,
    "retry_first": 0.05,
    "retry_longest": 0.2,
    "observe": 0.3,
    "grace": 0.6,
    "hold": 1,
    "settle": 1,
}


class CloudSite(LocalSite):
    """A site on the fake, whose settings can be changed before a command or daemon reads them."""

    def __init__(self, root: Path, fake: OpenStackFake, here: VirtualHost) -> None:
        self.fake = fake
        self.settings: dict[str, Any] = {
            "deployment": "tests",
            "cloud_settings": fake.cloud_settings,
            "vm_settings": {
                "worker_image_name": "lando-worker",
                "default_flavor_name": "m1.tiny",
                "network_name": "selfservice",
                "ssh_key_name": "lando",
                "floating_ip_pool_name": "ext-net",
            },
            "worker": {
                "command": str(ROOT / "lando_worker.sh"),
                "user": getpass.getuser(),
                "protect": False,
                "cwl_base_command": ["bash", "-c", 'bash script.sh >&2 && echo "{}"'],
            },
            "timeouts": TIMES,
            **yaml.safe_load(here.landoconfig()),
        }
        super().__init__(root)
        self.configure()

    def configure(self, **sections: dict[str, Any]) -> None:
        """Write the settings, with changes that stay."""
        for section, changes in sections.items():
            self.settings[section] = {**self.settings[section], **changes}
        self.config.write_text(yaml.safe_dump(self.settings))
        self.config.chmod(0o600)

    @property
    def site(self) -> App:
        """For what no command does."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LANDO_STATE_DIR", str(self.state))
            return App(load(self.config))

    def create(self, name: str, **marks: Any) -> Server:
        """A server that no daemon ordered."""
        request = {"mark": uuid.uuid4().hex, "deployment": "tests", "job_id": str(uuid.uuid4()), **marks}
        script = b"#!/bin/bash\nexec sleep 600\n"
        return self.site.openstack.create(ServerRequest(name, attempt=1, user_data=script, **request))

    def orphan(self, name: str) -> Server:
        """A server of a job that has ended."""
        self.make_database()
        job = Job(str(uuid.uuid4()), state="done", attempt=1)
        with contextlib.closing(Store(self.site.config.database_url)) as store, store.transaction() as writes:
            writes.insert_job(job, {"git_clone": "x", "cd": ".", "input": {}, "run_cwl": "x"}, None)
        return self.create(name, job_id=job.id)

    def servers(self) -> dict[str, Any]:
        """What ``servers --json`` prints."""
        found: dict[str, Any] = json.loads(self.command("servers", "--json").stdout)
        return found

    def make_database(self) -> None:
        """As a daemon that ended leaves it."""
        self.site.prepare_state_dir()
        Store(self.site.config.database_url).close()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[OpenStackFake]:
    with OpenStackFake(machines=tmp_path / "machines") as here:
        yield here


@pytest.fixture
def cloud(tmp_path: Path, fake: OpenStackFake, least_privilege: VirtualHost) -> Iterator[CloudSite]:
    here = CloudSite(tmp_path, fake, least_privilege)
    yield here
    here.close()


def said(result: subprocess.CompletedProcess[str]) -> str:
    return result.stdout + result.stderr


# servers


def test_each_server_is_told_with_what_it_belongs_to(cloud: CloudSite, gate: Gate) -> None:
    cloud.configure(timeouts={"grace": 60})
    cloud.start_daemon()
    job = cloud.submit(workflow_on_vms(cloud.root, gate.script))
    gate.wait_for_arrivals()
    cloud.wait(job, "running")
    leaked = cloud.orphan("leaked")
    twin = cloud.create("twin", job_id=job)
    cloud.create("lando-of-others", deployment="others")
    pool = cloud.site.openstack.floating_ips
    address = pool.allocate("0" * 32, "tests")
    wait_for(lambda: len(cloud.servers()["floating_ips"]) == 2, "the floating IP of the job")

    found = cloud.servers()
    by_id = {each["id"]: each for each in (*found["servers"], *found["floating_ips"])}
    told = {id_: (each["belongs_to"], each["leaked"]) for id_, each in by_id.items()}
    (own,) = (each for each in found["servers"] if each["id"] not in (leaked.id, twin.id))
    assert told[leaked.id] == ("nothing", True)
    assert told[twin.id] == ("twin", True)
    assert told[address.id] == ("nothing", True)
    assert (own["belongs_to"], own["job"], own["leaked"], own["status"]) == ("job", job, False, "ACTIVE")
    assert sorted(each["status"] for each in found["floating_ips"]) == ["ATTACHED", "UNATTACHED"]
    assert found["others"] == {"servers": 1, "floating_ips": 0}
    assert found["quota"]["servers"] == {"used": 4, "limit": 10, "left": 6}
    assert found["deployment"] == "tests"
    assert found["swept"] == {"servers": 0, "floating_ips": 0}

    text = cloud.command("servers").stdout
    assert re.search(rf"{own['id']} +ACTIVE +172\S+ +{job[:8]} running", text)
    assert "orphaned: no job owns it" in text
    assert f"orphaned: a duplicate of job {job[:8]}'s VM" in text
    assert "orphaned: 3; the daemon deletes what is still orphaned after the grace period" in text
    assert "others in the project: 1 VM, 0 floating IPs" in text
    assert "quota: 6 of 10 servers left" in text
    assert "lando-of-others" not in text

    cloud.fake.settings.delete_seconds = 60.0
    gate.let_through()
    cloud.wait(job, "terminating")
    (own,) = (each for each in cloud.servers()["servers"] if each["id"] == own["id"])
    assert own["belongs_to"] == "deletion"
    assert f"being deleted (job {job[:8]})" in cloud.command("servers").stdout


def test_a_create_whose_answer_is_lost_is_no_leak(cloud: CloudSite) -> None:
    cloud.configure(timeouts={"settle": 60})
    cloud.fake.faults.add(Fault("POST compute /servers", work="once", ending="close", surface_after=3))
    cloud.start_daemon()
    job = cloud.submit(workflow_on_vms(cloud.root, "sleep 60"))
    found = wait_for(lambda: cloud.servers()["servers"], "the server to surface")
    assert [(each["job"], each["belongs_to"], each["leaked"]) for each in found] in (
        [(job, "unresolved_create", False)],
        [(job, "job", False)],  # its worker was faster than this test
    )


def test_where_there_is_no_database_nothing_is_said_to_be_leaked(cloud: CloudSite) -> None:
    cloud.create("perhaps-anothers")
    (found,) = cloud.servers()["servers"]
    assert (found["belongs_to"], found["leaked"]) == ("unknown", False)
    assert "unknown: there is no database here" in cloud.command("servers").stdout
    for option in ("--sweep", "--dry-run"):
        refused = cloud.command("servers", option, check=False)
        assert refused.returncode == 1
        assert "no database at" in refused.stderr
    assert len(cloud.fake.servers) == 1
    assert not cloud.state.exists()


def test_without_a_mark_nothing_is_ours(cloud: CloudSite) -> None:
    cloud.create("marked-by-others")
    del cloud.settings["deployment"]
    cloud.configure()
    cloud.make_database()
    found = cloud.servers()
    assert (found["deployment"], found["servers"]) == (None, [])
    assert found["others"]["servers"] == 1
    assert "nothing is orphaned" in cloud.command("servers", "--sweep").stderr
    with Store(cloud.site.config.database_url).reading() as queries:
        assert queries.fact("deployment") is None, "looking must not make a mark"


def test_sweep_deletes_what_is_leaked_and_nothing_else(cloud: CloudSite) -> None:
    leaked, other = cloud.orphan("leaked"), cloud.create("of-others", deployment="others")
    address = cloud.site.openstack.floating_ips.allocate("0" * 32, "tests")

    dry = cloud.command("servers", "--dry-run")
    assert f"server leaked ({leaked.id}): orphaned: no job owns it" in dry.stdout
    assert f"floating IP {address.address}" in dry.stdout
    assert "nothing was deleted" in dry.stderr
    assert len(cloud.fake.servers) == 2
    assert len(cloud.fake.cloud.floating_ips) == 1

    swept = cloud.command("servers", "--sweep")
    assert "looking again in 0.6 s" in swept.stderr
    assert f"server leaked ({leaked.id}): deleted" in swept.stdout
    assert f"floating IP {address.address} ({address.id}): deleted" in swept.stdout
    assert [server.id for server in cloud.fake.servers] == [other.id]
    assert cloud.fake.cloud.floating_ips == {}
    assert cloud.servers()["swept"] == {"servers": 1, "floating_ips": 1}
    assert "orphans deleted so far: 1 VM, 1 floating IP" in cloud.command("servers").stdout


def test_what_cannot_be_deleted_fails_the_sweep(cloud: CloudSite, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.orphan("locked")
    cloud.fake.faults.add(Fault("DELETE compute /servers/*", status=409, message="Instance is locked."))
    sweeping = cloud.start("servers", "--sweep")
    assert sweeping.stderr is not None
    wait_for(lambda: cloud.fake.calls.count("DELETE compute /servers/*") > 1, "two tries")
    sweeping.send_signal(signal.SIGINT)
    assert sweeping.wait() == 130
    assert len(cloud.fake.servers) == 1


def test_the_daemon_counts_what_it_swept(cloud: CloudSite) -> None:
    cloud.start_daemon()
    cloud.orphan("leaked")
    wait_for(lambda: cloud.servers()["swept"]["servers"] == 1, "the daemon to sweep")
    assert "server leaked" in cloud.daemon_log()


def test_servers_of_the_local_cloud(quick: LocalSite, gate: Gate) -> None:
    assert "never created a VM" in quick.command("servers").stdout
    assert not quick.state.exists()
    quick.start_daemon()
    job = quick.submit(workflow_on_vms(quick.root, gate.script))
    gate.wait_for_arrivals()
    quick.wait(job, "running")
    found = json.loads(quick.command("servers", "--json").stdout)
    assert [(each["job"], each["belongs_to"]) for each in found["servers"]] == [(job, "job")]
    assert found["quota"] is None
    gate.let_through()
    quick.wait_all_ended([job])


def test_json_and_sweep_exclude_each_other(command: Commands) -> None:
    assert command("servers", "--json", "--sweep").code == 2


def test_a_cloud_that_cannot_be_asked_is_a_sentence(cloud: CloudSite) -> None:
    cloud.fake.stop("compute")
    failed = cloud.command("servers", check=False)
    assert failed.returncode == 1
    assert "listing servers: " in failed.stderr


# check


def lines(text: str) -> dict[str, tuple[str, str]]:
    """What ``check`` printed: the verdict and the words, by what was looked at."""
    found = re.findall(r"^(\S.{15}) (ok|warning|wrong) +(.*)$", text, re.MULTILINE)
    return {what.strip(): (verdict, words) for what, verdict, words in found}


def test_check_has_a_line_for_each_thing_of_the_cloud(cloud: CloudSite) -> None:
    cloud.configure(vm_settings={"security_groups": ["default"], "availability_zone": "nova"})
    found = lines(cloud.command("check").stdout)
    wanted = {
        "authentication": "user lando, project lando",
        "clock": "agrees with this machine",
        "microversion": "2.69",
        "flavor": "m1.tiny: 1 core",
        "image": "lando-worker",
        "network": "selfservice",
        "key pair": "lando",
        "external network": "ext-net",
        "security groups": "default",
        "zone": "nova",
        "quota": "10 of 10 servers left",
        "worker": "in the image",
    }
    for what, words in wanted.items():
        verdict, told = found[what]
        assert verdict == "ok", (what, told)
        assert words in told
    assert found["worker_host"][0] == "warning"
    assert not {"git", "containers"} & found.keys(), "those of this machine do not matter"


def test_workflows_that_run_as_root_are_warned_of(cloud: CloudSite) -> None:
    cloud.configure(worker={"user": "root", "protect": True})
    verdict, told = lines(cloud.command("check").stdout)["worker"]
    assert verdict == "warning"
    assert "can read the user data" in told and "worker.protect: false" in told
    cloud.start_daemon()
    wait_for(lambda: "can read the user data" in cloud.daemon_log(), "the warning")


def test_check_names_what_is_wrong(cloud: CloudSite) -> None:
    cloud.configure(
        vm_settings={
            "default_flavor_name": "m1.tny",
            "security_groups": ["nobodys"],
            "availability_zone": "mars",
            "ssh_key_name": "nobodys",
        }
    )
    cloud.fake.settings.clock_skew = 600
    checked = cloud.command("check", "--boot", check=False)
    found = lines(checked.stdout)
    assert checked.returncode == 1
    assert "vm_settings.default_flavor_name: " in found["flavor"][1]
    assert "did you mean m1.tiny?" in found["flavor"][1]
    assert "vm_settings.security_groups: " in found["security groups"][1]
    assert "vm_settings.availability_zone: " in found["zone"][1]
    assert "vm_settings.ssh_key_name: " in found["key pair"][1]
    assert found["image"][0] == "ok", "it is not the image that is wrong"
    assert found["quota"][0] == "ok"
    assert found["clock"][0] == "warning"
    assert found["boot"] == ("warning", "skipped, because another check failed")
    assert cloud.fake.calls.count("POST compute /servers") == 0


def test_a_failed_login_is_told_once(cloud: CloudSite) -> None:
    cloud.configure(cloud_settings={"password": "wrong"})
    checked = cloud.command("check", check=False)
    assert checked.returncode == 1
    assert checked.stdout.count("check user, password, project and domains in cloud_settings") == 1
    assert lines(checked.stdout)["skipped"][0] == "warning"


def test_a_full_quota_is_a_warning(cloud: CloudSite) -> None:
    cloud.fake.quotas["instances"] = 1
    cloud.create("of-others", deployment="others")
    checked = cloud.command("check")
    assert lines(checked.stdout)["quota"][0] == "warning"


def test_the_daemon_tells_at_its_start_what_the_cloud_lacks(cloud: CloudSite) -> None:
    cloud.configure(vm_settings={"worker_image_name": "lando-wrker", "floating_ip_pool_name": "ext"})
    cloud.start_daemon()
    wait_for(lambda: "floating_ip_pool_name" in cloud.daemon_log(), "the checks")
    told = [line for line in cloud.daemon_log().splitlines() if "WARNING" in line]
    assert len(told) == 2, told
    assert "image: vm_settings.worker_image_name: the cloud has no active image named lando-wrker" in told[0]


# check --boot


def test_boot_times_each_phase_and_leaves_nothing(cloud: CloudSite) -> None:
    cloud.fake.knobs.userdata_delay = 3
    checked = cloud.command("check", "--boot")
    found = lines(checked.stdout)
    phases = [
        *("admitted", "VM created", "VM active", "worker reported"),
        *("job started", "VM deleted", "nothing left"),
    ]
    assert [what for what in found if what in phases] == phases
    assert all(re.match(r"\d+\.\d s", found[what][1]) for what in phases)
    assert cloud.fake.servers == []
    assert cloud.fake.cloud.floating_ips == {}
    (job,) = cloud.status()
    assert job["labels"] == {"check": "boot"}


def test_boot_takes_the_daemon_that_runs(cloud: CloudSite) -> None:
    cloud.start_daemon()
    assert lines(cloud.command("check", "--boot").stdout)["nothing left"][0] == "ok"
    assert "boot" not in lines(cloud.command("check").stdout)
    assert "lando-fsm check" not in cloud.daemon_log()


def test_boot_shows_why_a_vm_does_not_report(cloud: CloudSite) -> None:
    cloud.configure(timeouts={"boot": 3}, worker={"command": "/nowhere/lando_worker.sh"})
    checked = cloud.command("check", "--boot", check=False)
    found = lines(checked.stdout)
    assert checked.returncode == 1
    assert "the worker did not report within 3 s (boot_timeout)" in found["boot"][1]
    assert "    lando: this could not be reported. Is /nowhere/lando_worker.sh there" in checked.stdout
    assert found["nothing left"][0] == "ok"


def test_boot_tells_the_fault_of_a_server(cloud: CloudSite) -> None:
    cloud.fake.knobs.spawn_fail_every = 1
    checked = cloud.command("check", "--boot", check=False)
    found = lines(checked.stdout)
    assert checked.returncode == 1
    assert "the VM could not be built: " in found["boot"][1]
    assert found["nothing left"][0] == "ok"


def test_boot_ends_when_the_cloud_refuses_it(cloud: CloudSite) -> None:
    cloud.fake.faults.add(Fault("POST compute /servers", status=403, message="Not for you."))
    checked = cloud.command("check", "--boot", check=False)
    assert checked.returncode == 1
    assert "Not for you." in lines(checked.stdout)["boot"][1]


def test_ctrl_c_cancels_the_boot_and_waits(cloud: CloudSite) -> None:
    cloud.fake.knobs.userdata_delay = 60
    terminal = cloud.terminal("check", "--boot")
    terminal.wait_for("VM created")
    terminal.type("\x03")
    assert terminal.wait() == 130
    assert "nothing left" in terminal.text
    assert cloud.fake.servers == []


def test_boot_on_the_local_cloud(quick: LocalSite) -> None:
    checked = quick.command("check", "--boot")
    assert lines(checked.stdout)["worker reported"][0] == "ok"
    quick.nothing_is_left()


# what status says


def with_twin_images(cloud: CloudSite) -> None:
    cloud.fake.cloud.images.append(Image("lando-worker"))


def without_quota(cloud: CloudSite) -> None:
    cloud.fake.quotas["instances"] = 0


def behind_a_portal(cloud: CloudSite) -> None:
    cloud.fake.faults.add(Fault("* compute *", status=200, html=True))


def setting(section: str, **changes: Any) -> Callable[[CloudSite], None]:
    return lambda cloud: cloud.configure(**{section: changes})


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (setting("cloud_settings", password="wrong"), "check user, password, project and domains in"),
        (setting("vm_settings", worker_image_name="no-such"), "vm_settings.worker_image_name: "),
        (setting("vm_settings", default_flavor_name="no-such"), "vm_settings.default_flavor_name: "),
        (setting("vm_settings", network_name="no-such"), "vm_settings.network_name: "),
        (setting("vm_settings", ssh_key_name="no-such"), "correct vm_settings.ssh_key_name"),
        (setting("vm_settings", floating_ip_pool_name="no-such"), "vm_settings.floating_ip_pool_name: "),
        (with_twin_images, "the cloud has 2 active images named lando-worker"),
        (without_quota, "the project has no quota of instances: request one"),
        (behind_a_portal, "that is not OpenStack: check auth_url, the region and the interface in"),
    ],
)
def test_a_job_is_held_and_status_says_why(
    cloud: CloudSite, spoil: Callable[[CloudSite], None], words: str
) -> None:
    spoil(cloud)
    cloud.start_daemon()
    jobs = [cloud.submit(workflow_on_vms(cloud.root, "true", f"wf{n}")) for n in (1, 2)]
    for position, job in enumerate(jobs, 1):
        seen = wait_for(lambda job=job: held(cloud, job, words), f"{words!r} to be said of job {job}")
        assert f"position {position}" in seen["reason"], seen["reason"]
        assert seen["failures"] == 0
    print(seen["reason"])
    assert cloud.fake.servers == []


def held(cloud: CloudSite, job: str, words: str) -> dict[str, Any] | None:
    seen = cloud.job(job)
    assert seen["state"] in ("queued", "booting"), seen
    return seen if seen["state"] == "queued" and words in seen["reason"] else None


def test_an_expired_certificate_is_told(tmp_path: Path, least_privilege: VirtualHost) -> None:
    certificate, key = self_signed(tmp_path, -1)
    with OpenStackFake(certificate=(certificate, key)) as fake:
        cloud = CloudSite(tmp_path, fake, least_privilege)
        try:
            cloud.configure(cloud_settings={"cacert": str(certificate)})
            cloud.start_daemon()
            job = cloud.submit(workflow_on_vms(cloud.root, "true"))
            seen = wait_for(lambda: held(cloud, job, "certificate has expired"), "the certificate")
            assert "renew it" in seen["reason"]
            assert "position 1" in seen["reason"]
            checked = cloud.command("check", check=False)
            assert "certificate has expired" in lines(checked.stdout)["authentication"][1]
        finally:
            cloud.close()


@pytest.mark.parametrize("key", ["flavor", "image"])
def test_a_job_that_names_what_the_cloud_lacks_fails_at_once(cloud: CloudSite, key: str) -> None:
    cloud.start_daemon()
    job = workflow_on_vms(cloud.root, "true")
    job.write_text(job.read_text() + f"{key}: no-such\n")
    seen = cloud.wait(cloud.submit(job), "failed")
    assert seen["outcome"] == "workflow_failed"
    assert f"{key} in the job file: the cloud has no" in seen["reason"]


def test_status_tells_that_the_cloud_does_not_answer(cloud: CloudSite, gate: Gate) -> None:
    cloud.start_daemon()
    job = cloud.submit(workflow_on_vms(cloud.root, gate.script))
    gate.wait_for_arrivals()
    cloud.fake.stop("compute")
    silent = "the cloud has not answered since 20"
    wait_for(lambda: silent in cloud.command("status", "--json").stderr, "the outage to be told")
    assert silent in cloud.command("status").stderr
    watching = cloud.start("status", "--watch")
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("1 running; the cloud has not answered since 20")
    gate.let_through()
    cloud.wait(job, "terminating")
    assert "(the cloud has not answered since 20" in cloud.job(job)["reason"]
    assert cloud.daemon_log().count("the cloud cannot be asked") <= 2, "told once, not at every look"
    cloud.fake.start("compute")
    cloud.wait(job, "done")
    wait_for(lambda: silent not in cloud.command("status", "--json").stderr, "the end to be told")


# the console of a boot that failed


def test_the_console_of_a_failed_boot_is_shown(cloud: CloudSite) -> None:
    cloud.configure(timeouts={"boot": 3}, worker={"command": "/nowhere/lando_worker.sh"})
    cloud.start_daemon()
    job_file = workflow_on_vms(cloud.root, "true")
    job_file.write_text(job_file.read_text() + "attempts: 1\n")
    job = cloud.submit(job_file)
    cloud.wait(job, "failed")
    shown = cloud.command("status", job).stdout
    assert "console of attempt 1:\n" in shown
    assert "    lando: this could not be reported. Is /nowhere/lando_worker.sh there" in shown
    assert "this could not be reported" in cloud.command("logs", "--console", job).stdout


def test_a_server_without_console_output_is_told(cloud: CloudSite) -> None:
    cloud.fake.knobs.spawn_fail_every = 1
    cloud.start_daemon()
    job_file = workflow_on_vms(cloud.root, "true")
    job_file.write_text(job_file.read_text() + "attempts: 1\n")
    job = cloud.submit(job_file)
    seen = cloud.wait(job, "failed")
    assert "the VM could not be built: Exceeded maximum number of retries" in seen["reason"]
    assert "console" not in cloud.command("status", job).stdout
    told = cloud.command("logs", "--console", job)
    assert (told.stdout, told.stderr) == ("", "the VM of attempt 1 had no console output\n")
