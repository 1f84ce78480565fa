"""Jobs wait for volumes and floating IPs as for Nova's quota: none is built into ERROR for want of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from tests.support.fake_openstack import OpenStackFake
from tests.support.openstack_project import FakeFacility
from tests.support.openstack_scenarios import CREATE, arrive
from tests.support.openstack_site import OpenStackSite, Stage
from tests.support.rabbitmq_server import VirtualHost


@pytest.fixture
def stage(tmp_path: Path, least_privilege: VirtualHost) -> Iterator[Stage]:
    facility = FakeFacility(tmp_path / "machines")
    here = Stage(tmp_path, least_privilege, facility, print)
    yield here
    here.close()
    facility.close()


def fake_of(stage: Stage) -> OpenStackFake:
    facility = stage.facility
    assert isinstance(facility, FakeFacility)
    return facility.fake


def run_under(stage: Stage, site: OpenStackSite, places: int, words: str, **job: Any) -> None:
    """Run jobs of which only so many fit, until all are done."""
    gate = stage.gate()
    site.start_daemon()
    jobs = site.queue_jobs(places + 3, gate.script, **job)
    arrive(site, gate, places)

    def waiting() -> list[str]:
        queued = [each.reason for each in site.shown(jobs) if each.job.state == "queued"]
        return queued if len(queued) == 3 and words in queued[0] else []

    assert site.wait_until(waiting, f"the first to say {words!r}")
    gate.let_through(len(jobs))
    ended = site.wait_all_done(jobs)
    assert all((each.job.attempt, each.job.failures) == (1, 0) for each in ended), "none was built in vain"
    assert site.proxy.calls.count(CREATE) == len(jobs)
    site.nothing_is_left()


def test_jobs_wait_for_gigabytes_of_cinder(stage: Stage) -> None:
    fake_of(stage).quotas.update(gigabytes=25)
    words = "waits for the project's quota: 20 of 25 GB of volumes are in use, and this job needs 10"
    run_under(stage, stage.site(), 2, words, volume_size=10)


def test_jobs_wait_for_floating_ips_of_neutron(stage: Stage) -> None:
    fake_of(stage).quotas.update(floatingip=2)
    words = "waits for the project's quota: 2 of 2 floating IPs are in use, and this job needs 1"
    run_under(stage, stage.site(pool=True), 2, words)
