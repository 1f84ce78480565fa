"""What the daemon believes others to take of the quota, while its own servers come and go."""

from __future__ import annotations

from lando.cloud.interface import Quota, Server, Share, Size
from lando.cloud.snapshot import CloudSnapshot
from lando.engine.quota import QuotaView
from lando.states.job import CreateRequest, Job

ONE = Size(1, 1, 512)


def job(name: str, server: str | None = None) -> Job:
    return Job(name, state="booting", server_id=server, requests=(CreateRequest(f"mark {name}", "token"),))


def others(used: int, servers: tuple[str, ...], *jobs: Job) -> int:
    """How many servers others are believed to have, when so many are counted, and these are listed."""
    view = QuotaView(has_quota=True, valid_for=60)
    quota = Quota(Share(used, 5), Share(used, None), Share(512 * used, None))
    listed = tuple(Server(name, name, "ACTIVE", size=ONE) for name in servers)
    view.update(CloudSnapshot(listed, quota=quota, sizes={None: ONE}), jobs)
    assert view.headroom is not None
    taken = view.headroom.others
    assert taken == Size(taken.servers, taken.servers, 512 * taken.servers)
    return taken.servers


def test_what_is_created_between_list_and_quota_is_not_taken_for_others() -> None:
    assert others(3, ("theirs",), job("a"), job("b", "created")) == 1


def test_what_is_listed_and_not_counted_yet_does_not_make_others_seem_to_take_less() -> None:
    assert others(1, ("theirs", "a", "b"), job("a", "a"), job("b", "b")) == 1


def test_what_is_deleted_between_list_and_quota_does_not_make_others_seem_to_take_less() -> None:
    assert others(1, ("theirs", "a"), job("a", "a")) == 1


def test_what_others_took_between_list_and_quota_is_seen_where_it_is_certain() -> None:
    assert others(3, ("a",), job("a", "a")) == 2
    assert others(3, ("a",), job("a", "a"), job("b")) == 1, "one of them may be that of b"


def test_a_flavor_that_was_not_asked_for_is_not_shown() -> None:
    view = QuotaView(has_quota=True, valid_for=60)
    assert not view.covers([])
    view.update(CloudSnapshot((), quota=Quota(*[Share(0, 5)] * 3), sizes={None: ONE}), [])
    assert view.covers([None])
    assert not view.covers([None, "large"])


def test_a_server_with_our_mark_that_no_job_owns_is_counted_with_those_of_others() -> None:
    assert others(2, ("leaked", "a"), job("a", "a")) == 1
