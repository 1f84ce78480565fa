"""Leaked resources: they carry our mark, belong to no job, and are seen twice before they are deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lando.cloud.interface import FloatingIp, Server, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.leaks import Sweeper, unowned_servers
from lando.engine.ownership import Ownership
from lando.states.job import CreateRequest, Job

SMALL = Size(1, 1, 512)


def server(number: int, **more: object) -> Server:
    made = Server(f"server-{number}", f"vm-{number}", "ACTIVE", f"mark-{number}", "ours", size=SMALL)
    return replace(made, **more)  # type: ignore[arg-type]


def job(number: int, **more: object) -> Job:
    requests = (CreateRequest(f"mark-{number}", f"token-{number}", "sent"),)
    made = Job(f"job-{number}", state="booting", server_id=f"server-{number}", requests=requests)
    return replace(made, **more)  # type: ignore[arg-type]


def test_a_floating_ip_belongs_to_the_job_that_recorded_its_mark() -> None:
    floating_ip = FloatingIp("f", "192.0.2.1", "mark-1", "ours")
    assert Ownership.of([job(1)]).owner(floating_ip) is None, "it was not asked for"
    owner = job(1, floating_ip="mark-1")
    assert Ownership.of([owner]).owner(floating_ip) == owner
    assert Ownership.of([replace(owner, state="done")]).owner(floating_ip) is None


@pytest.mark.parametrize("kind", ["servers", "floating_ips"])
def test_a_resource_with_our_mark_and_no_owner_is_leaked_after_the_grace_period(kind: str) -> None:
    def all_of(deployment: str | None) -> CloudSnapshot:
        if kind == "servers":
            return CloudSnapshot((server(1, deployment=deployment),))
        return CloudSnapshot((), floating_ips=(FloatingIp("f", "192.0.2.1", "mark-1", deployment),))

    sweeper = Sweeper("ours", grace=60.0)
    assert sweeper.leaked(all_of("ours"), [], 0.0) == []
    assert sweeper.leaked(all_of("ours"), [], 59.0) == []
    assert len(sweeper.leaked(all_of("ours"), [], 60.0)) == 1
    for stranger in ("theirs", None):
        sweeper = Sweeper("ours", grace=0.0)
        assert [sweeper.leaked(all_of(stranger), [], at) for at in (0.0, 60.0)] == [[], []]


def test_a_snapshot_without_floating_ips_does_not_restart_their_grace_period() -> None:
    sweeper = Sweeper("ours", grace=60.0)
    leaked = CloudSnapshot((), floating_ips=(FloatingIp("f", "192.0.2.1", "mark-1", "ours"),))
    sweeper.leaked(leaked, [], 0.0)
    sweeper.leaked(CloudSnapshot(()), [], 10.0)
    assert len(sweeper.leaked(leaked, [], 60.0)) == 1


def test_a_resource_that_was_absent_in_between_starts_its_grace_period_again() -> None:
    sweeper = Sweeper("ours", grace=60.0)
    sweeper.leaked(CloudSnapshot((server(1),)), [], 0.0)
    sweeper.leaked(CloudSnapshot(()), [], 30.0)
    assert sweeper.leaked(CloudSnapshot((server(1),)), [], 60.0) == []


# what the database does not know

MARKED = server(1, job_id="job-1", attempt=2)
ADDRESS = FloatingIp("f", "192.0.2.1", "mark-1", "ours", "port")
QUEUED = Job("job-1")
RUNNING = job(1, state="running", attempt=1, server_id="server-0", requests=())


def sweep_twice(sweeper: Sweeper, jobs: list[Job], *servers: Server) -> list[str]:
    """The ids of what is deleted at the second look."""
    snapshot = CloudSnapshot(servers, floating_ips=(ADDRESS,))
    sweeper.leaked(snapshot, jobs, 0.0)
    return [each.id for each in sweeper.leaked(snapshot, jobs, 60.0)]


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        [Job("job-2", state="done", attempt=9)],
        [QUEUED],
        [replace(QUEUED, attempt=1)],
        [replace(QUEUED, state="failed", attempt=1)],
        [replace(QUEUED, state="done", attempt=1)],
        [RUNNING],
        [replace(RUNNING, state="terminating")],
    ],
)
def test_a_server_of_an_attempt_that_the_database_never_had_is_left_alone_with_its_floating_ip(
    jobs: list[Job],
) -> None:
    assert sweep_twice(Sweeper("ours", 60.0), jobs, MARKED) == []
    assert unowned_servers(CloudSnapshot((MARKED,)), jobs).unknown == (MARKED,)
    assert sweep_twice(Sweeper("ours", 60.0, with_unknown=True), jobs, MARKED) == ["server-1", "f"]
    stranger = replace(MARKED, deployment="theirs")
    assert "server-1" not in sweep_twice(Sweeper("ours", 60.0, with_unknown=True), jobs, stranger)


@pytest.mark.parametrize(
    "jobs",
    [
        [replace(QUEUED, attempt=2)],
        [replace(QUEUED, attempt=3)],
        [replace(QUEUED, state="failed", attempt=2)],
        [replace(RUNNING, attempt=2)],
        [replace(RUNNING, attempt=3)],
    ],
)
def test_a_server_of_an_attempt_that_the_record_has_reached_is_an_orphan(jobs: list[Job]) -> None:
    assert sweep_twice(Sweeper("ours", 60.0), jobs, MARKED) == ["server-1", "f"]
    assert unowned_servers(CloudSnapshot((MARKED,)), jobs).unknown == ()


def test_what_a_job_owns_is_neither_an_orphan_nor_unknown() -> None:
    for owner in (job(1, attempt=2), job(1, attempt=2, server_id=None)):
        found = unowned_servers(CloudSnapshot((MARKED,)), [owner])
        assert (found.orphans, found.unknown) == ((), ())


def test_a_server_without_an_attempt_is_unknown_to_a_job_without_one_only() -> None:
    nameless = replace(MARKED, attempt=None)
    assert unowned_servers(CloudSnapshot((nameless,)), [QUEUED]).unknown == (nameless,)
    assert unowned_servers(CloudSnapshot((nameless,)), [replace(QUEUED, attempt=1)]).orphans == (nameless,)


def test_a_floating_ip_whose_unknown_server_is_gone_is_an_orphan() -> None:
    assert sweep_twice(Sweeper("ours", 60.0), []) == ["f"]
    assert sweep_twice(Sweeper("ours", 60.0), [], replace(MARKED, mark="another")) == ["f"]
