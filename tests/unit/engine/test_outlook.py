"""What is seen of the cloud as a whole: room for more servers, what is leaked, and what could not be seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.emptycloud import EmptyCloud
from lando.cloud.interface import CloudError, FloatingIp, Quota, Refused, Server, Share, Size, Unreachable
from lando.cloud.snapshot import CloudSnapshot, SnapshotRequest, take_snapshot
from lando.engine.leaks import Sweeper
from lando.engine.ownership import Ownership
from lando.engine.quota import QuotaView
from lando.states.job import CreateRequest, Job

SMALL = Size(1, 1, 512)
LIMITS = Quota(Share(0, 10), Share(0, 20), Share(0, 51_200))


def used(servers: int) -> Quota:
    return replace(
        LIMITS,
        servers=Share(servers, 10),
        cores=Share(servers, 20),
        ram=Share(512 * servers, 51_200),
    )


def server(number: int, **more: object) -> Server:
    made = Server(f"server-{number}", f"vm-{number}", "ACTIVE", f"mark-{number}", "ours", size=SMALL)
    return replace(made, **more)  # type: ignore[arg-type]


def job(number: int, **more: object) -> Job:
    requests = (CreateRequest(f"mark-{number}", f"token-{number}", "sent"),)
    made = Job(f"job-{number}", state="booting", server_id=f"server-{number}", requests=requests)
    return replace(made, **more)  # type: ignore[arg-type]


def seen(count: int, quota: Quota | None, **more: object) -> CloudSnapshot:
    servers = tuple(server(number) for number in range(count))
    return replace(CloudSnapshot(servers, quota=quota, sizes={None: SMALL}), **more)  # type: ignore[arg-type]


# room


def test_nobody_is_admitted_before_the_quota_was_seen() -> None:
    view = QuotaView(has_quota=True, valid_for=60.0)
    assert view.obstacle == "the project's quota is being read"
    view.update(seen(0, None), [])
    assert view.is_stale
    view.update(seen(0, used(0)), [])
    assert not view.is_stale and view.obstacle is None


def test_what_was_seen_is_believed_for_a_while_only() -> None:
    view = QuotaView(has_quota=True, valid_for=-1.0)
    view.update(seen(0, used(0)), [])
    assert view.is_stale and view.obstacle


def test_a_cloud_that_does_not_answer_is_an_obstacle_until_it_does() -> None:
    view = QuotaView(has_quota=True, valid_for=60.0)
    view.update(seen(0, used(0)), [])
    view.fail("no route to host")
    assert view.obstacle == "no job is started: the cloud does not answer: no route to host"
    view.update(seen(0, used(0)), [])
    assert view.obstacle is None


def test_a_cloud_without_quota_is_never_dim() -> None:
    view = QuotaView(has_quota=False, valid_for=-1.0)
    assert (view.is_stale, view.obstacle, view.headroom) == (False, None, None)


# looking


class Pool:
    def __init__(self, allocates: bool, *found: FloatingIp) -> None:
        self.allocates = allocates
        self.found = found

    def all(self) -> list[FloatingIp]:
        if not self.found:
            raise CloudError("no Neutron")
        return list(self.found)


class Tight(EmptyCloud):
    has_quota = True

    def quota(self) -> Quota:
        raise Unreachable("no limits")


def test_what_is_not_asked_for_is_not_seen() -> None:
    snapshot = take_snapshot(Tight(), SnapshotRequest())
    assert (snapshot.quota, snapshot.floating_ips, snapshot.troubles) == (None, None, ())


def test_what_cannot_be_had_is_told_and_takes_nothing_else_away() -> None:
    cloud = Tight()
    cloud.floating_ips = Pool(True)
    snapshot = take_snapshot(cloud, SnapshotRequest((), {None}, floating_ips=True))
    assert snapshot == CloudSnapshot((), troubles=("no limits", "no Neutron"))


def test_floating_ips_that_nobody_wants_are_no_trouble() -> None:
    cloud = EmptyCloud()
    cloud.floating_ips = Pool(False)
    assert take_snapshot(cloud, SnapshotRequest(floating_ips=True)).troubles == ()


def test_a_flavor_that_is_not_there_is_left_to_its_jobs_create() -> None:
    class Picky(EmptyCloud):
        def size(self, flavor: str | None) -> Size:
            if flavor == "m9.huge":
                raise Refused("no such flavor", "job")
            return SMALL

    snapshot = take_snapshot(Picky(), SnapshotRequest((), {None, "m9.huge"}))
    assert snapshot.sizes == {None: SMALL, "m9.huge": Size(servers=1)}
    assert snapshot.troubles == ()


# what is leaked


def test_a_floating_ip_belongs_to_the_job_that_recorded_its_mark() -> None:
    floating_ip = FloatingIp("f", "192.0.2.1", "mark-1", "ours")
    assert Ownership.of([job(1)]).owner(floating_ip) is None, "it was not asked for"
    owner = job(1, floating_ip="mark-1")
    assert Ownership.of([owner]).owner(floating_ip) == owner
    assert Ownership.of([replace(owner, state="done")]).owner(floating_ip) is None


@pytest.mark.parametrize("kind", ["servers", "floating_ips"])
def test_what_is_leaked_is_seen_twice_before_it_is_deleted(kind: str) -> None:
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


def test_a_look_without_floating_ips_forgets_none_that_is_suspected() -> None:
    sweeper = Sweeper("ours", grace=60.0)
    leaked = CloudSnapshot((), floating_ips=(FloatingIp("f", "192.0.2.1", "mark-1", "ours"),))
    sweeper.leaked(leaked, [], 0.0)
    sweeper.leaked(CloudSnapshot(()), [], 10.0)
    assert len(sweeper.leaked(leaked, [], 60.0)) == 1


def test_what_was_away_in_between_is_seen_for_the_first_time() -> None:
    sweeper = Sweeper("ours", grace=60.0)
    sweeper.leaked(CloudSnapshot((server(1),)), [], 0.0)
    sweeper.leaked(CloudSnapshot(()), [], 30.0)
    assert sweeper.leaked(CloudSnapshot((server(1),)), [], 60.0) == []
