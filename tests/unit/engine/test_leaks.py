"""Leaked resources: they carry our mark, belong to no job, and are seen twice before they are deleted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lando.cloud.interface import FloatingIp, Server, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.leaks import Sweeper
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
