"""What the quota leaves: when it may be used, and how much of it others use."""

from __future__ import annotations

import json
from dataclasses import replace

from lando.cloud.interface import Quota, Server, Share, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.quota import QuotaHeadroom, QuotaView
from lando.states.job import CreateRequest, Job, State

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


# volumes, ports and floating IPs, which no list of servers tells

VOLUME = '{"volume_size": 40}'
WITH_POOL = replace(SMALL, ports=1, floating_ips=1)


def with_volumes(used: int, gigabytes: int = 0, limit: int = 4) -> Quota:
    return replace(UNUSED, volumes=Share(used, limit), gigabytes=Share(gigabytes, 100))


def wanting(name: str, state: State = "booting", wishes: str = VOLUME) -> Job:
    return replace(booting(name, server=name), state=state, wishes=wishes)


def look(view: QuotaView, quota: Quota, *jobs: Job) -> Size:
    """What others use, as the view sees it; each job's server is listed."""
    listed = tuple(Server(job.id, job.id, "ACTIVE", size=SMALL) for job in jobs)
    view.update(CloudSnapshot(listed, quota=quota, sizes={None: SMALL}), jobs)
    assert view.headroom is not None
    return view.headroom.others


def test_a_job_waits_for_volumes_and_gigabytes_if_it_asks_for_one() -> None:
    full = QuotaHeadroom(with_volumes(4), Size(volumes=4), {None: SMALL})
    said = "4 of 4 volumes are in use, 4 of them by others, and this job needs 1"
    assert full.shortage({}, VOLUME) == said
    assert replace(full, others=Size(volumes=5)).shortage({}, "") is None, "the quota was made smaller"
    large = QuotaHeadroom(with_volumes(1), Size(volumes=1, gigabytes=20), {None: SMALL})
    said = "100 of 100 GB of volumes are in use, 20 of them by others, and this job needs 40"
    assert large.shortage({VOLUME: 2}, VOLUME) == said
    assert large.shortage({VOLUME: 1}, VOLUME) is None
    assert large.shortage({VOLUME: 2}, '{"volume_size": 101}') is None, "the cloud says that it never fits"


def test_a_job_waits_for_floating_ips_and_ports_of_servers_that_get_them() -> None:
    quota = replace(UNUSED, ports=Share(0, 3), floating_ips=Share(0, 2))
    room = QuotaHeadroom(quota, Size(floating_ips=1), {None: WITH_POOL})
    assert room.shortage({}, "") is None
    said = "2 of 2 floating IPs are in use, 1 of them by others, and this job needs 1"
    assert room.shortage({"": 1}, "") == said
    said = "3 of 3 ports are in use, 2 of them by others, and this job needs 1"
    assert replace(room, others=Size(ports=2)).shortage({"": 1}, "") == said


def test_a_volume_of_the_site_and_one_of_the_job_are_counted_as_they_are() -> None:
    site = replace(SMALL, volumes=1, gigabytes=10)
    room = QuotaHeadroom(with_volumes(0), Size(), {None: site})
    assert room.shortage({"": 1, VOLUME: 1}, '{"volume_size": 50}') is None
    assert room.shortage({"": 1, VOLUME: 1}, '{"volume_size": 51}')
    assert room.shortage({"": 4}, "") == "4 of 4 volumes are in use, and this job needs 1"


def test_a_job_that_asks_for_a_volume_waits_until_that_quota_was_asked_for() -> None:
    view = QuotaView(has_quota=True, valid_for=60)
    view.update(seen(UNUSED), [])
    assert view.covers([None]) and not view.covers([None], volumes=True)
    assert view.headroom is not None
    assert view.headroom.shortage({}, VOLUME) == "what is left of volumes is being read"
    assert view.headroom.shortage({}, "") is None
    view.update(replace(seen(UNUSED), volumes=True), [])
    assert view.covers([None], volumes=True), "although nobody says it"
    assert view.headroom.shortage({}, VOLUME) is None


def test_those_of_many_wishes_that_are_short_are_those_with_a_shortage() -> None:
    quota = Quota(Share(0, 9), Share(5, 9), Share(0, None), volumes=Share(0, 9), gigabytes=Share(60, 99))
    sizes: dict[str | None, Size] = {None: Size(1, 1), "small": Size(1, 1, 1, 1, 20), "large": Size(1, 4)}
    many = ["", *(json.dumps({"flavor": each}) for each in ("small", "large", "new"))]
    many += [json.dumps({"volume_size": size}) for size in (10, 20, 40, 99, 100)]
    many += [json.dumps({"flavor": "large", "volume_size": 1})]
    for volumes in (True, False):
        headroom = QuotaHeadroom(quota, Size(cores=5, gigabytes=60), sizes, volumes)
        for ours in ({}, {"": 1}, {many[1]: 1}, {many[3]: 1}):
            alone = {each for each in many if headroom.shortage(ours, each) is not None}
            assert headroom.short(ours, many) == alone


def test_what_is_not_known_of_a_quota_keeps_nobody_waiting() -> None:
    room = QuotaHeadroom(UNUSED, Size(), {None: WITH_POOL})
    assert room.shortage({VOLUME: 9, "": 0}, VOLUME) is None


def test_volumes_that_are_being_created_are_not_taken_for_those_of_others() -> None:
    view = QuotaView(has_quota=True, valid_for=60)
    assert look(view, with_volumes(2)).volumes == 2
    assert look(view, with_volumes(2), wanting("a")).volumes == 2, "that of a is not counted yet"
    assert look(view, with_volumes(3), wanting("a")).volumes == 2, "now it is"
    assert look(view, with_volumes(3), wanting("a", "running"), wanting("b")).volumes == 2


def test_volumes_that_others_create_and_delete_are_noticed() -> None:
    view = QuotaView(has_quota=True, valid_for=60)
    assert look(view, with_volumes(1, 40), wanting("a", "running")).volumes == 0
    assert look(view, with_volumes(4, 70), wanting("a", "running")) == Size(volumes=3, gigabytes=30)
    assert look(view, with_volumes(2, 50), wanting("a", "running")) == Size(volumes=1, gigabytes=10)
