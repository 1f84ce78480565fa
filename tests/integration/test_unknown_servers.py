"""A database that knows less than the cloud: nothing is deleted, no second VM is started, people decide.

The daemon is stopped, an old copy of its database is put in the place of the newest, and it is started again.
A VM of a job that the copy knows as ended is the canary: when the daemon has swept it, it would have swept
the others, too.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lando.cloud.interface import ServerRequest
from tests.integration.test_servers_and_check import CloudSite, cloud, fake  # noqa: F401 - fixtures
from tests.support.local_site import QUICK, Gate, LocalSite, wait_for, workflow, workflow_on_vms


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalSite]:
    here = LocalSite(tmp_path, config=f"deployment: tests{QUICK}")
    yield here
    here.close()


def stop(site: LocalSite) -> None:
    site.daemons[-1].send_signal(signal.SIGTERM)
    assert site.daemons[-1].wait() == 0


def copy_database(site: LocalSite) -> Path:
    copy = site.root / "copy.db"
    with closing(sqlite3.connect(site.state / "lando.db")) as old, closing(sqlite3.connect(copy)) as new:
        old.backup(new)
    return copy


def put_back(site: LocalSite, copy: Path | None) -> None:
    """Replace the database by a copy of it, or by none."""
    for path in site.state.glob("lando.db*"):
        path.unlink()
    if copy is not None:
        copy.rename(site.state / "lando.db")
    site._views = None


def make_canary(site: LocalSite, ended: str) -> None:
    request = ServerRequest("canary", uuid.uuid4().hex, "tests", ended, 1, b"#!/bin/bash\nexec sleep 600\n")
    site.app().cloud.create(request)


def wait_for_the_canary(site: LocalSite) -> None:
    wait_for(lambda: "server canary" in site.daemon_log(), "the canary to be swept")
    wait_for(lambda: ", which belonged to no job, is gone" in site.daemon_log(), "the canary to be gone")


def belongings(site: LocalSite) -> dict[str | None, str]:
    """What ``servers --json`` says of each job's VM."""
    found = json.loads(site.command("servers", "--json").stdout)
    assert found["unknown"]["servers"] == sum(each["belongs_to"] == "unknown" for each in found["servers"])
    return {each["job"]: each["belongs_to"] for each in found["servers"]}


def clean_up_and_go_on(site: LocalSite, gate: Gate, queued: str, unknown: tuple[str, ...]) -> None:
    """What an operator sees and does; then the queued job starts, once."""
    arrivals = gate.arrivals
    told = [line for line in site.daemon_log().splitlines() if "is unknown to this database" in line]
    for job in unknown:
        assert sum(job in line for line in told) == 1, "each is told once, with what it names"
    assert site.job(queued)["state"] == "queued"
    shown = site.command("status")
    assert f"{len(unknown)} VM" in shown.stderr and "unknown to this database" in shown.stderr
    assert all(job in shown.stderr for job in unknown)
    assert "not started while the cloud has VM lando-" in site.job(queued)["reason"]

    assert "nothing is orphaned" in site.command("servers", "--sweep").stderr
    dry = site.command("servers", "--dry-run", "--unknown")
    assert dry.stdout.count("unknown: it names") == len(unknown)
    assert belongings(site) == dict.fromkeys(unknown, "unknown")
    assert gate.arrivals == arrivals

    swept = site.command("servers", "--sweep", "--unknown")
    assert "looking again in" in swept.stderr
    assert swept.stdout.count(": deleted") >= len(unknown)
    site.wait(queued, "running")
    wait_for(lambda: gate.arrivals == arrivals + 1, "the queued job to begin")
    assert belongings(site) == {queued: "job"}
    gate.let_through()
    assert site.wait_all_ended([queued])[0]["state"] == "done"
    assert "unknown" not in site.command("status").stderr


def test_an_old_copy_of_the_database_sweeps_nothing(local: LocalSite, gate: Gate) -> None:
    local.start_daemon()
    ended = local.submit(workflow(local.root, "true", "ended"))
    local.wait(ended, "done")
    stop(local)
    known = local.submit(workflow(local.root, gate.script))
    copy = copy_database(local)
    missing = local.submit(workflow(local.root, gate.script))
    local.start_daemon()
    gate.wait_for_arrivals(2)
    stop(local)

    put_back(local, copy)
    make_canary(local, ended)
    local.start_daemon()
    wait_for_the_canary(local)
    assert len(local.vms()) == 2
    clean_up_and_go_on(local, gate, known, (known, missing))


def test_an_empty_database_sweeps_nothing_and_other_jobs_go_on(local: LocalSite, gate: Gate) -> None:
    local.start_daemon()
    missing = local.submit(workflow(local.root, gate.script))
    gate.wait_for_arrivals()
    stop(local)

    put_back(local, None)
    local.start_daemon(make_state=False)
    local.submit(workflow(local.root, gate.script), missing)
    ended = local.submit(workflow(local.root, "true", "ended"))
    local.wait(ended, "done")
    make_canary(local, ended)
    wait_for_the_canary(local)
    clean_up_and_go_on(local, gate, missing, (missing,))


def test_an_old_copy_sweeps_nothing_of_a_project_and_no_floating_ip(
    cloud: CloudSite,  # noqa: F811
    gate: Gate,
) -> None:
    cloud.start_daemon()
    ended = cloud.submit(workflow_on_vms(cloud.root, "true", "ended"))
    cloud.wait(ended, "done")
    cloud.create("of-others", deployment="others")
    cloud.fake.quotas["instances"] = 1
    known = cloud.submit(workflow_on_vms(cloud.root, gate.script))
    wait_for(lambda: "quota" in cloud.job(known)["reason"], "the job to wait for the quota")
    stop(cloud)
    copy = copy_database(cloud)
    cloud.fake.quotas["instances"] = 10
    cloud.start_daemon()
    missing = cloud.submit(workflow_on_vms(cloud.root, gate.script))
    gate.wait_for_arrivals(2)
    pool = cloud.site.openstack.floating_ips
    wait_for(lambda: sum(each.server_port is not None for each in pool.all()) == 2, "both floating IPs")
    stop(cloud)

    put_back(cloud, copy)
    make_canary(cloud, ended)
    cloud.start_daemon()
    wait_for_the_canary(cloud)
    wait_for(lambda: cloud.daemon_log().count("floating IP of a VM that is unknown") == 2, "both to be told")
    assert len(pool.all()) == 2
    assert cloud.servers()["unknown"] == {"servers": 2, "floating_ips": 2}
    clean_up_and_go_on(cloud, gate, known, (known, missing))
    wait_for(lambda: not pool.all(), "every floating IP to be released")
