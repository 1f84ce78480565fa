"""An outage of a service that creates depend on: it is named, costs few creates, and its end is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("novaclient", reason="python-novaclient is not installed")

from tests.support.fake_openstack import Fault
from tests.support.openstack_project import FakeFacility
from tests.support.openstack_site import OpenStackSite, Stage
from tests.support.rabbitmq_server import VirtualHost

CREATE = "POST compute /servers"
OF_A_CHECK = ("GET identity /auth/tokens", "GET image /images/{id}", "GET network /networks/{id}")


@pytest.fixture
def site(tmp_path: Path, least_privilege: VirtualHost) -> Iterator[OpenStackSite]:
    facility = FakeFacility(tmp_path / "machines")
    stage = Stage(tmp_path, least_privilege, facility, print)
    yield stage.site()
    stage.close()
    facility.close()


def test_an_outage_is_named_and_its_end_is_seen_before_the_hold_ends(site: OpenStackSite) -> None:
    site.start_daemon()
    site.wait_all_done(site.queue_jobs(1))
    assert [site.proxy.calls.count(call) for call in OF_A_CHECK] == [0, 0, 0], "asked only in an outage"
    site.proxy.faults.add(Fault(CREATE, status=503, retry_after="600"))
    site.proxy.faults.add(Fault("GET network /networks/{id}", status=503, message="no server is available"))
    jobs = site.queue_jobs(6)
    before = site.proxy.calls.count("GET network /networks/{id}")
    site.wait_until(
        lambda: all("Neutron does not answer: HTTP 503: no server" in job.reason for job in site.shown(jobs)),
        "the service to be named",
    )
    creates = site.proxy.calls.count(CREATE)
    site.wait_until(
        lambda: site.proxy.calls.count("GET network /networks/{id}") >= before + 5, "several checks"
    )
    assert site.proxy.calls.count(CREATE) == creates, "no job tries"
    assert {job.job.state for job in site.shown(jobs)} == {"queued"}
    site.proxy.faults.clear()
    ended = site.wait_all_done(jobs)  # long before 600 s have passed
    assert all(job.job.failures == 0 for job in ended)
    site.nothing_is_left()
    checks = [site.proxy.calls.count(call) for call in OF_A_CHECK]
    site.wait_all_done(site.queue_jobs(1))
    assert [site.proxy.calls.count(call) for call in OF_A_CHECK] == checks, "it is over"
