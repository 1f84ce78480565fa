"""An outage of the cloud fails no job: it is named, costs few creates, and its end is seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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
        lambda: all(
            job.job.state == "queued" and "Neutron does not answer: HTTP 503: no server" in job.reason
            for job in site.shown(jobs)
        ),
        "the service to be named, and no create to be on its way",
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


WHAT_NOVA_SAYS = "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/"


@contextmanager
def creates_answered_500(site: OpenStackSite) -> Iterator[None]:
    """As while Neutron or the message queue is down behind nova-api; nothing is created."""
    site.proxy.faults.add(Fault(CREATE, status=500, message=WHAT_NOVA_SAYS))
    yield
    site.proxy.faults.clear()


def builds_that_end_in_error(site: OpenStackSite) -> AbstractContextManager[None]:
    return site.facility.knobs(spawn_fail_every=1, spawn_delay=0.1)


@pytest.mark.parametrize(
    ("outage", "words"),
    [(creates_answered_500, WHAT_NOVA_SAYS), (builds_that_end_in_error, "retrying build failures")],
)
def test_while_no_server_boots_one_job_at_a_time_is_tried_and_none_fails(
    site: OpenStackSite, outage: Callable[[OpenStackSite], AbstractContextManager[None]], words: str
) -> None:
    site.start_daemon()
    with outage(site):
        began = time.time()
        jobs = site.queue_jobs(8, attempts=1)
        site.wait_until(
            lambda: sum("VMs have failed to boot since 20" in each.reason for each in site.shown(jobs)) == 8,
            "the outage to be told",
        )
        creates = site.proxy.calls.count(CREATE)
        assert creates <= 8 + 2, "all at once, one again, and perhaps one that finds out"
        site.wait_until(lambda: site.proxy.calls.count(CREATE) >= creates + 3, "one job to be tried, thrice")
        assert sum(each.job.state == "booting" for each in site.shown(jobs)) <= 1
        assert all(words in each.reason or each.job.state != "queued" for each in site.shown(jobs))
        told = site.command("status").stderr
        assert "VMs have failed to boot since 20" in told
        assert words in told
        holds = 1 + (time.time() - began) / (0.5 * 2)  # ever longer ones
        assert site.proxy.calls.count(CREATE) <= 8 + 2 + holds
    ended = site.wait_all_done(jobs)
    assert all(each.job.failures == 0 for each in ended)
    assert "VMs have failed to boot" not in site.command("status").stderr
    assert "servers boot again" in site.daemon_log()
    site.nothing_is_left(sweeps=True)
