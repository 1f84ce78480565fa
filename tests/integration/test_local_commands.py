"""On the daemon's own machine jobs are canceled and retried while the broker is down."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lando.messages import Message
from lando.workqueue import local_commands
from tests.support.local_site import Gate, wait_for, workflow
from tests.support.rabbitmq_server import Broker
from tests.support.rabbitmq_site import BrokerSite


@pytest.fixture
def site(tmp_path: Path, private_broker: Broker) -> Iterator[BrokerSite]:
    here = BrokerSite(tmp_path / "site", private_broker.virtual_host())
    yield here
    here.close()


def test_cancel_and_retry_without_the_broker(site: BrokerSite, gate: Gate, private_broker: Broker) -> None:
    daemon = site.start_daemon()
    job = site.queue_job(workflow(site.root, gate.script))
    gate.wait_for_arrivals()
    assert site.wait(job, "running")
    private_broker.stop()
    wait_for(lambda: "disconnected from the work queue" in site.daemon_log(), "the daemon to notice")

    said = site.command("cancel", job).stderr
    assert "left for the daemon of this machine" in said and f"{job} will be canceled" in said
    canceled = site.wait(job, "failed")
    assert (canceled["outcome"], site.vms()) == ("canceled", [])
    assert "already finished" in site.command("cancel", job).stderr

    assert "left for the daemon of this machine" in site.command("retry", job).stderr
    site.wait(job, "queued")
    twice = Message("cancel_job", job=job)
    for _ in range(2):
        assert local_commands.leave(site.state, twice.encode(), "somebody")
    assert local_commands.leave(site.state, b"rubbish", "somebody")
    site.wait(job, "failed")
    wait_for(lambda: "client somebody was dead-lettered" in site.daemon_log(), "the rubbish to be told")
    assert site.path(job)[-3:] == ["failed", "queued", "failed"]
    assert "connected to the work queue after" not in site.daemon_log()
    assert daemon.poll() is None

    site.command("retry", job)
    gate.let_through()
    private_broker.start()
    assert site.wait(job, "done")["outcome"] == "succeeded"


def test_where_no_daemon_has_run_nothing_is_left(tmp_path: Path) -> None:
    assert not local_commands.leave(tmp_path, Message("cancel_job", job="x").encode(), "somebody")
    assert list(tmp_path.iterdir()) == []
