"""What the quota leaves: when it may be used, and how much of it others use."""

from __future__ import annotations

from lando.cloud.interface import Quota, Server, Share, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.quota import QuotaView
from lando.states.job import CreateRequest, Job

SMALL = Size(1, 1, 512)
UNUSED = Quota(Share(0, 10), Share(0, 20), Share(0, 51_200))


def seen(quota: Quota | None) -> CloudSnapshot:
    return CloudSnapshot((), quota=quota, sizes={None: SMALL})


def booting(name: str, server: str | None = None) -> Job:
    return Job(name, state="booting", server_id=server, requests=(CreateRequest(f"mark {name}", "token"),))


# when it may be used


def test_no_job_is_admitted_before_the_quota_was_read() -> None:
    view = QuotaView(has_quota=True, valid_for=60.0)
    assert view.obstacle == "the project's quota is being read"
    view.update(seen(None), [])
    assert view.is_stale
    view.update(seen(UNUSED), [])
    assert not view.is_stale and view.obstacle is None


def test_a_quota_that_was_read_too_long_ago_is_stale() -> None:
    view = QuotaView(has_quota=True, valid_for=-1.0)
    view.update(seen(UNUSED), [])
    assert view.is_stale and view.obstacle


def test_a_cloud_that_does_not_answer_is_an_obstacle_until_it_does() -> None:
    view = QuotaView(has_quota=True, valid_for=60.0)
    view.update(seen(UNUSED), [])
    view.fail("no route to host")
    assert view.obstacle == "no job is started at present: the cloud does not answer: no route to host"
    view.update(seen(UNUSED), [])
    assert view.obstacle is None


def test_a_cloud_without_a_quota_is_never_stale_or_an_obstacle() -> None:
    view = QuotaView(has_quota=False, valid_for=-1.0)
    assert (view.is_stale, view.obstacle, view.headroom) == (False, None, None)


def test_the_quota_covers_only_flavors_whose_sizes_were_read() -> None:
    view = QuotaView(has_quota=True, valid_for=60)
    assert not view.covers([])
    view.update(CloudSnapshot((), quota=Quota(*[Share(0, 5)] * 3), sizes={None: SMALL}), [])
    assert view.covers([None])
    assert not view.covers([None, "large"])


# what others use


def others(used: int, servers: tuple[str, ...], *jobs: Job) -> int:
    """How many servers others have, as the view sees it.

    Args:
        used: how many the quota counts.
        servers: the ids of those that are listed.
        jobs: ours that may have one.
    """
    view = QuotaView(has_quota=True, valid_for=60)
    quota = Quota(Share(used, 5), Share(used, None), Share(512 * used, None))
    listed = tuple(Server(name, name, "ACTIVE", size=SMALL) for name in servers)
    view.update(CloudSnapshot(listed, quota=quota, sizes={None: SMALL}), jobs)
    assert view.headroom is not None
    taken = view.headroom.others
    assert taken == Size(taken.servers, taken.servers, 512 * taken.servers)
    return taken.servers


def test_a_server_created_between_list_and_quota_is_not_counted_as_of_others() -> None:
    assert others(3, ("theirs",), booting("a"), booting("b", "created")) == 1


def test_servers_that_are_listed_but_not_counted_yet_do_not_reduce_what_others_use() -> None:
    assert others(1, ("theirs", "a", "b"), booting("a", "a"), booting("b", "b")) == 1


def test_a_server_deleted_between_list_and_quota_does_not_reduce_what_others_use() -> None:
    assert others(1, ("theirs", "a"), booting("a", "a")) == 1


def test_a_server_of_others_created_between_list_and_quota_counts_unless_it_may_be_ours() -> None:
    assert others(3, ("a",), booting("a", "a")) == 2
    assert others(3, ("a",), booting("a", "a"), booting("b")) == 1, "one of them may be that of b"


def test_a_leaked_server_of_ours_is_counted_as_of_others() -> None:
    assert others(2, ("leaked", "a"), booting("a", "a")) == 1
