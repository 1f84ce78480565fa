"""A snapshot shows what was asked for; what is not available is reported and hides nothing else."""

from __future__ import annotations

from benchmarks.emptycloud import EmptyCloud
from lando.cloud.interface import CloudError, FloatingIp, Quota, Refused, Size, Unreachable
from lando.cloud.snapshot import CloudSnapshot, SnapshotRequest, take_snapshot

SMALL = Size(1, 1, 512)


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

    def quota(self, volumes: bool = False) -> Quota:
        raise Unreachable("no limits")


def test_a_snapshot_shows_only_what_was_requested() -> None:
    snapshot = take_snapshot(Tight(), SnapshotRequest())
    assert (snapshot.quota, snapshot.floating_ips, snapshot.troubles) == (None, None, ())


def test_a_quota_and_floating_ips_that_are_not_available_are_reported_beside_the_servers() -> None:
    cloud = Tight()
    cloud.floating_ips = Pool(True)
    snapshot = take_snapshot(cloud, SnapshotRequest((), {None}, floating_ips=True))
    assert snapshot == CloudSnapshot((), troubles=("no limits", "no Neutron"))


def test_floating_ips_that_cannot_be_listed_are_no_trouble_where_no_pool_allocates_them() -> None:
    cloud = EmptyCloud()
    cloud.floating_ips = Pool(False)
    assert take_snapshot(cloud, SnapshotRequest(floating_ips=True)).troubles == ()


def test_an_unknown_flavor_has_the_size_of_one_server_and_is_no_trouble() -> None:
    class Picky(EmptyCloud):
        def size(self, flavor: str | None) -> Size:
            if flavor == "m9.huge":
                raise Refused("no such flavor", "job")
            return SMALL

    snapshot = take_snapshot(Picky(), SnapshotRequest((), {None, "m9.huge"}))
    assert snapshot.sizes == {None: SMALL, "m9.huge": Size(servers=1)}
    assert snapshot.troubles == ()


def test_the_quota_of_volumes_is_requested_where_a_job_asks_for_one() -> None:
    class Counting(EmptyCloud):
        asked: list[bool] = []  # noqa: RUF012

        def quota(self, volumes: bool = False) -> Quota:
            self.asked.append(volumes)
            return super().quota()

    for volumes in (False, True):
        assert take_snapshot(Counting(), SnapshotRequest((), {None}, volumes=volumes)).volumes == volumes
    assert Counting.asked == [False, True]
