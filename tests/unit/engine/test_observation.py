"""What a snapshot means for jobs that boot or run. A server that a list lacks is not thereby lost."""

from __future__ import annotations

import pytest

from lando.cloud.interface import Server
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.observation import events
from lando.states.events import BootFailed, Event, ServerActive, ServerLost
from lando.states.job import Job, State
from lando.states.records import replace

NOW = 10_000.0
HEARTBEAT = 30.0
LISTENING = 0.0
BOOTING = Job("a", state="booting", server_id="server-1")
RUNNING = replace(BOOTING, state="running", server_ip="192.0.2.1")


def seen(job: Job, status: str, **more: str | bool) -> Event | None:
    """What follows for this job when its server is listed with this status."""
    server = Server("server-1", "lando-a-1", status, **more)  # type: ignore[arg-type]
    found = events(CloudSnapshot((server,)), [job], NOW, HEARTBEAT, LISTENING)
    assert all(about is job for about, _ in found)
    return found[0][1] if found else None


def test_a_server_whose_build_failed_fails_the_boot_with_the_fault_of_the_cloud() -> None:
    event = seen(BOOTING, "ERROR", fault="No valid host was found.", no_capacity=True)
    assert event == BootFailed(NOW, "server-1", "No valid host was found", no_capacity=True)
    assert seen(BOOTING, "ERROR") == BootFailed(NOW, "server-1", "the cloud reports ERROR", no_capacity=False)


@pytest.mark.parametrize(("job", "status"), [(RUNNING, "ERROR"), (RUNNING, "SHUTOFF"), (BOOTING, "SHUTOFF")])
def test_a_server_that_is_down_is_lost(job: Job, status: str) -> None:
    assert seen(job, status) == ServerLost(NOW, "server-1", f"the cloud reports {status}")


def test_an_active_server_is_told_once_when_it_has_an_address() -> None:
    assert seen(BOOTING, "ACTIVE") is None, "it has no address yet"
    assert seen(BOOTING, "ACTIVE", address="192.0.2.1") == ServerActive(NOW, "server-1", "192.0.2.1")
    assert seen(RUNNING, "ACTIVE", address="192.0.2.1") is None, "it is known"
    assert seen(BOOTING, "BUILD", address="192.0.2.1") is None, "it is not up yet"


def test_a_server_that_a_list_lacks_is_lost_only_if_the_cloud_does_not_have_it_when_asked_by_id() -> None:
    assert events(CloudSnapshot(()), [RUNNING], NOW, HEARTBEAT, LISTENING) == []
    gone = CloudSnapshot((), gone=frozenset({"server-1"}))
    [(job, event)] = events(gone, [RUNNING], NOW, HEARTBEAT, LISTENING)
    assert (job, event) == (RUNNING, ServerLost(NOW, "server-1", "the cloud does not have it any more"))


@pytest.mark.parametrize("last", [0.0, 2 * HEARTBEAT - 1])
def test_a_server_whose_worker_reports_is_not_lost_whatever_the_cloud_says(last: float) -> None:
    """A failed live migration leaves it in ERROR, and another project's account does not have it."""
    reports = replace(RUNNING, heard_at=NOW - last)
    assert seen(reports, "ERROR", fault="Live Migration failure") is None
    assert events(CloudSnapshot((), gone=frozenset({"server-1"})), [reports], NOW, HEARTBEAT, LISTENING) == []
    assert seen(reports, "SHUTOFF") is not None, "nothing runs there any more"
    assert seen(replace(BOOTING, heard_at=NOW - last), "ERROR") is not None


def test_what_was_heard_before_the_daemon_listened_may_be_forgotten() -> None:
    """It is kept in memory: a daemon that starts waits for two heartbeats before it believes the cloud."""
    gone = CloudSnapshot((), gone=frozenset({"server-1"}))
    quiet = replace(RUNNING, heard_at=NOW - 1000.0)
    assert events(gone, [quiet], NOW, HEARTBEAT, NOW - 2 * HEARTBEAT + 1) == []
    assert len(events(gone, [quiet], NOW, HEARTBEAT, NOW - 2 * HEARTBEAT)) == 1
    booting = replace(BOOTING, heard_at=None)
    assert len(events(gone, [booting], NOW, HEARTBEAT, NOW)) == 1, "nothing was heard that could be forgotten"


def test_a_worker_that_misses_two_heartbeats_is_no_proof_any_more() -> None:
    quiet = replace(RUNNING, heard_at=NOW - 2 * HEARTBEAT)
    assert seen(quiet, "ERROR") == ServerLost(NOW, "server-1", "the cloud reports ERROR")
    gone = CloudSnapshot((), gone=frozenset({"server-1"}))
    assert [event for _, event in events(gone, [quiet], NOW, HEARTBEAT, LISTENING)] == [
        ServerLost(NOW, "server-1", "the cloud does not have it any more")
    ]


@pytest.mark.parametrize("state", ["queued", "terminating", "done", "failed"])
def test_a_job_that_neither_boots_nor_runs_is_not_concerned(state: State) -> None:
    gone = CloudSnapshot((), gone=frozenset({"server-1"}))
    assert events(gone, [replace(BOOTING, state=state)], NOW, HEARTBEAT, LISTENING) == []
    assert seen(replace(BOOTING, state=state), "ERROR") is None


def test_a_job_whose_server_is_not_known_yet_is_not_concerned() -> None:
    assert seen(replace(BOOTING, server_id=None), "ERROR") is None
